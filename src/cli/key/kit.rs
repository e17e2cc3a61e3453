//! `nfz key export-kit` and `import-kit`: a page for the drawer, and the proof that it works.

use super::{
    super::{
        address::Address,
        exit::Exit,
        failure::{Failure, printable},
        json::Document,
        open::{self, Context, IfMissing, Opened},
        text::{counted, local_time},
    },
    ExportArgs, Format, ImportArgs,
    json::KeyReport,
    page::{self, Page},
};
use crate::{
    clock,
    format::{id::to_hex, name::Name},
    repository::RepositoryError,
};
use jiff::tz::TimeZone;
use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// The longest kit that is read, in bytes.
const KIT_MAX: u64 = 1 << 20;

pub(super) async fn export(context: &Context, args: &ExportArgs) -> Result<Exit, Failure> {
    let address = context.given().address(args.address.as_deref())?;
    let opened = open::open(context, &address, IfMissing::Fail).await?;
    let words = if args.with_secret { Some(opened.repository.kit_words()?) } else { None };
    let (repository, epoch) = (to_hex(&opened.repository.id()), opened.repository.keys().epoch());
    let day = local_time(clock::now(), &TimeZone::system());
    let page = Page {
        address: &whole(&address),
        repository: &repository,
        epoch,
        made: day.split(' ').next().unwrap_or_default(),
        words: words.as_ref().map(|words| words.as_slice()),
    };
    let page = match format_of(args) {
        Format::Text => page.text(),
        Format::Svg => page.svg().map_err(|why| Failure::failed(format!("cannot make the page: {why}")))?,
    };
    let (with_secret, mut shown) = (args.with_secret, None);
    match &args.out {
        Some(path) => write(context, path, &page)?,
        None if context.view.json => shown = Some(page.to_string()),
        None => page.lines().for_each(|line| context.view.line(line)),
    }
    context.view.document(Document::KeyReport(KeyReport::ExportKit { repository, epoch, with_secret, page: shown }));
    opened.close().await;
    Ok(Exit::Done)
}

fn format_of(args: &ExportArgs) -> Format {
    let is_svg = args.out.as_ref().is_some_and(|path| path.extension() == Some(OsStr::new("svg")));
    args.format.unwrap_or(if is_svg { Format::Svg } else { Format::Text })
}

/// The address as it is understood from anywhere.
fn whole(address: &Address) -> String {
    let path = match address {
        Address::Directory(path) => fs::canonicalize(path).ok(),
        Address::Sftp(_) => None,
    };
    printable(&path.map_or_else(|| address.to_string(), |path| path.to_string_lossy().into_owned()))
}

/// Writes a file that only its owner may read. One that exists is left alone.
fn write(context: &Context, path: &Path, page: &str) -> Result<(), Failure> {
    let shown = printable(&path.to_string_lossy());
    let failed = |error: io::Error| Failure::failed(format!("cannot write {shown}: {error}"));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(page.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    context.view.summary(&[format!("Wrote {shown}. Print it, prove it with nfz key import-kit, and remove the file.")]);
    Ok(())
}

pub(super) async fn import(context: &Context, args: &ImportArgs) -> Result<Exit, Failure> {
    let kit = page::read(&read_kit(context, args.kit.clone()).await?);
    let address = match (args.address.as_deref(), context.given()) {
        (None, given) if given.option.is_none() && given.variable.is_none() => kit.address.as_deref().map(OsStr::new),
        (address, _) => address,
    };
    let address = context.given().address(address)?;
    let words: Vec<&str> = kit.words.iter().map(String::as_str).collect();
    let with_secret = !words.is_empty();
    let opened = match with_secret {
        true => open::open_with_kit(context, &address, &words).await?,
        false => open::open(context, &address, IfMissing::Fail).await?,
    };
    let repository = to_hex(&opened.repository.id());
    if kit.repository.as_ref().is_some_and(|id| *id != repository) {
        return Err(Failure::failed(format!("cannot take this kit: it is not of the repository at {address}"))
            .hint(format!("that one's id is {repository}")));
    }
    let snapshots = prove(&opened).await?;
    context.view.summary(&[proof(with_secret, snapshots)]);
    let slot = add_password(context, args, &opened, &address).await?;
    let epoch = opened.repository.keys().epoch();
    let report = KeyReport::ImportKit { repository, epoch, with_secret, snapshots, slot };
    context.view.document(Document::KeyReport(report));
    opened.close().await;
    Ok(Exit::Done)
}

/// Opens the newest snapshot's root; the configuration has been opened before. How many snapshots there are.
async fn prove(opened: &Opened) -> Result<u64, Failure> {
    match opened.repository.check_writable() {
        Err(RepositoryError::Outdated { epoch, newest }) => {
            let why = format!("it is of key epoch {epoch}, and the repository has been rotated to epoch {newest}");
            return Err(Failure::new(Exit::WrongPassword, format!("cannot rely on this kit: {why}"))
                .hint("it opens what is older only; make a new one: nfz key export-kit"));
        }
        other => other?,
    }
    let listed = opened.repository.list_snapshots(false).await?;
    let newest = listed.iter().max_by_key(|root| (root.modified, root.name));
    if let Some((Name::Snapshot(id), length)) = newest.map(|root| (root.name, root.length)) {
        opened.repository.fetch_root(id, length).await?;
    }
    Ok(listed.len() as u64)
}

fn proof(with_secret: bool, snapshots: u64) -> String {
    let snapshots = counted(snapshots, "snapshot", "snapshots");
    match with_secret {
        true => format!("The kit works: its words open the repository, which holds {snapshots}."),
        false => {
            format!("The kit is of this repository, which holds {snapshots}. It has no words: it needs the password.")
        }
    }
}

async fn add_password(
    context: &Context,
    args: &ImportArgs,
    opened: &Opened,
    address: &Address,
) -> Result<Option<String>, Failure> {
    if !args.add_password && !args.new.is_given() {
        return Ok(None);
    }
    let credentials = args.new.read(context, &address.to_string()).await?;
    let slot = to_hex(&opened.repository.add_slot(&credentials, &args.new.options()).await?);
    context.view.summary(&[format!("Added key slot {}.", &slot[..8])]);
    Ok(Some(slot))
}

/// Reads the kit, on a thread of its own: someone may have to type.
async fn read_kit(context: &Context, path: Option<PathBuf>) -> Result<Zeroizing<String>, Failure> {
    if path.is_none() && context.environment.interactive {
        context.view.remark("Type the words of the kit, line by line, and Ctrl-D at the end:");
    }
    let origin = path.as_ref().map_or("standard input".to_owned(), |path| printable(&path.to_string_lossy()));
    let failed = |why: String| Failure::failed(format!("cannot read the kit from {origin}: {why}"));
    let read = tokio::task::spawn_blocking(move || match path {
        Some(path) => read_text(File::open(path)?),
        None => read_text(io::stdin().lock()),
    });
    read.await.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
}

fn read_text(from: impl Read) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(64 << 10));
    from.take(KIT_MAX).read_to_string(&mut text)?;
    Ok(text)
}
