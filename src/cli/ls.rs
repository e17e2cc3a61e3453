//! `nfz ls`: what a snapshot holds.

use super::{
    args::ChoiceArgs,
    exit::Exit,
    failure::Failure,
    figures::Work,
    json::{Document, EntryDocument},
    open::{self, Context, IfMissing},
    progress::Progress,
    text::{Bytes, local_time, permissions},
    tree_path,
    view::View,
};
use crate::{
    engine::{event::Problems, history, ls},
    format::{
        manifest::{Entry, Node, Owner},
        path::{Escaped, TreePath},
    },
};
use clap::Args;
use jiff::tz::TimeZone;
use std::ffi::OsString;
use tokio::sync::Notify;

const EXAMPLES: &str = "\
EXAMPLES:
  nfz ls user@host:backup                           the newest snapshot's top
  nfz ls user@host:backup photos/2026 --at latest~1
  nfz ls -R user@host:backup --at 2026-11-22        all of it, as of that day
  nfz ls -R user@host:backup --json | jq -r 'select(.kind==\"entry\").path'
";

/// List what a snapshot holds
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct LsArgs {
    /// The repository
    address: Option<OsString>,
    /// What to list: relative to the source [default: the source itself]
    path: Option<OsString>,
    /// List everything below it
    #[arg(short = 'R', long)]
    recursive: bool,
    #[command(flatten)]
    choice: ChoiceArgs,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub async fn run(context: &Context, args: &LsArgs) -> Result<Exit, Failure> {
    let arguments: Vec<_> = args.address.iter().chain(&args.path).cloned().collect();
    let (address, rest) = context.given().leading(&arguments)?;
    if let [_, surplus, ..] = rest {
        let shown = super::failure::printable(&surplus.to_string_lossy());
        return Err(Failure::usage(format!("cannot list {shown} too: ls takes one PATH"))
            .hint("the repository is given by --repository or NFZ_REPOSITORY already"));
    }
    let path = rest.first().map_or(Ok(TreePath::root()), |path| tree_path::parse(path))?;
    let opened = open::open(context, &address, IfMissing::Fail).await?;
    let problems = Problems::default();
    let snapshot = {
        let progress = Progress::start(&context.view, Work::Verify);
        history::choose(&opened.repository, &args.choice.choice(), &problems, &*progress.observer()).await?
    };
    let lister = Lister { view: &context.view, zone: TimeZone::system(), closed: Notify::new() };
    let mut visit = |entry: &Entry| lister.show(entry);
    tokio::select! {
        listed = ls::list(&opened.repository, &snapshot, &path, args.recursive, &mut visit) => listed?,
        // `nfz ls … | head` ends with head.
        () = lister.closed.notified() => {}
    }
    opened.close().await;
    Ok(if problems.count() > 0 { Exit::Problems } else { Exit::Done })
}

struct Lister<'a> {
    view: &'a View,
    zone: TimeZone,
    closed: Notify,
}

impl Lister<'_> {
    fn show(&self, entry: &Entry) {
        // A file of several parts is one file.
        if entry.file().is_some_and(|file| file.part > 0) {
            return;
        }
        match self.view.json {
            true => self.view.document(Document::Entry(EntryDocument::of_entry(entry))),
            false => self.view.line(line(entry, &self.zone)),
        }
        if self.view.is_closed() {
            self.closed.notify_one();
        }
    }
}

/// An entry as `ls -l` shows one.
fn line(entry: &Entry, zone: &TimeZone) -> String {
    let metadata = &entry.metadata;
    let (user, group) = owner(&metadata.owner);
    let (size, time) = (size(entry), local_time(metadata.mtime, zone));
    let target = match &entry.node {
        Node::Symlink { target } => format!(" -> {}", Escaped(target)),
        _ => String::new(),
    };
    let mode = permissions(metadata.mode);
    format!("{}{mode}  {user:<8} {group:<8} {size:>10}  {time}  {}{target}", letter(&entry.node), entry.path)
}

/// Its size, or a device's numbers.
fn size(entry: &Entry) -> String {
    match &entry.node {
        Node::File(file) => Bytes(file.size).to_string(),
        Node::CharacterDevice { major, minor } | Node::DiskDevice { major, minor } => format!("{major}, {minor}"),
        _ => "-".into(),
    }
}

fn owner(owner: &Owner) -> (String, String) {
    let shown = |name: &[u8], number: u32| match name {
        b"" => number.to_string(),
        name => Escaped(name).to_string(),
    };
    (shown(&owner.user, owner.uid), shown(&owner.group, owner.gid))
}

fn letter(node: &Node) -> char {
    match node {
        Node::Directory => 'd',
        Node::File(_) => '-',
        Node::Symlink { .. } => 'l',
        Node::Fifo => 'p',
        Node::Socket => 's',
        Node::CharacterDevice { .. } => 'c',
        Node::DiskDevice { .. } => 'b',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::manifest::{Metadata, Time};
    use std::sync::Arc;

    #[test]
    fn an_entry_is_shown_as_ls_does() {
        let owner = Owner { uid: 1000, gid: 100, user: b"me".to_vec(), group: Vec::new() };
        let mtime = Time { seconds: 1_795_374_018, nanoseconds: 1 };
        let metadata = Metadata { mode: 0o777, owner: Arc::new(owner), mtime, ..Metadata::default() };
        let entry = |node| Entry { path: TreePath::new(&b"a/b\n"[..]).unwrap(), metadata: metadata.clone(), node };
        assert_eq!(
            line(&entry(Node::Symlink { target: b"t\x1b".to_vec() }), &TimeZone::UTC),
            "lrwxrwxrwx  me       100               -  2026-11-22 19:00:18  a/b\\n -> t\\u{1b}"
        );
        assert_eq!(
            line(&entry(Node::DiskDevice { major: 8, minor: 1 }), &TimeZone::UTC),
            "brwxrwxrwx  me       100            8, 1  2026-11-22 19:00:18  a/b\\n"
        );
    }
}
