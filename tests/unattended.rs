//! What runs where nobody looks: log file, one at a time, commands at the end, names of repositories, schedules.
#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};
use tempfile::TempDir;

/// A user with a home, a source and a local repository.
struct User {
    home: TempDir,
}

impl User {
    fn new() -> Self {
        let user = Self { home: tempfile::tempdir().unwrap() };
        fs::create_dir(user.path("source")).unwrap();
        fs::write(user.path("source/a"), "first").unwrap();
        fs::write(user.path("password"), "secret\n").unwrap();
        let made = user.nfz(&["init", "repo", "--kdf-memory", "19M"]);
        ends(&made, 0);
        user
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nfz"));
        command.args(arguments).env_clear().current_dir(self.home.path()).env("HOME", self.home.path());
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("NFZ_PASSWORD_FILE", self.path("password"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn nfz(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn configure(&self, text: &str) {
        fs::create_dir_all(self.path(".config/nfz")).unwrap();
        fs::write(self.path(".config/nfz/config.toml"), text).unwrap();
    }

    fn log(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn ends(output: &Output, code: i32) {
    let shown = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{shown:?}");
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

// ---- the log file ----

#[test]
fn the_log_tells_of_each_run_what_was_read_sent_skipped_and_how_it_ended() {
    let user = User::new();
    fs::write(user.path("source/b\n"), "second").unwrap();
    ends(&user.nfz(&["sync", "source", "repo", "-q", "--log-file", "log"]), 0);
    let first = user.log();
    let of_kind =
        |log: &[Value], kind: &str| -> Vec<Value> { log.iter().filter(|line| line["kind"] == kind).cloned().collect() };
    assert_eq!(first[0]["kind"], "begin");
    assert_eq!(first[0]["verb"], "sync");
    assert_eq!(first.last().unwrap()["kind"], "end");
    assert_eq!(first.last().unwrap()["code"], 0);
    assert!(of_kind(&first, "syncs")[0]["source"].as_str().unwrap().ends_with("source"));
    let entries = of_kind(&first, "entry");
    assert!(entries.iter().any(|entry| entry["path"] == "b\n" && entry["action"] == "new"), "{entries:?}");
    let report = &of_kind(&first, "report")[0];
    assert!(report["sent_bytes"].as_u64().unwrap() > 0 && report["read_bytes"] == 11, "{report}");
    assert!(first.iter().all(|line| line["run"] == first[0]["run"] && line["time"].is_string()), "{first:?}");

    // A second run is appended, under an id of its own, and says why it failed.
    ends(&user.nfz(&["sync", "source", "nowhere", "-q", "--log-file", "log"]), 10);
    let both = user.log();
    assert_eq!(both[..first.len()], first[..]);
    let second = &both[first.len()..];
    assert!(second.iter().all(|line| line["run"] == second[0]["run"]) && second[0]["run"] != first[0]["run"]);
    assert!(of_kind(second, "error")[0]["message"].as_str().unwrap().contains("nowhere"));
    assert_eq!(second.last().unwrap()["code"], 10);
}

#[test]
fn what_was_skipped_is_in_the_log() {
    let user = User::new();
    ends(&user.nfz(&["sync", "source", "repo", "-q"]), 0);
    fs::create_dir(user.path("target")).unwrap();
    fs::write(user.path("target/a"), "another").unwrap();
    ends(&user.nfz(&["restore", "repo", "target", "-q", "--log-file", "log"]), 3);
    let log = user.log();
    assert!(log.iter().any(|line| line["kind"] == "problem" && line["subject"] == "a"), "{log:?}");
    assert!(log.iter().any(|line| line["kind"] == "entry" && line["action"] == "skipped"), "{log:?}");
}

#[test]
fn a_log_that_cannot_be_written_ends_the_run_before_it_begins() {
    let user = User::new();
    let output = user.nfz(&["sync", "source", "repo", "--log-file", "no/such/directory/log"]);
    ends(&output, 1);
    assert!(stderr(&output).contains("no/such/directory/log"));
    assert_eq!(fs::read_dir(user.path("repo/snapshots")).unwrap().count(), 0);
}

// ---- one at a time ----

/// A sync that waits for a password from a pipe, and so holds its lock; it says so through another pipe.
fn waiting_sync(user: &User) -> Child {
    for pipe in ["asked", "answer"] {
        assert!(Command::new("mkfifo").arg(user.path(pipe)).status().unwrap().success());
    }
    let script = format!("sh -c 'echo > {0}/asked; cat {0}/answer'", user.home.path().display());
    let mut command = user.command(&["sync", "source", "repo", "--one-at-a-time", "--password-command", &script]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    fs::read(user.path("asked")).unwrap(); // returns when the command has run
    child
}

#[test]
fn a_second_run_leaves_at_once_and_the_lock_goes_with_its_holder_however_that_ends() {
    let user = User::new();
    let mut first = waiting_sync(&user);
    // Another path to the same source is the same source.
    let second = user.nfz(&["sync", "./source/../source", "./repo", "--one-at-a-time", "--on-failure", "touch failed"]);
    ends(&second, 7);
    assert!(stderr(&second).contains("another run syncs"), "{}", stderr(&second));
    assert!(!user.path("failed").exists(), "nothing failed");
    // Another source is none of its business.
    fs::create_dir(user.path("other")).unwrap();
    ends(&user.nfz(&["sync", "other", "repo", "--one-at-a-time"]), 0);
    first.kill().unwrap();
    first.wait().unwrap();
    fs::write(user.path("answer"), "").unwrap(); // lets what it had started end
    ends(&user.nfz(&["sync", "source", "repo", "--one-at-a-time"]), 0);
}

// ---- commands at the end ----

#[test]
fn a_command_hears_of_success_with_the_figures_and_another_of_failure_with_the_reason() {
    let user = User::new();
    let told = r#"printf '%s ' "$NFZ_VERB" "$NFZ_EXIT_CODE" "$NFZ_REPORT_FILES" "$NFZ_MESSAGE" "[$NFZ_PASSWORD]" > told; echo heard"#;
    let mut command =
        user.command(&["sync", "source", "repo", "--json", "--on-success", told, "--on-failure", "touch no"]);
    let output = command.env("NFZ_PASSWORD", "x").output().unwrap();
    ends(&output, 0);
    assert_eq!(fs::read_to_string(user.path("told")).unwrap(), "sync 0 1  [] ");
    assert!(!user.path("no").exists());
    assert!(stderr(&output).contains("heard") && !stdout(&output).contains("heard"));

    let output = user.nfz(&["sync", "source", "nowhere", "--on-success", "touch no", "--on-failure", told]);
    ends(&output, 10);
    let told = fs::read_to_string(user.path("told")).unwrap();
    assert!(told.starts_with("sync 10  ") && told.contains("there is no repository"), "{told}");
    assert!(!user.path("no").exists());
}

#[test]
fn a_command_that_fails_is_told_and_does_not_go_for_success() {
    let user = User::new();
    let output = user.nfz(&["sync", "source", "repo", "--on-success", "exit 9", "--log-file", "log"]);
    ends(&output, 3);
    assert!(stderr(&output).contains("--on-success failed: it ended with 9"), "{}", stderr(&output));
    assert!(user.log().iter().any(|line| line["kind"] == "error" && line["code"] == 3));
    // The reason of a failure is not hidden by a second one.
    ends(&user.nfz(&["sync", "source", "nowhere", "--on-failure", "exit 9"]), 10);
}

#[test]
fn nice_lowers_the_priority_of_all_that_is_started() {
    let user = User::new();
    ends(&user.nfz(&["sync", "source", "repo", "--nice=15", "--on-success", "nice > niceness"]), 0);
    let niceness: i32 = fs::read_to_string(user.path("niceness")).unwrap().trim().parse().unwrap();
    assert!(niceness >= 15, "{niceness}");
}

// ---- names ----

const CONFIGURATION: &str = "\
[repository.home]
address = '~/repo'
source = ['~/source', '~/other']
password-file = '~/password'
exclude = ['*.tmp']
limit-up = '100M'
[repository.home.keep]
last = 1
";

#[test]
fn a_name_stands_for_address_sources_password_patterns_and_retention() {
    let user = User::new();
    user.configure(CONFIGURATION);
    fs::create_dir(user.path("other")).unwrap();
    fs::write(user.path("other/b"), "b").unwrap();
    fs::write(user.path("source/x.tmp"), "x").unwrap();
    let nfz = |arguments: &[&str]| user.command(arguments).env_remove("NFZ_PASSWORD_FILE").output().unwrap();
    ends(&nfz(&["sync", "home"]), 0);
    fs::write(user.path("source/c"), "c").unwrap();
    ends(&nfz(&["sync", "home"]), 0);
    let listed =
        stdout(&nfz(&["ls", "home", "--source", user.path("source").canonicalize().unwrap().to_str().unwrap()]));
    assert!(listed.contains('c') && !listed.contains("x.tmp"), "{listed}");
    let source = user.path("other").canonicalize().unwrap();
    ends(&nfz(&["restore", "home", "out", "--source", source.to_str().unwrap()]), 0);
    assert_eq!(fs::read(user.path("out/b")).unwrap(), b"b");
    ends(&nfz(&["verify", "@home"]), 0);
    let snapshots = || fs::read_dir(user.path("repo/snapshots")).unwrap().count();
    let before = snapshots();
    ends(&nfz(&["forget", "home"]), 0);
    assert_eq!((before, snapshots()), (before, 2), "the last one of each source stays");
    for verb in [&["snapshots"][..], &["prune", "-n"], &["key", "list"]] {
        ends(&nfz(&[verb, &["--repository", "home"]].concat()), 0);
    }
}

#[test]
fn a_name_never_hides_a_file_or_a_path() {
    let user = User::new();
    user.configure(CONFIGURATION);
    fs::create_dir(user.path("home")).unwrap();
    let output = user.nfz(&["snapshots", "home"]);
    ends(&output, 2);
    assert!(stderr(&output).contains("@home") && stderr(&output).contains("./home"), "{}", stderr(&output));
    ends(&user.nfz(&["sync", "home"]), 2);
    ends(&user.nfz(&["snapshots", "@home"]), 0);
    ends(&user.nfz(&["snapshots", "./home"]), 10);
}

#[test]
fn an_unknown_key_is_an_error_that_names_it_and_its_line() {
    let user = User::new();
    user.configure("[repository.home]\naddress = 'repo'\nadress = 'x'\n");
    let output = user.nfz(&["sync", "home"]);
    ends(&output, 2);
    assert!(stderr(&output).contains("line 3") && stderr(&output).contains("adress"), "{}", stderr(&output));
    // Who names no name needs no configuration.
    ends(&user.nfz(&["sync", "./source", "./repo"]), 0);
    ends(&user.nfz(&["sync", "home", "--config", "nothing.toml"]), 2);
}

// ---- schedules ----

/// Runs what a crontab line says, as cron does.
fn run_crontab_line(user: &User, line: &str) -> Output {
    let command = line.splitn(6, ' ').nth(5).unwrap().replace("\\%", "%");
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).env_clear().env("HOME", user.home.path()).current_dir("/");
    shell.env("PATH", "/usr/bin:/bin").output().unwrap()
}

#[test]
fn a_scheduled_line_runs_in_the_same_place_with_odd_paths_too() {
    let user = User::new();
    let odd = "so%u'r \"c$e\\";
    fs::rename(user.path("source"), user.path(odd)).unwrap();
    let output =
        user.nfz(&["schedule", "--cron", "--every", "15m", "--", "sync", odd, "repo", "--password-file", "password"]);
    ends(&output, 0);
    let line = stdout(&output);
    assert!(line.starts_with("*/15 * * * * cd ") && line.lines().count() == 1, "{line}");
    let ran = run_crontab_line(&user, line.trim_end_matches('\n'));
    ends(&ran, 0);
    assert!(stdout(&ran).contains("1 file"), "{}", stdout(&ran));
    assert!(stderr(&output).contains("NFZ_PASSWORD_FILE"), "what will not be there is said: {}", stderr(&output));
}

#[test]
fn systemd_units_are_written_where_they_are_wanted() {
    let user = User::new();
    let directory = user.path("units");
    let arguments =
        ["schedule", "--every", "02:30", "--name", "docs", "--out", "units", "--", "sync", "source", "repo", "-q"];
    ends(&user.nfz(&arguments), 0);
    let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
    let (service, timer) = (read("nfz-docs.service"), read("nfz-docs.timer"));
    let home = user.home.path().canonicalize().unwrap();
    assert!(service.contains(&format!("ExecStart=\"/usr/bin/env\" \"--chdir={}\"", home.display())), "{service}");
    assert!(service.contains("\"sync\" \"source\" \"repo\" \"-q\"\n"), "{service}");
    assert!(timer.contains("OnCalendar=*-*-* 02:30:00\n") && timer.contains("Persistent=true"), "{timer}");
    let analyze = Path::new("/usr/bin/systemd-analyze");
    if analyze.exists() {
        let verified =
            Command::new(analyze).args(["verify", "--man=no"]).arg(directory.join("nfz-docs.timer")).output().unwrap();
        assert!(
            !String::from_utf8_lossy(&verified.stderr).contains("nfz-docs"),
            "{}",
            String::from_utf8_lossy(&verified.stderr)
        );
    }
}

#[test]
fn a_command_that_makes_no_sense_is_not_scheduled() {
    let user = User::new();
    ends(&user.nfz(&["schedule", "--", "sink", "source", "repo"]), 2);
    ends(&user.nfz(&["schedule", "--every", "7m", "--", "sync", "source", "repo"]), 2);
}
