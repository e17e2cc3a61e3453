//! The program as it is, over a real sshd: what a user runs, what ssh carries, and how it ends.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;
#[path = "support/tree.rs"]
mod tree;

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread::sleep,
    time::Duration,
};
use support::{
    relay::Relay,
    sshd::{Special, Sshd},
};
use tempfile::TempDir;

/// A user with nothing but an address and a password, a server, and a relay between them that counts.
struct User {
    server: Sshd,
    relay: Relay,
    config: PathBuf,
    remote: PathBuf,
    home: TempDir,
}

impl User {
    fn new() -> Self {
        Self::of(Sshd::start())
    }

    fn of(server: Sshd) -> Self {
        let relay = Relay::to(server.port);
        let config = server.options_via(relay.port).ssh_config.unwrap();
        let remote = server.fresh_directory();
        Self { server, relay, config, remote, home: tempfile::tempdir().unwrap() }
    }

    /// One whose repository exists.
    fn with_repository() -> Self {
        let user = Self::new();
        let made = user.nfz(&["init", &user.address(), "--kdf-memory", "19M"]);
        assert_ends(&made, 0);
        user
    }

    fn address(&self) -> String {
        format!("nfz-test:{}", self.remote.display())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        // A home that nobody has ever been in: no cache, no configuration, no known hosts.
        let home = self.home.path().join(format!("{:?}", std::time::Instant::now()));
        fs::create_dir_all(&home).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_nfz"));
        command.args(arguments).env_clear().env("HOME", home).env("PATH", std::env::var_os("PATH").unwrap());
        command.env("NFZ_PASSWORD", "password").env("NFZ_SSH_COMMAND", format!("ssh -F {}", self.config.display()));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn nfz(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// A sync that must succeed: its report, and the bytes that ssh sent and received for it.
    fn sync(&self, source: &Path, more: &[&str]) -> (serde_json::Value, u64, u64) {
        let (sent, received) = (self.relay.sent(), self.relay.received());
        let address = self.address();
        let output = self.nfz(&[&["sync", source.to_str().unwrap(), &address, "--json"], more].concat());
        assert_ends(&output, 0);
        let stdout = String::from_utf8(output.stdout).unwrap();
        let report = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
        (report, self.relay.sent() - sent, self.relay.received() - received)
    }

    /// Chunks and segments on the server, and their bytes.
    fn chunks(&self) -> (u64, u64) {
        let shards = fs::read_dir(self.remote.join("chunks")).unwrap();
        let files = shards.flat_map(|shard| fs::read_dir(shard.unwrap().path()).unwrap());
        files.fold((0, 0), |(count, bytes), file| {
            let length = file.unwrap().metadata().map_or(0, |metadata| metadata.len());
            (count + 1, bytes + length)
        })
    }
}

fn assert_ends(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A failure: its code, one line of ours that says `what`, and lines of advice.
fn assert_fails(output: &Output, code: i32, what: &str) {
    assert_ends(output, code);
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    let ours: Vec<&str> = stderr.lines().filter(|line| line.starts_with("nfz:")).collect();
    assert_eq!(ours.len(), 1, "{stderr}");
    assert!(ours[0].contains(what), "{stderr}");
    assert!(stderr.lines().any(|line| line.starts_with("  hint: ")), "it says what to do: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

fn number(report: &serde_json::Value, field: &str) -> u64 {
    report[field].as_u64().unwrap_or_else(|| panic!("{field} in {report}"))
}

fn source() -> TempDir {
    let source = tempfile::tempdir().unwrap();
    for number in 0..200_u8 {
        let directory = source.path().join(format!("d{}", number % 8));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("f{number}")), tree::noise(number, 5_000)).unwrap();
    }
    fs::write(source.path().join("d2/large"), tree::noise(255, 9_000_000)).unwrap();
    source
}

#[test]
fn the_main_job_from_any_machine_without_state() {
    let user = User::with_repository();
    let (address, source, out) = (user.address(), source(), tempfile::tempdir().unwrap());
    let (first, sent, _) = user.sync(source.path(), &[]);
    assert_eq!(number(&first, "files"), 201);
    assert!(sent > 10_000_000, "the relay has seen {sent} bytes");

    let (again, sent, received) = user.sync(source.path(), &[]);
    assert_eq!((number(&again, "read_bytes"), number(&again, "sent_objects")), (0, 0));
    assert!(sent < 80_000 && received < 200_000, "nothing to do took {sent} and {received} bytes");

    fs::rename(source.path().join("d2"), source.path().join("moved")).unwrap();
    let (renamed, sent, _) = user.sync(source.path(), &[]);
    assert_eq!((number(&renamed, "read_bytes"), number(&renamed, "new_chunks")), (0, 0));
    assert_eq!(number(&renamed, "moved"), 26);
    assert!(sent < 120_000, "a renamed directory of nine megabytes took {sent} bytes");

    assert_ends(&user.nfz(&["verify", &address, "--read-data", "--against", source.path().to_str().unwrap()]), 0);
    let target = out.path().join("out");
    assert_ends(&user.nfz(&["restore", &address, target.to_str().unwrap()]), 0);
    tree::assert_same(&tree::read(source.path()), &tree::read(&target));
    let one = out.path().join("one");
    assert_ends(&user.nfz(&["restore", &address, one.to_str().unwrap(), "d2/f2", "--at", "latest~1"]), 0);
    assert_eq!(fs::read(one.join("d2/f2")).unwrap(), tree::noise(2, 5_000));
    let listed = user.nfz(&["ls", &address, "moved"]);
    assert_ends(&listed, 0);
    assert!(String::from_utf8(listed.stdout).unwrap().contains("large"));
    let snapshots = String::from_utf8(user.nfz(&["snapshots", &address, "--json"]).stdout).unwrap();
    assert_eq!(snapshots.lines().filter(|line| line.contains(r#""kind":"snapshot""#)).count(), 3, "{snapshots}");
}

#[test]
fn a_sync_that_was_killed_and_run_again_sends_only_what_is_missing() {
    let user = User::with_repository();
    let source = tempfile::tempdir().unwrap();
    for number in 0..40_u8 {
        fs::write(source.path().join(number.to_string()), tree::noise(number, 1_000_000)).unwrap();
    }
    let address = user.address();
    let slow = ["sync", source.path().to_str().unwrap(), &address, "--limit-up", "8M"];
    for killed in [8, 20] {
        let mut child = user.command(&slow).spawn().unwrap();
        while user.chunks().0 < killed {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
            sleep(Duration::from_millis(5));
        }
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        // What ssh had taken may still arrive.
        let mut before = user.chunks();
        loop {
            sleep(Duration::from_millis(300));
            let now = user.chunks();
            if now == before {
                break;
            }
            before = now;
        }
    }
    let before = user.chunks();
    let (report, sent, _) = user.sync(source.path(), &[]);
    let after = user.chunks();
    assert_eq!(number(&report, "sent_objects"), after.0 - before.0);
    let missing = after.1 - before.1;
    assert!(before.0 >= 20 && sent < missing + missing / 10 + 300_000, "{sent} bytes sent for {missing} missing");
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("out");
    assert_ends(&user.nfz(&["restore", &address, target.to_str().unwrap()]), 0);
    tree::assert_same(&tree::read(source.path()), &tree::read(&target));
    assert_ends(&user.nfz(&["verify", &address, "--read-data"]), 0);
}

#[test]
fn a_link_that_breaks_again_and_again_is_made_again() {
    let user = User::with_repository();
    let source = source();
    user.relay.cut_after(3_000_000);
    let (report, ..) = user.sync(source.path(), &[]);
    assert!(user.relay.cuts() > 0, "nothing was cut");
    assert_eq!(number(&report, "files"), 201);
    user.relay.cut_after(0);
    assert_ends(&user.nfz(&["verify", &user.address(), "--read-data"]), 0);
}

#[test]
fn a_wrong_password_ends_with_12() {
    let user = User::with_repository();
    let source = source();
    let wrong = user
        .command(&["sync", source.path().to_str().unwrap(), &user.address()])
        .env("NFZ_PASSWORD", "guess")
        .output()
        .unwrap();
    assert_fails(&wrong, 12, "the password or key file is wrong");
    assert_eq!(user.chunks().0, 0);
}

#[test]
fn no_repository_ends_with_10() {
    let user = User::new();
    let (address, source, out) = (user.address(), source(), tempfile::tempdir().unwrap());
    let source = source.path().to_str().unwrap();
    let out = out.path().to_str().unwrap();
    for arguments in [
        &["sync", source, &address][..],
        &["snapshots", &address],
        &["ls", &address],
        &["restore", &address, out],
        &["verify", &address],
    ] {
        assert_fails(&user.nfz(arguments), 10, "there is no repository");
    }
    assert!(!user.remote.exists(), "and none is made");
    fs::create_dir_all(&user.remote).unwrap();
    assert_fails(&user.nfz(&["snapshots", &address]), 10, "there is no repository");
}

#[test]
fn a_file_where_a_directory_should_be_is_told_from_no_repository() {
    let user = User::new();
    fs::create_dir_all(user.remote.parent().unwrap()).unwrap();
    fs::write(&user.remote, b"a file").unwrap();
    let source = source();
    for arguments in
        [&["init", &user.address()][..], &["sync", source.path().to_str().unwrap(), &user.address(), "--init"]]
    {
        let output = user.nfz(arguments);
        assert_fails(&output, 1, "cannot");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("a file stands where a directory should be"), "{stderr}");
    }
    // A server says of what lies below a file that it is not there.
    assert_fails(&user.nfz(&["snapshots", &user.address()]), 10, "there is no repository");
    assert_eq!(fs::read(&user.remote).unwrap(), b"a file");
}

#[test]
fn a_host_that_does_not_exist_and_a_port_where_nobody_listens_end_with_5() {
    let user = User::new();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let plain = tempfile::NamedTempFile::new().unwrap();
    let absent = user
        .command(&["snapshots", "nowhere.invalid:backup"])
        .env("NFZ_SSH_COMMAND", format!("ssh -F {}", plain.path().display()))
        .output()
        .unwrap();
    assert_fails(&absent, 5, "nowhere.invalid");
    let closed = user
        .command(&["snapshots", &format!("sftp://127.0.0.1:{nobody}/x")])
        .env("NFZ_SSH_COMMAND", format!("ssh -F {}", plain.path().display()))
        .output()
        .unwrap();
    assert_fails(&closed, 5, "Connection refused");
}

#[test]
fn a_refused_host_key_and_a_refused_login_end_with_1() {
    let user = User::new();
    for (options, what) in [
        (user.server.options_without_host_key(), "host key"),
        (user.server.options_of_a_stranger(), "Permission denied"),
    ] {
        let command = format!("ssh -F {}", options.ssh_config.unwrap().display());
        let output = user.command(&["snapshots", &user.address()]).env("NFZ_SSH_COMMAND", command).output().unwrap();
        assert_fails(&output, 1, what);
    }
}

#[test]
fn a_server_that_only_reads_ends_with_1_and_can_be_restored_from() {
    let user = User::with_repository();
    let source = source();
    user.sync(source.path(), &[]);
    let subsystem = Some(format!("sftp {} -R", support::sshd::sftp_server().display()));
    let mut reader = User::of(Sshd::start_special(&Special { subsystem, ..Special::default() }));
    reader.remote.clone_from(&user.remote);
    fs::write(source.path().join("new"), b"new").unwrap();
    let output = reader.nfz(&["sync", source.path().to_str().unwrap(), &reader.address()]);
    assert_fails(&output, 1, "ermission denied");
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("out");
    assert_ends(&reader.nfz(&["restore", &reader.address(), target.to_str().unwrap()]), 0);
    assert_ends(&reader.nfz(&["verify", &reader.address(), "--read-data"]), 0);
}

#[test]
fn no_such_source_and_an_emptied_one_end_with_1() {
    let user = User::with_repository();
    let address = user.address();
    assert_fails(&user.nfz(&["sync", "/no/such/source", &address]), 1, "/no/such/source");
    let source = tempfile::tempdir().unwrap();
    let path = source.path().to_str().unwrap();
    user.sync(source.path(), &[]);
    fs::write(source.path().join("file"), b"x").unwrap();
    user.sync(source.path(), &[]);
    fs::remove_file(source.path().join("file")).unwrap();
    let output = user.nfz(&["sync", path, &address]);
    assert_fails(&output, 1, "empty");
    assert!(String::from_utf8(output.stderr).unwrap().contains("--allow-empty"));
    user.sync(source.path(), &["--allow-empty"]);
}

#[test]
fn what_cannot_be_read_is_listed_and_the_sync_ends_with_3() {
    // Root may read everything: then somebody else runs it.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = directory.path().join("nfz");
    fs::copy(env!("CARGO_BIN_EXE_nfz"), &program).unwrap();
    let source = directory.path().join("source");
    fs::create_dir_all(source.join("closed")).unwrap();
    for name in ["a", "secret", "z", "closed/x"] {
        fs::write(source.join(name), name).unwrap();
    }
    fs::set_permissions(source.join("secret"), fs::Permissions::from_mode(0o0)).unwrap();
    fs::set_permissions(source.join("closed"), fs::Permissions::from_mode(0o0)).unwrap();
    let place = directory.path().join("place");
    fs::create_dir(&place).unwrap();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).env_clear().env("HOME", &place).env("NFZ_PASSWORD", "password").stdin(Stdio::null());
        command.env("NFZ_REPOSITORY", place.join("repository")).current_dir(&place);
        if rustix::process::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        command.output().unwrap()
    };
    assert_ends(&run(&["init", "--kdf-memory", "19M"]), 0);
    let output = run(&["sync", source.to_str().unwrap()]);
    assert_ends(&output, 3);
    let stderr = String::from_utf8(output.stderr).unwrap();
    let about =
        |name: &str| stderr.lines().filter(|line| line.contains(name) && line.contains("ermission denied")).count();
    assert_eq!((about("secret"), about("closed")), (1, 1), "{stderr}");
    let listed = String::from_utf8(run(&["ls"]).stdout).unwrap();
    assert!(listed.contains('a') && listed.contains('z') && !listed.contains("secret"), "{listed}");
    fs::set_permissions(source.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
}
