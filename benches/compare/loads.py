"""The loads: trees that are made once, the same on every machine, and what the steps change in them.

Each load has one file that the step `one` restores (`one`), a directory that the step `renamed` renames, and a seeded choice
of files that the step `edited` edits. Both changes are undone to the byte and the nanosecond, so that every program sees the
same.
"""

import os
import random
import shutil
import subprocess

import edits

MIB = 1 << 20
LINUX = "/usr/src"
WORDS = 20_000


class Unavailable(Exception):
    """A load that cannot be made here."""


def text_maker(seed):
    """A function that gives text of about so many bytes: words of a made-up language, frequent ones first."""
    rng = random.Random(seed)
    words = [("".join(rng.choices("etaoinshrdlucmfwypvbgkjqxz", k=rng.randint(2, 11)))).encode() for _ in range(WORDS)]
    weights = [0.0]
    for rank in range(1, WORDS + 1):
        weights.append(weights[-1] + 1 / rank)

    def make(size):
        found = rng.choices(words, cum_weights=weights[1:], k=size // 6 + 1)
        return b" ".join(found)[:size]

    return make


def write(path, data):
    """A file and the directories above it."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def write_random(path, size, seed):
    """A file that does not compress."""
    rng = random.Random(seed)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        for at in range(0, size, MIB):
            file.write(rng.randbytes(min(MIB, size - at)))


def make_source(path, small, given):
    """A real source tree: Debian's Linux, the one given, or, for a small round, this project's own."""
    if given:
        shutil.copytree(given, os.path.join(path, "tree"), symlinks=True)
    elif small:
        project = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
        for name in ("src", "spec"):
            shutil.copytree(os.path.join(project, name), os.path.join(path, "tree", name), symlinks=True,
                            ignore=shutil.ignore_patterns("__pycache__"))
        os.symlink("spec/README.md", os.path.join(path, "tree", "link"))
    else:
        unpack_linux(path)


def unpack_linux(path):
    """Debian's package linux-source."""
    found = sorted(name for name in os.listdir(LINUX) if name.startswith("linux-source-") and name.endswith(".tar.xz"))
    if not found:
        raise Unavailable("no Linux source in /usr/src: apt-get install linux-source, or give --source DIR")
    subprocess.run(["tar", "-C", path, "-I", "xz -dT0", "-xf", os.path.join(LINUX, found[-1])], check=True)
    os.rename(os.path.join(path, found[-1].removesuffix(".tar.xz")), os.path.join(path, "tree"))


def make_random(path, small, _given):
    """1 GiB that does not compress, in one file, and a note beside it."""
    write_random(os.path.join(path, "tree/data/random.bin"), 6 * MIB if small else 1024 * MIB, 1)
    write(os.path.join(path, "tree/data/note.txt"), text_maker(2)(2000))


def make_image(path, small, _given):
    """A disk image of 1 GiB: runs of text, zeros and random bytes, 256 KiB to 16 MiB each, and a note beside it."""
    rng, make_text = random.Random(3), text_maker(4)
    size = 6 * MIB if small else 1024 * MIB
    longest = MIB if small else 16 * MIB
    os.makedirs(os.path.join(path, "tree/images"))
    with open(os.path.join(path, "tree/images/disk.img"), "wb") as file:
        while file.tell() < size:
            run = min(rng.randrange(MIB // 4, longest) & ~4095, size - file.tell())
            file.write(rng.choice((make_text, bytes, rng.randbytes))(run))
    write(os.path.join(path, "tree/images/note.txt"), text_maker(5)(2000))


def make_small(path, small, _given):
    """200,000 files of 200 bytes to 3 KiB: half text, half random; 200 in a directory."""
    rng, pool = random.Random(6), text_maker(7)(MIB if small else 32 * MIB)
    for number in range(400 if small else 200_000):
        size = rng.randint(200, 3072)
        start = rng.randrange(len(pool) - size)
        data = pool[start:start + size] if number % 2 else rng.randbytes(size)
        write(os.path.join(path, "tree", small_name(number)), data)


def small_name(number):
    """Where a numbered file lies."""
    return f"{number // 20_000:02}/{number // 200:04}/{number:06}.txt"


def make_growth(count):
    """So many files, three quarters of them empty, the others up to 64 bytes; 1,000 in a directory."""

    def make(path, small, _given):
        rng = random.Random(8)
        for number in range(count // 100 if small else count):
            name = f"tree/{number // 100_000:02}/{number // 1000:04}/{number:07}"
            write(os.path.join(path, name), b"" if number % 4 else rng.randbytes(rng.randint(1, 64)))

    return make


def make_listing(path, _small, _given):
    """A little tree: what is listed is on the server."""
    for number in range(20):
        write(os.path.join(path, f"tree/a/{number}.txt"), text_maker(number)(3000))


# Name: (what makes it, the directory that is renamed, the file that is restored alone).
MAKERS = {
    "source": (make_source, ("drivers", "src"), ("kernel/sched/core.c", "spec/README.md")),
    "random": (make_random, ("data",), ("data/note.txt",)),
    "image": (make_image, ("images",), ("images/note.txt",)),
    "small": (make_small, ("00",), ("00/0000/000100.txt",)),
    "growth-10k": (make_growth(10_000), ("00",), ("00/0000/0000004",)),
    "growth-100k": (make_growth(100_000), ("00",), ("00/0000/0000004",)),
    "growth-1m": (make_growth(1_000_000), ("00",), ("00/0000/0000004",)),
    "listing": (make_listing, ("a",), ("a/1.txt",)),
}
GROWTH = ("growth-10k", "growth-100k", "growth-1m")


class Load:
    """A load that lies on disk."""

    def __init__(self, name, cache, small=False, given=None):
        """Take it from the cache, or make it there."""
        make, renamed, ones = MAKERS[name]
        self.name = name
        self._base = os.path.join(cache, name + ("-tiny" if small else ""))
        # A run that was interrupted may have left a change: made anew, then.
        changed = os.path.exists(os.path.join(self._base, "changed"))
        if changed or not os.path.exists(os.path.join(self._base, "complete")):
            shutil.rmtree(self._base, ignore_errors=True)
            os.makedirs(self._base)
            make(self._base, small, given)
            write(os.path.join(self._base, "complete"), b"")
        self.tree = os.path.join(self._base, "tree")
        self._directory = self._first(renamed, os.path.isdir) or self._largest()
        self.one = self._first(ones, os.path.isfile) or self._some_file()
        self._undo = []

    def _first(self, names, kind):
        return next((name for name in names if kind(os.path.join(self.tree, name))), None)

    def _largest(self):
        """The top directory with the most below it, of a tree that was given."""
        tops = [entry for entry in os.scandir(self.tree) if entry.is_dir(follow_symlinks=False)]
        if not tops:
            raise Unavailable(f"{self.tree} has no directory to rename")
        return max(sorted(tops, key=lambda e: e.name), key=lambda e: sum(len(f) for _, _, f in os.walk(e.path))).name

    def _some_file(self):
        """A file in the middle of the tree."""
        names = edits.files(self.tree)
        return os.path.relpath(names[len(names) // 2], self.tree)

    def warm(self):
        """Read everything once: files, and the directories' entries; how many files and bytes there are."""
        count = total = 0
        for name in edits.files(self.tree):
            with open(name, "rb") as file:
                while data := file.read(4 * MIB):
                    total += len(data)
            count += 1
        return count, total

    def rename(self):
        """The big directory gets another name."""
        write(os.path.join(self._base, "changed"), b"")
        self._undo.append(edits.rename(os.path.join(self.tree, self._directory)))
        if self.one.startswith(self._directory + "/"):
            self._undo.append(self._move_one())

    def _move_one(self):
        """The path of the single file follows; gives how to go back."""
        old = self.one
        self.one = edits.renamed(self._directory) + old.removeprefix(self._directory)
        return lambda: setattr(self, "one", old)

    def edit(self):
        """0.1 % of the files; in a large one, ten places."""
        write(os.path.join(self._base, "changed"), b"")
        self._undo.append(edits.edit(self.tree, seed=9))

    def undo(self):
        """Everything as it was."""
        while self._undo:
            self._undo.pop()()
        if os.path.exists(os.path.join(self._base, "changed")):
            os.remove(os.path.join(self._base, "changed"))

    def remove(self):
        """Take it away."""
        shutil.rmtree(self._base, ignore_errors=True)
