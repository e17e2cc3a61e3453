//! SFTP servers other than OpenSSH's, each from its package, on loopback with keys and a configuration of its own.
//! `scripts/test` installs them: ProFTPD with mod_sftp, rclone, dropbear, AsyncSSH.

use nfz::store::sftp::SftpOptions;
use std::{
    fs::{self, File},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ProFTPD's mod_sftp: an implementation of its own, in C.
    ProFtpd,
    /// `rclone serve sftp`: in Go, over rclone's virtual file system.
    Rclone,
    /// dropbear, with OpenSSH's `sftp-server` behind it.
    Dropbear,
    /// AsyncSSH, in Python.
    AsyncSsh,
}

/// A running server that ends with its value.
pub struct Server {
    child: Child,
    home: TempDir,
    port: u16,
    user: String,
    root: PathBuf,
}

impl Server {
    /// Starts it, and waits until it listens.
    pub fn start(kind: Kind) -> Server {
        let home = tempfile::tempdir().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for key in ["host_key", "user_key"] {
            run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(home.path().join(key)));
        }
        let files = home.path().join("files");
        fs::create_dir(&files).unwrap();
        fs::set_permissions(&files, fs::Permissions::from_mode(0o777)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (mut command, user, root) = match kind {
            Kind::ProFtpd => proftpd(home.path(), port),
            Kind::Rclone => rclone(home.path(), port),
            Kind::Dropbear => dropbear(home.path(), port),
            Kind::AsyncSsh => asyncssh(home.path(), port),
        };
        let log = File::create(home.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{kind:?} is needed for this test: {error}"));
        let mut server = Server { child, home, port, user, root };
        server.wait_until_it_listens(kind);
        server.write_ssh_config();
        server
    }

    fn wait_until_it_listens(&mut self, kind: Kind) {
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.try_wait().unwrap();
            let is_late = began.elapsed() > Duration::from_secs(60);
            assert!(ended.is_none() && !is_late, "{kind:?} does not listen ({ended:?}): {}", self.log());
            sleep(Duration::from_millis(20));
        }
    }

    /// What the server has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    fn write_ssh_config(&self) {
        let home = self.home.path();
        let lines = [
            "Host *".to_owned(),
            "HostName 127.0.0.1".into(),
            format!("Port {}", self.port),
            format!("User {}", self.user),
            format!("UserKnownHostsFile {}", home.join("known_hosts").display()),
            "GlobalKnownHostsFile none".into(),
            "StrictHostKeyChecking accept-new".into(),
            format!("IdentityFile {}", home.join("user_key").display()),
            "IdentitiesOnly yes".into(),
            "IdentityAgent none".into(),
            "PreferredAuthentications publickey".into(),
            "ControlPath none".into(),
        ];
        let config = home.join("ssh_config");
        fs::write(&config, lines.join("\n") + "\n").unwrap();
        fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Options that reach the directory `name`, which need not exist.
    pub fn options(&self, name: &str) -> SftpOptions {
        let mut options = SftpOptions::new("nfz-test", self.root.join(name).to_str().unwrap());
        options.ssh_config = Some(self.home.path().join("ssh_config"));
        options
    }

    /// Where that directory lies on this machine.
    pub fn directory(&self, name: &str) -> PathBuf {
        self.home.path().join("files").join(name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} is needed for this test: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn write(path: &Path, text: impl AsRef<[u8]>) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn id(option: &str) -> String {
    String::from_utf8(run(Command::new("id").arg(option))).unwrap().trim().to_owned()
}

fn proftpd(home: &Path, port: u16) -> (Command, String, PathBuf) {
    let key = run(Command::new("ssh-keygen").arg("-e").arg("-f").arg(home.join("user_key.pub")));
    write(&home.join("authorized"), key);
    // It refuses root by its number; a user of its own list serves in its place.
    let (uid, gid) = if id("-u") == "0" { ("65534".to_owned(), "65534".to_owned()) } else { (id("-u"), id("-g")) };
    write(&home.join("passwd"), format!("tester:x:{uid}:{gid}::{}:/bin/sh\n", home.join("files").display()));
    let file = |name: &str| home.join(name).display().to_string();
    let lines = [
        "LoadModule mod_sftp.c".into(),
        "ServerName test".into(),
        "ServerType standalone".into(),
        "UseIPv6 off".into(),
        "DefaultAddress 127.0.0.1".into(),
        format!("Port {port}"),
        "SocketBindTight on".into(),
        format!("PidFile {}", file("pid")),
        format!("ScoreboardFile {}", file("scoreboard")),
        format!("SystemLog {}", file("log")),
        "TransferLog none".into(),
        "WtmpLog off".into(),
        "AuthPAM off".into(),
        "AuthOrder mod_auth_file.c".into(),
        format!("AuthUserFile {}", file("passwd")),
        "RequireValidShell off".into(),
        "SFTPEngine on".into(),
        format!("SFTPHostKey {}", file("host_key")),
        format!("SFTPAuthorizedUserKeys file:{}", file("authorized")),
        "SFTPAuthMethods publickey".into(),
        "MaxInstances 30".into(),
        "<Directory />".into(),
        "  AllowOverwrite on".into(),
        "</Directory>".into(),
    ];
    let config = home.join("proftpd.conf");
    write(&config, lines.join("\n") + "\n");
    fs::set_permissions(home.join("authorized"), fs::Permissions::from_mode(0o644)).unwrap();
    let mut command = Command::new(found("proftpd"));
    command.arg("-n").arg("-c").arg(config);
    (command, "tester".into(), home.join("files"))
}

fn rclone(home: &Path, port: u16) -> (Command, String, PathBuf) {
    let mut command = Command::new(found("rclone"));
    command.arg("serve").arg("sftp").arg(home.join("files")).arg("--addr").arg(format!("127.0.0.1:{port}"));
    command.arg("--authorized-keys").arg(home.join("user_key.pub")).arg("--key").arg(home.join("host_key"));
    command.arg("--config").arg(home.join("rclone.conf")).arg("--dir-cache-time").arg("0s");
    (command, "anyone".into(), PathBuf::from("/"))
}

fn dropbear(home: &Path, port: u16) -> (Command, String, PathBuf) {
    run(Command::new(found("dropbearkey")).args(["-t", "ed25519", "-f"]).arg(home.join("dropbear_key")));
    // It reads the authorized keys in the user's home and nowhere else: nss_wrapper gives this user a home of the test's.
    let keys = home.join(".ssh");
    fs::create_dir(&keys).unwrap();
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o700)).unwrap();
    fs::copy(home.join("user_key.pub"), keys.join("authorized_keys")).unwrap();
    let (user, uid, gid) = (id("-un"), id("-u"), id("-g"));
    write(&home.join("passwd"), format!("{user}:x:{uid}:{gid}::{}:/bin/sh\n", home.display()));
    write(&home.join("group"), format!("{user}:x:{gid}:\n"));
    let mut command = Command::new(found("dropbear"));
    command.args(["-F", "-E", "-s", "-p"]).arg(format!("127.0.0.1:{port}")).arg("-r").arg(home.join("dropbear_key"));
    command.arg("-P").arg(home.join("pid")).env("LD_PRELOAD", "libnss_wrapper.so");
    command.env("NSS_WRAPPER_PASSWD", home.join("passwd")).env("NSS_WRAPPER_GROUP", home.join("group"));
    (command, user, home.join("files"))
}

fn asyncssh(home: &Path, port: u16) -> (Command, String, PathBuf) {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.venv/bin/python"));
    command.arg("-B").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/asyncssh_server.py"));
    command.arg(port.to_string()).arg(home.join("host_key")).arg(home.join("user_key.pub"));
    (command, "anyone".into(), home.join("files"))
}

/// A program in PATH, or where servers are that users do not call.
fn found(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let mut candidates = places.map(|place| place.join(name));
    candidates
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{name} is needed for this test: scripts/test installs it"))
}
