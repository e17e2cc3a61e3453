//! How things are shown: for a person, quietly, or as JSON. Everything that is printed passes here.

use super::{
    exit::Exit,
    failure::Failure,
    json::{self, Document, ErrorDocument},
    log::{Log, Told},
    output::Output,
};
use crate::engine::event::{Problem, Stage};
use std::{
    io::{IsTerminal, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How things are shown. Cheap to clone.
#[derive(Clone)]
pub struct View {
    /// As JSON lines.
    pub json: bool,
    /// Without progress and summary.
    pub quiet: bool,
    /// How many times `-v` was given.
    pub verbose: u8,
    /// Whether a progress bar may be drawn on standard error.
    pub bar: bool,
    /// Whether lines of standard output go to the terminal that the bar is drawn on.
    pub shares_terminal: bool,
    output: Arc<Mutex<Output>>,
    log: Option<Arc<Log>>,
    /// What the last document of kind `report` held.
    report: Arc<Mutex<Option<serde_json::Value>>>,
}

impl View {
    /// As the options say.
    #[must_use]
    pub fn new(json: bool, quiet: bool, verbose: u8, stderr_is_terminal: bool) -> Self {
        let shares_terminal = std::io::stdout().is_terminal();
        let bar = stderr_is_terminal && !quiet && !json;
        let (output, report) = (Arc::new(Mutex::new(Output::stdout())), Arc::default());
        Self { json, quiet, verbose, bar, shares_terminal, output, log: None, report }
    }

    /// The same, and all that is told goes to `log` too.
    #[must_use]
    pub fn with_log(self, log: Option<Arc<Log>>) -> Self {
        Self { log, ..self }
    }

    /// Whether there is a log.
    #[must_use]
    pub fn logs(&self) -> bool {
        self.log.is_some()
    }

    /// Notes in the log what only a log tells.
    pub fn tell(&self, told: &Told<'_>) {
        if let Some(log) = &self.log {
            log.tell(told);
        }
    }

    /// Notes a document in the log alone.
    pub fn log(&self, document: &Document<'_>) {
        if let Some(log) = &self.log {
            log.document(document);
        }
    }

    /// Closes the log.
    ///
    /// # Errors
    /// Where something could not be written to it.
    pub fn end_log(&self, exit: Exit, duration: Duration) -> Result<(), Failure> {
        self.log.as_ref().map_or(Ok(()), |log| log.end(exit, json::seconds(duration)))
    }

    /// The outcome that was told, if there was one.
    #[must_use]
    pub fn last_report(&self) -> Option<serde_json::Value> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Prints a line of the result.
    pub fn line(&self, line: impl AsRef<[u8]>) {
        self.output().line(line);
    }

    /// Prints lines of a summary, unless quiet.
    pub fn summary(&self, lines: &[String]) {
        if !self.quiet && !self.json {
            let mut output = self.output();
            lines.iter().for_each(|line| output.line(line));
            output.flush();
        }
    }

    /// Prints a document, with `--json`; notes it in the log, but for entries, which are for those who ask.
    pub fn document(&self, document: Document<'_>) {
        if !matches!(document, Document::Entry(_)) {
            self.log(&document);
        }
        if matches!(document, Document::Report(_) | Document::KeyReport(_)) {
            let report = serde_json::to_value(&document).ok();
            *self.report.lock().unwrap_or_else(PoisonError::into_inner) = report;
        }
        if self.json {
            let mut output = self.output();
            output.line(json::line(document));
            output.flush();
        }
    }

    /// Tells of a stage that begins outside the engine.
    pub fn stage(&self, stage: Stage) {
        self.document(Document::Stage { stage });
    }

    /// Prints a remark to standard error, unless quiet.
    pub fn note(&self, note: &str) {
        if !self.quiet && !self.json {
            self.remark(note);
        }
    }

    /// Prints a line to standard error, even if quiet: what comes before a question.
    pub fn remark(&self, line: &str) {
        let _ = writeln!(std::io::stderr(), "{line}");
    }

    /// Prints why the work ended: for a person on standard error, as JSON on standard output.
    pub fn failure(&self, failure: &Failure) {
        let Failure { exit, message, hints } = failure;
        self.document(Document::Error(ErrorDocument { code: exit.code(), message, hints }));
        if !self.json {
            let _ = writeln!(std::io::stderr(), "{failure}");
        }
    }

    /// A problem as a line for a person.
    #[must_use]
    pub fn problem_line(problem: &Problem) -> String {
        super::failure::printable(&format!("nfz: {}: {}", problem.subject, problem.message))
    }

    /// Whether nobody takes any more of the result.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.output().is_closed()
    }

    /// Hands on what is buffered.
    pub fn flush(&self) {
        self.output().flush();
    }

    /// Writes what is buffered.
    ///
    /// # Errors
    /// Where standard output cannot be written, other than because its reader had enough.
    pub fn finish(&self) -> Result<(), Failure> {
        self.output().finish()
    }

    fn output(&self) -> MutexGuard<'_, Output> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
