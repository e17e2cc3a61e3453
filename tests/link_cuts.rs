//! A link that breaks at any moment: after so many bytes, by a server that dies, by one that stalls. The next run ends the work, and
//! nothing is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/engine.rs"]
mod engine;
mod support;
#[path = "support/tree.rs"]
mod tree;

use engine::{assert_whole, credentials, open, restore, snapshots, sync_options};
use nfz::{
    engine::{error::EngineError, event::Silent, sync},
    repository::{InitOptions, Repository, RepositoryError},
    store::{
        Store,
        retry::{Patience, RetryStore},
        sftp::{SftpOptions, SftpStore},
    },
};
use std::{fs, path::Path, sync::Arc, time::Duration};
use support::{relay::Relay, sshd::Sshd};
use tempfile::TempDir;

/// Gives up soon, so that a link that never holds costs little time.
const HASTY: Patience =
    Patience { repeats: 3, first_pause: Duration::from_millis(2), longest_pause: Duration::from_millis(20) };

fn noise(label: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&label.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A number from `label`, as likely to be small as large.
fn any_length(label: u64, from: f64, to: f64) -> u64 {
    let part = f64::from(u32::from_le_bytes(noise(label, 4).try_into().unwrap())) / f64::from(u32::MAX);
    (from * (to / from).powf(part)) as u64
}

/// A server behind a relay, with a repository, and a source.
struct World {
    server: Sshd,
    relay: Relay,
    options: SftpOptions,
    source: TempDir,
}

impl World {
    async fn new() -> Self {
        let server = Sshd::start();
        let relay = Relay::to(server.port);
        let mut options = server.options_via(relay.port);
        options.stall_after = Duration::from_secs(2);
        let source = tempfile::tempdir().unwrap();
        let world = Self { server, relay, options, source };
        let cost = InitOptions { kdf_memory_kib: Some(19 << 10) };
        let store = world.connect().await.unwrap();
        Repository::init(Arc::clone(&store), &credentials(), &cost).await.unwrap();
        store.close().await.unwrap();
        world
    }

    async fn connect(&self) -> Result<Arc<dyn Store>, EngineError> {
        let store = SftpStore::connect(self.options.clone()).await.map_err(RepositoryError::from)?;
        Ok(Arc::new(RetryStore::new(Arc::new(store), HASTY)))
    }

    /// Changes the source: packs, and a file of several chunks that stays.
    fn change(&self, round: u64) {
        for number in 0..12 {
            fs::write(self.source.path().join(format!("file {number}")), noise(round * 100 + number, 30_000)).unwrap();
        }
        fs::write(self.source.path().join("large"), noise(7 + round / 8, 700_000)).unwrap();
    }

    async fn sync(&self) -> Result<(), EngineError> {
        let store = self.connect().await?;
        let repository = Arc::new(Repository::open(Arc::clone(&store), &credentials()).await?);
        let source = self.source.path().to_path_buf();
        let done = sync::sync(repository, source, sync_options(), Arc::new(Silent)).await.map(drop);
        let _ = store.close().await;
        done
    }

    /// A sync over a whole link ends the work: all is there, and what comes back is the source.
    async fn assert_mended(&self, what: &str) {
        self.relay.cut_after(0);
        self.sync().await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let store = self.connect().await.unwrap();
        let repository = open(Arc::clone(&store)).await;
        assert_whole(&repository).await;
        let all = snapshots(&repository).await;
        let newest = all.iter().max_by_key(|info| info.root.generation).unwrap();
        assert!(newest.root.complete, "{what}");
        let out = tempfile::tempdir().unwrap();
        restore(&repository, newest.id, out.path()).await;
        tree::assert_same(&tree::read(self.source.path()), &tree::read(out.path()));
        store.close().await.unwrap();
    }

    fn uploads_left(&self) -> usize {
        fs::read_dir(Path::new(&self.options.directory).join("tmp")).unwrap().count()
    }
}

fn is_link(error: &EngineError) -> bool {
    let text = error.to_string();
    ["connection", "connect to", "link"].iter().any(|word| text.contains(word))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_cut_after_any_number_of_bytes_costs_at_most_another_run() {
    let world = World::new().await;
    let (mut failed, mut cuts) = (0, 0);
    for round in 0..28 {
        world.change(round);
        let bytes = any_length(round, 1_500.0, 1_500_000.0);
        world.relay.cut_after(bytes);
        if let Err(error) = world.sync().await {
            assert!(is_link(&error), "cut after {bytes} bytes: {error}");
            failed += 1;
        }
        cuts = world.relay.cuts();
        if round % 4 == 3 {
            world.assert_mended(&format!("cut after {bytes} bytes")).await;
        }
    }
    // Some cuts were survived by themselves, and some were too tight for anything.
    assert!(failed > 3 && failed < 28 && cuts > 28, "{failed} failed, {cuts} cuts");
    // What was under way: 64 objects on a connection at most.
    assert!(world.uploads_left() as u64 <= 64 * cuts, "{}", world.uploads_left());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_was_cut_off_is_swept_when_it_is_old_and_not_before() {
    let world = World::new().await;
    let tmp = Path::new(&world.options.directory).join("tmp");
    let (old, young) = (tmp.join("ab".repeat(16)), tmp.join("cd".repeat(16)));
    for path in [&old, &young] {
        fs::write(path, b"half of an object").unwrap();
    }
    let eight_days = std::time::SystemTime::now() - Duration::from_secs(8 * 24 * 60 * 60);
    fs::File::options().write(true).open(&old).unwrap().set_modified(eight_days).unwrap();
    world.change(0);
    world.sync().await.unwrap();
    assert_eq!((old.exists(), young.exists()), (false, true), "{:?}", world.server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_stalls_at_any_moment_is_given_up_and_made_again() {
    let world = World::new().await;
    for round in 0..4 {
        world.change(round);
        let stalls = async {
            tokio::time::sleep(Duration::from_millis(any_length(round, 100.0, 600.0))).await;
            world.relay.stall(true);
            tokio::time::sleep(Duration::from_millis(2600)).await;
            world.relay.stall(false);
        };
        let (done, ()) = tokio::join!(world.sync(), stalls);
        assert!(done.as_ref().map_or_else(is_link, |()| true), "{done:?}");
        world.assert_mended(&format!("round {round}")).await;
    }
}
