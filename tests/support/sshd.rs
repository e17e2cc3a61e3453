//! A real sshd on loopback, with keys and a configuration of its own. Nothing of the user's is read or written.

use nfz::store::sftp::SftpOptions;
use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    thread::sleep,
    time::Duration,
};
use tempfile::TempDir;

/// A running sshd that ends with its value.
pub struct Sshd {
    child: Child,
    home: TempDir,
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    directories: AtomicU32,
}

/// What is special about a server.
#[derive(Clone, Debug, Default)]
pub struct Special {
    /// Lines for `sshd_config`, before all others.
    pub config: String,
    /// Another subsystem line than that of the real `sftp-server`; empty for none at all.
    pub subsystem: Option<String>,
}

/// The first of these files that exists.
fn program(candidates: &[&str]) -> PathBuf {
    let found = candidates.iter().map(PathBuf::from).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("OpenSSH's server is needed for this test: none of {candidates:?} exists"))
}

/// The real `sftp-server`.
pub fn sftp_server() -> PathBuf {
    program(&["/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server"])
}

fn keygen(path: &Path) {
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
    assert!(made.expect("ssh-keygen is needed for this test").success());
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

impl Sshd {
    /// Starts a server as everybody has it.
    pub fn start() -> Sshd {
        Self::start_special(&Special::default())
    }

    /// Starts a server, and waits until it listens.
    pub fn start_special(special: &Special) -> Sshd {
        let sshd = program(&["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"]);
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all("/run/sshd").unwrap(); // its privilege separation asks for it
        }
        let home = tempfile::tempdir().unwrap();
        for key in ["host_key", "user_key", "stranger_key"] {
            keygen(&home.path().join(key));
        }
        fs::copy(home.path().join("user_key.pub"), home.path().join("authorized_keys")).unwrap();
        for attempt in 0.. {
            let port = free_port(); // somebody else may take it before sshd does
            let config = home.path().join("sshd_config");
            write(&config, &sshd_config(home.path(), port, special));
            let log = fs::File::create(home.path().join("log")).unwrap();
            let mut command = Command::new(&sshd);
            command.arg("-D").arg("-e").arg("-f").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            let mut child = command.spawn().unwrap();
            if listens(&mut child, port) {
                let server = Sshd { child, home, port, directories: AtomicU32::new(0) };
                server.write_ssh_config("ssh_config", port, "user_key", true);
                return server;
            }
            let log = fs::read_to_string(home.path().join("log")).unwrap_or_default();
            assert!(attempt < 5, "sshd does not start: {log}");
        }
        unreachable!()
    }

    /// What sshd has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    fn write_ssh_config(&self, name: &str, port: u16, key: &str, known: bool) -> PathBuf {
        let home = self.home.path();
        let hosts = home.join(if known { "known_hosts" } else { "no_known_hosts" });
        let host_key = fs::read_to_string(home.join("host_key.pub")).unwrap();
        write(&hosts, &if known { format!("nfz-test {host_key}") } else { String::new() });
        let config = home.join(name);
        let lines = [
            "Host *".into(),
            "HostName 127.0.0.1".into(),
            format!("Port {port}"),
            "HostKeyAlias nfz-test".into(),
            format!("UserKnownHostsFile {}", hosts.display()),
            "GlobalKnownHostsFile none".into(),
            "StrictHostKeyChecking yes".into(),
            format!("IdentityFile {}", home.join(key).display()),
            "IdentitiesOnly yes".into(),
            "IdentityAgent none".into(),
            "PreferredAuthentications publickey".into(),
            "ControlPath none".into(),
        ];
        write(&config, &(lines.join("\n") + "\n"));
        config
    }

    /// A directory on the server that does not exist yet.
    pub fn fresh_directory(&self) -> PathBuf {
        self.home.path().join(format!("remote/{}", self.directories.fetch_add(1, Relaxed)))
    }

    /// Options that reach a fresh directory through `ssh`, tuned as for users.
    pub fn options(&self) -> SftpOptions {
        self.options_for(self.home.path().join("ssh_config"))
    }

    /// The same, through a relay or to a port where nobody listens.
    pub fn options_via(&self, port: u16) -> SftpOptions {
        self.options_for(self.write_ssh_config("ssh_config_via", port, "user_key", true))
    }

    /// The same, from somebody whose key the server does not know.
    pub fn options_of_a_stranger(&self) -> SftpOptions {
        self.options_for(self.write_ssh_config("ssh_config_stranger", self.port, "stranger_key", true))
    }

    /// The same, for somebody who does not know the server's key.
    pub fn options_without_host_key(&self) -> SftpOptions {
        self.options_for(self.write_ssh_config("ssh_config_unknown", self.port, "user_key", false))
    }

    fn options_for(&self, config: PathBuf) -> SftpOptions {
        let mut options = SftpOptions::new("nfz-test", self.fresh_directory().to_str().unwrap());
        options.ssh_config = Some(config);
        options
    }
}

fn sshd_config(home: &Path, port: u16, special: &Special) -> String {
    let file = |name: &str| home.join(name).display().to_string();
    let subsystem = special.subsystem.clone().unwrap_or_else(|| format!("sftp {}", sftp_server().display()));
    let mut lines = vec![
        special.config.clone(),
        format!("ListenAddress 127.0.0.1:{port}"),
        format!("HostKey {}", file("host_key")),
        format!("AuthorizedKeysFile {}", file("authorized_keys")),
        format!("PidFile {}", file("pid")),
        "StrictModes no".into(),
        "UsePAM no".into(),
        "PermitRootLogin yes".into(),
        "PasswordAuthentication no".into(),
        "KbdInteractiveAuthentication no".into(),
        "MaxStartups 100".into(),
    ];
    if !subsystem.is_empty() {
        lines.push(format!("Subsystem {subsystem}"));
    }
    lines.join("\n") + "\n"
}

/// Waits until the server listens; false if it has ended instead.
fn listens(child: &mut Child, port: u16) -> bool {
    loop {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return true;
        }
        sleep(Duration::from_millis(10));
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
