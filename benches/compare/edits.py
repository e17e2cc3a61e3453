"""Changes to a tree, each with what undoes it to the byte and the nanosecond."""

import os
import random

LARGE = 1 << 20
PLACES = 10
PATCH = 64


def files(tree):
    """All regular files below, sorted."""
    found = []
    for directory, names, here in os.walk(tree):
        names.sort()
        found += [path for path in (os.path.join(directory, name) for name in sorted(here)) if not os.path.islink(path)]
    return found


def renamed(name):
    """The other name."""
    return name + "-renamed"


def times(path):
    """Access and modification time in ns."""
    status = os.stat(path)
    return status.st_atime_ns, status.st_mtime_ns


def rename(directory):
    """Rename a directory; gives how to undo it."""
    parent = os.path.dirname(directory)
    before = times(parent)
    os.rename(directory, renamed(directory))

    def undo():
        os.rename(renamed(directory), directory)
        os.utime(parent, ns=before)

    return undo


def edit(tree, seed):
    """Edit a thousandth of the files (one at least; of few files the largest); gives how to undo it."""
    rng = random.Random(seed)
    names = files(tree)
    if len(names) < 1000:
        chosen = [max(names, key=os.path.getsize)]
    else:
        chosen = rng.sample(names, len(names) // 1000)
    undos = [edit_large(name, rng) if os.path.getsize(name) >= LARGE else edit_small(name, rng) for name in chosen]
    return lambda: [undo() for undo in undos]


def edit_small(path, rng):
    """Insert a line in the middle."""
    before = times(path)
    with open(path, "rb") as file:
        data = file.read()
    line = b"/* edited %d */\n" % rng.randrange(10**9)
    middle = len(data) // 2
    overwrite(path, 0, data[:middle] + line + data[middle:])

    def undo():
        overwrite(path, 0, data)
        os.truncate(path, len(data))
        os.utime(path, ns=before)

    return undo


def edit_large(path, rng):
    """Overwrite some bytes in ten places."""
    before = times(path)
    size = os.path.getsize(path)
    saved = []
    for _ in range(PLACES):
        at = rng.randrange(size - PATCH)
        with open(path, "rb") as file:
            file.seek(at)
            saved.append((at, file.read(PATCH)))
        overwrite(path, at, rng.randbytes(PATCH))

    def undo():
        for at, data in reversed(saved):
            overwrite(path, at, data)
        os.utime(path, ns=before)

    return undo


def overwrite(path, at, data):
    """Write into a file that is there."""
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)
