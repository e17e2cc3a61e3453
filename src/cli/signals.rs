//! Signals: the first ends the work cleanly, the second ends the program at once.
//!
//! They are heard on a thread of their own, so that nothing the work does can keep them waiting.

use super::{exit::Exit, terminal};
use std::{io, thread};
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

/// Tells of the first signal.
pub struct Signals {
    first: watch::Receiver<Option<Exit>>,
}

impl Signals {
    /// Begins to listen for SIGINT, SIGTERM and SIGHUP.
    ///
    /// # Errors
    /// Where the system gives no thread or no handler.
    pub fn listen() -> io::Result<Self> {
        let (tell, first) = watch::channel(None);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let heard = runtime.block_on(async { Heard::new() })?;
        thread::Builder::new().name("signals".into()).spawn(move || runtime.block_on(heard.tell(&tell)))?;
        Ok(Self { first })
    }

    /// Waits for the first signal: the exit code that it asks for.
    pub async fn first(&mut self) -> Exit {
        let exit = match self.first.wait_for(Option::is_some).await {
            Ok(exit) => *exit,
            Err(_) => None,
        };
        match exit {
            Some(exit) => exit,
            // The listening thread is gone, which does not happen; no signal will be told of any more.
            None => std::future::pending().await,
        }
    }
}

/// Each signal, unless the program was started with it ignored, as `nohup` does: then it stays ignored.
struct Heard {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
    hang_up: Option<Signal>,
}

impl Heard {
    fn new() -> io::Result<Self> {
        let ignored = ignored(&std::fs::read_to_string("/proc/self/status").unwrap_or_default());
        let hear = |kind: SignalKind| {
            let is_ignored = ignored & (1 << (kind.as_raw_value() - 1)) != 0;
            (!is_ignored).then(|| signal(kind)).transpose()
        };
        Ok(Self {
            interrupt: hear(SignalKind::interrupt())?,
            terminate: hear(SignalKind::terminate())?,
            hang_up: hear(SignalKind::hangup())?,
        })
    }

    async fn tell(mut self, first: &watch::Sender<Option<Exit>>) {
        let exit = self.next().await;
        first.send_replace(Some(exit));
        let exit = self.next().await;
        terminal::restore();
        std::process::exit(exit.code().into());
    }

    async fn next(&mut self) -> Exit {
        tokio::select! {
            () = received(&mut self.interrupt) => Exit::Interrupted,
            () = received(&mut self.terminate) => Exit::Terminated,
            () = received(&mut self.hang_up) => Exit::HungUp,
        }
    }
}

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// The ignored signals, bit 0 for signal 1, as Linux tells of them; none where it does not.
fn ignored(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::ignored;

    #[test]
    fn ignored_signals_are_read_from_the_systems_table() {
        assert_eq!(ignored("Name:\tnfz\nSigIgn:\t0000000000000001\nSigCgt:\t00000000000004ff\n"), 1);
        assert_eq!(ignored(""), 0);
    }
}
