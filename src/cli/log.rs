//! The log file (`--log-file`): what a run did, as JSON lines, appended. `docs/json.md` says what they hold.

use super::{
    exit::Exit,
    failure::{Failure, printable},
    json::Document,
    text::rfc3339,
};
use crate::clock;
use serde::Serialize;
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// So much is gathered before it is written: whole lines only, so that the lines of two runs never mix.
const GATHERED: usize = 32 << 10;

/// A log file that is appended to.
pub struct Log {
    run: String,
    shown: String,
    pending: Mutex<Pending>,
}

struct Pending {
    file: File,
    lines: Vec<u8>,
    failed: Option<io::Error>,
}

/// What only a log tells.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Told<'a> {
    /// A run begins.
    Begin {
        /// Of what.
        verb: &'a str,
        /// By which nfz.
        nfz: &'static str,
        /// In which process.
        pid: u32,
    },
    /// What is saved to where.
    Syncs {
        /// From here.
        source: &'a str,
        /// To there.
        repository: &'a str,
    },
    /// A run has ended.
    End {
        /// The exit code.
        code: u8,
        /// What it means.
        meaning: &'static str,
        /// How long it took.
        seconds: f64,
    },
}

#[derive(Serialize)]
struct Line<'a, T: Serialize> {
    time: Option<String>,
    run: &'a str,
    #[serde(flatten)]
    told: T,
}

impl Log {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// [`Failure`], naming it.
    pub fn open(path: &Path, run: &str) -> Result<Self, Failure> {
        let shown = printable(&path.to_string_lossy());
        let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        let file = opened.map_err(|error| {
            Failure::failed(format!("cannot write the log file {shown}: {error}")).hint("nothing was done yet")
        })?;
        let pending = Mutex::new(Pending { file, lines: Vec::new(), failed: None });
        Ok(Self { run: run.to_owned(), shown, pending })
    }

    /// Notes what is told to programs too.
    pub fn document(&self, document: &Document<'_>) {
        match document {
            Document::Progress(_) => {}
            Document::Entry(_) => self.note(document, GATHERED),
            _ => self.note(document, 0),
        }
    }

    /// Notes what only a log tells.
    pub fn tell(&self, told: &Told<'_>) {
        self.note(told, 0);
    }

    /// Writes what has been gathered.
    ///
    /// # Errors
    /// Where anything could not be written: a log with holes must not go unnoticed.
    pub fn end(&self, exit: Exit, seconds: f64) -> Result<(), Failure> {
        self.tell(&Told::End { code: exit.code(), meaning: exit.meaning(), seconds });
        match &self.pending().failed {
            None => Ok(()),
            Some(error) => Err(Failure::failed(format!("cannot write the log file {}: {error}", self.shown))),
        }
    }

    fn note(&self, told: impl Serialize, gathered: usize) {
        let line = Line { time: rfc3339(clock::now()), run: &self.run, told };
        let mut pending = self.pending();
        // Into memory, of maps with string keys: it cannot fail.
        let _ = serde_json::to_writer(&mut pending.lines, &line);
        pending.lines.push(b'\n');
        if pending.lines.len() > gathered {
            pending.write();
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn write(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        if let Err(error) = self.file.write_all(&lines) {
            self.failed.get_or_insert(error);
        }
    }
}
