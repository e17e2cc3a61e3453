//! A relay between client and server on loopback: it counts, delays, stalls and cuts.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, sync_channel},
    },
    thread::{sleep, spawn},
    time::{Duration, Instant},
};

/// How many pieces of up to 64 KiB are on their way at most.
const IN_FLIGHT: usize = 4096;

/// A relay to one port; it goes on until the process ends.
pub struct Relay {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    sent: AtomicU64,
    received: AtomicU64,
    connections: AtomicU64,
    /// Each connection ends after so many bytes from the client; zero for never.
    cut_after: AtomicU64,
    cuts: AtomicU64,
    refuses: AtomicBool,
    delay_us: AtomicU64,
    stalled: Mutex<bool>,
    resumed: Condvar,
}

impl Relay {
    /// Relays to `port` on 127.0.0.1.
    pub fn to(port: u16) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Relay { port: listener.local_addr().unwrap().port(), shared: Arc::default() };
        let shared = Arc::clone(&relay.shared);
        spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.refuses.load(Relaxed) {
                    continue; // closed as it is dropped
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                shared.connections.fetch_add(1, Relaxed);
                pump(client, server, &shared);
            }
        });
        relay
    }

    /// Bytes from the client so far.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Relaxed)
    }

    /// Bytes to the client so far.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Relaxed)
    }

    /// Connections made so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Relaxed)
    }

    /// Connections cut so far.
    pub fn cuts(&self) -> u64 {
        self.shared.cuts.load(Relaxed)
    }

    /// Ends each connection once the client has sent so many bytes over it; zero for never.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.cut_after.store(bytes, Relaxed);
    }

    /// Refuses new connections, or takes them again.
    pub fn refuse(&self, refuse: bool) {
        self.shared.refuses.store(refuse, Relaxed);
    }

    /// Delays what passes, each way.
    pub fn delay(&self, delay: Duration) {
        self.shared.delay_us.store(delay.as_micros() as u64, Relaxed);
    }

    /// Lets nothing pass, or goes on.
    pub fn stall(&self, stall: bool) {
        *self.shared.stalled.lock().unwrap() = stall;
        self.shared.resumed.notify_all();
    }
}

fn pump(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) {
    let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let up = Arc::clone(shared);
    spawn(move || pass(from, to, &up, true));
    let down = Arc::clone(shared);
    spawn(move || pass(server, client, &down, false));
}

/// Takes bytes in as they come; another thread hands them on when their time has come, so that a delay costs time
/// and no throughput.
fn pass(mut from: TcpStream, to: TcpStream, shared: &Arc<Shared>, up: bool) {
    let (queue, due) = sync_channel(IN_FLIGHT);
    let (source, shared_too) = (from.try_clone().unwrap(), Arc::clone(shared));
    spawn(move || deliver(due, &source, to, &shared_too, up));
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let at = Instant::now() + Duration::from_micros(shared.delay_us.load(Relaxed));
        if queue.send((at, buffer[..read].to_vec())).is_err() {
            break;
        }
    }
}

fn deliver(due: Receiver<(Instant, Vec<u8>)>, from: &TcpStream, mut to: TcpStream, shared: &Shared, up: bool) {
    let mut passed = 0;
    for (at, bytes) in due {
        sleep(at.saturating_duration_since(Instant::now()));
        drop(shared.resumed.wait_while(shared.stalled.lock().unwrap(), |stalled| *stalled).unwrap());
        let total = if up { &shared.sent } else { &shared.received };
        total.fetch_add(bytes.len() as u64, Relaxed);
        passed += bytes.len() as u64;
        let limit = shared.cut_after.load(Relaxed);
        if up && limit > 0 && passed > limit {
            shared.cuts.fetch_add(1, Relaxed);
            break;
        }
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
