//! The program as a shell sees it: help, usage errors, completions.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

use std::process::{Command, Output, Stdio};

fn nfz(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nfz"));
    command.args(arguments).env_clear().stdin(Stdio::null()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

const VERBS: [&str; 13] = [
    "init",
    "sync",
    "snapshots",
    "ls",
    "restore",
    "verify",
    "forget",
    "prune",
    "undo-forget",
    "key",
    "import-nfreezer",
    "schedule",
    "completions",
];

#[test]
fn help_teaches_with_examples_and_succeeds() {
    for verb in VERBS {
        let output = nfz(&[verb, "--help"]);
        assert_eq!(output.status.code(), Some(0), "{verb}");
        assert!(stdout(&output).contains("EXAMPLES:"), "{verb}");
    }
    let help = stdout(&nfz(&["--help"]));
    assert!(VERBS.iter().all(|verb| help.contains(&format!("\n  {verb} "))), "{help}");
}

#[test]
fn help_lists_every_exit_code_that_is_documented() {
    let help = stdout(&nfz(&["--help"]));
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/exit-codes.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| "));
    let rows: Vec<_> = rows.map(|row| row.split(" | ").take(2).collect::<Vec<_>>()).collect();
    let codes: Vec<_> = rows.iter().filter(|row| row[0].parse::<u8>().is_ok()).collect();
    assert_eq!(codes.len(), 13);
    for code in codes {
        assert!(help.contains(&format!("{:>3}  {}", code[0], code[1])), "{code:?}");
    }
}

#[test]
fn a_command_line_that_makes_no_sense_ends_with_2_before_anything_begins() {
    let wrong: &[&[&str]] = &[
        &[],
        &["frobnicate"],
        &["sync"],
        &["sync", "/"],
        &["sync", "user@host:dir", "./x"],
        &["sync", "/", "-oProxyCommand=x:dir"],
        &["sync", "/", "--", "-oProxyCommand=x:dir"],
        &["sync", "/", "http://host/dir"],
        &["sync", "/", "a", "--compression", "best"],
        &["sync", "/", "a", "--checkpoint-interval", "5"],
        &["sync", "/", "a", "--exclude-larger-than", "big"],
        &["sync", "/", "a", "-q", "-v"],
        &["snapshots"],
        &["snapshots", "a", "-r", "b"],
        &["ls", "a", "/absolute"],
        &["ls", "a", "../x"],
        &["ls", "-r", "a", "b", "c"],
        &["restore"],
        &["restore", "a"],
        &["restore", "a", "out", "/absolute"],
        &["restore", "a", "user@host:dir"],
        &["restore", "a", "out", "--at", "yesterday"],
        &["restore", "a", "out", "--yes"],
        &["verify", "a", "--read-data=101%"],
        &["verify", "a", "--at", "latest"],
        &["snapshots", "a", "--password-file", "x", "--password-command", "y"],
        &["snapshots", "host:x", "--ssh-command", "ssh 'unclosed"],
        &["init", "a", "--kdf-memory", "1M"],
        &["key"],
        &["key", "remove", "a"],
        &["key", "remove", "a", "no-id"],
        &["key", "add", "a", "--new-password-file", "x", "--new-password-command", "y"],
        &["key", "add", "a", "--kdf-memory", "1M"],
        &["key", "export-kit", "a", "--format", "pdf"],
    ];
    for arguments in wrong {
        let output = nfz(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_failure_is_one_line_and_a_hint() {
    let output = nfz(&["sync", "/no/such/source", "/no/such/repository"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("nfz: cannot read the source /no/such/source: No such file"), "{text}");
    assert!(lines[1].starts_with("  hint: ") && lines.len() == 2, "{text}");
}

#[test]
fn with_json_a_failure_is_a_document_on_standard_output() {
    let output = nfz(&["sync", "/no/such/source", "/no/such/repository", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let last = stdout(&output).lines().last().unwrap_or_default().to_owned();
    let document: serde_json::Value = serde_json::from_str(&last).unwrap();
    assert_eq!((&document["kind"], &document["version"], &document["code"]), (&"error".into(), &1.into(), &1.into()));
    assert!(output.stderr.is_empty());
}

#[test]
fn where_there_is_no_repository_the_exit_code_is_10_and_nothing_is_asked_without_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none");
    let missing = missing.to_str().unwrap();
    for arguments in [
        &["snapshots", missing][..],
        &["ls", missing],
        &["restore", missing, "out"],
        &["verify", missing],
        &["sync", "/usr/include", missing],
        &["sync", "/usr/include", missing, "--init", "--dry-run"],
    ] {
        let output = nfz(arguments);
        assert_eq!(output.status.code(), Some(10), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("there is no repository\n  hint: "), "{}", stderr(&output));
    }
}

#[test]
fn every_shell_gets_completions_that_name_the_verbs() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = nfz(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        assert!(VERBS.iter().all(|verb| stdout(&output).contains(verb)), "{shell}");
    }
}

#[test]
fn a_reader_that_closes_early_is_no_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    // Closed before nfz begins: its first write fails.
    drop(reader);
    for arguments in [&["completions", "bash"][..], &["--help"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_nfz"))
            .args(arguments)
            .stdout(writer.try_clone().unwrap())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
    }
}

#[test]
fn a_full_disk_behind_standard_output_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_nfz"));
    let output = command.args(["completions", "bash"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot write to standard output"), "{}", stderr(&output));
}
