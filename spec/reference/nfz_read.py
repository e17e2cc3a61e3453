#!/usr/bin/env python3
"""Lists and restores nfz repositories in a local directory. Written from the pages in spec/ alone."""
import argparse
import getpass
import os
import re
import stat
import sys
import time
from collections import OrderedDict

import nfz_format as nfz
from nfz_format import MIB, Refused, demand


class Repository:
    def __init__(self, directory, password, key_file):
        """`password` is asked for only when a slot needs it."""
        self.directory, self.problems, self.recent = directory, 0, OrderedDict()
        repo_id = nfz.repository_file(self.read("nfz-repository", 4096))
        self.keys = nfz.Keys(repo_id, self.master_secret(repo_id, password, key_file))
        found = [nfz.config(self.object("config", id)[0]) for id in self.ids("config")]
        demand(found, "configuration", "there is none")
        demand(not max(found, key=lambda each: each["generation"])["reader_features"], "unknown feature")

    def problem(self, what, why):
        self.problems += 1
        print(f"{shown(what)}: {why}", file=sys.stderr)

    def read(self, name, limit):
        with open(os.path.join(self.directory, name), "rb") as file:
            data = file.read(limit + 1)
        demand(len(data) <= limit, "length", f"{name} is too long")
        return data

    def names(self, directory, digits):
        names = os.listdir(os.path.join(self.directory, directory))
        demand(len(names) <= MIB, "length", f"too many names in {directory}")
        return sorted(name for name in names if re.fullmatch(f"[0-9a-f]{{{digits}}}", name))

    def ids(self, directory):
        return [bytes.fromhex(name) for name in self.names(directory, 64)]

    def master_secret(self, repo_id, password, key_file):
        slots, reasons, best = self.names("keys", 32), [], None
        if len(slots) > 16:
            print(f"there are {len(slots)} key slots; only 16 are looked at", file=sys.stderr)
        for name in slots[:16]:
            try:
                slot = self.read("keys/" + name, 1024)
                needs_password = nfz.slot_header(slot).flags & 1
                opened = nfz.open_slot(slot, password() if needs_password else None, key_file)
                demand(opened[0] == repo_id, "repository id", "not that of nfz-repository")
                best = max(best or opened, opened, key=lambda each: each[1])
            except (Refused, OSError) as error:
                reasons.append(f"{name}: {error}")
        demand(best, "wrong credentials", "; ".join(reasons) or "there are no key slots")
        demand(best[1] == 0, "unknown epoch", "the master secret was rotated: a newer program is needed")
        return best[2]

    def object(self, kind, id):
        """The plaintext of an object, and the length of the object."""
        name = id.hex()
        lies_in = {"config": "config/", "snapshot": "snapshots/"}.get(kind, f"chunks/{name[:2]}/")
        data = self.read(lies_in + name, nfz.OBJECT_MAX)
        return nfz.open_object(self.keys, kind, id, data), len(data)

    def snapshots(self):
        """Oldest first: (root, id)."""
        found = []
        for id in self.ids("snapshots"):
            try:
                found.append((nfz.snapshot_root(self.object("snapshot", id)[0]), id))
            except (Refused, OSError) as error:
                self.problem("snapshot " + id.hex(), error)
        return sorted(found, key=lambda each: (each[0].generation, each[0].time, each[1]))

    def snapshot(self, wanted):
        found = self.snapshots()
        if wanted == "latest":
            found = [each for each in found if each[0].complete][-1:] or found[-1:]
        else:
            found = [each for each in found if each[1].hex().startswith(wanted)]
        if len(found) != 1:
            sys.exit(f"{len(found)} snapshots are called {wanted}")
        return found[0][0]

    def entries(self, root):
        tree = nfz.Tree()
        for id, stored, count, first_path in root.segments:
            try:
                plain, length = self.object("segment", id)
                entries = nfz.segment(plain)
                demand(length == stored, "length", "not what the root says")
                demand(len(entries) == count and entries[0].path == first_path, "manifest", "not what the root says")
                for entry in entries:
                    tree.check(entry)
                    yield entry
            except (Refused, OSError) as error:
                self.problem(b"entries from " + (first_path or b"the beginning"), error)
                tree = nfz.Tree(torn=True)
        if tree.unfinished() and root.complete:
            self.problem(tree.before.path, "its last part is missing")

    def chunk(self, row):
        if row not in self.recent:
            id, plain, stored = row
            data, length = self.object("data", id)
            demand((len(data), length) == (plain, stored), "length", "not what the manifest says")
            self.recent[row] = data
            if len(self.recent) > 8:
                self.recent.popitem(last=False)
        self.recent.move_to_end(row)
        return self.recent[row]


def shown(path):
    """A path or text for the terminal, without control characters."""
    text = path if isinstance(path, str) else os.fsdecode(path)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def under(path, top):
    return top in (b"", path) or path.startswith(top + b"/")


class Restore:
    """Writes below an empty directory only. Every parent is a directory that was made here, never a link."""

    def __init__(self, repository, target, wanted):
        if not os.path.isdir(target):
            os.mkdir(target, 0o700)
        if os.listdir(target):
            sys.exit(f"{target} is not empty")
        self.repository, self.target, self.wanted = repository, os.path.realpath(os.fsencode(target)), wanted or [b""]
        self.directories, self.links, self.file, self.path = [(b"", None)], {}, None, None

    def where(self, path):
        return os.path.join(self.target, path) if path else self.target

    def run(self, entries):
        for entry in entries:
            above = entry.kind == "directory" and any(under(top, entry.path) for top in self.wanted)
            if above or any(under(entry.path, top) for top in self.wanted):
                self.attempt(entry.path, self.one, entry)
        self.close()
        self.leave(None)

    def attempt(self, path, what, *arguments):
        try:
            return what(*arguments)
        except (Refused, OSError, OverflowError, AttributeError) as error:
            self.repository.problem(path, error)

    def one(self, entry):
        if entry.path != self.path:
            self.close()
            self.leave(entry.path)
        if entry.path == b"":
            self.directories[0] = (b"", entry)
        elif entry.kind == "directory":
            self.directory(entry.path, entry)
        elif entry.kind == "file":
            self.part(entry)
        elif not self.linked(entry):
            self.special(entry)
            self.attributes(entry)

    def leave(self, path):
        """Finishes directories that do not hold `path`; makes those above it that no entry told of."""
        while self.directories and (path is None or not under(path, self.directories[-1][0])):
            entry = self.directories.pop()[1]
            if entry:
                self.attributes(entry)
        parts = path.split(b"/") if path else []
        while len(self.directories) < len(parts):
            self.directory(b"/".join(parts[:len(self.directories)]), None)

    def directory(self, path, entry):
        os.mkdir(self.where(path), 0o700)
        self.directories.append((path, entry))

    def linked(self, entry):
        first = self.links.get((entry.link_group, entry.kind))
        try:
            if first:
                os.link(first, self.where(entry.path), follow_symlinks=False)
                return True
        except OSError:
            pass  # then it is made like any other
        if entry.link_group:
            self.links[entry.link_group, entry.kind] = self.where(entry.path)
        return False

    def special(self, entry):
        where = self.where(entry.path)
        if entry.kind == "link":
            return os.symlink(entry.node, where)
        forms = {"fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK, "character": stat.S_IFCHR, "disk": stat.S_IFBLK}
        os.mknod(where, forms[entry.kind] | 0o600, os.makedev(*entry.node) if entry.node else 0)

    def part(self, entry):
        if entry.node.part == 0:
            if not self.linked(entry):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                self.file = os.fdopen(os.open(self.where(entry.path), flags, 0o600), "wb")
            self.path, self.at = entry.path, 0
        demand(self.path == entry.path, "manifest", "the part before is missing")
        if not self.file:
            return  # a link to one that is there
        self.last = entry
        data, left = self.data(entry), b""
        for some, hole in entry.node.extents or [(entry.node.total, 0)]:
            end = self.at + some
            while self.at < end:
                left = left or next(data)
                count = min(len(left), end - self.at)
                if isinstance(left, bytes):
                    self.file.seek(self.at)
                    self.file.write(left[:count])
                left, self.at = left[count:], self.at + count
            self.at += hole
        if not entry.node.more:
            self.close()

    def data(self, entry):
        """The data in pieces; for what is damaged a range of the same length."""
        content = entry.node.content
        if content[0] == "packed":
            row, offset, length, content_id = content[1:]
            yield self.attempt(entry.path, self.packed, row, offset, length, content_id) or range(length)
        elif content[0] == "chunked":
            for row in content[1]:
                yield self.attempt(entry.path, self.repository.chunk, row) or range(row[1])

    def packed(self, row, offset, length, content_id):
        data = self.repository.chunk(row)[offset:offset + length]
        demand(nfz.keyed(self.repository.keys.content, data, 16) == content_id, "wrong id", "content of a packed file")
        return data

    def close(self):
        """Finishes the file that is being written."""
        file, self.file, self.path = self.file, None, None
        if file:
            self.attempt(self.last.path, file.truncate, self.last.node.size)
            self.attempt(self.last.path, file.close)
            if self.last.node.torn:
                self.repository.problem(self.last.path, "it was changing while it was saved: it may mix several states")
            self.attributes(self.last)

    def attributes(self, entry):
        where = self.where(entry.path)
        if os.geteuid() == 0:
            self.attempt(entry.path, os.lchown, where, *entry.owner[:2])
        for name, value in entry.xattrs:
            self.attempt(entry.path, lambda: os.setxattr(where, name, value, follow_symlinks=False))
        if entry.kind != "link":
            self.attempt(entry.path, os.chmod, where, entry.mode)
        self.attempt(entry.path, lambda: os.utime(where, ns=(entry.mtime, entry.mtime), follow_symlinks=False))


def list_snapshots(repository):
    for root, id in repository.snapshots():
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(root.time // 10**9))
        checkpoint = "" if root.complete else "  (checkpoint)"
        print(f"{id.hex()}  {when}  {shown(root.host)}:{shown(root.source)}  {root.totals[0]} entries{checkpoint}")


def list_entries(repository, root):
    for entry in repository.entries(root):
        if entry.kind != "file" or entry.node.part == 0:
            size = entry.node.size if entry.kind == "file" else 0
            uid, gid = entry.owner[:2]
            print(f"{entry.kind:9} {entry.mode:04o} {uid:5} {gid:5} {size:12} {shown(entry.path)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--password-file")
    parser.add_argument("--key-file")
    parser.add_argument("repository")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list")
    for name in ("ls", "restore"):
        commands.add_parser(name).add_argument("snapshot", help="an id's first digits, or latest")
    commands.choices["restore"].add_argument("target")
    commands.choices["restore"].add_argument("path", nargs="*")
    given, typed = parser.parse_args(), []

    def password():
        if given.password_file:
            with open(given.password_file, "rb") as file:
                return re.sub(rb"\r?\n\Z", b"", file.read())
        typed[:] = typed or [os.environ.get("NFZ_PASSWORD") or getpass.getpass()]
        return os.fsencode(typed[0])

    key_file = open(given.key_file, "rb").read(MIB + 1) if given.key_file else None
    repository = Repository(given.repository, password, key_file)
    if given.command == "list":
        list_snapshots(repository)
    elif given.command == "ls":
        list_entries(repository, repository.snapshot(given.snapshot))
    else:
        wanted = [os.fsencode(path).strip(b"/") for path in given.path]
        root = repository.snapshot(given.snapshot)
        Restore(repository, given.target, wanted).run(repository.entries(root))
    sys.exit(3 if repository.problems else 0)


if __name__ == "__main__":
    try:
        main()
    except (Refused, OSError) as error:
        sys.exit(f"nfz_read: {error}")
