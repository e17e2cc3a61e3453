"""Whether a restored tree is the one that was saved."""

import os
import stat

BLOCK = 4 << 20


def entries(tree):
    """Everything below, by relative path."""
    found = {}
    for directory, names, here in os.walk(tree):
        for name in names + here:
            path = os.path.join(directory, name)
            found[os.path.relpath(path, tree)] = os.lstat(path)
    return found


def same_content(one, other):
    """Whether two files hold the same bytes."""
    with open(one, "rb") as left, open(other, "rb") as right:
        while True:
            data = left.read(BLOCK)
            if data != right.read(BLOCK):
                return False
            if not data:
                return True


def facts(path, status):
    """What a faithful restore brings back besides content."""
    kind = stat.S_IFMT(status.st_mode)
    size = None if stat.S_ISDIR(kind) else status.st_size
    target = os.readlink(path) if stat.S_ISLNK(kind) else None
    return kind, stat.S_IMODE(status.st_mode), size, status.st_mtime_ns, target


def differs_faithfully(left, right, path, status):
    """How an entry differs, everything counted, or None."""
    one, other = facts(os.path.join(left, path), status[0]), facts(os.path.join(right, path), status[1])
    for name, mine, theirs in zip(("kind", "mode", "size", "mtime", "target"), one, other):
        if mine != theirs:
            return f"{path}: {name} {theirs!r}, not {mine!r}"
    return None


def compare(saved, restored, faithful):
    """The first differences, at most five. `faithful`: kinds, modes, times and links count, not only files and their bytes."""
    left, right = entries(saved), entries(restored)
    found = []
    for path in sorted(left):
        if len(found) >= 5:
            break
        regular = stat.S_ISREG(left[path].st_mode)
        if not faithful and not regular:
            continue
        if path not in right:
            found.append(f"{path}: missing")
        elif complaint := faithful and differs_faithfully(saved, restored, path, (left[path], right[path])):
            found.append(complaint)
        elif regular and not same_content(os.path.join(saved, path), os.path.join(restored, path)):
            found.append(f"{path}: content")
    if faithful:
        found += [f"{path}: was not saved" for path in sorted(set(right) - set(left))[:5]]
    return found
