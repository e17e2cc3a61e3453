//! `nfz receipt`: a line to keep, with which a later verify finds out whether the server shows less than it once held.

use super::{
    args::ChoiceArgs,
    exit::Exit,
    failure::Failure,
    figures::Work,
    json::{Document, ReceiptDocument},
    open::{self, Context, IfMissing},
    pin,
    progress::Progress,
};
use crate::engine::{event::Problems, history, receipt};
use clap::Args;
use std::ffi::OsString;

const EXAMPLES: &str = "\
EXAMPLES:
  nfz receipt user@host:backup > receipt.txt         keep it elsewhere
  nfz verify user@host:backup --expect @receipt.txt    is it still there?
";

/// Print the receipt of the newest snapshot, or of one that is chosen
///
/// A client without state cannot see that a server hides the newest snapshots. With a receipt, verify can. It is no secret. `--pin FILE`
/// keeps receipts by itself.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct ReceiptArgs {
    /// The repository
    address: Option<OsString>,
    #[command(flatten)]
    choice: ChoiceArgs,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub async fn run(context: &Context, args: &ReceiptArgs) -> Result<Exit, Failure> {
    let address = context.given().address(args.address.as_deref())?;
    let opened = open::open(context, &address, IfMissing::Fail).await?;
    let problems = Problems::default();
    let found = {
        let progress = Progress::start(&context.view, Work::Verify);
        let (repository, observer) = (&*opened.repository, progress.observer());
        if args.choice.is_given() {
            let info = history::choose(repository, &args.choice.choice(), &problems, &*observer).await?;
            Some(receipt::of(repository, &info))
        } else {
            receipt::newest(repository, &problems, &*observer).await?
        }
    };
    let receipt = found.ok_or_else(|| Failure::failed("cannot give a receipt: there is no snapshot yet"))?;
    pin::note(context, &address, receipt)?;
    if context.view.json {
        context.view.document(Document::Receipt(ReceiptDocument::new(&receipt)));
    } else {
        context.view.line(receipt.to_string());
    }
    opened.close().await;
    Ok(if problems.take().1 > 0 { Exit::Problems } else { Exit::Done })
}
