//! Servers other than OpenSSH's keep the promises of a store, and carry a backup there and back. `docs/servers.md` is the table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/servers.rs"]
mod servers;
#[path = "support/tree.rs"]
mod tree;

use engine::{credentials, open, restore, sync, verify};
use nfz::{
    engine::verify::ReadData,
    repository::{InitOptions, Repository},
    store::{
        Store, contract,
        retry::{Patience, RetryStore},
        sftp::{SftpStore, examine},
    },
};
use servers::{Kind, Server};
use std::{fs, sync::Arc};

async fn connect(server: &Server, name: &str) -> Arc<dyn Store> {
    let store =
        SftpStore::connect(server.options(name)).await.unwrap_or_else(|error| panic!("{error}: {}", server.log()));
    Arc::new(RetryStore::new(Arc::new(store), Patience::default()))
}

async fn keeps_the_promises(kind: Kind) {
    let server = Server::start(kind);
    contract::check(connect(&server, "made/on/the/way").await).await;
}

/// A sync, one that is cut off and goes on, a verify of all data, and a restore that is equal.
async fn carries_a_backup(kind: Kind) {
    let server = Server::start(kind);
    let store = connect(&server, "repository").await;
    let cost = InitOptions { kdf_memory_kib: Some(19 << 10) };
    Repository::init(Arc::clone(&store), &credentials(), &cost).await.unwrap();
    let source = tempfile::tempdir().unwrap();
    let noise = |seed: u8, length: usize| -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
        bytes
    };
    fs::create_dir(source.path().join("below")).unwrap();
    for number in 0..200 {
        fs::write(source.path().join(format!("below/{number}")), noise(number, 3000)).unwrap();
    }
    sync(Arc::clone(&store), source.path()).await;
    fs::write(source.path().join("large"), noise(201, 9 << 20)).unwrap();
    {
        // Cut off at some moment; what was sent is found by the next.
        let cut = sync(connect(&server, "repository").await, source.path());
        let _ = tokio::time::timeout(std::time::Duration::from_millis(150), cut).await;
    }
    let done = sync(Arc::clone(&store), source.path()).await;
    let found = verify(&open(Arc::clone(&store)).await, ReadData::All, None).await;
    assert!(found.damage.is_empty() && found.problems.is_empty(), "{found:?}");
    let out = tempfile::tempdir().unwrap();
    let root = done.snapshot.unwrap();
    restore(&open(store).await, root, out.path()).await;
    tree::assert_same(&tree::read(source.path()), &tree::read(out.path()));
}

async fn is_examined(kind: Kind, extensions: bool) {
    let server = Server::start(kind);
    fs::create_dir(server.directory("there")).unwrap();
    rustix::fs::chmod(server.directory("there"), rustix::fs::Mode::from_raw_mode(0o777)).unwrap();
    let found =
        examine(&server.options("there"), || 0).await.unwrap_or_else(|error| panic!("{error}: {}", server.log()));
    println!("{kind:?}: {found:#?}");
    assert!(found.renames && found.removes && found.left_behind.is_none(), "{found:?}");
    assert_eq!(found.extensions.contains(&"posix-rename@openssh.com"), extensions, "{found:?}");
    assert_eq!(fs::read_dir(server.directory("there")).unwrap().count(), 0);
}

macro_rules! server {
    ($module:ident, $kind:expr, $extensions:expr) => {
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn keeps_the_promises_of_a_store() {
                keeps_the_promises($kind).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn carries_a_backup_there_and_back() {
                carries_a_backup($kind).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn is_examined_and_nothing_is_left_behind() {
                is_examined($kind, $extensions).await;
            }
        }
    };
}

server!(proftpd, Kind::ProFtpd, true);
server!(rclone, Kind::Rclone, true);
server!(dropbear, Kind::Dropbear, true);
server!(asyncssh, Kind::AsyncSsh, true);
