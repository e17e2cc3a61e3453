//! The command line: a file a verb, arguments → options → printed report.
//!
//! [`failure`] is the only place that makes messages, hints and exit codes of errors, [`view`] the only one that prints results.
//! Nothing here knows what an object or a chunk is; the engine does the work.

mod address;
mod args;
mod at;
mod completions;
mod config;
mod doctor;
mod environment;
mod exit;
mod failure;
mod figures;
mod forget;
mod import_nfreezer;
mod init;
mod json;
mod json_doctor;
mod json_snapshots;
mod key;
mod leave_out;
mod log;
mod ls;
mod names;
mod new_secret;
mod one_at_a_time;
mod open;
mod output;
mod password;
mod pin;
mod positional;
mod progress;
mod prune;
mod receipt;
mod restore;
mod schedule;
mod signals;
mod snapshots;
mod sync;
mod terminal;
mod text;
mod timetable;
mod tree_path;
mod unattended;
mod undo_forget;
mod values;
mod verify;
mod view;

use args::{Cli, Verb};
use clap::{CommandFactory, FromArgMatches};
use environment::Environment;
use exit::Exit;
use failure::Failure;
use names::Names;
use open::Context;
use signals::Signals;
use std::{process::ExitCode, sync::Arc};
use view::View;

/// The whole program: parses, runs, prints. What it returns is the exit code.
#[must_use]
pub fn main() -> ExitCode {
    keep_secrets_from_core_dumps();
    let matches = Cli::command().try_get_matches().and_then(|matches| {
        let verb = matches.subcommand_name().unwrap_or_default().to_owned();
        Ok((Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut Cli::command()))?, verb))
    });
    match matches {
        Ok((cli, verb)) => start(cli, &verb).into(),
        Err(error) => {
            // Help and version go to standard output and are no failure; a closed output changes nothing.
            let _ = error.print();
            if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() }
        }
    }
}

fn start(cli: Cli, verb: &str) -> Exit {
    let environment = Environment::read();
    let global = &cli.global;
    let view = View::new(global.json, global.quiet, global.verbose, environment.stderr_is_terminal);
    let running = match unattended::Run::begin(&global.unattended, verb, view) {
        Ok(running) => running,
        Err((view, failure)) => {
            view.failure(&failure);
            return failure.exit;
        }
    };
    let usual = environment.configuration.as_ref().map(|directory| directory.join("nfz/config.toml"));
    let names = Names::new(global.config.as_deref(), usual.as_deref(), environment.home.as_deref());
    let view = running.view();
    let context = Context {
        global: Arc::new(cli.global),
        environment: Arc::new(environment),
        view: view.clone(),
        names: Arc::new(names),
    };
    let outcome = run_until_signal(&context, &cli.verb);
    running.end(outcome.and_then(|exit| view.finish().map(|()| exit)))
}

/// Runs the verb; a signal drops its future, which ends all that it began.
fn run_until_signal(context: &Context, verb: &Verb) -> Result<Exit, Failure> {
    let unable = |error: std::io::Error| Failure::failed(format!("cannot start: {error}"));
    terminal::remember();
    let mut signals = Signals::listen().map_err(unable)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(unable)?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            biased;
            exit = signals.first() => Err(Failure::interrupted(exit)),
            outcome = run(context, verb) => outcome,
        }
    });
    // What still waits for a disk or a terminal is not waited for.
    runtime.shutdown_background();
    if outcome.as_ref().is_err_and(|failure| failure.exit.is_by_signal()) {
        terminal::restore();
    }
    outcome
}

async fn run(context: &Context, verb: &Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Init(args) => init::run(context, args).await,
        Verb::Sync(args) => sync::run(context, args).await,
        Verb::Snapshots(args) => snapshots::run(context, args).await,
        Verb::Ls(args) => ls::run(context, args).await,
        Verb::Restore(args) => restore::run(context, args).await,
        Verb::Verify(args) => verify::run(context, args).await,
        Verb::Forget(args) => forget::run(context, args).await,
        Verb::Prune(args) => prune::run(context, args).await,
        Verb::UndoForget(args) => undo_forget::run(context, args).await,
        Verb::Key(args) => key::run(context, args).await,
        Verb::Receipt(args) => receipt::run(context, args).await,
        Verb::Doctor(args) => doctor::run(context, args).await,
        Verb::ImportNfreezer(args) => import_nfreezer::run(context, args).await,
        Verb::Schedule(args) => schedule::run(context, args),
        Verb::Completions(args) => Ok(completions::run(&context.view, args)),
    }
}

/// Keys must not land in a file by a crash. Where the system refuses, there is nothing more to be done.
fn keep_secrets_from_core_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// The last line of a summary, where there were problems.
fn problems_line(count: u64) -> Option<String> {
    (count > 0).then(|| format!("{}: see above", text::counted(count, "problem", "problems")))
}
