//! A repository: a store together with the keys that open it. Making, opening, publishing, fetching, committing.
//!
//! The one place where sealing meets a store. What it returns has been authenticated under the name it was asked for.

use crate::format::{
    config::{Config, ConfigError},
    id::{Id, OfKind, SnapshotId},
    keys::{Epoch, KdfCost, Keys, RepositoryId, Secret, Slot, SlotError, SlotRandomness},
    kit::KitSecret,
    limits::REPOSITORY_FILE_MAX,
    name::{Dir, Name},
    repository_file::{self, RepositoryFileError},
    seal::{Compression, OpenError, Opener, Sealer},
    snapshot::{RootError, SnapshotRoot},
};
use crate::store::{ErrorKind, Length, Listed, Store, StoreError};
use bytes::Bytes;
use futures_util::{StreamExt, future, stream};
use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use unlock::{Opening, Unlocked};
use zeroize::Zeroizing;

mod rotate;
mod slots;
mod trash;
mod unlock;

pub use crate::format::keys::Credentials;
pub use rotate::{ROTATION_LASTS, Rotated};
pub use slots::{KeyError, SlotId, SlotInfo};

/// How a repository, or a key slot, is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct InitOptions {
    /// Memory for Argon2id in KiB, where not the default.
    pub kdf_memory_kib: Option<u32>,
}

/// Why a repository cannot be made, opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no repository.
    #[error("there is no nfz repository at {address}")]
    NoRepository {
        /// Where.
        address: String,
    },
    /// There is one already.
    #[error("there is an nfz repository at {address} already")]
    AlreadyExists {
        /// Where.
        address: String,
    },
    /// Snapshots are there, but the file that says so is missing.
    #[error("{address} holds snapshots, but its file nfz-repository is missing")]
    NotEmpty {
        /// Where.
        address: String,
    },
    /// No key slot opens.
    #[error("wrong password or key file")]
    WrongPassword,
    /// The key slots need a key file and none was given, or a password.
    #[error("no key slot opens: {0}")]
    MissingCredential(SlotError),
    /// There are no usable key slots.
    #[error("no key slot of this repository can be used{}", .0.as_ref().map(|(name, why)| format!("; {name}: {why}")).unwrap_or_default())]
    NoSlot(Option<(Name, SlotError)>),
    /// A slot cannot be made.
    #[error("cannot make a key slot: {0}")]
    CannotMakeSlot(SlotError),
    /// `nfz-repository` is unusable.
    #[error("nfz-repository: {0}")]
    RepositoryFile(#[from] RepositoryFileError),
    /// The secrets of the epochs before this one are not to be had.
    #[error("the keyring of key epoch {0}, which holds the keys of all epochs before it, is missing or damaged")]
    NoKeyring(Epoch),
    /// What was given opens an epoch that is not the newest: enough to read what is older.
    #[error("this password or key file is of key epoch {epoch}, and the repository has been rotated to epoch {newest}")]
    Outdated {
        /// The epoch that was opened.
        epoch: Epoch,
        /// The newest that a slot shows.
        newest: Epoch,
    },
    /// An object is not what it should be.
    #[error("{name} is damaged: {why}")]
    Damaged {
        /// Its name.
        name: Name,
        /// What is wrong.
        why: String,
    },
    /// The configuration cannot be used.
    #[error("{name}: {why}")]
    Config {
        /// Its name.
        name: Name,
        /// Why.
        why: ConfigError,
    },
    /// There is no configuration.
    #[error("the repository's configuration is missing: no usable object in config/")]
    NoConfig,
    /// Something is too large to be stored.
    #[error("cannot store {what}: {why}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// The system gives no random numbers, or no thread.
    #[error("the system failed us: {0}")]
    System(String),
}

/// An open repository.
pub struct Repository {
    store: Arc<dyn Store>,
    keys: Arc<Keys>,
    /// Master secrets and what gave them: new slots and keyrings are made of these.
    unlocked: Unlocked,
    config: Config,
    config_name: Name,
    /// Made by this very run.
    is_new: bool,
    preview: Preview,
    trash: trash::Trash,
    opened: Duration,
}

/// What was fetched while the password was being stretched, so that its latency costs nothing.
#[derive(Default)]
struct Preview {
    snapshots: Vec<Listed>,
    roots: HashMap<SnapshotId, Bytes>,
    first_shard: usize,
    /// All shards, if they were listed.
    shards: Mutex<Option<Vec<Vec<Listed>>>>,
}

/// Up to so many chunks all shards are listed at once; the listing then takes some ten megabytes.
pub const LIST_MAX: u64 = 65_536;

/// How many of the newest roots are fetched before it is known whether they are wanted.
pub const ROOTS_AHEAD: usize = 8;
/// Roots larger than this are not fetched ahead, in bytes.
const ROOT_AHEAD_MAX: u64 = 1 << 20;

impl Repository {
    /// Whether there is a repository in `store`.
    ///
    /// # Errors
    /// Where the store cannot tell.
    pub async fn exists(store: &dyn Store) -> Result<bool, RepositoryError> {
        Ok(store.stat(Name::Repository).await?.is_some())
    }

    /// Makes a repository that `credentials` open.
    ///
    /// # Errors
    /// [`RepositoryError::AlreadyExists`], [`RepositoryError::NotEmpty`], and what the store says.
    pub async fn init(
        store: Arc<dyn Store>,
        credentials: &Credentials,
        options: &InitOptions,
    ) -> Result<Self, RepositoryError> {
        let (address, opened) = (store.address(), crate::clock::uptime());
        if Self::exists(&*store).await? {
            return Err(RepositoryError::AlreadyExists { address });
        }
        if !list_or_empty(&*store, Dir::Snapshots).await?.is_empty() {
            return Err(RepositoryError::NotEmpty { address });
        }
        let repository = random()?;
        let master: Secret = Zeroizing::new(random()?);
        let cost = cost(options);
        let slot = {
            let (credentials, master) = (credentials.clone(), master.clone());
            let random = SlotRandomness { salt: random()?, nonce: random()? };
            compute(move || Slot::create(repository, 0, &master, &credentials, cost, &random)).await?
        };
        let slot = slot.map_err(RepositoryError::CannotMakeSlot)?;
        let slot_id = random()?;
        let unlocked = Unlocked { masters: vec![master], opened_by: Some(Name::Key(slot_id)), newest: 0 };
        let keys = unlocked.keys(repository)?;
        let config = Config::new(crate::clock::now());
        let dirs: Vec<Dir> = Dir::all().collect();
        store.create_dirs(&dirs).await?;
        store.put(Name::Key(slot_id), Bytes::copy_from_slice(slot.as_bytes())).await?;
        let config_name = put_config(&*store, &keys, &config).await?;
        // Last: a repository is there once this file is.
        store.put(Name::Repository, Bytes::from(repository_file::text(&repository))).await?;
        let (preview, trash) = (Preview::default(), trash::Trash::default());
        let repository = Self { store, keys, unlocked, config, config_name, is_new: true, preview, trash, opened };
        repository.confirm().await?;
        Ok(repository)
    }

    /// Makes sure that the store holds the repository that was just made and no other: two may have been made there at once.
    ///
    /// # Errors
    /// [`RepositoryError::AlreadyExists`] where it holds another one.
    pub async fn confirm(&self) -> Result<(), RepositoryError> {
        if !self.is_new {
            return Ok(());
        }
        let file = self.store.get(Name::Repository, Length::AtMost(REPOSITORY_FILE_MAX)).await?;
        if repository_file::parse(&file)? == self.id() {
            return Ok(());
        }
        Err(RepositoryError::AlreadyExists { address: self.store.address() })
    }

    /// Opens the repository in `store`.
    ///
    /// # Errors
    /// [`RepositoryError::NoRepository`], [`RepositoryError::WrongPassword`], and many more.
    pub async fn open(store: Arc<dyn Store>, credentials: &Credentials) -> Result<Self, RepositoryError> {
        Self::open_by(store, Opening::Credentials(credentials), false).await
    }

    /// As [`open`](Repository::open). Where few chunks are there and they `are_wanted`, they are listed while the password is
    /// being stretched: that costs no time then.
    ///
    /// # Errors
    /// As there.
    pub async fn open_listing(
        store: Arc<dyn Store>,
        credentials: &Credentials,
        are_wanted: bool,
    ) -> Result<Self, RepositoryError> {
        Self::open_by(store, Opening::Credentials(credentials), are_wanted).await
    }

    /// Opens the repository in `store` with the words of a recovery kit, also where no key slot is left.
    ///
    /// # Errors
    /// As [`open`](Repository::open).
    pub async fn open_with_kit(store: Arc<dyn Store>, secret: &KitSecret) -> Result<Self, RepositoryError> {
        Self::open_by(store, Opening::Kit(secret), false).await
    }

    /// The id that the repository in `store` gives itself; only opening it confirms that.
    ///
    /// # Errors
    /// [`RepositoryError::NoRepository`], and what the store says.
    pub async fn id_in(store: &dyn Store) -> Result<RepositoryId, RepositoryError> {
        let file = store.get(Name::Repository, Length::AtMost(REPOSITORY_FILE_MAX)).await;
        Self::parse_file(store, file)
    }

    fn parse_file(store: &dyn Store, file: Result<Bytes, StoreError>) -> Result<RepositoryId, RepositoryError> {
        match file {
            Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Err(RepositoryError::NoRepository { address: store.address() })
            }
            other => Ok(repository_file::parse(&other?)?),
        }
    }

    async fn open_by(store: Arc<dyn Store>, opening: Opening<'_>, are_wanted: bool) -> Result<Self, RepositoryError> {
        let opened = crate::clock::uptime();
        let (file, keys, configs, snapshots, shard) = future::join5(
            store.get(Name::Repository, Length::AtMost(REPOSITORY_FILE_MAX)),
            list_or_empty(&*store, Dir::Keys),
            list_or_empty(&*store, Dir::Config),
            list_or_empty(&*store, Dir::Snapshots),
            list_or_empty(&*store, Dir::Shard(0)),
        )
        .await;
        let repository = Self::parse_file(&*store, file)?;
        let (keys, configs) = (keys?, configs?);
        let shard = shard?;
        let mut preview = Preview { snapshots: snapshots?, first_shard: shard.len(), ..Preview::default() };
        let are_wanted = are_wanted && shard.len() as u64 * 256 <= LIST_MAX;
        let unlocked = unlock::unlock(&store, repository, &keys, opening);
        let sealed = future::join(fetch_configs(&*store, &configs), fetch_roots(&*store, &preview.snapshots));
        let shards = async { if are_wanted { list_shards(&*store, shard).await } else { None } };
        let (unlocked, (sealed_configs, roots), shards) = future::join3(unlocked, sealed, shards).await;
        preview.shards = shards.into();
        let unlocked = unlocked?;
        let keys = unlocked.keys(repository)?;
        preview.roots = roots;
        let (config_name, config) = choose_config(&keys, sealed_configs?)?;
        let trash = trash::Trash::default();
        Ok(Self { store, keys, unlocked, config, config_name, is_new: false, preview, trash, opened })
    }

    /// The repository's id.
    #[must_use]
    pub fn id(&self) -> RepositoryId {
        self.keys.repository()
    }

    /// When it was opened, by [`uptime`](crate::clock::uptime): nothing that was looked up in it was looked up before.
    #[must_use]
    pub fn opened(&self) -> Duration {
        self.opened
    }

    /// The store that it lies in.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Its keys.
    #[must_use]
    pub fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// Its parameters.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Refuses a repository whose configuration this program can read by but not write by, and one that has been rotated
    /// since what opened it was made: what is sealed with older keys gives away what the rotation was for.
    ///
    /// # Errors
    /// [`RepositoryError::Config`], [`RepositoryError::Outdated`].
    pub fn check_writable(&self) -> Result<(), RepositoryError> {
        let (epoch, newest) = (self.keys.epoch(), self.unlocked.newest);
        if epoch < newest {
            return Err(RepositoryError::Outdated { epoch, newest });
        }
        self.config.check_for_writing().map_err(|why| RepositoryError::Config { name: self.config_name, why })
    }

    /// About how many chunks it holds, judged by one shard when it was opened.
    #[must_use]
    pub fn estimated_chunks(&self) -> u64 {
        self.preview.first_shard as u64 * 256
    }

    /// What was listed of all shards when it was opened, in their order. It is given once.
    #[must_use]
    pub fn take_shards(&self) -> Option<Vec<Vec<Listed>>> {
        self.preview.shards.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The snapshots that the store lists; as it did when the repository was opened if `fresh` is false.
    ///
    /// # Errors
    /// What the store says.
    pub async fn list_snapshots(&self, fresh: bool) -> Result<Vec<Listed>, RepositoryError> {
        if fresh { list_or_empty(&*self.store, Dir::Snapshots).await } else { Ok(self.preview.snapshots.clone()) }
    }

    /// The plaintext of a data chunk or segment that a manifest says is `stored` bytes long.
    ///
    /// An object of another length may still be good: two writers may have compressed the same plaintext differently. It is
    /// fetched whatever its length, and what opens is right.
    ///
    /// # Errors
    /// As [`fetch`](Repository::fetch).
    pub async fn fetch_chunk<K: OfKind>(&self, id: Id<K>, stored: u32) -> Result<Vec<u8>, RepositoryError> {
        let object = self.get_chunk(id, stored).await?;
        self.open_chunk(id, object).await
    }

    /// Opens what [`get_chunk`](Repository::get_chunk) got.
    ///
    /// # Errors
    /// [`RepositoryError::Damaged`].
    pub async fn open_chunk<K: OfKind>(&self, id: Id<K>, object: Bytes) -> Result<Vec<u8>, RepositoryError> {
        self.open_chunk_into(id, object, Vec::new()).await
    }

    /// As [`open_chunk`](Repository::open_chunk), with the memory of `buffer`.
    ///
    /// # Errors
    /// As there; the buffer is lost then.
    pub async fn open_chunk_into<K: OfKind>(
        &self,
        id: Id<K>,
        object: Bytes,
        mut buffer: Vec<u8>,
    ) -> Result<Vec<u8>, RepositoryError> {
        let keys = Arc::clone(&self.keys);
        let open =
            move |opener: &mut Opener| opener.open_into(&keys, K::KIND, id.0, &object, &mut buffer).map(|()| buffer);
        compute(move || with_opener(Name::Chunk(id.0), open)).await?
    }

    /// Gets a chunk, opens it, and says how long its plaintext is.
    ///
    /// # Errors
    /// As [`fetch_chunk`](Repository::fetch_chunk).
    pub async fn check_chunk<K: OfKind>(&self, id: Id<K>, stored: u32) -> Result<usize, RepositoryError> {
        let object = self.get_chunk(id, stored).await?;
        let keys = Arc::clone(&self.keys);
        let check = move |opener: &mut Opener| opener.check(&keys, K::KIND, id.0, &object);
        compute(move || with_opener(Name::Chunk(id.0), check)).await?
    }

    /// The plaintext of an object, authenticated. The work of opening it is done on the compute threads.
    ///
    /// # Errors
    /// What the store says, and [`RepositoryError::Damaged`].
    pub async fn fetch<K: OfKind>(&self, id: Id<K>, name: Name, length: Length) -> Result<Vec<u8>, RepositoryError> {
        let object = self.store.get(name, length).await?;
        let keys = Arc::clone(&self.keys);
        compute(move || open_object(&keys, id, name, &object)).await?
    }

    /// The root of a snapshot, whose object has `length` bytes by the listing.
    ///
    /// # Errors
    /// As [`fetch`](Repository::fetch).
    pub async fn fetch_root(&self, id: SnapshotId, length: u64) -> Result<SnapshotRoot, RepositoryError> {
        let name = Name::Snapshot(id);
        let plaintext = match self.preview.roots.get(&id) {
            Some(object) => open_object(&self.keys, id, name, object)?,
            None => self.fetch(id, name, Length::Exactly(length)).await?,
        };
        SnapshotRoot::decode(&plaintext)
            .map_err(|why: RootError| RepositoryError::Damaged { name, why: why.to_string() })
    }

    /// Stores a snapshot's root: the commit. All that it names must have been acknowledged before.
    ///
    /// # Errors
    /// What the store says.
    pub async fn commit(&self, root: &SnapshotRoot) -> Result<SnapshotId, RepositoryError> {
        let too_large = |why: String| RepositoryError::TooLarge { what: "the snapshot's root", why };
        let plaintext = root.encode().map_err(|why| too_large(why.to_string()))?;
        let (id, object) = self.seal(&plaintext).map_err(|why| too_large(why.to_string()))?;
        self.store.put(Name::Snapshot(id), object).await?;
        Ok(id)
    }

    /// Seals a small object: its id, and what is to be stored under the name that this gives it.
    ///
    /// # Errors
    /// [`OpenError`] where it is too large.
    pub fn seal<K: OfKind>(&self, plaintext: &[u8]) -> Result<(Id<K>, Bytes), OpenError> {
        let id = self.keys.id(plaintext);
        let sealed = Sealer::new(Compression::DEFAULT).seal(&self.keys, id, plaintext)?;
        Ok((id, Bytes::from(sealed)))
    }
}

/// Opens one object with this thread's opener.
///
/// # Errors
/// [`RepositoryError::Damaged`].
pub fn open_object<K: OfKind>(keys: &Keys, id: Id<K>, name: Name, object: &[u8]) -> Result<Vec<u8>, RepositoryError> {
    with_opener(name, |opener| opener.open(keys, id, object))
}

fn with_opener<T>(name: Name, open: impl FnOnce(&mut Opener) -> Result<T, OpenError>) -> Result<T, RepositoryError> {
    thread_local! {
        static OPENER: RefCell<Opener> = RefCell::default();
    }
    let damaged = |why: OpenError| RepositoryError::Damaged { name, why: why.to_string() };
    OPENER.with_borrow_mut(open).map_err(damaged)
}

/// Runs `work` on the compute threads: no CPU work in async tasks.
///
/// # Errors
/// [`RepositoryError::System`] where the work was lost.
pub async fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, RepositoryError> {
    let (send, receive) = tokio::sync::oneshot::channel();
    rayon::spawn(move || drop(send.send(work())));
    receive.await.map_err(|_| RepositoryError::System("a computation was lost".into()))
}

/// Random bytes from the system.
///
/// # Errors
/// [`RepositoryError::System`].
pub fn random<const N: usize>() -> Result<[u8; N], RepositoryError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| RepositoryError::System(format!("no random numbers: {error}")))?;
    Ok(bytes)
}

/// All shards, of which the first has been listed. `None` where that fails: then it is tried again when it is needed.
async fn list_shards(store: &dyn Store, first: Vec<Listed>) -> Option<Vec<Vec<Listed>>> {
    let rest = (1..=255).map(|shard| list_or_empty(store, Dir::Shard(shard)));
    let rest = future::try_join_all(rest).await.ok()?;
    Some(std::iter::once(first).chain(rest).collect())
}

async fn list_or_empty(store: &dyn Store, dir: Dir) -> Result<Vec<Listed>, RepositoryError> {
    match store.list(dir).await {
        Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Vec::new()),
        other => Ok(other?),
    }
}

/// What a new slot costs: the default, what was asked for, or less on a machine that has little.
fn cost(options: &InitOptions) -> KdfCost {
    let system = rustix::system::sysinfo();
    // The type of these differs from one machine to the next.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    let ram = (system.totalram as u64).saturating_mul(u64::from(system.mem_unit));
    let cost = if ram < 1 << 30 { KdfCost::SMALL } else { KdfCost::DEFAULT };
    KdfCost { memory_kib: options.kdf_memory_kib.unwrap_or(cost.memory_kib), ..cost }
}

async fn put_config(store: &dyn Store, keys: &Keys, config: &Config) -> Result<Name, RepositoryError> {
    let too_large = |why: String| RepositoryError::TooLarge { what: "the configuration", why };
    let plaintext = config.encode().map_err(|why| too_large(why.to_string()))?;
    let id = keys.id(&plaintext);
    let sealed = Sealer::new(Compression::Off).seal(keys, id, &plaintext).map_err(|why| too_large(why.to_string()))?;
    store.put(Name::Config(id), Bytes::from(sealed)).await?;
    Ok(Name::Config(id))
}

async fn fetch_configs(store: &dyn Store, listed: &[Listed]) -> Result<Vec<(Name, Bytes)>, RepositoryError> {
    let gets = listed.iter().map(|config| async move {
        let object = store.get(config.name, Length::Exactly(config.length)).await?;
        Ok::<_, RepositoryError>((config.name, object))
    });
    stream::iter(gets.collect::<Vec<_>>()).buffer_unordered(8).collect::<Vec<_>>().await.into_iter().collect()
}

/// The configuration of the highest generation, and of these the highest id, among those that open.
fn choose_config(keys: &Keys, mut sealed: Vec<(Name, Bytes)>) -> Result<(Name, Config), RepositoryError> {
    sealed.sort_unstable_by_key(|(name, _)| *name);
    let mut newest: Option<(Name, Config)> = None;
    let mut damaged = None;
    for (name, object) in sealed {
        let Name::Config(id) = name else { continue };
        let plaintext = match open_object(keys, id, name, &object) {
            Ok(plaintext) => plaintext,
            // An attempt to make a repository here that came to no end leaves one which no key of ours opens.
            Err(error) => {
                damaged.get_or_insert(error);
                continue;
            }
        };
        let config = Config::decode_for_reading(&plaintext).map_err(|why| RepositoryError::Config { name, why })?;
        if newest.as_ref().is_none_or(|(_, newest)| newest.generation <= config.generation) {
            newest = Some((name, config));
        }
    }
    newest.ok_or_else(|| damaged.unwrap_or(RepositoryError::NoConfig))
}

/// The newest roots by the server's clock, so far as they can be had. That clock is only a hint: a lie costs time.
async fn fetch_roots(store: &dyn Store, listed: &[Listed]) -> HashMap<SnapshotId, Bytes> {
    let mut newest: Vec<&Listed> = listed.iter().filter(|root| root.length <= ROOT_AHEAD_MAX).collect();
    newest.sort_unstable_by_key(|root| std::cmp::Reverse((root.modified, root.name)));
    newest.truncate(ROOTS_AHEAD);
    let gets = newest.into_iter().filter_map(|root| match root.name {
        Name::Snapshot(id) => {
            Some(async move { Some((id, store.get(root.name, Length::Exactly(root.length)).await.ok()?)) })
        }
        _ => None,
    });
    let gets: Vec<_> = gets.collect();
    future::join_all(gets).await.into_iter().flatten().collect()
}
