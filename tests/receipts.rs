//! Receipts and the pin file: a server that shows less than it once held is found out.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/engine.rs"]
mod engine;

use engine::{fresh, open, sync};
use nfz::{
    engine::{
        event::{Problems, Silent},
        forget::{self, ForgetOptions, What},
        receipt::{self, Standing},
    },
    format::{name::Name, receipt::Receipt},
    store::{Store, memory::MemoryStore},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
};

async fn standing(store: Arc<MemoryStore>, receipt: Receipt) -> Standing {
    let repository = open(store as _).await;
    receipt::standings(&repository, &[receipt], &Problems::default(), &Silent).await.unwrap()[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_withheld_is_told_from_one_that_was_forgotten() {
    let source = tempfile::tempdir().unwrap();
    let store = fresh().await;
    let mut receipts = Vec::new();
    for round in 0..3 {
        fs::write(source.path().join("file"), format!("round {round}")).unwrap();
        receipts.push(sync(store.clone() as _, source.path()).await.receipt.unwrap());
    }
    for receipt in &receipts {
        assert_eq!(standing(store.clone(), *receipt).await, Standing::There);
    }
    let repository = open(store.clone() as _).await;
    let forgotten = Name::Snapshot(receipts[0].snapshot);
    let options = ForgetOptions {
        what: What::Ids(vec![receipts[0].snapshot.to_string()]),
        host: None,
        source: None,
        label: None,
        allow_empty: false,
        dry_run: false,
        zone: jiff::tz::TimeZone::UTC,
    };
    forget::forget(repository, options, Arc::new(Silent)).await.unwrap();
    assert!(store.stat(forgotten).await.unwrap().is_none());
    assert_eq!(standing(store.clone(), receipts[0]).await, Standing::Forgotten);
    // The server hides the newest: by taking it away, or by putting it where a forget would.
    let newest = Name::Snapshot(receipts[2].snapshot);
    let hidden = MemoryStore::from_contents(store.contents());
    hidden.rename(newest, Name::TrashedSnapshot([7; 16], receipts[2].snapshot)).await.unwrap();
    assert_eq!(standing(Arc::new(hidden), receipts[2]).await, Standing::Missing);
    assert!(store.lose(newest));
    assert_eq!(standing(store.clone(), receipts[2]).await, Standing::Missing);
    assert_eq!(standing(fresh().await, receipts[1]).await, Standing::OtherRepository);
}

/// A user with a repository in a directory, and a pin file.
struct User {
    home: tempfile::TempDir,
}

impl User {
    fn new() -> Self {
        let user = Self { home: tempfile::tempdir().unwrap() };
        fs::create_dir(user.path("source")).unwrap();
        user.make_repository();
        user
    }

    fn make_repository(&self) {
        let made = self.nfz(&["init", self.path("repository").to_str().unwrap(), "--kdf-memory", "19M"]);
        assert!(made.status.success());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn nfz(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nfz"));
        command.args(arguments).env_clear().env("HOME", self.home.path()).env("NFZ_PASSWORD", "password");
        command.current_dir(self.home.path()).output().unwrap()
    }

    /// A sync of a changed source; what it printed.
    fn sync(&self, content: &str, more: &[&str]) -> (Option<i32>, String) {
        fs::write(self.path("source/file"), content).unwrap();
        self.run(&[&["sync", "./source", "./repository"], more].concat())
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.nfz(arguments);
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), said)
    }

    fn keep(&self, from: &str, to: &str) {
        let _ = fs::remove_dir_all(self.path(to));
        copy(&self.path(from), &self.path(to));
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target)
        } else {
            fs::copy(entry.path(), target).map(drop).unwrap()
        }
    }
}

#[test]
fn a_receipt_is_printed_by_each_sync_and_demanded_by_a_verify() {
    let user = User::new();
    let (_, said) = user.sync("one", &[]);
    let printed = said.lines().find_map(|line| line.trim().strip_prefix("receipt ")).unwrap().trim().to_owned();
    assert_eq!(user.run(&["receipt", "./repository"]), (Some(0), format!("{printed}\n")));
    assert_eq!(user.run(&["verify", "./repository", "--expect", &printed, "-q"]).0, Some(0));
    user.keep("repository", "before");
    user.sync("two", &[]);
    fs::write(user.path("receipt"), user.run(&["receipt", "./repository"]).1).unwrap();
    assert_eq!(user.run(&["verify", "./repository", "--expect", "@receipt", "--expect", &printed]).0, Some(0));
    user.keep("before", "repository");
    let (code, said) = user.run(&["verify", "./repository", "--expect", "@receipt"]);
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("generation 2: lost, or withheld by the server"), "{said}");
    assert_eq!(user.run(&["verify", "./repository", "--expect", "nfz1:zz"]).0, Some(2));
}

#[test]
fn with_a_pin_file_a_repository_that_was_set_back_or_replaced_is_refused() {
    let user = User::new();
    let pin = ["--pin", "pins"];
    assert_eq!(user.sync("one", &pin).0, Some(0));
    user.keep("repository", "before");
    assert_eq!(user.sync("two", &pin).0, Some(0));
    assert_eq!(user.run(&["snapshots", "./repository", "--pin", "pins"]).0, Some(0));
    user.keep("repository", "now");
    user.keep("before", "repository");
    for verb in ["verify", "snapshots", "receipt"] {
        let (code, said) = user.run(&[verb, "./repository", "--pin", "pins"]);
        assert_eq!(code, Some(4), "{verb}: {said}");
        assert!(said.contains("shows less than it did before"), "{said}");
    }
    assert_eq!(user.sync("three", &pin).0, Some(4), "a sync would build on what is left");
    assert_eq!(user.sync("three", &[]).0, Some(0), "without a pin nothing can be known");
    fs::remove_dir_all(user.path("repository")).unwrap();
    user.make_repository();
    let (code, said) = user.sync("four", &pin);
    assert!(code == Some(4) && said.contains("another repository than before"), "{said}");
    user.keep("now", "repository");
    assert_eq!(user.sync("five", &pin).0, Some(0));
}

#[test]
fn what_is_forgotten_on_purpose_is_not_missed() {
    let user = User::new();
    let pin = ["--pin", "pins"];
    user.sync("one", &pin);
    let pinned = fs::read_to_string(user.path("pins")).unwrap();
    user.sync("two", &[]);
    let (code, said) = user.run(&["forget", "./repository", "--keep-last", "1"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(fs::read_to_string(user.path("pins")).unwrap(), pinned);
    assert_eq!(user.sync("three", &pin).0, Some(0));
    assert_ne!(fs::read_to_string(user.path("pins")).unwrap(), pinned);
}
