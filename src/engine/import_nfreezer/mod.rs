//! Import from nFreezer: its list is read, and each file that counts is opened into a directory, which a sync then saves.
//!
//! The old destination is taken to be hostile: paths that lead elsewhere are refused, lengths are bounded, and a file must have the
//! hash that its authenticated record names, so that none can stand in for another. What was cut from the end of the list cannot be noticed.

mod files;
mod format;

use super::event::{Action, Event, Observer, Problem, Problems, Stage};
use crate::{
    format::{
        id::to_hex,
        path::{Escaped, TreePath},
    },
    store::{ErrorKind, StoreError, foreign::Foreign},
};
use files::Target;
use format::{HEAD, Head, Key, Opener, RECORD_MAX, Record, RecordError};
use futures_util::{StreamExt, stream};
use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use zeroize::Zeroizing;

/// nFreezer's list of files.
const LIST: &str = ".files";
/// The longest list: some ten million records.
const LIST_MAX: u64 = 2 << 30;
/// So much is fetched at once; a multiple of 16.
const PIECE: usize = 4 << 20;
/// Files under way at once.
const FILES_AT_ONCE: usize = 8;

/// What an import found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// Files that were opened.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What could not be.
    pub problems: u64,
}

/// Why there is no import.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The old destination cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no list.
    #[error("cannot import: there is no nFreezer destination, for a file {LIST} is missing")]
    NoList,
    /// A list longer than anyone's.
    #[error("cannot import: the list {LIST} has {0} bytes, and {LIST_MAX} are the most that is read")]
    ListTooLong(u64),
    /// The first record does not open.
    #[error("cannot import: the password is wrong, or the list {LIST} is damaged at its beginning")]
    WrongPassword,
    /// The list names no file.
    #[error("cannot import: the list {LIST} names no file that could be read")]
    Nothing,
    /// The work directory fails.
    #[error("cannot write {path}: {source}")]
    Target {
        /// What could not be written. Safe to print.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A mistake of ours.
    #[error("cannot import: a thread was lost")]
    Lost,
}

/// Opens all files of the old destination into `target`, an empty directory of ours.
///
/// # Errors
/// [`ImportError`]. Single files that cannot be opened are problems.
pub async fn open_all(
    old: Arc<dyn Foreign>,
    password: Zeroizing<Vec<u8>>,
    target: &Path,
    observer: Arc<dyn Observer>,
) -> Result<ImportReport, ImportError> {
    let keys = Arc::new(Keys { password, known: Mutex::default() });
    let work = Work { old, keys, target: Target::new(target), problems: Problems::default(), observer };
    work.observer.event(Event::Stage(Stage::ReadingManifest));
    let records = work.list().await?;
    let bytes = records.values().map(|record| record.size).fold(0, u64::saturating_add);
    work.observer.event(Event::Estimated { count: records.len() as u64, bytes });
    work.observer.event(Event::Stage(Stage::ReadingData));
    let mut files = stream::iter(records.into_values()).map(|record| work.file(record)).buffer_unordered(FILES_AT_ONCE);
    let mut report = ImportReport::default();
    while let Some(opened) = files.next().await {
        if let Some(bytes) = opened? {
            report.files += 1;
            report.bytes += bytes;
        }
    }
    drop(files);
    report.problems = work.problems.count();
    if report.files == 0 { Err(ImportError::Nothing) } else { Ok(report) }
}

/// Keys by their salts: nFreezer takes a new salt for each run.
struct Keys {
    password: Zeroizing<Vec<u8>>,
    known: Mutex<HashMap<[u8; 16], Key>>,
}

impl Keys {
    fn of(&self, salt: &[u8; 16]) -> Key {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = known().get(salt) {
            return key.clone();
        }
        let key = format::key(&self.password, salt);
        known().insert(*salt, key.clone());
        key
    }
}

/// One import under way.
struct Work {
    old: Arc<dyn Foreign>,
    keys: Arc<Keys>,
    target: Target,
    problems: Problems,
    observer: Arc<dyn Observer>,
}

impl Work {
    fn problem(&self, subject: impl ToString, why: impl ToString) {
        self.problems.add(&*self.observer, Problem::new(subject, why));
    }

    /// Reads the list: the last record of each path that is not gone.
    async fn list(&self) -> Result<BTreeMap<TreePath, Record>, ImportError> {
        let length = self.old.length(LIST).await?.ok_or(ImportError::NoList)?;
        if length > LIST_MAX {
            return Err(ImportError::ListTooLong(length));
        }
        let (mut records, mut rest, mut at, mut is_first) = (BTreeMap::new(), Vec::new(), 0, true);
        while at < length {
            let piece = (length - at).min(PIECE as u64) as usize;
            rest.extend_from_slice(&self.old.read(LIST, at, piece).await?);
            at += piece as u64;
            let keys = Arc::clone(&self.keys);
            let (opened, left, is_torn) = blocking(move || open_records(&keys, rest)).await?;
            for record in opened {
                match record {
                    Err(RecordError::NotWhole) if is_first => return Err(ImportError::WrongPassword),
                    Err(error) => self.problem(format_args!("a record of {LIST}"), error),
                    Ok(Record { id: None, path, .. }) => drop(records.remove(&path)),
                    Ok(record) => drop(records.insert(record.path.clone(), record)),
                }
                is_first = false;
            }
            rest = left;
            if is_torn {
                break;
            }
        }
        if !rest.is_empty() {
            self.problem(LIST, format_args!("{} bytes at its end are no record: a backup was interrupted", rest.len()));
        }
        Ok(records)
    }

    /// Opens one file: how many bytes it has. What cannot be is a problem; what ends the import, an error.
    async fn file(&self, record: Record) -> Result<Option<u64>, ImportError> {
        let path = record.path.clone();
        match self.open_file(record).await {
            Ok(bytes) => {
                self.observer.event(Event::Entry { path: &path, action: Action::Restored, bytes });
                Ok(Some(bytes))
            }
            Err(Broken::Import(error)) => Err(error),
            Err(Broken::File(why)) => {
                self.problem(&path, why);
                Ok(None)
            }
        }
    }

    async fn open_file(&self, record: Record) -> Result<u64, Broken> {
        let name = to_hex(&record.id.unwrap_or_default());
        let length = self.old.length(&name).await?;
        let length = length.ok_or_else(|| Broken::File(format!("its contents, {name}, are missing")))?;
        let size = length.checked_sub(HEAD as u64).filter(|size| *size == record.size);
        let size = size.ok_or_else(|| Broken::File(format!("its contents, {name}, have a wrong length")))?;
        let head = self.old.read(&name, 0, HEAD).await?;
        let (keys, target) = (Arc::clone(&self.keys), self.target.clone());
        let made = blocking(move || {
            let head = Head::read(&head).ok_or_else(|| Broken::File("it is cut short".into()))?;
            let opener = Opener::new(&keys.of(&head.salt), &head);
            target.create(opener, record)
        });
        let (mut file, mut at) = (made.await??, 0);
        while at < size {
            let piece = (size - at).min(PIECE as u64) as usize;
            let bytes = self.old.read(&name, HEAD as u64 + at, piece).await?;
            at += piece as u64;
            file = blocking(move || file.add(bytes.into())).await??;
            self.observer.event(Event::Done { bytes: piece as u64, objects: 0 });
        }
        blocking(move || file.finish()).await??;
        Ok(size)
    }
}

/// Why a file could not be opened.
enum Broken {
    /// For a reason of its own.
    File(String),
    /// For one that ends it all.
    Import(ImportError),
}

impl From<ImportError> for Broken {
    fn from(error: ImportError) -> Self {
        Self::Import(error)
    }
}

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        match error.kind {
            ErrorKind::NotFound | ErrorKind::WrongLength | ErrorKind::PermissionDenied => Self::File(error.to_string()),
            _ => Self::Import(error.into()),
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ImportError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ImportError::Lost)
}

/// Opens the records that `bytes` holds whole; what is left; and whether that can be no record.
fn open_records(keys: &Keys, bytes: Vec<u8>) -> (Vec<Result<Record, RecordError>>, Vec<u8>, bool) {
    let (mut records, mut rest) = (Vec::new(), &bytes[..]);
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        if !(HEAD..=RECORD_MAX).contains(&length) {
            return (records, rest.to_vec(), true);
        }
        let Some((sealed, after)) = after.split_at_checked(length) else { break };
        let opened = match Head::read(sealed) {
            Some(head) => Record::open(&keys.of(&head.salt), sealed),
            None => Err(RecordError::NoRecord),
        };
        records.push(opened);
        rest = after;
    }
    (records, rest.to_vec(), false)
}

fn shown(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    Escaped(path.as_os_str().as_bytes()).to_string()
}
