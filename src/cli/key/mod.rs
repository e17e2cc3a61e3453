//! `nfz key`: passwords, key files, rotation, recovery kits.

pub mod json;
mod kit;
mod page;
mod slots;

use super::{exit::Exit, failure::Failure, new_secret::NewSecretArgs, open::Context};
use clap::{Args, Subcommand, ValueEnum};
use std::{ffi::OsString, path::PathBuf};

const EXAMPLES: &str = "\
EXAMPLES:
  nfz key list user@host:backup           what opens the repository
  nfz key add user@host:backup            another password
  nfz key change user@host:backup         a new one in place of the one given
  nfz key export-kit user@host:backup --with-secret --out kit.svg
";

const LIST: &str = "\
EXAMPLES:
  nfz key list user@host:backup
  nfz key list ./backup --json
";

const ADD: &str = "\
EXAMPLES:
  nfz key add user@host:backup                      asks for both passwords
  nfz key add user@host:backup --new-key-file ~/backup.key
  nfz key add ./backup --new-password-command 'pass show backup' --kdf-memory 1G
";

const REMOVE: &str = "\
EXAMPLES:
  nfz key remove user@host:backup 3fa0      an id's first digits, from key list
  NFZ_REPOSITORY=user@host:backup nfz key remove 3fa0 --yes
";

const CHANGE: &str = "\
EXAMPLES:
  nfz key change user@host:backup           asks for the old and the new password
  nfz key change user@host:backup --new-password-file new --password-file old
";

const ROTATE: &str = "\
EXAMPLES:
  nfz key rotate user@host:backup --ask-new-password
  nfz key rotate ./backup --new-password-file new --yes

WHAT A ROTATION DOES NOT DO:
  Whoever had a password or a copy of the key slots before can still read what
  was stored until now, also from a copy, and, with access to the server, make
  up objects of the old epochs. Names of objects and cut points stay as they
  were. What is stored from now on they cannot read. If that is not enough,
  make a new repository with nfz init, sync to it, and delete this one.
";

const EXPORT: &str = "\
EXAMPLES:
  nfz key export-kit user@host:backup                    to standard output
  nfz key export-kit user@host:backup --with-secret --out kit.svg
  nfz key export-kit user@host:backup --with-secret | lpr
";

const IMPORT: &str = "\
EXAMPLES:
  nfz key import-kit user@host:backup                    type the words
  nfz key import-kit --kit kit.txt                       the address is in the kit
  nfz key import-kit user@host:backup --kit kit.txt --add-password
";

/// Manage passwords and key files, and print a recovery kit
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct KeyArgs {
    #[command(subcommand)]
    verb: KeyVerb,
}

/// What is to be done with keys.
#[derive(Subcommand)]
enum KeyVerb {
    List(ListArgs),
    Add(AddArgs),
    Remove(RemoveArgs),
    Change(ChangeArgs),
    Rotate(RotateArgs),
    ExportKit(ExportArgs),
    ImportKit(ImportArgs),
}

/// List the key slots: each is a password, a key file, or both
///
/// WRITTEN is when the server says that the slot was written: the slot itself holds no date.
#[derive(Args)]
#[command(after_help = LIST)]
struct ListArgs {
    /// The repository
    address: Option<OsString>,
}

/// Add a password or a key file
///
/// What opened the repository before still does. The new slot is read back and opened before this ends.
#[derive(Args)]
#[command(after_help = ADD)]
struct AddArgs {
    /// The repository
    address: Option<OsString>,
    #[command(flatten)]
    new: NewSecretArgs,
}

/// Remove a password or key file
///
/// Whoever copied the slot before can still use it with its password: to shut them out of what comes, nfz key rotate. The last slot is never
/// removed; the one that opens the repository now only with --yes: open it with another one instead, which proves that this works.
#[derive(Args)]
#[command(after_help = REMOVE, override_usage = "nfz key remove [OPTIONS] [ADDRESS] ID")]
struct RemoveArgs {
    /// The repository
    address: Option<OsString>,
    /// The slot: the first digits of its id, as nfz key list shows it
    id: Option<OsString>,
    /// Remove it though it is the one that opens the repository now
    #[arg(short, long)]
    yes: bool,
}

/// Put a new password or key file in place of the one that is given
///
/// The new slot is written, read back and opened, and only then the old one is removed. Other slots stay as they are.
#[derive(Args)]
#[command(after_help = CHANGE)]
struct ChangeArgs {
    /// The repository
    address: Option<OsString>,
    #[command(flatten)]
    new: NewSecretArgs,
}

/// Begin a new key epoch: what is stored from now on is sealed with new keys
///
/// For when a password got known, or somebody leaves. What opens the repository now still will, or the new password or key file if one is given;
/// all other slots are removed, since their passwords are not known here: add them again with nfz key add. Everything stored stays readable.
#[derive(Args)]
#[command(after_help = ROTATE)]
struct RotateArgs {
    /// The repository
    address: Option<OsString>,
    #[command(flatten)]
    new: NewSecretArgs,
    /// Remove the other slots without asking
    #[arg(short, long)]
    yes: bool,
}

/// Print a recovery kit: a page that tells how to restore, for a drawer or a safe
///
/// With --with-secret, its words alone open the repository, for whoever has them: no password is needed. Nothing of the password itself is
/// in them; it may be changed, and the kit still works. After a rotation a new kit is needed.
#[derive(Args)]
#[command(after_help = EXPORT)]
struct ExportArgs {
    /// The repository
    address: Option<OsString>,
    /// Print the words that open the repository, too
    #[arg(long)]
    with_secret: bool,
    /// Write to FILE, which only you may read, and which must not exist; a name that ends in .svg means --format svg
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// A page of text, or an SVG page with a QR code
    #[arg(long, value_name = "FORMAT", value_enum)]
    format: Option<Format>,
}

/// How the page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Svg,
}

/// Prove that a recovery kit works, and set a new password with it
///
/// Reads a kit, or only its words, from a file or as you type it, and opens the repository with it. A kit without words is held against a
/// repository that is opened as ever.
#[derive(Args)]
#[command(after_help = IMPORT)]
struct ImportArgs {
    /// The repository; where none is given, the one that the kit names
    address: Option<OsString>,
    /// Read the kit from FILE: the page as text, or only the words [default: standard input]
    #[arg(long, value_name = "FILE")]
    kit: Option<PathBuf>,
    /// Add a password or key file that opens the repository from now on
    #[arg(long)]
    add_password: bool,
    #[command(flatten)]
    new: NewSecretArgs,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub async fn run(context: &Context, args: &KeyArgs) -> Result<Exit, Failure> {
    match &args.verb {
        KeyVerb::List(args) => slots::list(context, args).await,
        KeyVerb::Add(args) => slots::add(context, args).await,
        KeyVerb::Remove(args) => slots::remove(context, args).await,
        KeyVerb::Change(args) => slots::change(context, args).await,
        KeyVerb::Rotate(args) => slots::rotate(context, args).await,
        KeyVerb::ExportKit(args) => kit::export(context, args).await,
        KeyVerb::ImportKit(args) => kit::import(context, args).await,
    }
}
