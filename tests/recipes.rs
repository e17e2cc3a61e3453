//! The recipes are true: their `sh` blocks are run as they stand, each page by one shell, against a real sshd.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};
use support::sshd::Sshd;
use tempfile::TempDir;

/// Someone who follows a recipe, with a home of their own.
struct Reader {
    home: TempDir,
    server: Sshd,
    remote: PathBuf,
    ssh: String,
}

impl Reader {
    fn new() -> Self {
        let (home, server) = (tempfile::tempdir().unwrap(), Sshd::start());
        let options = server.options();
        let ssh = format!("ssh -F {}", options.ssh_config.unwrap().display());
        let reader = Self { home, remote: options.directory.into(), ssh, server };
        fs::create_dir(reader.path("Documents")).unwrap();
        fs::write(reader.path("Documents/letter.txt"), "Dear reader,\n").unwrap();
        fs::write(reader.path("Documents/draft.tmp"), "not this").unwrap();
        fs::create_dir_all(&reader.remote).unwrap();
        reader
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Runs all blocks of a page in one shell, which stops at the first failure.
    fn follow(&self, page: &str) -> Output {
        let program = Path::new(env!("CARGO_BIN_EXE_nfz")).parent().unwrap();
        let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("sh");
        shell.arg("-eux").arg("-c").arg(blocks(page)).env_clear().current_dir(self.home.path());
        shell.env("HOME", self.home.path()).env("PATH", path).env("NFZ_SSH_COMMAND", &self.ssh);
        shell.env("SERVER", "nfz-test").env("REMOTE", &self.remote).env("OLD_PASSWORD", "old password");
        let output = shell.stdin(Stdio::null()).output().unwrap();
        let shown = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{shown}\nsshd: {}", self.server.log());
        output
    }
}

fn page(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recipes").join(name)).unwrap()
}

/// The text of the blocks that are marked `sh`.
fn blocks(page: &str) -> String {
    let blocks: Vec<&str> = page.split("```sh\n").skip(1).filter_map(|part| part.split("```").next()).collect();
    assert!(blocks.len() >= 3, "{page}");
    blocks.concat()
}

#[test]
fn from_nfreezer() {
    let reader = Reader::new();
    fs::create_dir_all(reader.remote.join("old")).unwrap();
    let destination = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/nfreezer/destination");
    for entry in fs::read_dir(destination).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), reader.remote.join("old").join(entry.file_name())).unwrap();
    }
    reader.follow(&page("from-nfreezer.md"));
    assert!(reader.path("restored/moved.txt").exists() && !reader.path("restored/letter.txt").exists());
    assert_eq!(fs::read(reader.path("imported/a.txt")).unwrap(), b"changed");
}

#[test]
fn hourly() {
    let reader = Reader::new();
    let output = reader.follow(&page("hourly.md"));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("OnCalendar=hourly") && shown.contains("\"kind\":\"end\""), "{shown}");
    assert!(!reader.path("nfz-failures").exists());
    // What was scheduled works: the line is run as cron runs it, elsewhere and with nothing in its environment but a home.
    let line = fs::read_to_string(reader.path("crontab-line")).unwrap();
    let command = line.trim_end().splitn(6, ' ').nth(5).unwrap().replace("\\%", "%");
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).env_clear().env("HOME", reader.home.path()).env("PATH", "/usr/bin:/bin");
    let ran = shell.env("NFZ_SSH_COMMAND", &reader.ssh).current_dir("/").output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let log = fs::read_to_string(reader.path("nfz.log")).unwrap();
    assert_eq!(log.matches("\"kind\":\"end\"").count(), 2, "{log}");
    // And what the configuration leaves out is left out.
    let names = log.matches("draft.tmp").count();
    assert_eq!(names, 0, "{log}");
}

#[test]
fn no_recipe_is_left_untested() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests = fs::read_dir(root.join("tests")).unwrap().map(|entry| entry.unwrap().path());
    let tests: String = tests.filter(|path| path.is_file()).map(|path| fs::read_to_string(path).unwrap()).collect();
    for entry in fs::read_dir(root.join("docs/recipes")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let has_commands = page(&name).contains("```sh\n");
        assert!(!has_commands || tests.contains(&format!("\"{name}\"")), "{name} has commands that no test runs");
    }
}
