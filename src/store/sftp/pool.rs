//! Several connections to one server: which one carries a call, when another is opened, and how many bytes are
//! under way. Dead connections drop out; a call that finds none alive opens one.

use super::{SftpOptions, connection::Connection, ssh::CommandLine};
use crate::store::{ErrorKind, StoreError};
use futures_util::future::join_all;
use std::{
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::{Mutex as AsyncMutex, Notify, OwnedSemaphorePermit, Semaphore};

/// Bytes under way on one connection: enough to fill ssh's window on a long link.
const WINDOW: u64 = 16 << 20;
/// From this round-trip time on, ssh's own window of 2 MiB is what limits a connection.
const LONG: Duration = Duration::from_millis(4);
/// The window after a connection was lost: it grows again with every transfer that ends well, for on a link that
/// breaks often, much at once is much lost at once, and nothing would ever be whole.
const WINDOW_AFTER_LOSS: u64 = WINDOW / 16;
/// What a transfer counts at least: so that at most 64 objects are open on one connection.
const TRANSFER_MIN: u64 = WINDOW / 64;
/// The first connection takes a quarter of the others' bulk, so that questions are answered soon.
const FIRST_SHARE: u64 = 4;
/// Transfers up to this length, in bytes, do not make others wait, and go anywhere.
const SMALL: u64 = 64 << 10;
/// So many bytes take several windows of one connection.
const BULK: u64 = 4 * WINDOW;
/// Handshakes at once: servers refuse strangers from ten on.
const HANDSHAKES: usize = 4;
/// How many calls that move no object are under way at once.
const QUESTIONS: usize = 512;

/// The connections of one store.
pub(super) struct Pool {
    options: SftpOptions,
    line: CommandLine,
    /// The server's answers on all connections there ever were.
    pub(super) answers: Arc<AtomicU64>,
    slots: Mutex<Vec<Arc<Slot>>>,
    /// Who makes handshakes; holds why the last first one failed.
    handshake: AsyncMutex<Option<StoreError>>,
    handshakes: AtomicU64,
    /// Held by the one transfer that is next.
    next: AsyncMutex<()>,
    /// A transfer has ended, or a connection was added.
    changed: Notify,
    questions: Arc<Semaphore>,
    /// Bytes that may be under way on each connection now.
    window: AtomicU64,
    may_grow: AtomicBool,
    growing: AtomicBool,
    closed: AtomicBool,
}

struct Slot {
    connection: Connection,
    /// Bytes of transfers under way.
    load: AtomicU64,
}

/// A call's place on a connection, for as long as it lives.
pub(super) struct Ticket {
    slot: Arc<Slot>,
    cost: u64,
    pool: Arc<Pool>,
    _question: Option<OwnedSemaphorePermit>,
}

impl Deref for Ticket {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.slot.connection
    }
}

impl Ticket {
    fn new(pool: &Arc<Pool>, slot: Arc<Slot>, cost: u64, question: Option<OwnedSemaphorePermit>) -> Ticket {
        slot.load.fetch_add(cost, Relaxed);
        slot.connection.ssh.call_begins();
        Ticket { slot, cost, pool: Arc::clone(pool), _question: question }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.slot.connection.ssh.call_ends();
        self.slot.load.fetch_sub(self.cost, Relaxed);
        if self.slot.connection.ssh.is_alive() {
            let grown = |window: u64| Some((window + self.cost).min(WINDOW));
            let _ = self.pool.window.fetch_update(Relaxed, Relaxed, grown); // never refused
        }
        self.pool.changed.notify_one();
    }
}

/// Which connection a transfer of `bytes` goes to: the least loaded with room, the first only for its share.
fn choose(loads: &[u64], bytes: u64, window: u64) -> Option<usize> {
    let cost = cost(bytes);
    let share = |at: usize| if at == 0 && loads.len() > 1 && bytes > SMALL { FIRST_SHARE } else { 1 };
    let has_room = |at: &usize| loads[*at] == 0 || loads[*at] + cost <= window / share(*at);
    (0..loads.len()).filter(has_room).min_by_key(|at| (loads[*at] + cost) * share(*at))
}

fn cost(bytes: u64) -> u64 {
    bytes.clamp(TRANSFER_MIN, WINDOW)
}

impl Pool {
    /// A pool with its first connection.
    pub(super) async fn connect(options: SftpOptions) -> Result<Arc<Pool>, StoreError> {
        let line = CommandLine::for_options(&options).await?;
        let pool = Arc::new(Pool {
            options,
            line,
            answers: Arc::default(),
            slots: Mutex::default(),
            handshake: AsyncMutex::default(),
            handshakes: AtomicU64::new(0),
            next: AsyncMutex::default(),
            changed: Notify::new(),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
            window: AtomicU64::new(WINDOW),
            may_grow: AtomicBool::new(true),
            growing: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        });
        pool.first(0).await?;
        Ok(pool)
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connections that are alive, oldest first; the dead ones are let go.
    fn alive(&self) -> Vec<Arc<Slot>> {
        let mut slots = self.slots();
        let before = slots.len();
        slots.retain(|slot| slot.connection.ssh.is_alive());
        if slots.len() < before {
            self.window.store(WINDOW_AFTER_LOSS, Relaxed);
        }
        slots.clone()
    }

    /// How many connections are alive.
    pub(super) fn connections(&self) -> usize {
        self.alive().len()
    }

    fn check_open(&self) -> Result<(), StoreError> {
        match self.closed.load(Relaxed) {
            false => Ok(()),
            true => Err(StoreError::new(ErrorKind::Other, "use", &self.options.address(), "the store is closed")),
        }
    }

    /// A place for a call that moves no object.
    pub(super) async fn question(self: &Arc<Self>) -> Result<Ticket, StoreError> {
        let seen = self.handshakes.load(Relaxed);
        let question = Arc::clone(&self.questions).acquire_owned().await.ok(); // it is never closed
        self.check_open()?;
        Ok(Ticket::new(self, self.first(seen).await?, 0, question))
    }

    /// A place for a call that moves an object of up to `bytes`: waits until the window has room for it, first
    /// come, first served. Who has to wait makes the pool grow.
    pub(super) async fn transfer(self: &Arc<Self>, bytes: u64) -> Result<Ticket, StoreError> {
        let seen = self.handshakes.load(Relaxed);
        let _next = self.next.lock().await;
        loop {
            self.check_open()?;
            let slots = self.alive();
            let loads: Vec<u64> = slots.iter().map(|slot| slot.load.load(Relaxed)).collect();
            if let Some(at) = choose(&loads, bytes, self.window.load(Relaxed)) {
                return Ok(Ticket::new(self, Arc::clone(&slots[at]), cost(bytes), None));
            }
            if slots.is_empty() {
                self.first(seen).await?;
                continue;
            }
            // Doubled, for a handshake takes many round trips: one by one they would come when much of the work is done.
            self.grow(slots.len());
            // A notice given since the look above is kept for us: we are the only one who waits.
            self.changed.notified().await;
        }
    }

    /// The oldest live connection; opens one if there is none. Those who waited for the handshake of another
    /// share its failure: `seen` is how many handshakes there had been when the call began.
    async fn first(&self, seen: u64) -> Result<Arc<Slot>, StoreError> {
        if let Some(slot) = self.alive().into_iter().next() {
            return Ok(slot);
        }
        let mut failure = self.handshake.lock().await;
        if let Some(slot) = self.alive().into_iter().next() {
            return Ok(slot);
        }
        if let Some(failure) = failure.as_ref().filter(|_| self.handshakes.load(Relaxed) > seen) {
            return Err(failure.clone());
        }
        let opened = self.open(false).await;
        *failure = opened.as_ref().err().cloned();
        opened
    }

    async fn open(&self, extra: bool) -> Result<Arc<Slot>, StoreError> {
        let opened = Connection::open(&self.options, &self.line, extra, &self.answers).await;
        self.handshakes.fetch_add(1, Relaxed);
        let slot = Arc::new(Slot { connection: opened?, load: AtomicU64::new(0) });
        let mut slots = self.slots();
        self.check_open()?; // closed meanwhile, under this lock: the new connection ends as it is dropped
        slots.push(Arc::clone(&slot));
        drop(slots);
        self.changed.notify_one();
        Ok(slot)
    }

    /// Makes ready for `bytes` that will be moved soon: with so many, all connections are worth their handshakes from the start.
    pub(super) fn expect(self: &Arc<Self>, bytes: u64) {
        if bytes >= BULK {
            self.grow(usize::MAX);
        }
    }

    /// Opens up to so many more connections in the background, as far as there may be more. Refused once, no more is tried.
    fn grow(self: &Arc<Self>, more: usize) {
        let more = self.most().saturating_sub(self.alive().len()).min(more);
        if more == 0 || !self.may_grow.load(Relaxed) || self.growing.swap(true, Relaxed) {
            return;
        }
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            let handshake = pool.handshake.lock().await;
            let opened = join_all((0..more.min(HANDSHAKES)).map(|_| pool.open(true))).await;
            if opened.iter().any(Result::is_err) {
                pool.may_grow.store(false, Relaxed);
            }
            drop(handshake);
            pool.growing.store(false, Relaxed);
        });
    }

    /// How many connections are worth their handshakes. On a long link each adds a window; on a short one the cipher limits,
    /// and each adds the work of another core, if there is one to spare for each end.
    fn most(&self) -> usize {
        let trip = self.alive().iter().filter_map(|slot| slot.connection.ssh.meter.round_trip()).min();
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let useful = if trip.is_none_or(|trip| trip >= LONG) { usize::MAX } else { (cores / 2).max(1) };
        self.options.connections.min(useful)
    }

    /// Ends all connections; calls under way fail.
    pub(super) async fn close(&self) {
        let slots = {
            let mut slots = self.slots();
            self.closed.store(true, Relaxed);
            std::mem::take(&mut *slots)
        };
        let ends: Vec<_> = slots.iter().map(|slot| Arc::clone(&slot.connection.ssh)).collect();
        drop(slots); // closes the pipes, so that ssh ends by itself
        // All answers are there. An ssh that others may use, as the master of their connections, is given time to end.
        let alone = self.line.is_ours_alone();
        let ended = ends.iter().map(|ssh| async move { if alone { ssh.kill().await } else { ssh.finish().await } });
        join_all(ended).await;
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_window_never_overflows_and_never_blocks_an_object_that_is_alone() {
        for bytes in [0, 1, MIB, 16 * MIB, 100 * MIB] {
            assert_eq!(choose(&[0], bytes, WINDOW), Some(0));
        }
        assert_eq!(choose(&[15 * MIB], MIB, WINDOW), Some(0));
        assert_eq!(choose(&[16 * MIB], 1, WINDOW), None);
        assert_eq!(choose(&[15 * MIB + 1], MIB, WINDOW), None);
    }

    #[test]
    fn bulk_prefers_the_other_connections_and_small_objects_the_least_loaded() {
        assert_eq!(choose(&[0, MIB], MIB, WINDOW), Some(1));
        assert_eq!(choose(&[0, 8 * MIB], MIB, WINDOW), Some(0));
        assert_eq!(choose(&[4 * MIB, 16 * MIB], MIB, WINDOW), None);
        assert_eq!(choose(&[4 * MIB, 16 * MIB], 1, WINDOW), Some(0));
        assert_eq!(choose(&[0, 0, 0], 1, WINDOW), Some(0));
    }

    #[test]
    fn no_more_than_64_small_objects_are_open_on_a_connection() {
        let mut load = 0;
        let fit = std::iter::from_fn(|| choose(&[load], 1, WINDOW).map(|_| load += cost(1))).count();
        assert_eq!(fit, 64);
    }
}
