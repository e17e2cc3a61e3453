"""How the programs are driven that keep no snapshots: rclone crypt, nFreezer, sftp; and the raw pipe, the limit.

See programs.py for the rest.
"""

import os
import subprocess

from measure import Command
from programs import PASSWORD, Program
from server import HOST, user_name

HERE = os.path.dirname(os.path.abspath(__file__))
SHARDS = [f"{number:02x}" for number in range(256)]


class Rclone(Program):
    """rclone's crypt over its own SFTP client; the server's shell is not used, as there is none with an SFTP login alone."""

    faithful = False

    def prepare(self, place):
        """Its configuration."""
        link = place.link
        hidden = subprocess.run([self.path, "obscure", PASSWORD], capture_output=True, text=True, check=True,
                                env=self.environment(place)).stdout.strip()
        with open(place.file("rclone.conf"), "w", encoding="utf-8") as file:
            file.write(f"[server]\ntype = sftp\nhost = 127.0.0.1\nport = {link.port}\nuser = {user_name()}\n"
                       f"key_file = {link.server.key}\nknown_hosts_file = {link.known_hosts}\nshell_type = none\n"
                       f"md5sum_command = none\nsha1sum_command = none\n"
                       f"[crypt]\ntype = crypt\nremote = server:{place.repository}\npassword = {hidden}\n")

    def _run(self, place, *arguments):
        return Command([self.path, "--config", place.file("rclone.conf"), *arguments], env=self.environment(place))

    def sync(self, place):
        """`rclone sync --links`: symbolic links are kept, as the others keep them."""
        return self._run(place, "sync", "--links", place.tree, "crypt:")

    def restore(self, place):
        """`rclone sync`, the other way."""
        return self._run(place, "sync", "--links", "crypt:", place.out)

    def one(self, place):
        """`rclone copyto`."""
        return self._run(place, "copyto", f"crypt:{place.load.one}", self.restored_one(place))

    def verify(self, place):
        """`rclone check --download`: fetches all, and compares it with the source."""
        return self._run(place, "check", "--links", "--download", place.tree, "crypt:")

    def shards(self, place):
        """Not crypt's: names as they are."""
        return os.path.join(place.repository, "planted")

    def listing(self, place):
        """`rclone size` of the plain directory."""
        return self._run(place, "size", f"server:{self.shards(place)}")


class Nfreezer(Program):
    """nFreezer by its own functions: they take passwords, but no port and no key; drive_nfreezer.py gives those."""

    faithful = False

    def prepare(self, place):
        """It wants the directory to be there."""
        os.makedirs(place.repository)

    def _run(self, place, *arguments):
        python = os.path.join(os.path.dirname(os.path.realpath(self.path)), "python")
        link = place.link
        environment = self.environment(place, NFREEZER_PASSWORD=PASSWORD, NFREEZER_PORT=str(link.port),
                                       NFREEZER_KEY=link.server.rsa_key, NFREEZER_KNOWN_HOSTS=link.known_hosts)
        argv = [python, "-B", os.path.join(HERE, "drive_nfreezer.py"), *arguments]
        return Command(argv, env=environment, judge=complaint_of_nfreezer)

    def _address(self, place):
        return f"{user_name()}@127.0.0.1:{place.repository}"

    def sync(self, place):
        """`nfreezer.backup`."""
        return self._run(place, "backup", place.tree, self._address(place))

    def restore(self, place):
        """`nfreezer.restore`."""
        return self._run(place, "restore", self._address(place), place.out)


def complaint_of_nfreezer(printed):
    """Its exit code is always 0: the last line tells."""
    if "Backup finished." in printed or "Restore finished." in printed:
        return None
    return printed.strip()[-500:] or "it did not say that it finished"


class Sftp(Program):
    """`sftp put -r` and `get -r`: no encryption at rest, no deduplication, no links."""

    faithful = False
    syncs_again = False

    def prepare(self, place):
        """It wants the directory to be there."""
        os.makedirs(place.repository)

    def _batch(self, place, name, lines):
        with open(place.file(name), "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        cipher = ["-c", place.cipher] if place.cipher else []
        return Command([self.path, "-q", "-F", place.link.config, *cipher, "-b", place.file(name), HOST],
                       env=self.environment(place))

    def sync(self, place):
        """All of it again: only the first sync has a counterpart."""
        if os.listdir(place.repository):
            return None
        return self._batch(place, "put", [f"put -r {place.tree} {place.repository}/"])

    def restore(self, place):
        """`get -r`."""
        return self._batch(place, "get", [f"get -r {place.repository}/{os.path.basename(place.tree)} {place.out}"])

    def restored_one(self, place):
        """Where `one` puts it."""
        return place.out_one

    def one(self, place):
        """`get` of one file."""
        remote = os.path.join(place.repository, os.path.basename(place.tree), place.load.one)
        return self._batch(place, "get-one", [f"get {remote} {place.out_one}"])

    def shards(self, place):
        """Any place will do."""
        return os.path.join(place.repository, "planted")

    def listing(self, place):
        """`ls -l` of every directory."""
        return self._batch(place, "list", [f"ls -ln {self.shards(place)}/{shard}" for shard in SHARDS])


class Pipe(Program):
    """ssh's own speed: the tree as a tar, or the one large file as it is, to `cat >/dev/null`, and back."""

    syncs_again = False

    def _run(self, place, script):
        cipher = f"-c {place.cipher}" if place.cipher else ""
        return Command(["bash", "-o", "pipefail", "-c", script.replace("SSH", f"{place.ssh} {cipher} {HOST}")],
                       env=self.environment(place))

    def _given(self, place):
        """What gives all bytes, on either side."""
        if place.load.name == "random":
            return f"cat {place.tree}/data/random.bin"
        return f"tar -C {place.tree} -cf - ."

    def sync(self, place):
        """Only the first has a counterpart."""
        if os.path.exists(place.file("sent")):
            return None
        open(place.file("sent"), "wb").close()
        return self._run(place, f"{self._given(place)} | SSH 'cat >/dev/null'")

    def restore(self, place):
        """From the source itself: the server is this machine."""
        return self._run(place, f"SSH '{self._given(place)}' | cat >/dev/null")

    def restored(self, place):
        """Nothing to compare."""
