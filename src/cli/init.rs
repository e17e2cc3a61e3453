//! `nfz init`: makes a repository.

use super::{
    exit::Exit,
    failure::Failure,
    json::{Document, Report},
    open::{self, Context},
    values,
};
use crate::{format::id::to_hex, repository::InitOptions};
use clap::Args;
use std::ffi::OsString;

const EXAMPLES: &str = "\
EXAMPLES:
  nfz init user@host:backup                     asks for a password, twice
  nfz init /mnt/drive/backup --key-file ~/backup.key
  nfz init user@host:backup --password-command 'pass show backup'
";

/// Make a repository
///
/// The directory is made if it does not exist; what else lies in it is left alone. Without the password (and the key file, if there
/// is one) nothing in the repository can ever be read: keep both safe, away from this machine.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct InitArgs {
    /// Where to make it
    address: Option<OsString>,
    /// Memory that each attempt at the password takes, 19M to 1G: more makes guessing dearer [default: 128M]
    #[arg(long, value_name = "SIZE", value_parser = values::kdf_memory)]
    kdf_memory: Option<u32>,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub async fn run(context: &Context, args: &InitArgs) -> Result<Exit, Failure> {
    let address = context.given().address(args.address.as_deref())?;
    let opened = open::create(context, &address, &InitOptions { kdf_memory_kib: args.kdf_memory }).await?;
    let repository = to_hex(&opened.repository.id());
    context.view.document(Document::Report(Report::Init { repository }));
    opened.close().await;
    Ok(Exit::Done)
}
