//! `nfz completions`: what a shell needs to complete nfz's command lines.

use super::{args::Cli, exit::Exit, view::View};
use clap::{Args, CommandFactory};
use clap_complete::Shell;

const EXAMPLES: &str = "\
EXAMPLES:
  nfz completions bash > ~/.local/share/bash-completion/completions/nfz
  nfz completions zsh > ~/.zfunc/_nfz
  nfz completions fish > ~/.config/fish/completions/nfz.fish
";

/// Print completions for a shell
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

/// Runs it.
pub fn run(view: &View, args: &CompletionsArgs) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "nfz", &mut script);
    view.line(script);
    Exit::Done
}
