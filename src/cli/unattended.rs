//! What helps where nobody looks: a log file, a low priority, commands that tell how it ended.

use super::{
    exit::Exit,
    failure::{Failure, printable},
    log::{Log, Told},
    view::View,
};
use crate::format::id::to_hex;
use clap::Args;
use serde_json::Value;
use std::{
    ffi::OsString,
    os::{fd::AsFd, unix::process::ExitStatusExt},
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    sync::Arc,
    time::Instant,
};

/// Options for runs that nobody looks at.
#[derive(Args, Clone, Default)]
pub struct UnattendedArgs {
    /// Append what is done to FILE, as JSON lines; every line of a run has the same "run" (docs/json.md)
    #[arg(long, value_name = "FILE", global = true)]
    pub log_file: Option<PathBuf>,
    /// Leave processor and disk to others: run at niceness N
    #[arg(long, value_name = "N", global = true, num_args = 0..=1, require_equals = true, default_missing_value = "10",
        value_parser = clap::value_parser!(u8).range(1..=19))]
    pub nice: Option<u8>,
    /// Run CMD by `sh -c` after a run that did everything, with its report in NFZ_REPORT_* (docs/unattended.md)
    #[arg(long, value_name = "CMD", global = true)]
    pub on_success: Option<OsString>,
    /// Run CMD after any other run: one that failed, was interrupted, or had problems
    #[arg(long, value_name = "CMD", global = true)]
    pub on_failure: Option<OsString>,
}

/// A run, from its beginning to its end.
pub struct Run {
    args: UnattendedArgs,
    verb: String,
    id: String,
    began: Instant,
    view: View,
}

/// The longest report that fits a variable.
const REPORT_MAX: usize = 64 << 10;

impl Run {
    /// Begins: before there is any thread, for a thread takes its priority from the one that made it.
    ///
    /// # Errors
    /// Where there can be no log.
    pub fn begin(args: &UnattendedArgs, verb: &str, view: View) -> Result<Self, (View, Failure)> {
        if let Some(nice) = args.nice {
            // Where the system refuses, the run is no less a run.
            let _ = rustix::process::nice(nice.into());
        }
        let id = run_id();
        let log = match args.log_file.as_deref().map(|path| Log::open(path, &id)).transpose() {
            Ok(log) => log.map(Arc::new),
            Err(failure) => return Err((view, failure)),
        };
        let view = view.with_log(log);
        view.tell(&Told::Begin { verb, nfz: env!("CARGO_PKG_VERSION"), pid: std::process::id() });
        Ok(Self { args: args.clone(), verb: verb.to_owned(), id, began: Instant::now(), view })
    }

    /// How things are shown, and logged.
    #[must_use]
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// Ends: runs the command that is to hear of it, and closes the log.
    #[must_use]
    pub fn end(self, outcome: Result<Exit, Failure>) -> Exit {
        let (mut exit, message) = match outcome {
            Ok(exit) => (exit, None),
            Err(failure) => {
                self.view.failure(&failure);
                (failure.exit, Some(failure.message))
            }
        };
        let problems = [self.hook(exit, message.as_deref()), self.view.end_log(exit, self.began.elapsed())];
        for failure in problems.into_iter().filter_map(Result::err) {
            self.view.failure(&failure);
            exit = if exit == Exit::Done { Exit::Problems } else { exit };
        }
        exit
    }

    fn hook(&self, exit: Exit, message: Option<&str>) -> Result<(), Failure> {
        let (option, command) = match exit {
            Exit::Done => ("--on-success", &self.args.on_success),
            Exit::Busy => return Ok(()),
            _ => ("--on-failure", &self.args.on_failure),
        };
        let Some(command) = command else { return Ok(()) };
        let variables = variables(&self.id, &self.verb, exit, message, self.view.last_report().as_ref());
        let failed = |why: String| {
            Failure::new(Exit::Problems, format!("the command of {option} failed: {}", printable(&why)))
                .hint("everything else is as was said above")
        };
        let mut child = Command::new("sh");
        child.arg("-c").arg(command).envs(variables).env_remove("NFZ_PASSWORD").stdin(Stdio::null());
        // Standard output is for results.
        let stderr = std::io::stderr().as_fd().try_clone_to_owned().map_err(|error| failed(error.to_string()))?;
        let status = child.stdout(stderr).status().map_err(|error| failed(error.to_string()))?;
        if status.success() { Ok(()) } else { Err(failed(ended(status))) }
    }
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with {code}"),
        (None, Some(signal)) => format!("signal {signal} ended it"),
        (None, None) => "it did not end well".into(),
    }
}

/// Tells runs apart in a log.
fn run_id() -> String {
    let mut bytes = [0; 8];
    // Without chance the id only tells less.
    let _ = getrandom::fill(&mut bytes);
    to_hex(&bytes)
}

/// What a command is told: what ended how, and each figure of the report.
fn variables(id: &str, verb: &str, exit: Exit, message: Option<&str>, report: Option<&Value>) -> Vec<(String, String)> {
    let mut variables = vec![
        ("NFZ_RUN".to_owned(), id.to_owned()),
        ("NFZ_VERB".to_owned(), verb.to_owned()),
        ("NFZ_EXIT_CODE".to_owned(), exit.code().to_string()),
        ("NFZ_EXIT_MEANING".to_owned(), exit.meaning().to_owned()),
        ("NFZ_MESSAGE".to_owned(), message.map(printable).unwrap_or_default()),
    ];
    let whole = report.map(Value::to_string).filter(|text| text.len() <= REPORT_MAX);
    variables.push(("NFZ_REPORT".to_owned(), whole.unwrap_or_default()));
    let fields = report.and_then(Value::as_object).into_iter().flatten();
    variables.extend(fields.filter_map(|(field, value)| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            _ => return None,
        };
        Some((format!("NFZ_REPORT_{}", field.to_ascii_uppercase()), text))
    }));
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_told_every_figure_of_the_report() {
        let report =
            serde_json::json!({"verb": "sync", "sent_bytes": 7, "dry_run": false, "damage": [], "snapshot": null});
        let told = variables("1a", "sync", Exit::Problems, Some("a\nb"), Some(&report));
        let get = |name: &str| told.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        assert_eq!(get("NFZ_REPORT_SENT_BYTES"), Some("7"));
        assert_eq!(get("NFZ_REPORT_DRY_RUN"), Some("false"));
        assert_eq!(get("NFZ_EXIT_CODE"), Some("3"));
        assert_eq!(get("NFZ_MESSAGE"), Some("a\\nb"));
        assert_eq!((get("NFZ_REPORT_DAMAGE"), get("NFZ_REPORT_SNAPSHOT")), (None, None));
        assert_eq!(get("NFZ_REPORT").map(|text| serde_json::from_str(text).unwrap()), Some(report));
    }

    #[test]
    fn a_report_too_long_for_a_variable_is_left_out_and_its_figures_stay() {
        let report = serde_json::json!({"problems": 1, "damage": ["x".repeat(REPORT_MAX)]});
        let told = variables("1a", "verify", Exit::Damage, None, Some(&report));
        assert!(told.contains(&("NFZ_REPORT".into(), String::new())));
        assert!(told.contains(&("NFZ_REPORT_PROBLEMS".into(), "1".into())));
    }
}
