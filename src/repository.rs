//! Stub: keys and store.

use crate::{
    format::name::Name,
    store::{ErrorKind, Store, StoreError},
};
use std::sync::Arc;
use zeroize::Zeroizing;

/// What opens a repository; at least one of the two.
pub struct Credentials {
    /// A password.
    pub password: Option<Zeroizing<Vec<u8>>>,
    /// A key file's key.
    pub key_file: Option<Zeroizing<[u8; 32]>>,
}

/// How a repository is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct InitOptions {
    /// Argon2id's memory in KiB.
    pub kdf_memory_kib: Option<u32>,
}

/// An open repository.
pub struct Repository {}

/// Why a repository could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RepositoryError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is none.
    #[error("there is no repository at {address}")]
    NoRepository {
        /// Where.
        address: String,
    },
    /// There is one.
    #[error("there is a repository at {address} already")]
    AlreadyExists {
        /// Where.
        address: String,
    },
    /// Something else is there.
    #[error("{address} holds other files")]
    NotEmpty {
        /// Where.
        address: String,
    },
    /// No slot opens.
    #[error("the password is wrong")]
    WrongPassword,
    /// Made by a later nfz.
    #[error("the repository has format version {version}")]
    UnknownVersion {
        /// Its version.
        version: u32,
    },
    /// Not as it was written.
    #[error("{name} is damaged: {why}")]
    Damaged {
        /// The object.
        name: Name,
        /// What is wrong with it.
        why: String,
    },
}

fn stub<T>() -> Result<T, RepositoryError> {
    Err(StoreError { kind: ErrorKind::Other, operation: "use", subject: "a stub".into(), message: String::new() }
        .into())
}

impl Repository {
    /// Whether there is one.
    pub async fn exists(_: &dyn Store) -> Result<bool, RepositoryError> {
        stub()
    }
    /// Makes one.
    pub async fn init(_: Arc<dyn Store>, _: &Credentials, _: &InitOptions) -> Result<Repository, RepositoryError> {
        stub()
    }
    /// Opens one.
    pub async fn open(_: Arc<dyn Store>, _: &Credentials) -> Result<Repository, RepositoryError> {
        stub()
    }
    /// Its id.
    #[must_use]
    pub fn id(&self) -> [u8; 16] {
        [0; 16]
    }
}
