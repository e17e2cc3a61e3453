//! `nfz import-nfreezer`: what nFreezer saved comes back, and a hostile destination harms nothing.
//!
//! `tests/data/nfreezer` was written by nFreezer 0.0.1 itself (password "old password"); hostile ones are made from it.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};
use support::sshd::Sshd;
use tempfile::TempDir;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/nfreezer")
}

/// A user with a home, and a copy of an nFreezer destination that may be hurt.
struct User {
    home: TempDir,
}

impl User {
    fn new() -> Self {
        let user = Self { home: tempfile::tempdir().unwrap() };
        fs::create_dir(user.path("old")).unwrap();
        fs::create_dir(user.path("work")).unwrap();
        for entry in fs::read_dir(data().join("destination")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), user.path("old").join(entry.file_name())).unwrap();
        }
        fs::write(user.path("old-password"), "old password\n").unwrap();
        fs::write(user.path("password"), "new password\n").unwrap();
        user
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn nfz(&self, arguments: &[&str], ssh: Option<&str>) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nfz"));
        command.args(arguments).env_clear().current_dir(self.home.path()).env("HOME", self.home.path());
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("NFZ_PASSWORD_FILE", self.path("password"));
        command.env("TMPDIR", self.path("work")).envs(ssh.map(|ssh| ("NFZ_SSH_COMMAND", ssh)));
        command.stdin(Stdio::null()).output().unwrap()
    }

    fn import(&self, more: &[&str]) -> Output {
        let import = ["import-nfreezer", "old", "repo", "--init", "--old-password-file", "old-password"];
        let output = self.nfz(&[&import[..], more].concat(), None);
        assert_eq!(fs::read_dir(self.path("work")).unwrap().count(), 0, "the work directory is gone");
        output
    }

    /// Restores, and compares with what nFreezer's own restore gave.
    fn restored_is_right(&self, ssh: Option<&str>, repository: &str) {
        ends(&self.nfz(&["restore", repository, "out"], ssh), 0);
        assert_eq!(tree(&self.path("out")), tree(&data().join("expected")));
        let mtimes = fs::read_to_string(data().join("mtimes")).unwrap();
        for line in mtimes.lines() {
            let (mtime, path) = line.split_once(' ').unwrap();
            let found = fs::metadata(self.path("out").join(path)).unwrap();
            let nanoseconds = found.mtime() * 1_000_000_000 + found.mtime_nsec();
            assert_eq!(nanoseconds.to_string(), mtime, "{path}");
        }
    }
}

/// Files and their bytes, by path.
fn tree(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut files, mut places) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(place) = places.pop() {
        if place.is_dir() {
            places.extend(fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            files.push((place.strip_prefix(root).unwrap().to_path_buf(), fs::read(&place).unwrap()));
        }
    }
    files.sort();
    files
}

fn ends(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", stderr(output));
    assert!(!stderr(output).contains("panicked"), "{}", stderr(output));
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The file in the old destination that is no list, and the longest of them.
fn largest(old: &Path) -> PathBuf {
    let files = fs::read_dir(old).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| !path.ends_with(".files")).max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

#[test]
fn what_nfreezer_saved_comes_back_as_its_own_restore_brings_it() {
    let user = User::new();
    ends(&user.import(&[]), 0);
    user.restored_is_right(None, "repo");
    // Again: nothing new.
    let again = user.import(&["--json"]);
    ends(&again, 0);
    let report: serde_json::Value =
        serde_json::from_str(String::from_utf8(again.stdout).unwrap().lines().last().unwrap()).unwrap();
    assert_eq!(report["new_chunks"], 0, "{report}");
}

#[test]
fn a_destination_on_a_server_is_read_over_sftp() {
    let (user, server) = (User::new(), Sshd::start());
    let options = server.options();
    let ssh = format!("ssh -F {}", options.ssh_config.unwrap().display());
    let old = format!("nfz-test:{}", user.path("old").display());
    let repository = format!("nfz-test:{}", options.directory);
    let import = ["import-nfreezer", &old, &repository, "--init", "--old-password-file", "old-password"];
    ends(&user.nfz(&import, Some(&ssh)), 0);
    user.restored_is_right(Some(&ssh), &repository);
}

#[test]
fn the_snapshot_may_stand_for_the_directory_that_nfreezer_saved() {
    let user = User::new();
    fs::create_dir(user.path("documents")).unwrap();
    ends(&user.import(&["--source", "documents", "--host", "h"]), 0);
    let listed = String::from_utf8(user.nfz(&["snapshots", "repo"], None).stdout).unwrap();
    assert!(listed.contains("/documents") && listed.contains("nfreezer"), "{listed}");
}

#[test]
fn a_wrong_password_is_said_to_be_one() {
    let user = User::new();
    fs::write(user.path("old-password"), "wrong\n").unwrap();
    let output = user.import(&[]);
    ends(&output, 12);
    assert!(stderr(&output).contains("the password is wrong"), "{}", stderr(&output));
}

#[test]
fn what_is_no_nfreezer_destination_is_said_to_be_none() {
    let user = User::new();
    fs::remove_file(user.path("old/.files")).unwrap();
    let output = user.import(&[]);
    ends(&output, 1);
    assert!(stderr(&output).contains(".files is missing"), "{}", stderr(&output));
}

#[test]
fn damaged_missing_and_exchanged_contents_are_problems_and_the_rest_is_saved() {
    type Hurt = (&'static str, fn(&Path));
    let hurts: [Hurt; 4] = [
        ("damaged", |file| {
            let mut bytes = fs::read(file).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(file, bytes).unwrap();
        }),
        ("missing", |file| fs::remove_file(file).unwrap()),
        ("wrong length", |file| fs::write(file, "short").unwrap()),
        // Sealed with the same password, and of the same length: only the record's hash tells.
        ("those of another file", |file| {
            fs::copy(data().join("impostor"), file).map(drop).unwrap();
        }),
    ];
    for (what, hurt) in hurts {
        let user = User::new();
        hurt(&largest(&user.path("old")));
        let output = user.import(&[]);
        ends(&output, 3);
        assert!(stderr(&output).contains(what), "{what}: {}", stderr(&output));
        ends(&user.nfz(&["restore", "repo", "out"], None), 0);
        let (restored, expected) = (tree(&user.path("out")), tree(&data().join("expected")));
        assert!(restored.len() < expected.len() && restored.iter().all(|file| expected.contains(file)), "{what}");
    }
}

#[test]
fn a_list_that_was_cut_short_or_has_an_absurd_length_ends_there() {
    for tail in [&[0xff; 4][..], &[200, 0, 0, 0, 1, 2, 3], &[0, 0, 0, 0], &[1]] {
        let user = User::new();
        let list = user.path("old/.files");
        fs::write(&list, [fs::read(&list).unwrap(), tail.to_vec()].concat()).unwrap();
        let output = user.import(&[]);
        ends(&output, 3);
        assert!(stderr(&output).contains("no record"), "{}", stderr(&output));
        user.restored_is_right(None, "repo");
    }
}

#[test]
fn a_path_that_leads_elsewhere_is_refused() {
    let user = User::new();
    let list = user.path("old/.files");
    // Records for ../escaped and /absolute, sealed by nFreezer's own code.
    fs::write(&list, [fs::read(&list).unwrap(), fs::read(data().join("escaping")).unwrap()].concat()).unwrap();
    let output = user.import(&[]);
    ends(&output, 3);
    assert_eq!(stderr(&output).matches("cannot be used").count(), 2, "{}", stderr(&output));
    assert!(!user.path("escaped").exists() && !user.path("work/escaped").exists());
    user.restored_is_right(None, "repo");
}
