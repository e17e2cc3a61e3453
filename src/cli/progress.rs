//! Progress: an observer that counts, and a thread that shows the counts a few times a second.
//!
//! An event costs an addition to a counter. Only what is printed at once (problems, and entries with `-v`) takes a lock.

use super::{
    figures::{Figures, Pace, Work},
    json::{Document, EntryDocument},
    view::View,
};
use crate::engine::event::{Action, Event, Observer, Problem, Stage};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::Write,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle, Thread},
    time::{Duration, Instant},
};

/// How often the bar is drawn.
const TICK: Duration = Duration::from_millis(150);
/// How often a document of kind `progress` is printed.
const JSON_TICK: Duration = Duration::from_secs(1);

/// Shows the progress of one piece of work until it is dropped.
pub struct Progress {
    shown: Arc<Shown>,
    ticker: Option<JoinHandle<()>>,
}

/// What observer and ticker share.
struct Shown {
    view: View,
    work: Work,
    bar: ProgressBar,
    counters: Counters,
    stage: Mutex<Stage>,
    over: AtomicBool,
}

#[derive(Default)]
struct Counters {
    entries: AtomicU64,
    taken: AtomicU64,
    read: AtomicU64,
    new: AtomicU64,
    sent: AtomicU64,
    done: AtomicU64,
    objects: AtomicU64,
    problems: AtomicU64,
    total_entries: AtomicU64,
    total_bytes: AtomicU64,
}

impl Progress {
    /// Begins to show `work`.
    #[must_use]
    pub fn start(view: &View, work: Work) -> Self {
        let bar = match view.bar {
            true => ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()),
            false => ProgressBar::hidden(),
        };
        let counters = Counters::default();
        let stage = Mutex::new(Stage::ReadingManifest);
        let shown = Shown { view: view.clone(), work, bar, counters, stage, over: AtomicBool::new(false) };
        let shown = Arc::new(shown);
        let ticked = Arc::clone(&shown);
        let wanted = view.bar || view.json;
        // Without a thread there is no bar; the work goes on all the same.
        let spawn = || thread::Builder::new().name("progress".into()).spawn(move || ticked.tick()).ok();
        Self { ticker: wanted.then(spawn).flatten(), shown }
    }

    /// What the engine tells its events to.
    #[must_use]
    pub fn observer(&self) -> Arc<dyn Observer> {
        Arc::clone(&self.shown) as Arc<dyn Observer>
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.shown.over.store(true, Relaxed);
        if let Some(ticker) = self.ticker.take() {
            Thread::unpark(ticker.thread());
            let _ = ticker.join();
        }
        self.shown.bar.finish_and_clear();
        self.shown.view.flush();
    }
}

impl Shown {
    /// Draws until the work is over.
    fn tick(&self) {
        let period = if self.view.json { JSON_TICK } else { TICK };
        let (mut pace, mut last) = (Pace::default(), Instant::now());
        self.bar.set_style(style(UNKNOWN));
        loop {
            thread::park_timeout(period.saturating_sub(last.elapsed()));
            if self.over.load(Relaxed) {
                return;
            }
            let elapsed = last.elapsed();
            if elapsed >= period {
                last = Instant::now();
                self.draw(&mut pace, elapsed);
            }
        }
    }

    fn draw(&self, pace: &mut Pace, elapsed: Duration) {
        let figures = self.counters.figures();
        pace.note(figures.position(self.work), elapsed);
        self.view.document(Document::Progress(figures.document(self.work, pace)));
        let stage = *self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if figures.total_bytes > 0 && self.bar.length().is_none() {
            self.bar.set_style(style(KNOWN));
        }
        if figures.total_bytes > 0 {
            self.bar.set_length(figures.total_bytes);
            self.bar.set_position(figures.position(self.work).min(figures.total_bytes));
        }
        self.bar.set_message(figures.line(self.work, stage, pace));
        self.bar.set_prefix(figures.details(self.work));
        self.bar.tick();
    }

    fn entry(&self, event: Event<'_>, action: Action) {
        let Event::Entry { path, bytes, .. } = event else { return };
        if !is_shown(action, self.view.verbose) {
            return;
        }
        if self.view.json {
            self.view.document(Document::Entry(EntryDocument::of_event(path, action, bytes)));
        } else {
            let line = format!("{} {path}", letter(action));
            self.beside_bar(self.view.shares_terminal, || self.view.line(&line));
        }
    }

    /// Notes in the log what was not left as it was.
    fn log(&self, event: Event<'_>) {
        let Event::Entry { path, bytes, action } = event else { return };
        if is_shown(action, 1) {
            self.view.log(&Document::Entry(EntryDocument::of_event(path, action, bytes)));
        }
    }

    fn problem(&self, problem: &Problem) {
        self.counters.problems.fetch_add(1, Relaxed);
        self.view.document(Document::Problem(problem));
        if !self.view.json {
            self.beside_bar(true, || drop(writeln!(std::io::stderr(), "{}", View::problem_line(problem))));
        }
    }

    /// Prints without the bar in the way, where the bar is on the same terminal.
    fn beside_bar(&self, same_terminal: bool, print: impl FnOnce()) {
        if self.view.bar && same_terminal {
            self.bar.suspend(|| {
                print();
                self.view.flush();
            });
        } else {
            print();
        }
    }
}

impl Observer for Shown {
    fn event(&self, event: Event<'_>) {
        let count = &self.counters;
        let add = |counter: &AtomicU64, figure: u64| {
            counter.fetch_add(figure, Relaxed);
        };
        match event {
            Event::Stage(stage) => {
                *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
                if self.work == Work::Verify {
                    count.begin_anew();
                }
                self.view.stage(stage);
            }
            Event::Estimated { count: entries, bytes } => {
                count.total_entries.store(entries, Relaxed);
                count.total_bytes.store(bytes, Relaxed);
            }
            Event::Entry { action, bytes, .. } => {
                add(&count.entries, 1);
                add(&count.taken, if needs_no_work(action) { bytes } else { 0 });
                if self.view.verbose > 0 {
                    self.entry(event, action);
                }
                if self.view.logs() {
                    self.log(event);
                }
            }
            Event::Read { bytes } => add(&count.read, bytes),
            Event::NewChunk { plain } => add(&count.new, plain),
            Event::Sent { bytes } => add(&count.sent, bytes),
            Event::Done { bytes, objects } => {
                add(&count.done, bytes);
                add(&count.objects, objects);
            }
            Event::Problem(problem) => self.problem(problem),
        }
    }
}

impl Counters {
    /// A verify goes its way several times: listing, reading, comparing, each with a length of its own.
    fn begin_anew(&self) {
        for counter in [&self.done, &self.objects, &self.total_entries, &self.total_bytes] {
            counter.store(0, Relaxed);
        }
    }

    fn figures(&self) -> Figures {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        Figures {
            entries: read(&self.entries),
            taken: read(&self.taken),
            read: read(&self.read),
            new: read(&self.new),
            sent: read(&self.sent),
            done: read(&self.done),
            objects: read(&self.objects),
            problems: read(&self.problems),
            total_entries: read(&self.total_entries),
            total_bytes: read(&self.total_bytes),
        }
    }
}

/// Two lines, so that all fits 80 columns. Without colours, so that `NO_COLOR` has nothing to switch off.
const UNKNOWN: &str = "{spinner} {wide_msg}\n  {prefix}";
const KNOWN: &str = "{spinner} [{bar:20}] {wide_msg}\n  {prefix}";

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

/// Whether content of that length was dealt with, without reading, fetching or writing it.
fn needs_no_work(action: Action) -> bool {
    matches!(action, Action::Unchanged | Action::Moved | Action::Kept | Action::Skipped)
}

fn is_shown(action: Action, verbose: u8) -> bool {
    match action {
        Action::Unchanged | Action::Kept => verbose > 1,
        _ => verbose > 0,
    }
}

/// The letter that stands before an entry: the help of `-v` explains them.
fn letter(action: Action) -> char {
    match action {
        Action::New | Action::Restored => '+',
        Action::Changed => 'M',
        Action::Moved => '>',
        Action::Deleted | Action::Removed => '-',
        Action::Unchanged | Action::Kept => '=',
        Action::Skipped => '!',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::path::TreePath;

    fn figures_after(work: Work, events: &[Event<'_>]) -> Figures {
        let progress = Progress::start(&View::new(false, true, 0, false), work);
        let observer = progress.observer();
        events.iter().for_each(|event| observer.event(*event));
        progress.shown.counters.figures()
    }

    #[test]
    fn content_is_counted_once_whether_it_is_taken_over_or_read() {
        let path = TreePath::root();
        let entry = |action, bytes| Event::Entry { path: &path, action, bytes };
        let figures = figures_after(
            Work::Sync,
            &[
                Event::Estimated { count: 4, bytes: 1111 },
                entry(Action::Unchanged, 1),
                entry(Action::Moved, 10),
                Event::Read { bytes: 1100 },
                entry(Action::New, 100),
                entry(Action::Changed, 1000),
                entry(Action::Deleted, 5000),
            ],
        );
        assert_eq!((figures.position(Work::Sync), figures.entries), (1111, 5));
        assert_eq!(figures.percent(Work::Sync), Some(100));
    }

    #[test]
    fn a_restore_counts_what_is_kept_and_what_is_written() {
        let path = TreePath::root();
        let kept = Event::Entry { path: &path, action: Action::Kept, bytes: 3 };
        let figures = figures_after(Work::Restore, &[kept, Event::Done { bytes: 4, objects: 1 }]);
        assert_eq!((figures.position(Work::Restore), figures.objects), (7, 1));
    }

    #[test]
    fn each_stage_of_a_verify_is_counted_by_itself() {
        let read = [Event::Estimated { count: 1, bytes: 8 }, Event::Done { bytes: 8, objects: 1 }];
        let stages = [read[0], read[1], Event::Stage(Stage::Comparing), Event::Estimated { count: 1, bytes: 4 }];
        let figures = figures_after(Work::Verify, &stages);
        assert_eq!((figures.percent(Work::Verify), figures.objects), (Some(0), 0));
    }

    #[test]
    fn unchanged_entries_are_listed_only_when_asked_for_twice() {
        assert!(is_shown(Action::New, 1) && !is_shown(Action::Unchanged, 1) && is_shown(Action::Unchanged, 2));
        assert!(!is_shown(Action::New, 0));
    }

    #[test]
    fn both_templates_are_understood() {
        assert!([KNOWN, UNKNOWN].into_iter().all(|template| ProgressStyle::with_template(template).is_ok()));
    }
}
