//! Syncs against a store in memory: what is sent, what is not, and what is found again.

use nfz::engine::{event::Silent, filter::FilterOptions, sync::*};
use nfz::repository::{Credentials, InitOptions, Repository};
use nfz::store::memory::MemoryStore;
use std::{fs, path::Path, sync::Arc, time::Duration};
use zeroize::Zeroizing;

fn credentials() -> Credentials {
    Credentials { password: Some(Zeroizing::new(b"password".to_vec())), key_file: None }
}

fn options() -> SyncOptions {
    SyncOptions {
        filter: FilterOptions::default(),
        host: "host".into(),
        user: "user".into(),
        label: String::new(),
        always_read: false,
        ignore_ctime: false,
        ignore_inode: false,
        compression: Compression::FAST,
        checkpoint_interval: Duration::from_secs(300),
        dry_run: false,
        estimate: false,
        allow_empty: false,
    }
}

async fn run(store: &Arc<MemoryStore>, source: &Path) -> SyncReport {
    let repository = Repository::open(Arc::clone(store) as _, &credentials()).await.unwrap();
    sync(Arc::new(repository), source.to_path_buf(), options(), Arc::new(Silent)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_tree_is_not_read_and_sends_only_its_root() {
    let source = tempfile::tempdir().unwrap();
    for number in 0..300 {
        let dir = source.path().join(format!("d{}", number % 10));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("f{number}")), vec![number as u8; 100 * number]).unwrap();
    }
    fs::write(source.path().join("large"), (0..3_000_000u32).flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>())
        .unwrap();
    let store = Arc::new(MemoryStore::default());
    let cost = InitOptions { kdf_memory_kib: Some(19 << 10) };
    Repository::init(Arc::clone(&store) as _, &credentials(), &cost).await.unwrap();
    let first = run(&store, source.path()).await;
    println!("{first:?}");
    assert_eq!((first.files, first.problem_count), (301, 0));
    let second = run(&store, source.path()).await;
    println!("{second:?}");
    assert_eq!((second.bytes_read, second.sent_objects, second.unchanged), (0, 0, 312));
    fs::rename(source.path().join("d3"), source.path().join("e")).unwrap();
    let third = run(&store, source.path()).await;
    println!("{third:?}");
    assert_eq!((third.new_chunks, third.moved), (0, 30));
}
