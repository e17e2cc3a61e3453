//! The pin file (`--pin`): the newest receipt of each repository, so that a server that shows less than before is found out without
//! anyone's having to think of it.
//!
//! One line for each address: a receipt, a space, and the address. What is remembered only ever goes forward.

use super::{
    address::Address,
    exit::Exit,
    failure::{Failure, printable},
    open::{Context, Opened},
};
use crate::{
    engine::{
        event::{Problems, Silent},
        receipt::{self, Standing},
    },
    format::receipt::Receipt,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What is remembered of one address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pinned {
    receipt: Receipt,
    address: String,
}

/// Where receipts are kept, if anywhere.
fn path(context: &Context) -> Option<PathBuf> {
    let variable = || context.environment.pin.as_ref().map(PathBuf::from);
    context.global.pin.clone().or_else(variable)
}

/// Fails where the repository shows less than what was seen at `address` before, or is another one.
///
/// # Errors
/// [`Failure`]: that, or a file that cannot be read.
pub async fn check(context: &Context, address: &Address, opened: &Opened) -> Result<(), Failure> {
    let Some(path) = path(context) else { return Ok(()) };
    let shown = address.to_string();
    let Some(pinned) = read(&path)?.into_iter().find(|pinned| pinned.address == shown) else { return Ok(()) };
    let standings = receipt::standings(&opened.repository, &[pinned.receipt], &Problems::default(), &Silent).await?;
    match standings.first() {
        Some(Standing::Missing) => Err(less(&shown, &pinned.receipt, &path)),
        Some(Standing::OtherRepository) => Err(another(&shown, &path)),
        _ => Ok(()),
    }
}

fn less(address: &str, receipt: &Receipt, path: &Path) -> Failure {
    let generation = receipt.generation;
    let snapshot = receipt.snapshot.to_string();
    let message = format!(
        "{address} shows less than it did before: snapshot {} (generation {generation}) is not there, and was not forgotten",
        &snapshot[..8]
    );
    Failure::new(Exit::Damage, message)
        .hint("the server lost or withholds it, and maybe what came after: do not rely on this copy")
        .hint(format!("if you know why, take the line out of {}", printable(&path.to_string_lossy())))
}

fn another(address: &str, path: &Path) -> Failure {
    let message = format!("{address} holds another repository than before");
    Failure::new(Exit::Damage, message)
        .hint(format!("if you made it anew, take the line out of {}", printable(&path.to_string_lossy())))
}

/// Remembers that this was seen at `address`, unless something newer was.
///
/// # Errors
/// [`Failure`], naming the file.
pub fn note(context: &Context, address: &Address, receipt: Receipt) -> Result<(), Failure> {
    let Some(path) = path(context) else { return Ok(()) };
    let mut all = read(&path)?;
    if put(&mut all, receipt, address.to_string()) {
        let failed =
            |error: io::Error| Failure::failed(format!("cannot write {}: {error}", printable(&path.to_string_lossy())));
        write(&path, &all).map_err(failed)?;
    }
    Ok(())
}

/// Puts a receipt in its place; false where a newer one is there.
fn put(all: &mut Vec<Pinned>, receipt: Receipt, address: String) -> bool {
    match all.iter_mut().find(|pinned| pinned.address == address) {
        Some(pinned)
            if pinned.receipt.repository == receipt.repository && pinned.receipt.generation >= receipt.generation =>
        {
            return false;
        }
        Some(pinned) => pinned.receipt = receipt,
        None => all.push(Pinned { receipt, address }),
    }
    true
}

fn read(path: &Path) -> Result<Vec<Pinned>, Failure> {
    let shown = printable(&path.to_string_lossy());
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        other => other.map_err(|error| Failure::failed(format!("cannot read {shown}: {error}")))?,
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(number, line)| parse(line).ok_or_else(|| bad_line(&shown, number + 1))).collect()
}

fn parse(line: &str) -> Option<Pinned> {
    let (receipt, address) = line.split_once(' ')?;
    Some(Pinned { receipt: receipt.parse().ok()?, address: address.to_owned() })
}

fn bad_line(path: &str, number: usize) -> Failure {
    Failure::failed(format!("cannot understand {path}: line {number} is no receipt with an address"))
        .hint("a line is a receipt, as nfz receipt prints it, a space, and the address")
}

/// Whole or not at all: another run may read it meanwhile.
fn write(path: &Path, all: &[Pinned]) -> io::Result<()> {
    let text: String = all.iter().map(|pinned| format!("{} {}\n", pinned.receipt, pinned.address)).collect();
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    fs::write(&beside, text)?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::id::{ObjectId, SnapshotId};

    fn receipt(repository: u8, generation: u64) -> Receipt {
        let snapshot = SnapshotId::new(ObjectId([generation as u8; 32]));
        Receipt { repository: [repository; 16], generation, snapshot }
    }

    #[test]
    fn what_is_remembered_goes_forward_only() {
        let mut all = Vec::new();
        assert!(put(&mut all, receipt(1, 5), "a:b c".into()));
        assert!(!put(&mut all, receipt(1, 5), "a:b c".into()) && !put(&mut all, receipt(1, 4), "a:b c".into()));
        assert!(put(&mut all, receipt(1, 6), "a:b c".into()) && put(&mut all, receipt(2, 1), "other:".into()));
        assert_eq!(all.iter().map(|pinned| pinned.receipt.generation).collect::<Vec<_>>(), [6, 1]);
    }

    #[test]
    fn a_file_reads_back_and_a_bad_line_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pins");
        assert_eq!(read(&path).unwrap_or_default(), []);
        let all = vec![Pinned { receipt: receipt(3, 9), address: "user@host:a b".into() }];
        write(&path, &all).unwrap();
        assert!(read(&path).is_ok_and(|read| read == all));
        fs::write(&path, "\nnonsense\n").unwrap();
        assert!(read(&path).is_err_and(|failure| failure.message.contains("line 2")));
    }
}
