//! `nfz doctor`: what it says of real servers, and that it leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use nfz::store::sftp::{Findings, SftpOptions, examine};
use std::{fs, path::Path, process::Command};
use support::sshd::{Special, Sshd, sftp_server};

fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64
}

/// A server that does not allow these requests.
fn server_without(requests: &str) -> Sshd {
    let subsystem = Some(format!("sftp {} -P {requests}", sftp_server().display()));
    Sshd::start_special(&Special { subsystem, ..Special::default() })
}

async fn findings(options: &SftpOptions) -> Findings {
    examine(options, now).await.unwrap()
}

fn names_in(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn openssh_is_described_and_nothing_is_left_behind() {
    let server = Sshd::start();
    let options = server.options();
    fs::create_dir_all(&options.directory).unwrap();
    fs::write(Path::new(&options.directory).join("something"), b"of the user's").unwrap();
    let found = findings(&options).await;
    assert!(found.software.clone().unwrap().starts_with("OpenSSH"), "{found:?}");
    assert!(found.exists && found.renames && found.replaces && found.removes && found.excludes, "{found:?}");
    assert!(found.flushes && found.minds_case && found.name_length == 255, "{found:?}");
    assert!(found.extensions.contains(&"posix-rename@openssh.com") && found.free.is_some(), "{found:?}");
    assert!(found.clock_ahead.abs() <= 2 && found.left_behind.is_none(), "{found:?}");
    let levels: Vec<_> = found.speeds.iter().map(|speed| (speed.connections, speed.opened)).collect();
    assert_eq!(levels, [(1, 1), (2, 2), (4, 4), (8, 8)]);
    assert!(found.speeds.iter().all(|speed| speed.up > 0.0 && speed.down > 0.0), "{found:?}");
    assert_eq!(names_in(Path::new(&options.directory)), ["something"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_does_not_exist_is_not_made() {
    let server = Sshd::start();
    let options = server.options();
    let found = findings(&options).await;
    assert!(!found.exists && found.removes && found.left_behind.is_none(), "{found:?}");
    assert!(!Path::new(&options.directory).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_extensions_is_found_out() {
    let server = server_without("posix-rename,fsync,statvfs,limits");
    let found = findings(&server.options()).await;
    assert!(found.renames && !found.replaces && !found.flushes && found.free.is_none(), "{found:?}");
    assert!(found.extensions.iter().all(|name| !name.starts_with("fsync")), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_removes_nothing_is_said_to_keep_what_was_tried_and_gets_little() {
    let server = server_without("remove,rename,posix-rename");
    let options = server.options();
    fs::create_dir_all(&options.directory).unwrap();
    let found = findings(&options).await;
    assert!(!found.removes && !found.renames && found.speeds.is_empty(), "{found:?}");
    let left = found.left_behind.unwrap();
    assert!(fs::read_dir(&left).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum::<u64>() < 1 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_written_is_an_error_that_says_so() {
    let server = server_without("mkdir");
    let error = examine(&server.options(), now).await.unwrap_err();
    assert!(error.to_string().contains("no directory can be made there"), "{error}");
}

fn nfz(server: &Sshd, arguments: &[&str]) -> std::process::Output {
    let options = server.options();
    let ssh = format!("ssh -F {}", options.ssh_config.unwrap().display());
    let address = format!("nfz-test:{}", options.directory);
    let mut command = Command::new(env!("CARGO_BIN_EXE_nfz"));
    command.arg("doctor").arg(address).args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.env("NFZ_SSH_COMMAND", ssh).output().unwrap()
}

#[test]
fn the_report_says_what_nfz_will_do_and_the_document_holds_the_same() {
    let server = Sshd::start();
    let text = nfz(&server, &[]);
    let said = String::from_utf8(text.stdout).unwrap();
    assert!(text.status.success(), "{said}");
    for word in ["posix-rename@openssh.com", "8 connections", "letter case    told apart", "- Each object is flushed"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let json = nfz(&server, &["--json"]);
    let document: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(document["kind"], "doctor");
    assert_eq!(document["speeds"].as_array().unwrap().len(), 4);
    assert_eq!(document["is_usable"], true);
}

#[test]
fn a_local_directory_is_no_case_for_it() {
    let output = Command::new(env!("CARGO_BIN_EXE_nfz")).args(["doctor", "/tmp"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
