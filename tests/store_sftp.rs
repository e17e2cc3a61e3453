//! The SFTP store against a real sshd: what goes wrong is named, what is lost comes back, and nothing is wasted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bytes::Bytes;
use futures_util::future::join_all;
use nfz::{
    format::{
        id::ObjectId,
        name::{Dir, Name},
    },
    store::{
        ErrorKind, Length, Store, StoreError,
        retry::{Patience, RetryStore},
        sftp::{SftpOptions, SftpStore},
    },
};
use std::{fs, sync::Arc, time::Duration};
use support::{
    relay::Relay,
    sshd::{Special, Sshd},
};

const MIB: usize = 1 << 20;
const QUICK: Patience =
    Patience { repeats: 50, first_pause: Duration::from_millis(5), longest_pause: Duration::from_millis(50) };

fn chunk(number: u8) -> Name {
    Name::Chunk(ObjectId([number; 32]))
}

/// Bytes that ssh cannot shorten and that differ with `seed`.
fn bytes(seed: u8, length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    blake3::Hasher::new_keyed(&[seed; 32]).finalize_xof().fill(&mut bytes);
    bytes.into()
}

async fn connected(options: SftpOptions) -> SftpStore {
    SftpStore::connect(options).await.unwrap_or_else(|error| panic!("{error}"))
}

async fn with_dirs(options: SftpOptions) -> SftpStore {
    let store = connected(options).await;
    store.create_dirs(&Dir::all().collect::<Vec<_>>()).await.unwrap();
    store
}

async fn refused(options: SftpOptions) -> StoreError {
    match SftpStore::connect(options).await {
        Ok(_) => panic!("it connected"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_unreachable() {
    let server = Sshd::start();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = refused(server.options_via(nobody)).await;
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert!(error.message.contains("Connection refused"), "{error}");
}

#[tokio::test]
async fn a_host_that_does_not_exist_is_unreachable() {
    let mut options = SftpOptions::new("nowhere.invalid", "x");
    let config = tempfile::NamedTempFile::new().unwrap();
    options.ssh_config = Some(config.path().to_owned());
    assert_eq!(refused(options).await.kind, ErrorKind::Unreachable);
}

#[tokio::test]
async fn an_unknown_host_key_is_refused() {
    let error = refused(Sshd::start().options_without_host_key()).await;
    assert_eq!(error.kind, ErrorKind::HostKeyRefused, "{error}");
}

#[tokio::test]
async fn a_stranger_is_not_let_in() {
    let error = refused(Sshd::start().options_of_a_stranger()).await;
    assert_eq!(error.kind, ErrorKind::AuthenticationFailed);
    assert!(error.message.contains("Permission denied"), "{error}");
}

#[tokio::test]
async fn a_server_without_sftp_is_told_from_one_that_is_down() {
    let server = Sshd::start_special(&Special { subsystem: Some(String::new()), ..Special::default() });
    let error = refused(server.options()).await;
    assert_eq!(error.kind, ErrorKind::NoSftp);
    assert!(error.message.contains("subsystem"), "{error}");
}

#[tokio::test]
async fn a_login_script_that_prints_is_named() {
    let script = tempfile::NamedTempFile::new().unwrap();
    fs::write(script.path(), "echo Welcome, dear user; exec cat").unwrap();
    let subsystem = Some(format!("sftp /bin/sh {}", script.path().display()));
    let server = Sshd::start_special(&Special { subsystem, ..Special::default() });
    let error = refused(server.options()).await;
    assert_eq!(error.kind, ErrorKind::NoSftp);
    assert!(error.message.contains("login script") && error.message.contains("Welcome, dear user"), "{error}");
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_named_and_not_taken_for_a_dead_server() {
    let mut options = SftpOptions::new("host", "x");
    options.command = Some(vec!["no-such-ssh".into()]);
    let error = refused(options).await;
    assert_eq!(error.kind, ErrorKind::Other);
    assert!(error.message.contains("no-such-ssh"), "{error}");
}

#[tokio::test]
async fn ctrl_c_does_not_end_the_connection() {
    let mut options = SftpOptions::new("host", "x");
    let script = format!("kill -INT $$; exec {}", support::sshd::sftp_server().display());
    options.command = Some(["sh", "-c", &script, "sh"].map(str::to_owned).to_vec());
    assert_eq!(connected(options).await.stat(chunk(1)).await, Ok(None));
}

#[tokio::test]
async fn a_file_in_the_place_of_the_repository_is_named() {
    let server = Sshd::start();
    let options = server.options();
    fs::create_dir_all(std::path::Path::new(&options.directory).parent().unwrap()).unwrap();
    fs::write(&options.directory, "a file").unwrap();
    let store = connected(options).await;
    assert_eq!(store.create_dirs(&[Dir::Root]).await.unwrap_err().kind, ErrorKind::NotADirectory);
    store.list(Dir::Root).await.unwrap_err();
    store.get(Name::Repository, Length::AtMost(9)).await.unwrap_err();
}

#[tokio::test]
async fn files_that_are_none_of_ours_do_not_disturb_a_listing() {
    use std::os::unix::ffi::OsStrExt;
    let server = Sshd::start();
    let options = server.options();
    let keys = std::path::Path::new(&options.directory).join("keys");
    let store = with_dirs(options).await;
    for foreign in [&b"README"[..], "ümläut".as_bytes(), b"latin-1 \xfc\xff", b"esc\x1b[2J\n"] {
        fs::write(keys.join(std::ffi::OsStr::from_bytes(foreign)), "foreign").unwrap();
    }
    std::os::unix::fs::symlink("README", keys.join("00".repeat(16))).unwrap();
    fs::create_dir(keys.join("11".repeat(16))).unwrap();
    store.put(Name::Key([0x22; 16]), bytes(1, 10)).await.unwrap();
    let listed = store.list(Dir::Keys).await.unwrap();
    assert_eq!(listed.iter().map(|listed| listed.name).collect::<Vec<_>>(), [Name::Key([0x22; 16])]);
}

#[tokio::test]
async fn a_server_that_promises_more_than_it_sends_is_cut_off() {
    let hello = r"\000\000\000\005\002\000\000\000\003";
    let names_without_end = r"\000\000\000\015\150\000\000\000\000\377\377\377\377\000\000\000\000";
    let packet_without_end = r"\177\377\377\377\145";
    for hostile in [names_without_end, packet_without_end] {
        let script = format!("printf '{hello}'; head -c 20 >/dev/null; printf '{hostile}'; exec cat >/dev/null");
        let mut options = SftpOptions::new("host", "x");
        options.command = Some(["sh", "-c", &script, "sh"].map(str::to_owned).to_vec());
        let store = connected(options).await;
        let error = store.list(Dir::Keys).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::LimitExceeded, "{error}");
    }
}

#[tokio::test]
async fn a_server_that_only_reads_says_so_and_can_be_read() {
    let server = Sshd::start();
    let options = server.options();
    let store = with_dirs(options.clone()).await;
    store.put(chunk(1), bytes(1, 1000)).await.unwrap();
    let subsystem = Some(format!("sftp {} -R", support::sshd::sftp_server().display()));
    let reader = Sshd::start_special(&Special { subsystem, ..Special::default() });
    let mut options = SftpOptions { directory: options.directory, ..reader.options() };
    options.connections = 1;
    let store = connected(options).await;
    assert_eq!(store.get(chunk(1), Length::Exactly(1000)).await.unwrap(), bytes(1, 1000));
    assert_eq!(store.put(chunk(2), bytes(2, 1000)).await.unwrap_err().kind, ErrorKind::PermissionDenied);
    assert_eq!(store.remove(chunk(1)).await.unwrap_err().kind, ErrorKind::PermissionDenied);
}

/// Puts `count` objects of `length` at once, gets them back, and says what went wrong.
async fn round_trip(store: &dyn Store, count: u8, length: usize) -> Result<(), StoreError> {
    let objects: Vec<_> = (0..count).map(|number| (chunk(number), bytes(number, length))).collect();
    let puts = join_all(objects.iter().map(|(name, bytes)| store.put(*name, bytes.clone()))).await;
    puts.into_iter().collect::<Result<(), _>>()?;
    let gets = objects.iter().map(|(name, _)| store.get(*name, Length::Exactly(length as u64)));
    for (got, (name, bytes)) in join_all(gets).await.into_iter().zip(&objects) {
        assert!(got? == *bytes, "{name}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn puts_go_on_after_the_link_is_cut_and_nothing_is_missing() {
    let server = Sshd::start();
    let relay = Relay::to(server.port);
    let mut options = server.options_via(relay.port);
    options.connections = 1;
    let store = with_dirs(options).await;
    relay.cut_after(3 * MIB as u64);
    let retried = RetryStore::new(Arc::new(store), QUICK);
    round_trip(&retried, 12, MIB).await.unwrap();
    assert!(relay.cuts() >= 3, "twelve objects never pass in fewer: {}", relay.cuts());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_link_fails_every_call_under_way_as_disconnected_and_the_next_call_connects_anew() {
    let server = Sshd::start();
    let relay = Relay::to(server.port);
    let mut options = server.options_via(relay.port);
    options.connections = 1;
    let store = with_dirs(options).await;
    relay.cut_after(MIB as u64 / 2);
    let outcomes = join_all((0..8).map(|number| store.put(chunk(number), bytes(number, MIB)))).await;
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().is_err_and(|e| e.kind == ErrorKind::Disconnected)));
    relay.cut_after(0);
    round_trip(&store, 8, MIB).await.unwrap();
}

#[tokio::test]
async fn a_server_that_went_away_for_good_is_unreachable_and_given_up() {
    let server = Sshd::start();
    let relay = Relay::to(server.port);
    let store = Arc::new(with_dirs(server.options_via(relay.port)).await);
    relay.refuse(true);
    relay.cut_after(1);
    let patience = Patience { repeats: 3, ..QUICK };
    let error = RetryStore::new(store.clone(), patience).stat(chunk(1)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
    relay.refuse(false);
    relay.cut_after(0);
    assert_eq!(store.stat(chunk(1)).await, Ok(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_link_is_given_up_and_the_work_done_on_a_new_one() {
    let server = Sshd::start();
    let relay = Relay::to(server.port);
    let mut options = server.options_via(relay.port);
    options.stall_after = Duration::from_millis(300);
    let store = with_dirs(options).await;
    relay.stall(true);
    let error = store.stat(chunk(1)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Disconnected);
    assert!(error.message.contains("stalled"), "{error}");
    relay.stall(false);
    assert_eq!(store.stat(chunk(1)).await, Ok(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_nobody_looks_at_keep_no_one_else_waiting() {
    let server = Sshd::start();
    let store = with_dirs(server.options()).await;
    store.put(chunk(1), bytes(1, 1000)).await.unwrap();
    // More than one window holds, each looked at once and then no more.
    let mut left: Vec<_> = (0..200).map(|_| store.get(chunk(1), Length::Exactly(1000))).collect();
    for call in &mut left {
        let _ = futures_util::poll!(call);
    }
    let put = store.put(chunk(2), bytes(2, MIB));
    tokio::time::timeout(Duration::from_secs(60), put).await.expect("it hangs").unwrap();
    for call in left {
        assert_eq!(call.await.unwrap().len(), 1000);
    }
}

/// Long enough, each way, that a connection's window limits it.
const A_LONG_WAY: Duration = Duration::from_millis(4);

#[tokio::test(flavor = "multi_thread")]
async fn bulk_opens_more_connections_up_to_the_most_and_questions_alone_open_none() {
    let server = Sshd::start();
    let relay = Relay::to(server.port);
    relay.delay(A_LONG_WAY);
    let store = with_dirs(server.options_via(relay.port)).await;
    join_all((0..=255).map(|shard| store.list(Dir::Shard(shard)))).await;
    assert_eq!(relay.connections(), 1);
    for round in 0.. {
        // Each round has more under way than one window holds.
        let name = |number: u8| Name::Key([round, number, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let puts = join_all((0..40).map(|number| store.put(name(number), bytes(number, 2 * MIB)))).await;
        assert!(puts.iter().all(Result::is_ok));
        if store.connections() == 4 {
            break;
        }
    }
    join_all((0..40).map(|number| store.put(chunk(number), bytes(number, 2 * MIB)))).await;
    assert_eq!(relay.connections(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_extra_connection_is_no_error_and_not_tried_again() {
    let server = Sshd::start();
    let relay = Relay::to(server.port);
    relay.delay(A_LONG_WAY);
    let store = with_dirs(server.options_via(relay.port)).await;
    relay.refuse(true);
    round_trip(&store, 60, MIB).await.unwrap();
    relay.refuse(false);
    round_trip(&store, 60, MIB + 1).await.unwrap();
    assert_eq!((relay.connections(), store.connections()), (1, 1));
}

/// How many answers of the server one call takes.
async fn answers<T>(store: &SftpStore, call: impl Future<Output = T>) -> (u64, T) {
    let before = store.traffic().requests;
    let outcome = call.await;
    (store.traffic().requests - before, outcome)
}

#[tokio::test]
async fn no_call_asks_the_server_more_than_it_must() {
    let server = Sshd::start();
    let store = with_dirs(server.options()).await;
    let small = bytes(1, 10_000);
    // lstat and open, write and fsync, close, rename
    assert_eq!(answers(&store, store.put(chunk(1), small.clone())).await, (6, Ok(())));
    // lstat and open, close, remove
    assert_eq!(answers(&store, store.put(chunk(1), small.clone())).await, (4, Ok(())));
    // open, fstat and read; the close is not waited for
    let (count, got) = answers(&store, store.get(chunk(1), Length::Exactly(10_000))).await;
    assert!(got.unwrap() == small && (3..=4).contains(&count), "{count}");
    assert!(matches!(answers(&store, store.stat(chunk(2))).await, (1..=2, Ok(None))));
    // opendir, names, the end; the close is not waited for
    let (count, listed) = answers(&store, store.list(Dir::Shard(1))).await;
    assert!(listed.unwrap().len() == 1 && (3..=4).contains(&count), "{count}");
    let traffic = store.traffic();
    assert_eq!((traffic.uploaded, traffic.downloaded), (20_000, 10_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_in_tmp() {
    let server = Sshd::start();
    let store = with_dirs(server.options()).await;
    round_trip(&store, 20, 100_000).await.unwrap();
    fs::remove_dir_all(std::path::Path::new(store.address().split_once(':').unwrap().1).join("chunks/ee")).unwrap();
    assert_eq!(store.put(chunk(0xee), bytes(1, MIB)).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(store.list(Dir::Tmp).await, Ok(vec![]));
    store.close().await.unwrap();
}
