"""The server that everything is measured against: sshd and sftp-server on 127.0.0.1, behind the relay.

Keys, configuration, log and repositories lie in a scratch directory; the user's own ~/.ssh is neither read nor written. sshd
runs with its defaults (MaxStartups, MaxSessions), as root or as an ordinary user. Its log tells which cipher each connection
agreed on.
"""

import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import time

from relay import Counters

HERE = os.path.dirname(os.path.abspath(__file__))
HOST = "bench"
SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/libexec/sftp-server",
                "/usr/lib/ssh/sftp-server", "/usr/lib/sftp-server")
TICK = os.sysconf("SC_CLK_TCK")


class Missing(Exception):
    """Something that is needed is not on this machine."""


def find(name, places):
    """The first of these paths that is there, or what PATH has."""
    for place in places:
        if os.access(place, os.X_OK):
            return place
    found = shutil.which(name)
    if not found:
        raise Missing(f"{name} is missing (Debian: openssh-server)")
    return found


def free_port():
    """A port that nobody listens at just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def user_name():
    """Who logs in: whoever runs this."""
    return pwd.getpwuid(os.getuid()).pw_name


def generate_key(path, kind="ed25519"):
    """A key pair without a passphrase."""
    if not os.path.exists(path):
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "nfz-compare", "-f", path], check=True)


class Server:
    """sshd, until `stop`."""

    def __init__(self, scratch):
        """Start it; `scratch` takes its files and the repositories (`root`)."""
        self.scratch = os.path.join(scratch, "ssh")
        self.root = os.path.join(scratch, "server")
        os.makedirs(self.scratch, mode=0o700, exist_ok=True)
        os.makedirs(self.root, exist_ok=True)
        self.key, self.log = self._file("key"), self._file("sshd.log")
        generate_key(self.key)
        # For programs that know no newer kind.
        self.rsa_key = self._file("rsa")
        generate_key(self.rsa_key, "rsa")
        generate_key(self._file("host"))
        self.port = free_port()
        self._process = self._start()
        self.pid = self._process.pid

    def _file(self, name):
        return os.path.join(self.scratch, name)

    def _configuration(self):
        """Only what differs from sshd's defaults."""
        sftp_server = find("sftp-server", SFTP_SERVERS)
        return "\n".join([
            f"Port {self.port}", "ListenAddress 127.0.0.1", f"HostKey {self._file('host')}", "PidFile none",
            f"AuthorizedKeysFile {self.key}.pub {self.rsa_key}.pub", "StrictModes no", "UsePAM no", "PasswordAuthentication no",
            "KbdInteractiveAuthentication no", "PermitRootLogin prohibit-password", "LogLevel DEBUG1",
            f"Subsystem sftp {sftp_server}", "",
        ])

    def _start(self):
        """Start sshd and wait until it listens."""
        if os.getuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        with open(self._file("sshd_config"), "w", encoding="utf-8") as file:
            file.write(self._configuration())
        sshd = find("sshd", ("/usr/sbin/sshd", "/usr/local/sbin/sshd"))
        process = subprocess.Popen([sshd, "-D", "-f", self._file("sshd_config"), "-E", self.log], stdin=subprocess.DEVNULL)
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return process
            except OSError:
                time.sleep(0.05)
        process.kill()
        with open(self.log, encoding="utf-8", errors="replace") as file:
            raise Missing(f"sshd does not start: {file.read()[-1000:]}")

    def cpu(self):
        """CPU seconds of all sessions that have ended, in steps of a clock tick."""
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[13]) + int(fields[14])) / TICK

    def ciphers(self, offset):
        """The ciphers agreed on since the log had this length."""
        with open(self.log, "rb") as file:
            file.seek(offset)
            text = file.read().decode("utf-8", "replace")
        return sorted(set(re.findall(r"kex: client->server cipher: (\S+)", text)))

    def log_size(self):
        """How long the log is now."""
        return os.path.getsize(self.log)

    def stop(self):
        """End it."""
        self._process.kill()
        self._process.wait()


class Link:
    """The way to a server, with its ssh configuration, until `stop`: through a relay, or straight where there is nothing to
    delay, since even a relay that only counts takes cores from what is measured."""

    def __init__(self, server, rtt, bandwidth):
        """`rtt` in ms, `bandwidth` in Mbit/s or 0."""
        self.server, self.rtt, self.bandwidth = server, rtt, bandwidth
        self.counters = self._process = self.pid = None
        self.port = server.port
        if rtt or bandwidth:
            self._relay(server, rtt, bandwidth)
        self.config, self.known_hosts = self._configure()
        self.ssh_directory = self._wrap_ssh()

    def _relay(self, server, rtt, bandwidth):
        """Start the relay."""
        self._counters = os.path.join(server.scratch, f"counters-{time.monotonic_ns()}")
        command = [sys.executable, "-B", os.path.join(HERE, "relay.py"), "--port", str(server.port), "--rtt", str(rtt),
                   "--rate", str(bandwidth * 125_000), "--counters", self._counters]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        self.pid = self._process.pid
        self.port = int(self._process.stdout.readline())
        self.counters = Counters(self._counters)

    def _configure(self):
        """A configuration for ssh that knows this server and nothing else."""
        base = os.path.join(self.server.scratch, f"client-{self.port}")
        with open(os.path.join(self.server.scratch, "host.pub"), encoding="ascii") as file:
            host_key = " ".join(file.read().split()[:2])
        with open(base + ".known_hosts", "w", encoding="ascii") as file:
            for name in (HOST, f"[127.0.0.1]:{self.port}", "127.0.0.1"):
                file.write(f"{name} {host_key}\n")
        lines = [f"Host {HOST}", "  HostName 127.0.0.1", f"  HostKeyAlias {HOST}", f"  Port {self.port}", f"  User {user_name()}",
                 f"  IdentityFile {self.server.key}", "  IdentitiesOnly yes", "  IdentityAgent none", "  BatchMode yes",
                 f"  UserKnownHostsFile {base}.known_hosts", "  GlobalKnownHostsFile /dev/null", "  StrictHostKeyChecking yes"]
        with open(base + ".config", "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        return base + ".config", base + ".known_hosts"

    def _wrap_ssh(self):
        """A directory with an `ssh` that takes this configuration for the user's own."""
        directory = os.path.join(self.server.scratch, f"bin-{self.port}")
        os.makedirs(directory, exist_ok=True)
        wrapper = os.path.join(directory, "ssh")
        with open(wrapper, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\nexec {find('ssh', ('/usr/bin/ssh',))} -F {self.config} \"$@\"\n")
        os.chmod(wrapper, 0o755)
        return directory

    def counted(self):
        """Bytes and connections so far; nothing without a relay."""
        return self.counters.read() if self.counters else {}

    def cpu(self):
        """CPU seconds of the relay so far."""
        if not self.pid:
            return 0.0
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def settle(self, patience=10.0):
        """Wait until every connection has ended, so that counters and CPU times are whole."""
        ends = time.monotonic() + patience
        while time.monotonic() < ends:
            if self.counted().get("active", 0) == 0 and not self.server_busy():
                return
            time.sleep(0.01)

    def server_busy(self):
        """Whether sshd has a session."""
        with open(f"/proc/{self.server.pid}/task/{self.server.pid}/children", encoding="ascii") as file:
            return bool(file.read().split())

    def stop(self):
        """End it."""
        if self._process:
            self._process.kill()
            self._process.wait()
