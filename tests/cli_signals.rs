//! Signals, seen from outside: the exit code, and what is said.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdin, Command, Stdio},
};

/// nfz, while its password command does not answer.
struct Waiting {
    nfz: Child,
    /// The password command ends with it, and so no process outlives the test.
    _input: ChildStdin,
    _dir: tempfile::TempDir,
}

impl Waiting {
    /// Starts it after `prefix`, a piece of shell script; it has asked for the password when this returns.
    fn start(prefix: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let (program, path) = (env!("CARGO_BIN_EXE_nfz"), dir.path().display());
        let script = format!("{prefix} exec {program} init {path}/repository --password-command \"$0\"");
        let password_command = format!("sh -c 'echo ready > {}; exec cat'", fifo.display());
        let mut command = Command::new("sh");
        command.args(["-c", &script, &password_command]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut nfz = command.spawn().unwrap();
        let input = nfz.stdin.take().unwrap();
        let mut line = String::new();
        BufReader::new(File::open(&fifo).unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self { nfz, _input: input, _dir: dir }
    }

    fn send(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.nfz.id().to_string()]).status().unwrap().success());
    }

    /// Its exit code, and the first line that it said.
    fn end(mut self) -> (Option<i32>, String) {
        let code = self.nfz.wait().unwrap().code();
        let mut text = String::new();
        BufReader::new(self.nfz.stderr.take().unwrap()).take(4096).read_line(&mut text).unwrap();
        (code, text)
    }
}

#[test]
fn each_signal_ends_the_program_with_its_own_code_and_a_word() {
    for (signal, code) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        let waiting = Waiting::start("");
        waiting.send(signal);
        let (ended, text) = waiting.end();
        assert_eq!(ended, Some(code), "{signal}");
        assert!(text.starts_with("nfz: "), "{text}");
    }
}

#[test]
fn what_nohup_ignores_stays_ignored() {
    let waiting = Waiting::start("trap '' HUP;");
    waiting.send("-HUP");
    waiting.send("-TERM");
    assert_eq!(waiting.end().0, Some(143));
}
