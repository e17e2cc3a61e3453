"""How each program is driven: one method a step, which gives the command, or None where the program has no such thing.

Every program runs with its defaults, except what it takes to reach the server, to know the password, and to store what the
others store. nfz and restic, rustic and Borg are here; plainer.py has those that are no snapshot programs.
"""

import os
import subprocess

from measure import Command
from server import HOST

PASSWORD = "correct horse battery staple"


class Place:
    """Where one program works in one round, and the link to the server."""

    def __init__(self, link, load, scratch, name, cipher):
        """Paths only; `ready` makes them."""
        self.link, self.load, self.cipher = link, load, cipher
        self.scratch = os.path.join(scratch, "work", name)
        self.repository = os.path.join(link.server.root, name)
        self.home = os.path.join(self.scratch, "home")
        self.out = os.path.join(self.scratch, "out")
        self.out_one = os.path.join(self.scratch, "one")

    def ready(self):
        """Make the directories; the repository's is the program's business."""
        os.makedirs(self.home, mode=0o700)

    @property
    def tree(self):
        """The source."""
        return self.load.tree

    @property
    def ssh(self):
        """ssh with its configuration."""
        return f"ssh -F {self.link.config}"

    def file(self, name):
        """A file of the program's own."""
        return os.path.join(self.scratch, name)


class Program:
    """One program; a step it does not have is None."""

    # Whether it promises kinds, modes, times and links too, not only files and their bytes.
    faithful = True
    # Whether it has a second sync; the tree is not changed for one that has none.
    syncs_again = True

    def __init__(self, name, path, version):
        self.name, self.path, self.version = name, path, version

    def environment(self, place, **more):
        """Nothing of the user's own configuration is in it."""
        keep = {key: os.environ[key] for key in ("PATH", "LANG", "TMPDIR") if key in os.environ}
        return {**keep, "HOME": place.home, "XDG_CACHE_HOME": place.file("cache"), "XDG_CONFIG_HOME": place.file("config"), **more}

    def prepare(self, place):
        """What its user would have done once, before the first step; not measured."""

    def restored(self, place):
        """Where the restored tree is."""
        return place.out

    def restored_one(self, place):
        """Where the single file is."""
        return os.path.join(place.out_one, place.load.one)

    def init(self, place):
        """Make a repository."""

    def sync(self, place):
        """Save the source: the steps first, unchanged, renamed and edited."""

    def restore(self, place):
        """All of the newest snapshot."""

    def one(self, place):
        """One file of it."""

    def verify(self, place):
        """All data."""

    def shards(self, place):
        """Directory on the server in which chunks lie by their first two digits, for the step `listing`."""

    def listing(self, place):
        """List all chunks."""


def version_of(argv, environment=None):
    """The first line that a program says of itself."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0] if lines else "?"


class Nfz(Program):
    """nfz keeps nothing on this side."""

    def _run(self, place, *arguments):
        # Its own `ssh`, found in PATH, so that it tunes what a user has left at its default.
        path = place.link.ssh_directory + os.pathsep + os.environ.get("PATH", os.defpath)
        environment = self.environment(place, NFZ_PASSWORD=PASSWORD, PATH=path)
        return Command([self.path, *arguments], env=environment)

    def address(self, place):
        """As its user writes it."""
        return f"{HOST}:{place.repository}"

    def init(self, place):
        """`nfz init`."""
        return self._run(place, "init", self.address(place))

    def sync(self, place):
        """`nfz sync`."""
        return self._run(place, "sync", place.tree, self.address(place))

    def restore(self, place):
        """`nfz restore`."""
        return self._run(place, "restore", self.address(place), place.out)

    def one(self, place):
        """`nfz restore … PATH`."""
        return self._run(place, "restore", self.address(place), place.out_one, place.load.one)

    def verify(self, place):
        """`nfz verify --read-data`."""
        return self._run(place, "verify", "--read-data", self.address(place))

    def shards(self, place):
        """As in spec/1-objects.md."""
        return os.path.join(place.repository, "chunks")

    def listing(self, place):
        """`nfz verify`, which lists every chunk and compares lengths."""
        return self._run(place, "verify", self.address(place))


class Restic(Program):
    """restic with its cache, new in each round and kept between steps; or without."""

    def __init__(self, name, path, version, cache=True):
        super().__init__(name, path, version)
        self._cache = cache

    def _run(self, place, *arguments, cwd=None):
        cache = ["--cache-dir", place.file("cache")] if self._cache else ["--no-cache"]
        argv = [self.path, "-r", f"sftp:{HOST}:{place.repository}", "-o", f"sftp.command={place.ssh} {HOST} -s sftp", *cache]
        return Command(argv + list(arguments), env=self.environment(place, RESTIC_PASSWORD=PASSWORD), cwd=cwd)

    def init(self, place):
        """`restic init`."""
        return self._run(place, "init")

    def sync(self, place):
        """`restic backup`, from within the source, so that paths are relative to it."""
        return self._run(place, "backup", ".", cwd=place.tree)

    def restore(self, place):
        """`restic restore latest`."""
        return self._run(place, "restore", "latest", "--target", place.out)

    def one(self, place):
        """`restic restore latest --include`."""
        return self._run(place, "restore", "latest", "--target", place.out_one, "--include", "/" + place.load.one)

    def verify(self, place):
        """`restic check --read-data`."""
        return self._run(place, "check", "--read-data")

    def shards(self, place):
        """Its packs."""
        return os.path.join(place.repository, "data")

    def listing(self, place):
        """`restic list packs`."""
        return self._run(place, "list", "packs")


class Rustic(Program):
    """rustic over OpenDAL's SFTP, with its cache."""

    def prepare(self, place):
        """Its profile: the repository and how to reach it."""
        link = place.link
        options = {"endpoint": f"ssh://{HOST}", "root": place.repository, "known-hosts-strategy": "Strict"}
        # Its SFTP runs ssh, which reads the configuration in $HOME only.
        os.makedirs(os.path.join(place.home, ".ssh"), mode=0o700)
        os.symlink(link.config, os.path.join(place.home, ".ssh", "config"))
        os.makedirs(place.repository, exist_ok=True)
        with open(place.file("rustic.toml"), "w", encoding="utf-8") as file:
            file.write(f'[repository]\nrepository = "opendal:sftp"\npassword = "{PASSWORD}"\ncache-dir = "{place.file("cache")}"\n')
            file.write("[repository.options]\n" + "".join(f'{key} = "{value}"\n' for key, value in options.items()))

    def _run(self, place, *arguments, cwd=None):
        return Command([self.path, "-P", place.file("rustic"), *arguments], env=self.environment(place), cwd=cwd)

    def init(self, place):
        """`rustic init`."""
        return self._run(place, "init")

    def sync(self, place):
        """`rustic backup`."""
        return self._run(place, "backup", ".", cwd=place.tree)

    def restore(self, place):
        """`rustic restore latest`."""
        return self._run(place, "restore", "latest", place.out)

    def one(self, place):
        """`rustic restore latest:PATH`."""
        return self._run(place, "restore", f"latest:{place.load.one}", self.restored_one(place))

    def verify(self, place):
        """`rustic check --read-data`."""
        return self._run(place, "check", "--read-data")


class Borg(Program):
    """Borg, which runs itself on the server too."""

    def _run(self, place, *arguments, cwd=None):
        environment = self.environment(
            place,
            BORG_REPO=f"ssh://{HOST}{place.repository}",
            BORG_RSH=place.ssh,
            BORG_REMOTE_PATH=os.path.realpath(self.path),
            BORG_PASSPHRASE=PASSWORD,
            BORG_BASE_DIR=place.file("borg"),
        )
        return Command([self.path, *arguments], env=environment, cwd=cwd)

    def prepare(self, place):
        """The number of the next snapshot."""
        place.borg_count = 0

    def init(self, place):
        """`borg init`."""
        return self._run(place, "init", "--encryption", "repokey-blake2")

    def sync(self, place):
        """`borg create`."""
        place.borg_count += 1
        return self._run(place, "create", f"::{place.borg_count}", ".", cwd=place.tree)

    def _extract(self, place, target, *paths):
        os.makedirs(target, exist_ok=True)
        return self._run(place, "extract", f"::{place.borg_count}", *paths, cwd=target)

    def restore(self, place):
        """`borg extract`."""
        return self._extract(place, place.out)

    def one(self, place):
        """`borg extract … PATH`."""
        return self._extract(place, place.out_one, place.load.one)

    def verify(self, place):
        """`borg check --verify-data`."""
        return self._run(place, "check", "--verify-data")
