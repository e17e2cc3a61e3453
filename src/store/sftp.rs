//! Stub: SFTP.

use super::StoreError;

/// Where and how to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SftpOptions {
    /// The user, where the address names one.
    pub user: Option<String>,
    /// The host.
    pub host: String,
    /// The port, where the address names one.
    pub port: Option<u16>,
    /// The directory; relative ones from the login directory.
    pub directory: Vec<u8>,
    /// The command and its first arguments in place of `ssh`.
    pub command: Option<Vec<String>>,
    /// The most connections.
    pub connections: usize,
    /// The address as it was typed, for messages.
    pub address: String,
}

/// Stub.
pub struct SftpStore;

impl SftpStore {
    /// Stub.
    pub async fn connect(_: SftpOptions) -> Result<Self, StoreError> {
        Ok(Self)
    }
}
