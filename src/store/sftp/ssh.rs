//! The ssh child: its command line, its life and its last words.

use super::{SftpOptions, guard::Meter};
use crate::store::{ErrorKind, StoreError};
use std::{
    process::Stdio,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::AsyncReadExt,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    sync::watch,
};

/// Set whatever the user's configuration says: compression costs more than it saves on sealed bytes, and the
/// others make no sense here.
const FIXED: [&str; 8] = [
    "-oCompression=no",
    "-oRemoteCommand=none",
    "-oRequestTTY=no",
    "-oForwardX11=no",
    "-oForwardAgent=no",
    "-oPermitLocalCommand=no",
    "-oClearAllForwardings=yes",
    "-oConnectTimeout=20",
];
/// Half the CPU time of the default cipher on a machine with AES instructions.
const FAST_CIPHERS: [&str; 2] = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"];
/// How much of ssh's stderr is kept, in bytes.
const STDERR_KEPT: usize = 32_768;
/// How long ssh may take to end by itself, and to hand over its last words.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The command that connects: `extra` connections never ask the user anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommandLine {
    words: Vec<String>,
    extra: Vec<String>,
    rest: Vec<String>,
    /// Nothing but our session depends on the ssh that this starts.
    is_ours_alone: bool,
}

impl CommandLine {
    /// Works out how to call ssh; for OpenSSH this asks `ssh -G` what the user's configuration sets.
    ///
    /// # Errors
    /// A host or user that could be taken for an option.
    pub(super) async fn for_options(options: &SftpOptions) -> Result<CommandLine, StoreError> {
        options.check()?;
        let port = options.port.map(|port| ["-p".to_owned(), port.to_string()]).into_iter().flatten();
        let target = options.target();
        if let Some(command) = &options.command {
            let words = command.iter().cloned().chain(port).collect();
            let rest = vec![target, "-s".into(), "sftp".into()];
            return Ok(CommandLine { words, extra: vec![], rest, is_ours_alone: false });
        }
        let config = options.ssh_config.iter().flat_map(|path| ["-F".to_owned(), path.display().to_string()]);
        let base: Vec<String> = ["ssh".to_owned()].into_iter().chain(config).chain(port).collect();
        let (user, defaults) = tokio::join!(settings(&base, &target), settings(&["ssh", "-F", "none"], "localhost"));
        let fixed = FIXED.iter().map(|option| (*option).to_owned());
        let words = base.into_iter().chain(fixed).chain(tuning(&user, &defaults, cpu_has_aes())).collect();
        let rest = vec!["-s".into(), "--".into(), target, "sftp".into()];
        let is_ours_alone = setting(&user, "controlmaster").is_some_and(|master| matches!(master, "no" | "false"));
        Ok(CommandLine { words, extra: vec!["-oBatchMode=yes".into()], rest, is_ours_alone })
    }

    /// Whether nothing but our session depends on the ssh that this starts: it is no master of others' connections, and no
    /// command of the user's.
    pub(super) fn is_ours_alone(&self) -> bool {
        self.is_ours_alone
    }

    /// The same with OpenSSH telling what it does; `None` for another command.
    pub(super) fn talkative(&self) -> Option<CommandLine> {
        let mut line = self.clone();
        line.words.push("-v".to_owned());
        (!self.extra.is_empty()).then_some(line)
    }

    fn words(&self, extra: bool) -> impl Iterator<Item = &String> {
        self.words.iter().chain(self.extra.iter().filter(move |_| extra)).chain(&self.rest)
    }
}

/// What `ssh -G` prints for the target; empty where it fails, and then nothing is tuned.
async fn settings(base: &[impl AsRef<str>], target: &str) -> String {
    let words: Vec<&str> = base.iter().map(AsRef::as_ref).chain(["-G", "--", target]).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = command.output().await;
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

fn setting<'a>(settings: &'a str, key: &str) -> Option<&'a str> {
    settings.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
}

/// Options that only fill in what the user has left at its default.
fn tuning(user: &str, defaults: &str, aes: bool) -> Vec<String> {
    let mut options = Vec::new();
    if setting(user, "serveraliveinterval") == Some("0") {
        options.extend(["-oServerAliveInterval=15".to_owned(), "-oServerAliveCountMax=3".to_owned()]);
    }
    if let (Some(ciphers), true) = (setting(user, "ciphers"), aes)
        && setting(defaults, "ciphers") == Some(ciphers)
    {
        let fast = FAST_CIPHERS.into_iter().filter(|fast| ciphers.split(',').any(|cipher| cipher == *fast));
        let others = ciphers.split(',').filter(|cipher| !FAST_CIPHERS.contains(cipher));
        options.push(format!("-oCiphers={}", fast.chain(others).collect::<Vec<_>>().join(",")));
    }
    options
}

fn cpu_has_aes() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    false
}

/// A running ssh, watched by a task of its own: what it is told, and what became of it.
#[derive(Debug)]
pub(super) struct Ssh {
    /// What passes through its pipes.
    pub(super) meter: Arc<Meter>,
    orders: watch::Sender<Order>,
    end: watch::Sender<Option<End>>,
    stderr: Mutex<Vec<u8>>,
    stalled: OnceLock<String>,
    calls: AtomicUsize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Live,
    /// The pipe is closed; end soon.
    Finish,
    Die,
}

/// That ssh has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// Its exit code, unless a signal ended it.
    pub(super) code: Option<i32>,
}

/// The pipes to ssh.
pub(super) type Pipes = (ChildStdin, ChildStdout);

impl Ssh {
    /// Starts ssh. Nothing is known of the connection yet.
    pub(super) fn start(
        line: &CommandLine,
        extra: bool,
        meter: Arc<Meter>,
        stall_after: Duration,
    ) -> std::io::Result<(Arc<Ssh>, Pipes)> {
        let mut child = command(line, extra).spawn()?;
        let missing = || std::io::Error::other("ssh has no pipes");
        let pipes = child.stdin.take().zip(child.stdout.take()).ok_or_else(missing)?;
        let stderr = child.stderr.take().ok_or_else(missing)?;
        let ssh = Arc::new(Ssh {
            meter,
            orders: watch::Sender::new(Order::Live),
            end: watch::Sender::new(None),
            stderr: Mutex::default(),
            stalled: OnceLock::new(),
            calls: AtomicUsize::new(0),
        });
        tokio::spawn(Arc::clone(&ssh).watch_over(child, stderr, stall_after));
        Ok((ssh, pipes))
    }

    /// Whether it has neither ended nor been told to.
    pub(super) fn is_alive(&self) -> bool {
        self.end.borrow().is_none() && *self.orders.borrow() == Order::Live
    }

    /// Ends it now, if it has not ended, and waits until its last words are there.
    pub(super) async fn kill(&self) -> End {
        self.orders.send_replace(Order::Die);
        self.ended().await
    }

    /// Waits for it to end by itself for a while, then ends it.
    pub(super) async fn finish(&self) -> End {
        self.finish_soon();
        self.ended().await
    }

    /// Tells it to end, and does not wait.
    pub(super) fn finish_soon(&self) {
        self.orders.send_if_modified(|order| {
            let lives = *order == Order::Live;
            if lives {
                *order = Order::Finish;
            }
            lives
        });
    }

    async fn ended(&self) -> End {
        let mut end = self.end.subscribe();
        let ended = end.wait_for(Option::is_some).await;
        ended.ok().and_then(|end| *end).unwrap_or(End { code: None })
    }

    /// A call begins: from now on silence counts as a stall.
    pub(super) fn call_begins(&self) {
        if self.calls.fetch_add(1, Relaxed) == 0 {
            self.meter.progress();
        }
    }

    /// A call has ended.
    pub(super) fn call_ends(&self) {
        self.calls.fetch_sub(1, Relaxed);
    }

    /// What it wrote to stderr, the end of it.
    pub(super) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Why it was ended, if it had stalled.
    pub(super) fn stalled(&self) -> Option<&str> {
        self.stalled.get().map(String::as_str)
    }

    async fn watch_over(self: Arc<Self>, mut child: Child, stderr: ChildStderr, stall_after: Duration) {
        let reader = tokio::spawn(Arc::clone(&self).keep_stderr(stderr));
        let code = self.until_it_ends(&mut child, stall_after).await;
        // A connection master in the background may hold stderr open for hours.
        let _ = tokio::time::timeout(LAST_WORDS / 4, reader).await;
        self.end.send_replace(Some(End { code }));
    }

    async fn until_it_ends(&self, child: &mut Child, stall_after: Duration) -> Option<i32> {
        let mut orders = self.orders.subscribe();
        let mut tick = tokio::time::interval((stall_after / 8).max(Duration::from_millis(10)));
        loop {
            let order = *orders.borrow_and_update();
            match order {
                Order::Live => {}
                Order::Finish => {
                    let _ = tokio::time::timeout(LAST_WORDS, child.wait()).await; // or it is killed below
                    return kill(child).await;
                }
                Order::Die => return kill(child).await,
            }
            tokio::select! {
                status = child.wait() => return status.ok().and_then(|status| status.code()),
                _ = orders.changed() => {}
                _ = tick.tick() => self.die_if_stalled(stall_after),
            }
        }
    }

    fn die_if_stalled(&self, stall_after: Duration) {
        if self.calls.load(Relaxed) > 0 && self.meter.still_for() >= stall_after {
            let why = format!("the link stalled: nothing moved for {} seconds", stall_after.as_secs_f32());
            let _ = self.stalled.set(why); // set before, by the same stall
            self.orders.send_replace(Order::Die);
        }
    }

    async fn keep_stderr(self: Arc<Self>, mut stderr: ChildStderr) {
        let mut piece = [0; 1024];
        while let Ok(read @ 1..) = stderr.read(&mut piece).await {
            let mut kept = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend_from_slice(&piece[..read]);
            let excess = kept.len().saturating_sub(STDERR_KEPT);
            kept.drain(..excess);
        }
    }
}

/// Ends the child, unless it has ended, and returns its exit code.
async fn kill(child: &mut Child) -> Option<i32> {
    let _ = child.start_kill(); // it has ended already
    child.wait().await.ok().and_then(|status| status.code())
}

/// Through a shell that ignores SIGINT, for what is ignored stays ignored: on Ctrl-C we still need the connection.
fn command(line: &CommandLine, extra: bool) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", r#"trap "" INT; exec "$@""#, "sh"]).args(line.words(extra));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

impl SftpOptions {
    /// `[user@]host`.
    fn target(&self) -> String {
        match &self.user {
            Some(user) => format!("{user}@{}", self.host),
            None => self.host.clone(),
        }
    }

    /// Refuses what ssh, or a shell in the user's ProxyCommand, could take for something else.
    fn check(&self) -> Result<(), StoreError> {
        let refused = |word: &str, meta: &str| {
            let bad = |char: char| char.is_control() || char.is_whitespace() || meta.contains(char);
            word.is_empty() || word.starts_with('-') || word.contains(bad)
        };
        let bad_host = refused(&self.host, "'`\"$\\;&<>|(){}@");
        let bad_user = self.user.as_deref().is_some_and(|user| refused(user, "'`\"$;&<>|(){}"));
        let bad_command = self.command.as_ref().is_some_and(Vec::is_empty);
        let message = match (bad_host, bad_user, bad_command) {
            (true, ..) => "this is no host name",
            (_, true, _) => "this is no user name",
            (.., true) => "the ssh command is empty",
            _ => return Ok(()),
        };
        Err(StoreError::new(ErrorKind::Other, "connect to", &self.address(), message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_own_settings_are_left_alone() {
        let defaults = "ciphers chacha,aes128-ctr,aes128-gcm@openssh.com,aes256-gcm@openssh.com\n";
        let unset = format!("serveraliveinterval 0\n{defaults}");
        let tuned = tuning(&unset, defaults, true);
        let ciphers = "-oCiphers=aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha,aes128-ctr";
        assert_eq!(tuned, ["-oServerAliveInterval=15", "-oServerAliveCountMax=3", ciphers]);
        assert_eq!(tuning(&unset, defaults, false).len(), 2);
        assert!(tuning("serveraliveinterval 30\nciphers chacha\n", defaults, true).is_empty());
        assert!(tuning("", "", true).is_empty());
    }

    #[tokio::test]
    async fn no_host_or_user_is_ever_taken_for_an_option() {
        for (user, host) in [(None, "-oProxyCommand=x"), (Some("-l"), "h"), (None, ""), (None, "a b"), (None, "$(x)")] {
            let mut options = SftpOptions::new(host, "dir");
            options.user = user.map(str::to_owned);
            assert!(CommandLine::for_options(&options).await.is_err(), "{user:?} {host}");
        }
    }

    #[tokio::test]
    async fn another_command_is_called_as_it_is() {
        let mut options = SftpOptions::new("host", "dir");
        (options.user, options.port) = (Some("me".into()), Some(2222));
        options.command = Some(vec!["my".into(), "ssh".into()]);
        let line = CommandLine::for_options(&options).await.unwrap();
        for extra in [false, true] {
            let words: Vec<_> = line.words(extra).map(String::as_str).collect();
            assert_eq!(words, ["my", "ssh", "-p", "2222", "me@host", "-s", "sftp"]);
        }
    }
}
