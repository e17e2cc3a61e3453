//! `nfz key` as a user runs it, over a real sshd and with real passwords.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;
#[path = "support/tree.rs"]
mod tree;

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};
use support::sshd::Sshd;
use tempfile::TempDir;

/// A repository on a server, with one snapshot, and files that hold passwords.
struct User {
    _server: Sshd,
    config: PathBuf,
    remote: PathBuf,
    home: TempDir,
    source: TempDir,
}

impl User {
    fn new() -> Self {
        let server = Sshd::start();
        let (config, remote) = (server.options().ssh_config.unwrap(), server.fresh_directory());
        let (home, source) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(source.path().join("file"), tree::noise(1, 100_000)).unwrap();
        let user = Self { _server: server, config, remote, home, source };
        for word in ["one", "two", "three"] {
            fs::write(user.file(word), format!("{word}\n")).unwrap();
        }
        user.done("one", &["init", &user.address(), "--kdf-memory", "19M"]);
        user.sync("one");
        user
    }

    fn address(&self) -> String {
        format!("nfz-test:{}", self.remote.display())
    }

    fn file(&self, name: &str) -> String {
        self.home.path().join(name).to_str().unwrap().to_owned()
    }

    fn command(&self, password: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nfz"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", std::env::var_os("PATH").unwrap());
        command.env("NFZ_PASSWORD", password).env("NFZ_SSH_COMMAND", format!("ssh -F {}", self.config.display()));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, password: &str, arguments: &[&str]) -> Output {
        self.command(password, arguments).output().unwrap()
    }

    /// What a command that must succeed prints.
    fn done(&self, password: &str, arguments: &[&str]) -> String {
        let output = self.run(password, arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command that must fail says.
    fn fails(&self, password: &str, arguments: &[&str], code: i32) -> String {
        let output = self.run(password, arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains("\n  hint: "), "it says what to do: {stderr}");
        stderr
    }

    fn sync(&self, password: &str) {
        self.done(password, &["sync", self.source.path().to_str().unwrap(), &self.address()]);
    }

    fn assert_restores(&self, password: &str) {
        let out = tempfile::tempdir().unwrap();
        let target = out.path().join("out");
        self.done(password, &["restore", &self.address(), target.to_str().unwrap()]);
        tree::assert_same(&tree::read(self.source.path()), &tree::read(&target));
    }

    fn slots(&self, password: &str) -> Vec<serde_json::Value> {
        let listed = self.done(password, &["key", "list", &self.address(), "--json"]);
        let lines = listed.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.filter(|line| line["kind"] == "key_slot").collect()
    }
}

fn names(directory: &Path) -> usize {
    fs::read_dir(directory).unwrap().count()
}

#[test]
fn passwords_come_and_go_and_a_rotation_keeps_one() {
    let user = User::new();
    let address = user.address();
    let add = |password: &str, new: &str| {
        user.done(password, &["key", "add", &address, "--new-password-file", &user.file(new), "--kdf-memory", "19M"])
    };
    add("one", "two");
    user.assert_restores("two");
    let slots = user.slots("two");
    assert_eq!(slots.len(), 2);
    assert!(slots.iter().all(|slot| slot["epoch"] == 0 && slot["memory"] == 19 << 20 && slot["written"].is_string()));
    let table = user.done("two", &["key", "list", &address]);
    assert!(
        table.contains("password") && table.contains("19.0 MiB, 3 passes, 4 lanes") && table.contains("in use now")
    );

    // The one in use is not removed without a word, another one is.
    let (used, other) =
        (&slots.iter().find(|slot| slot["in_use"] == true).unwrap()["slot"], |used: &serde_json::Value| {
            slots.iter().find(|slot| slot["slot"] != *used).unwrap()["slot"].as_str().unwrap().to_owned()
        });
    user.fails("two", &["key", "remove", &address, used.as_str().unwrap()], 1);
    user.done("two", &["key", "remove", &address, &other(used)[..8]]);
    user.fails("one", &["snapshots", &address], 12);
    user.fails("two", &["key", "remove", &address, used.as_str().unwrap(), "--yes"], 1);
    user.fails("two", &["key", "remove", &address, "ffffffff"], 1);

    let key = user.file("key");
    fs::write(&key, b"any file will do").unwrap();
    user.done("two", &["key", "change", &address, "--new-key-file", &key]);
    user.fails("two", &["snapshots", &address], 12);
    let mut by_key =
        user.command("", &["key", "add", &address, "--key-file", &key, "--new-password-file", &user.file("one")]);
    assert!(by_key.args(["--kdf-memory", "19M"]).status().unwrap().success());
    user.assert_restores("one");

    let refused = user.fails("one", &["key", "rotate", &address, "--new-password-file", &user.file("three")], 1);
    assert!(refused.contains("1 other key slots would be removed") && refused.contains("--yes"), "{refused}");
    let rotate =
        ["key", "rotate", &address, "--new-password-file", &user.file("three"), "--kdf-memory", "19M", "--yes"];
    let said = user.done("one", &rotate);
    assert!(said.contains("Key epoch 1 begins") && said.contains("can still"), "{said}");
    user.fails("one", &["snapshots", &address], 12);
    fs::write(user.source.path().join("new"), b"after").unwrap();
    user.sync("three");
    user.assert_restores("three");
    assert_eq!((names(&user.remote.join("keys")), names(&user.remote.join("keyring"))), (1, 1));
    user.done("three", &["verify", &address, "--read-data"]);
}

#[test]
fn a_kit_proves_itself_and_opens_what_no_password_opens_any_more() {
    let user = User::new();
    let (address, text, page) = (user.address(), user.file("kit.txt"), user.file("kit.svg"));
    user.done("one", &["key", "export-kit", &address, "--with-secret", "--out", &text]);
    user.done("one", &["key", "export-kit", &address, "--with-secret", "--out", &page]);
    assert_eq!(fs::metadata(&text).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(&page).unwrap().starts_with("<svg"));
    let again = user.run("one", &["key", "export-kit", &address, "--out", &text]);
    assert_eq!(again.status.code(), Some(1), "a file that exists is left alone");

    // The address is in the kit, and no password is needed.
    for kit in [&text, &page] {
        let said = user.done("", &["key", "import-kit", "--kit", kit]);
        assert!(said.contains("The kit works") && said.contains("1 snapshot"), "{said}");
    }
    for slot in fs::read_dir(user.remote.join("keys")).unwrap() {
        fs::remove_file(slot.unwrap().path()).unwrap();
    }
    user.fails("one", &["snapshots", &address], 1);
    let mut typed = user
        .command("", &["key", "import-kit", &address, "--add-password", "--new-password-file", &user.file("two")])
        .args(["--kdf-memory", "19M"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let kit = fs::read_to_string(&text).unwrap();
    let words = kit.lines().filter(|line| line.starts_with(|char: char| char.is_ascii_digit()));
    let words: Vec<&str> = words.map(|line| line.split_once(' ').unwrap().1).collect();
    typed.stdin.take().unwrap().write_all(words.join("\n").as_bytes()).unwrap();
    assert!(typed.wait_with_output().unwrap().status.success());
    user.assert_restores("two");

    // A wrong word is found in its line; a kit from before a rotation says so; one without words needs the password.
    let wrong = user.file("wrong.txt");
    fs::write(&wrong, words.join("\n").replacen(words[3], "zoo zoo zoo zoo abandon", 1)).unwrap();
    assert!(user.fails("", &["key", "import-kit", &address, "--kit", &wrong], 12).contains("line 4 is not right"));
    user.done("two", &["key", "rotate", &address]);
    assert!(user.fails("", &["key", "import-kit", "--kit", &text], 12).contains("rotated to epoch 1"));
    let plain = user.file("plain.txt");
    user.done("two", &["key", "export-kit", &address, "--out", &plain]);
    assert!(!fs::read_to_string(&plain).unwrap().contains("SECRET WORDS"));
    assert!(user.done("two", &["key", "import-kit", "--kit", &plain]).contains("It has no words"));
    user.fails("one", &["key", "import-kit", "--kit", &plain], 12);
}
