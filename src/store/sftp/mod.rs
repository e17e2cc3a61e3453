//! A store on an SFTP server, over the pipes of a spawned `ssh -s`: so that ssh_config, agents, jump hosts and
//! hardware keys all just work. The server runs nothing of ours.
//!
//! `client` is the one file that names the SFTP crate; `ssh` is the child process; `connection` the steps of each
//! call; `told` what servers tell; `examine` tries what a server can do; `pool` the choice among several connections. No retry here: a lost link fails the calls under way with
//! [`ErrorKind::Disconnected`](super::ErrorKind), and the next call connects anew.

mod client;
mod connection;
mod examine;
mod failure;
mod guard;
mod pool;
mod ssh;
mod told;

use super::{
    ErrorKind, Length, Listed, Pending, Store, StoreError, Traffic, TrafficCounter,
    dir::random,
    foreign::{Foreign, cut_short},
};
use crate::format::name::{Dir, Name};
use bytes::Bytes;
pub use examine::{Findings, NAME_NEEDED, Speed, examine};
pub use guard::guarded;
use pool::{Pool, Ticket};
use std::{
    future::Future,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::sync::oneshot;

/// Where the repository is, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SftpOptions {
    /// Who logs in; ssh decides where `None`.
    pub user: Option<String>,
    /// The host, or its alias in the user's ssh configuration.
    pub host: String,
    /// The port; ssh decides where `None`.
    pub port: Option<u16>,
    /// The repository's directory: absolute, or relative to the login directory (`~/` in front says so too).
    pub directory: String,
    /// Called instead of ssh, as `COMMAND [-p PORT] [USER@]HOST -s sftp`; nothing is tuned then.
    pub command: Option<Vec<String>>,
    /// Read by ssh instead of the user's configuration; not with `command`.
    pub ssh_config: Option<PathBuf>,
    /// The most connections at once. More are opened as transfers have to wait.
    pub connections: usize,
    /// How long nothing may move while calls are under way, before the connection is given up.
    pub stall_after: Duration,
}

impl SftpOptions {
    /// The usual: four connections, and a minute before a stall.
    #[must_use]
    pub fn new(host: impl Into<String>, directory: impl Into<String>) -> Self {
        Self {
            user: None,
            host: host.into(),
            port: None,
            directory: directory.into(),
            command: None,
            ssh_config: None,
            connections: 4,
            stall_after: Duration::from_secs(60),
        }
    }

    /// The address as a user would type it.
    #[must_use]
    pub fn address(&self) -> String {
        let user = self.user.as_deref().map(|user| format!("{user}@")).unwrap_or_default();
        match self.port {
            Some(port) => format!("sftp://{user}{}:{port}/{}", self.host, self.directory),
            None => format!("{user}{}:{}", self.host, self.directory),
        }
    }

    fn remote(&self) -> Remote {
        let relative = if self.directory == "~" { "" } else { self.directory.trim_start_matches("~/") };
        match (relative.trim_end_matches('/'), self.directory.starts_with('/')) {
            ("", true) => Remote { root: "/".into() },
            ("", false) => Remote { root: ".".into() },
            (root, _) => Remote { root: root.into() },
        }
    }
}

/// Where the repository's files are on the server.
#[derive(Clone, Debug)]
struct Remote {
    root: String,
}

impl Remote {
    fn join(&self, path: &str) -> String {
        match path {
            "" => self.root.clone(),
            path if self.root == "/" => format!("/{path}"),
            path => format!("{}/{path}", self.root),
        }
    }

    fn dir(&self, dir: Dir) -> String {
        self.join(&dir.path())
    }

    fn object(&self, name: Name) -> String {
        self.join(&name.path())
    }
}

/// What the server can do, for diagnosis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// `fsync@openssh.com`: what is acknowledged is on the disk.
    pub fsync: bool,
    /// `posix-rename@openssh.com`: a torn object is replaced in one step.
    pub posix_rename: bool,
    /// `statvfs@openssh.com`: free space is told.
    pub statvfs: bool,
}

/// A repository on an SFTP server.
pub struct SftpStore {
    pool: Arc<Pool>,
    address: String,
    server: ServerInfo,
    traffic: Arc<TrafficCounter>,
}

impl SftpStore {
    /// Connects, and asks the user through ssh whatever ssh has to ask. The directory need not exist.
    ///
    /// # Errors
    /// With ssh's own words: [`ErrorKind::Unreachable`], [`ErrorKind::AuthenticationFailed`],
    /// [`ErrorKind::HostKeyRefused`], [`ErrorKind::NoSftp`]; [`ErrorKind::Other`] where ssh cannot be started or the
    /// address could be taken for an option.
    pub async fn connect(options: SftpOptions) -> Result<SftpStore, StoreError> {
        let address = options.address();
        let pool = Pool::connect(options).await?;
        let (fsync, posix_rename, statvfs) = pool.question().await?.client.offers();
        let server = ServerInfo { fsync, posix_rename, statvfs };
        Ok(SftpStore { pool, address, server, traffic: Arc::default() })
    }

    /// What the server can do.
    #[must_use]
    pub fn server(&self) -> ServerInfo {
        self.server
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.pool.connections()
    }

    /// Runs the call on a task of its own, as soon as there is a place for it on a connection: for a transfer of up to `bytes`,
    /// or for a question.
    ///
    /// A caller that has lost interest stops the waiting, but not a call that has begun: requests must not be dropped on a
    /// connection that lives on. A caller that is slow to look at the outcome keeps no one else waiting: whoever has a place, or is
    /// next to get one, goes on without it.
    async fn run<T, F>(
        &self,
        bytes: Option<u64>,
        call: impl FnOnce(Ticket) -> F + Send + 'static,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        self.traffic.call();
        let (_interest, lost) = oneshot::channel::<()>();
        let (pool, address) = (Arc::clone(&self.pool), self.address.clone());
        let gone = move || StoreError::new(ErrorKind::Other, "use", &address, "no one waits for it any more");
        let ended = tokio::spawn(async move {
            let place = async {
                match bytes {
                    Some(bytes) => pool.transfer(bytes).await,
                    None => pool.question().await,
                }
            };
            let ticket = tokio::select! {
                ticket = place => ticket?,
                _ = lost => return Err(gone()),
            };
            call(ticket).await
        });
        let lost =
            |error| StoreError::new(ErrorKind::Other, "use", &self.address, format!("the call was lost: {error}"));
        ended.await.map_err(lost)?
    }
}

impl Store for SftpStore {
    fn address(&self) -> String {
        self.address.clone()
    }

    fn create_dirs<'a>(&'a self, dirs: &'a [Dir]) -> Pending<'a, ()> {
        let dirs = dirs.to_vec();
        Box::pin(self.run(None, move |ticket| async move { ticket.create_dirs(&dirs).await }))
    }

    fn list(&self, dir: Dir) -> Pending<'_, Vec<Listed>> {
        Box::pin(self.run(None, move |ticket| async move { ticket.list(dir).await }))
    }

    fn stat(&self, name: Name) -> Pending<'_, Option<Listed>> {
        Box::pin(self.run(None, move |ticket| async move { ticket.stat(name).await }))
    }

    fn get(&self, name: Name, length: Length) -> Pending<'_, Bytes> {
        let traffic = Arc::clone(&self.traffic);
        Box::pin(async move {
            length.check_demand(&name)?;
            let call = move |ticket: Ticket| async move {
                let bytes = ticket.get(name, length).await?;
                traffic.downloaded(bytes.len());
                Ok(bytes)
            };
            self.run(Some(length.most()), call).await
        })
    }

    fn put(&self, name: Name, bytes: Bytes) -> Pending<'_, ()> {
        let traffic = Arc::clone(&self.traffic);
        Box::pin(async move {
            let tmp = random().map_err(|error| StoreError::new(ErrorKind::Other, "write", &name, error.to_string()))?;
            let length = bytes.len() as u64;
            let call = move |ticket: Ticket| async move {
                ticket.put(name, Name::Tmp(tmp), &bytes).await?;
                traffic.uploaded(bytes.len());
                Ok(())
            };
            self.run(Some(length), call).await
        })
    }

    fn remove(&self, name: Name) -> Pending<'_, ()> {
        Box::pin(self.run(None, move |ticket| async move { ticket.remove(name).await }))
    }

    fn rename(&self, from: Name, to: Name) -> Pending<'_, ()> {
        Box::pin(self.run(None, move |ticket| async move { ticket.rename(from, to).await }))
    }

    fn free_space(&self) -> Pending<'_, Option<u64>> {
        Box::pin(self.run(None, move |ticket| async move { ticket.free_space().await }))
    }

    fn close(&self) -> Pending<'_, ()> {
        Box::pin(async {
            self.pool.close().await;
            Ok(())
        })
    }

    fn traffic(&self) -> Traffic {
        Traffic { requests: self.pool.answers.load(Relaxed), ..self.traffic.total() }
    }

    fn expect(&self, bytes: u64) {
        self.pool.expect(bytes);
    }
}

impl Foreign for SftpStore {
    fn length<'a>(&'a self, name: &'a str) -> Pending<'a, Option<u64>> {
        let name = name.to_owned();
        Box::pin(self.run(None, move |ticket| async move { ticket.foreign_length(&name).await }))
    }

    fn read<'a>(&'a self, name: &'a str, start: u64, length: usize) -> Pending<'a, Bytes> {
        Box::pin(async move {
            let named = name.to_owned();
            let call = move |ticket: Ticket| async move { ticket.foreign_read(&named, start, length).await };
            let bytes = self.run(Some(length as u64), call).await?;
            if bytes.len() == length { Ok(bytes) } else { Err(cut_short(name)) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_absolute_or_relative_to_the_login_directory() {
        let paths = [
            ("backups/", "backups/keys"),
            ("/srv/backups", "/srv/backups/keys"),
            ("/", "/keys"),
            ("", "./keys"),
            ("~", "./keys"),
            ("~/backups", "backups/keys"),
        ];
        for (directory, path) in paths {
            assert_eq!(SftpOptions::new("host", directory).remote().dir(Dir::Keys), path, "{directory}");
        }
    }
}
