//! Every store keeps the same promises.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use nfz::store::{
    Store, contract,
    dir::DirStore,
    fault::FaultStore,
    limit::{LimitStore, Rates},
    memory::MemoryStore,
    record::RecordStore,
    retry::{Patience, RetryStore},
    sftp::{ServerInfo, SftpOptions, SftpStore},
};
use std::sync::Arc;
use support::sshd::{Sshd, sftp_server};

#[tokio::test]
async fn memory_keeps_the_promises() {
    contract::check(Arc::new(MemoryStore::new())).await;
}

#[tokio::test]
async fn a_directory_keeps_the_promises() {
    let parent = tempfile::tempdir().unwrap();
    contract::check(Arc::new(DirStore::new(parent.path().join("made/on/the/way")))).await;
}

#[tokio::test]
async fn decorated_stores_keep_the_promises() {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let recorded = Arc::new(RecordStore::new(Arc::new(FaultStore::new(memory))));
    let rates = Rates { up: Some(1 << 30), down: Some(1 << 30) };
    let limited = Arc::new(LimitStore::new(recorded, rates));
    contract::check(Arc::new(RetryStore::new(limited, Patience::default()))).await;
}

/// The real `sftp-server` over plain pipes, with these arguments.
fn over_pipes(arguments: &str, directory: &str) -> SftpOptions {
    let mut options = SftpOptions::new("host", directory);
    let script = format!("exec {} {arguments}", sftp_server().display());
    options.command = Some(["sh", "-c", &script, "sh"].map(str::to_owned).to_vec());
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_server_over_pipes_keeps_the_promises() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("made/on/the/way");
    let store = SftpStore::connect(over_pipes("", directory.to_str().unwrap())).await.unwrap();
    contract::check(Arc::new(store)).await;
}

#[tokio::test]
async fn a_server_without_any_extension_keeps_the_promises() {
    let parent = tempfile::tempdir().unwrap();
    let arguments = "-P posix-rename,fsync,statvfs,limits";
    let options = over_pipes(arguments, parent.path().join("repository").to_str().unwrap());
    let store = SftpStore::connect(options).await.unwrap();
    assert_eq!(store.server(), ServerInfo { fsync: false, posix_rename: false, statvfs: false });
    contract::check(Arc::new(store)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_server_over_ssh_keeps_the_promises() {
    let server = Sshd::start();
    let store = SftpStore::connect(server.options()).await.unwrap();
    let retried = RetryStore::new(Arc::new(store), Patience::default());
    contract::check(Arc::new(retried)).await;
}
