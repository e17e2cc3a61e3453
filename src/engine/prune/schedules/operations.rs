//! What runs beside each other: each opens the repository by itself, as a machine of its own would.

use crate::{
    engine::{
        error::EngineError,
        event::Silent,
        filter::FilterOptions,
        forget::{ForgetOptions, What, forget},
        prune::{PruneOptions, prune},
        retention::Policy,
        sync::{self, Compression, SyncOptions},
        undo_forget::{UndoOptions, undo_forget},
    },
    format::keys::Credentials,
    repository::Repository,
    store::Store,
};
use jiff::tz::TimeZone;
use std::{path::PathBuf, sync::Arc, time::Duration};

pub(super) fn credentials() -> Credentials {
    Credentials { password: None, key_file: Some(Credentials::key_file_secret(b"any file")) }
}

pub(super) async fn open(store: Arc<dyn Store>) -> Result<Arc<Repository>, EngineError> {
    Ok(Arc::new(Repository::open(store, &credentials()).await?))
}

pub(super) async fn run_sync(store: Arc<dyn Store>, source: PathBuf, always_read: bool) -> Result<(), EngineError> {
    let options = SyncOptions {
        filter: FilterOptions::default(),
        host: "host".into(),
        user: "user".into(),
        label: String::new(),
        always_read,
        ignore_ctime: false,
        ignore_inode: false,
        compression: Compression::FAST,
        checkpoint_interval: Duration::ZERO,
        dry_run: false,
        estimate: false,
        allow_empty: false,
    };
    sync::sync(open(store).await?, source, options, Arc::new(Silent)).await.map(drop)
}

pub(super) async fn run_prune(store: Arc<dyn Store>) -> Result<(), EngineError> {
    prune(open(store).await?, PruneOptions::default(), Arc::new(Silent)).await.map(drop)
}

pub(super) async fn run_forget(store: Arc<dyn Store>, last: u32) -> Result<(), EngineError> {
    let options = ForgetOptions {
        what: What::Policy(Policy { last, ..Policy::default() }),
        host: None,
        source: None,
        label: None,
        allow_empty: false,
        dry_run: false,
        zone: TimeZone::UTC,
    };
    forget(open(store).await?, options, Arc::new(Silent)).await.map(drop)
}

pub(super) async fn run_undo(store: Arc<dyn Store>) -> Result<(), EngineError> {
    undo_forget(open(store).await?, UndoOptions::default(), Arc::new(Silent)).await.map(drop)
}
