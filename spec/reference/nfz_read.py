#!/usr/bin/env python3
"""Lists and restores nfz repositories in a local directory. Written from the pages in spec/, not from the program."""
import argparse, functools, getpass, hmac, io, os, re, stat, struct, sys, time
from types import SimpleNamespace
import zstandard
from argon2.low_level import Type, hash_secret_raw
from blake3 import blake3
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt as aead_open
from nacl.exceptions import CryptoError

MIB = 1 << 20
OBJECT_MAX, PLAIN_MAX = 16 * MIB, 12 * MIB
KINDS = {"data": 1, "segment": 2, "snapshot": 3, "config": 4}

class Refused(Exception):
    """What was read is not what the pages say; in a word, which is one of those in vectors/README.md."""

def demand(failure, *conditions):
    if not all(conditions):
        raise Refused(failure)

# Page 1: the repository file. Page 2: keys.

def keyed(key, data, length=32):
    return blake3(data, key=key).digest(length=length)

def derive(context, data, length=32):
    return blake3(data, derive_key_context="nfz v1 " + context).digest(length=length)

def subkey(keys, purpose, length=32):
    repo_id, master = keys
    return derive(purpose, master + repo_id, length)

def repository_file(data):
    match = re.match(rb"nfz repository\nformat: ([^\n]*)(?:\nid: ([0-9a-f]{32})(?:\n|\Z))?", data)
    demand("repository file", match, len(data) <= 4096)
    demand("unknown version", match[1] == b"1")
    demand("repository file", match[2])
    return bytes.fromhex(match[2].decode())

def open_slot(slot, password, key_file):
    """Gives repo_id, epoch and master secret. `password` is called only if the slot needs one."""
    demand("malformed slot", slot[:4] == b"NFZK", len(slot) > 4)
    demand("unknown version", slot[4] == 1)
    demand("malformed slot", len(slot) == 174)
    kdf, flags, repo_id, epoch, m, t, p, salt, nonce, commitment = struct.unpack_from("<BH16sHIII32s24s32s", slot, 5)
    demand("malformed slot", (kdf, flags) in ((1, 1), (1, 3), (0, 2)), kdf == 1 or not any(slot[26:70]))
    stretched = key_hash = bytes(32)
    if flags & 2:
        demand("wrong credentials", key_file and len(key_file) <= MIB)
        key_hash = derive("key file", key_file)
    if flags & 1:
        demand("absurd cost", 19456 <= m <= MIB, 1 <= t <= 16, 1 <= p <= 16, m * t <= 8388608)
        typed = password()
        demand("wrong credentials", typed is not None)
        stretched = hash_secret_raw(typed, salt, t, m, p, 32, Type.ID, version=0x13)
    kek = derive("key slot", stretched + key_hash + slot[:70])
    demand("wrong credentials", hmac.compare_digest(derive("slot commitment", kek), commitment))
    try:
        return repo_id, epoch, aead_open(slot[126:], slot[:126], nonce, kek)
    except CryptoError:
        raise Refused("altered slot") from None

# Page 3: sealing.

def padme(length):
    e = length.bit_length() - 1
    low = (1 << (e - e.bit_length())) - 1
    return (length + low) & ~low

def open_object(keys, kind, id, data):
    demand("header", 64 <= len(data) <= OBJECT_MAX, data[:4] == b"NFZ1")
    version, mode, epoch, length = struct.unpack_from("<BBHI", data, 4)
    demand("unknown version", version == 1, mode == 0)
    demand("length", length == len(data))
    demand("unknown epoch", epoch == 0)
    try:
        aad = data[:12] + keys[0] + bytes([KINDS[kind]]) + id
        payload = aead_open(data[36:], aad, data[12:36], subkey(keys, "seal " + kind))
    except CryptoError:
        raise Refused("not authentic") from None
    codec, zeros, raw_len, comp_len = struct.unpack_from("<B3sII", payload)
    plain, padding = payload[12:12 + comp_len], payload[12 + comp_len:]
    demand("malformed payload", not any(zeros + padding), len(plain) == comp_len, len(data) == padme(64 + comp_len))
    demand("malformed payload", codec in (0, 1), 1 <= raw_len <= PLAIN_MAX)
    if codec == 1:
        demand("malformed payload", plain[:4] == b"\x28\xb5\x2f\xfd")  # else it is not a frame, or one to be skipped
        try:
            demand("malformed payload", zstandard.frame_content_size(plain) == raw_len)
            plain = zstandard.ZstdDecompressor().decompress(plain, max_output_size=raw_len, allow_extra_data=False)
        except zstandard.ZstdError:
            raise Refused("malformed payload") from None
    demand("malformed payload", len(plain) == raw_len, keyed(subkey(keys, "id " + kind), plain) == id)
    return plain

# Page 5: encoding. A form is the name of a type, a number of fixed bytes, [the form of a list's elements],
# {a record's fields: their forms}, or a choice, which is a tuple of (kind, fields).

FILE = {"size": "u64", "part": "u32", "more": "bool", "torn": "bool", "extents": [{"data": "u64", "hole": "u64"}],
        "content": (("empty", {}), ("packed", {"chunk": "u32", "offset": "u32", "length": "u32", "content_id": 16}),
                    ("chunked", {"chunks": ["u32"]}))}
DEVICE = {"major": "u32", "minor": "u32"}
NODE = (("directory", {}), ("file", FILE), ("link", {"target": "bytes"}), ("fifo", {}), ("socket", {}),
        ("character", DEVICE), ("disk", DEVICE))
ENTRY = {"shared": "u32", "suffix": "bytes", "owner": "u32", "mode": "u32", "mtime": "time", "ctime": "time",
         "inode": "u64", "link_group": "u64", "xattrs": [{"name": "bytes", "value": "bytes"}], "node": NODE}
SEGMENT = {"chunks": [{"id": 32, "plain": "u32", "stored": "u32"}],
           "owners": [{"uid": "u32", "gid": "u32", "user": "bytes", "group": "bytes"}], "entries": [ENTRY]}
ROOT = {"format": "u32", "time": "time", "host": "bytes", "user": "bytes", "source": "bytes", "label": "bytes",
        "program": "bytes", "entries": "u64", "files": "u64", "directories": "u64", "bytes": "u64", "problems": "u64",
        "complete": "bool", "generation": "u64", "follows": [32], "sparse_packs": [32],
        "segments": [{"id": 32, "stored": "u32", "entries": "u32", "first_path": "bytes"}]}
CONFIG = {"generation": "u64", "created": "time", "sizes": {f"size{n}": "u32" for n in range(12)},
          "reader_features": ["u32"], "writer_features": ["u32"]}
BITS = {"bool": 1, "u32": 32, "u64": 64}
LONG_NUMBERS = {251: (2, 251), 252: (4, 1 << 16), 253: (8, 1 << 32)}  # first byte: bytes that follow, least value

def read(stream, form):
    if isinstance(form, int):
        data = stream.read(min(form, PLAIN_MAX))
        demand("encoding", len(data) == form)
        return data
    if isinstance(form, dict):
        return SimpleNamespace(**{name: read(stream, each) for name, each in form.items()})
    if isinstance(form, list):
        return [read(stream, form[0]) for _ in range(read(stream, "u64"))]
    if isinstance(form, tuple):
        choice = read(stream, "u32")
        demand("encoding", choice < len(form))
        return SimpleNamespace(kind=form[choice][0], **vars(read(stream, form[choice][1])))
    if form == "bytes":
        return read(stream, read(stream, "u64"))
    if form == "time":  # in nanoseconds, or None if it is not valid
        zigzag, nanoseconds = read(stream, "u64"), read(stream, "u32")
        seconds = -(zigzag >> 1) - 1 if zigzag & 1 else zigzag >> 1
        return seconds * 10**9 + nanoseconds if nanoseconds < 10**9 else None
    value = read(stream, 1)[0]
    if value > 250:
        demand("encoding", value in LONG_NUMBERS)
        length, least = LONG_NUMBERS[value]
        value = int.from_bytes(read(stream, length), "little")
        demand("encoding", value >= least)
    demand("encoding", value < 1 << BITS[form])
    return value

def decode(form, data):
    stream = io.BytesIO(data)
    found = read(stream, form)
    demand("encoding", stream.tell() == len(data))
    return found

# Page 1: the configuration. Page 5: what a reader checks.

def newest_config(plaintexts):
    """Of several, given in the order of their ids."""
    found = sorted((decode(CONFIG, plain) for plain in plaintexts), key=lambda each: each.generation)
    demand("configuration", found, all(each.created is not None for each in found))
    demand("unknown feature", not found[-1].reader_features)
    return found[-1]

def components(path, failure="manifest"):
    """Those of a valid path. Paths are in the order of these."""
    parts = path.split(b"/") if path else []
    demand(failure, len(path) <= 65535, b"\0" not in path)
    demand(failure, all(part not in (b"", b".", b"..") and len(part) <= 1024 for part in parts))
    return parts

def snapshot_root(data):
    demand("unknown version", data[:1] in (b"", b"\x01"))
    root = decode(ROOT, data)
    paths, counts = [components(each.first_path) for each in root.segments], [each.entries for each in root.segments]
    demand("manifest", paths and paths[0] == [], paths == sorted(paths), len(root.follows) <= 64)
    demand("manifest", all(1 <= count <= 65536 for count in counts), len(root.sparse_packs) <= 256, root.time is not None)
    demand("manifest", sum(counts) >= root.entries >= root.files + root.directories)
    return root

def check_rows(rows, named, failure):
    demand("manifest", all(number < len(rows) for number in named))
    demand(failure, list(dict.fromkeys(named)) == list(range(len(rows))), len(set(rows)) == len(rows))

def segment(data, before=None):
    """Entries, which follow the entry `before`, with paths, owners and chunks in place of what stands for them."""
    found, path = decode(SEGMENT, data), b""
    owners = [(owner.uid, owner.gid, owner.user, owner.group) for owner in found.owners]
    demand("manifest", 1 <= len(found.entries) <= 65536, all(1 <= chunk.plain <= PLAIN_MAX for chunk in found.chunks))
    for entry in found.entries:
        content = vars(entry.node).get("content", entry.node)
        entry.rows = [content.chunk] if content.kind == "packed" else vars(content).get("chunks", [])
    check_rows([chunk.id for chunk in found.chunks], [row for entry in found.entries for row in entry.rows], "manifest")
    check_rows(owners, [entry.owner for entry in found.entries], "encoding")  # the encoder derives them
    for entry in found.entries:
        shared = entry.shared
        demand("manifest", shared <= len(path))
        demand("encoding", shared == len(path) or path[shared:shared + 1] != entry.suffix[:1])
        entry.path = path = path[:shared] + entry.suffix
        entry.order, entry.owner, entry.part, entry.more = components(path), owners[entry.owner], 0, False
        check_entry(entry, entry.node)
        if entry.node.kind == "file":
            check_file(entry, entry.node, [found.chunks[row] for row in entry.rows])
        demand("manifest", before is None or follows(before, entry))
        before = entry
    return found.entries

def check_entry(entry, node):
    names = [each.name for each in entry.xattrs]
    demand("manifest", all(name and b"\0" not in name for name in names), all(a < b for a, b in zip(names, names[1:])))
    demand("manifest", sum(len(each.name) + len(each.value) for each in entry.xattrs) <= MIB, entry.mode < 1 << 12)
    demand("manifest", entry.path or node.kind == "directory", None not in (entry.mtime, entry.ctime))
    demand("manifest", node.kind != "link" or (1 <= len(node.target) <= 65535 and b"\0" not in node.target))

def check_file(entry, file, chunks):
    """Pieces of data are (chunk, offset in it, length, content id)."""
    extents, kind = [(each.data, each.hole) for each in file.extents], file.content.kind
    file.pieces = [(chunk, 0, chunk.plain, None) for chunk in chunks]
    if kind == "packed":
        file.pieces = [(chunks[0], file.content.offset, file.content.length, file.content.content_id)]
        demand("manifest", 0 < file.content.length <= chunks[0].plain - file.content.offset)
    data = sum(length for _, _, length, _ in file.pieces)
    file.extents, is_part = extents or [(data, 0)], file.part > 0 or file.more
    file.length = sum(data + hole for data, hole in file.extents)
    demand("manifest", len(chunks) <= 16384, len(extents) <= 16384, chunks or kind != "chunked")
    demand("manifest", data == sum(data for data, _ in file.extents), all(data > 0 for data, _ in extents[1:]))
    demand("manifest", all(hole > 0 for _, hole in extents[:-1]), len(extents) != 1 or extents[0][1] > 0)
    demand("manifest", file.length == file.size or (is_part and file.length < file.size))
    demand("manifest", not is_part or kind == "chunked" or (kind == "empty" and extents))
    demand("manifest", file.part < 2**32 - 1 or not file.more)
    entry.part, entry.more = file.part, file.more

def follows(before, entry):
    if not before.more:
        return before.order < entry.order and entry.part == 0
    same = all(vars(before)[name] == vars(entry)[name] for name in set(ENTRY) - {"shared", "suffix", "node"})
    same = same and before.path == entry.path and entry.part == before.part + 1
    return same and (before.node.size, before.node.torn) == (entry.node.size, entry.node.torn)

# A repository in a directory, and how its trees are restored.

def shown(text):
    """A path or text for the terminal, without control characters."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in os.fsdecode(text))

class Repository:
    def __init__(self, directory, password, key_file):
        self.directory = directory
        repo_id, names = repository_file(self.read("nfz-repository", 4096)), self.names("keys", 32)
        slots = [self.attempt("keys/" + name, self.slot, name, repo_id, password, key_file) for name in names[:16]]
        demand("wrong credentials", any(slots))
        epoch, master = max(slot for slot in slots if slot)
        demand("unknown epoch", epoch == 0)
        self.keys, self.problems = (repo_id, master), 0
        newest_config(self.object("config", name) for name in self.names("config"))
        self.chunk = functools.lru_cache(8)(functools.partial(self.object, "data"))

    def attempt(self, what, function, *arguments, **named):
        """Names what fails, and goes on with None."""
        try:
            return function(*arguments, **named)
        except (Refused, OSError, OverflowError, RecursionError) as error:
            print(f"{shown(what)}: {error}", file=sys.stderr)
            self.problems = 1

    def read(self, name, limit):
        with open(os.path.join(self.directory, name), "rb") as file:
            return file.read(limit + 1)  # what is too long is refused for its length

    def names(self, directory, digits=64):
        names = os.listdir(os.path.join(self.directory, directory))
        demand("length", len(names) <= MIB)
        return sorted(name for name in names if re.fullmatch(f"[0-9a-f]{{{digits}}}", name))

    def slot(self, name, repo_id, password, key_file):
        found, epoch, master = open_slot(self.read("keys/" + name, 1024), password, key_file)
        demand("repository file", found == repo_id)
        return epoch, master

    def object(self, kind, name):
        lies_in = {"config": "config", "snapshot": "snapshots"}.get(kind, "chunks/" + name[:2])
        return open_object(self.keys, kind, bytes.fromhex(name), self.read(f"{lies_in}/{name}", OBJECT_MAX))

    def root(self, name):
        root = snapshot_root(self.object("snapshot", name))
        root.name = name
        return root

    def snapshots(self):
        """Oldest first."""
        roots = [self.attempt("snapshots/" + name, self.root, name) for name in self.names("snapshots")]
        return sorted(filter(None, roots), key=lambda root: (root.generation, root.time, root.name))

    def segment(self, row, before):
        entries = segment(self.object("segment", row.id.hex()), before)
        demand("manifest", len(entries) == row.entries, entries[0].path == row.first_path)
        return entries

    def entries(self, wanted):
        found = [root for root in self.snapshots() if wanted == "latest" or root.name.startswith(wanted)]
        if wanted == "latest":
            found = [root for root in found if root.complete][-1:] or found[-1:]
        demand(f"{len(found)} snapshots are called {wanted}", len(found) == 1)
        entries = [None]
        for row in found[0].segments:
            entries = self.attempt(b"from /" + row.first_path, self.segment, row, entries[-1]) or [None]
            yield from filter(None, entries)
        if entries[-1] and entries[-1].more:
            self.attempt(entries[-1].path, demand, "its last part is missing", False)

    def piece(self, chunk, offset, length, content_id):
        data = self.chunk(chunk.id.hex())
        demand("length", len(data) == chunk.plain)
        data = data[offset:offset + length]
        demand("wrong id", content_id is None or keyed(subkey(self.keys, "id content"), data, 16) == content_id)
        return data

class Restore:
    """Writes below an empty directory only. Every parent is a directory that was made here, never a link."""

    def __init__(self, repository, target):
        os.umask(0o077)
        os.makedirs(target, exist_ok=True)
        demand("the target is not empty", not os.listdir(target))
        self.repository, self.attempt, self.target = repository, repository.attempt, os.fsencode(os.path.realpath(target))
        self.made, self.directories, self.first_names, self.path = {b""}, [], {}, None

    def run(self, entries):
        for entry in entries:
            entry.where = os.path.join(self.target, entry.path)
            self.attempt(entry.path, self.one, entry, entry.node.kind)
        for entry in reversed(self.directories):
            self.attributes(entry)

    def directory(self, path):
        """Makes a directory and those above it, unless it did so before."""
        if path not in self.made:
            self.directory(os.path.dirname(path))
            os.mkdir(os.path.join(self.target, path))
            self.made.add(path)

    def one(self, entry, kind):
        self.directory(entry.path if kind == "directory" else os.path.dirname(entry.path))
        if kind == "directory":
            return self.directories.append(entry)  # its attributes come last
        if entry.part == 0:
            self.path, self.is_link, self.at = None, self.linked(entry), 0
            if not self.is_link:
                self.make(entry.node, entry.where)
                self.first_names[entry.link_group, kind] = entry.where
            self.path = entry.path
        demand("the part before is missing", self.path == entry.path)
        if kind == "file" and not self.is_link:
            self.write(entry, entry.node)
        if not entry.more and not self.is_link:
            self.attributes(entry)

    def linked(self, entry):
        """Tries to make another name of a file that was restored before."""
        first = entry.link_group and self.first_names.get((entry.link_group, entry.node.kind))
        try:
            return bool(first) and os.link(first, entry.where, follow_symlinks=False) is None
        except OSError:
            return False

    def make(self, node, where):
        if node.kind == "file":
            with open(where, "xb") as out:
                out.truncate(node.size)
        elif node.kind == "link":
            os.symlink(node.target, where)
        else:
            forms = {"fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK, "character": stat.S_IFCHR, "disk": stat.S_IFBLK}
            device = os.makedev(node.major, node.minor) if node.kind in ("character", "disk") else 0
            os.mknod(where, forms[node.kind] | 0o600, device)

    def write(self, entry, file):
        """Zeros stand for data that is damaged."""
        pieces = (self.attempt(entry.path, self.repository.piece, *each) or bytes(each[2]) for each in file.pieces)
        piece = b""
        with open(entry.where, "r+b") as out:
            for data, hole in file.extents:
                out.seek(self.at)
                self.at += data + hole
                while data > 0:
                    piece = piece or next(pieces)
                    written = out.write(piece[:data])
                    piece, data = piece[written:], data - written
        demand("sum of the parts", self.at == file.size if not file.more else self.at <= file.size)
        if file.torn and not file.more:
            self.attempt(entry.path, demand, "torn: it changed while it was saved, and may mix several states", False)

    def attributes(self, entry):
        where, attempt = entry.where, functools.partial(self.attempt, entry.path)
        if os.geteuid() == 0:
            attempt(os.lchown, where, *entry.owner[:2])
        for each in entry.xattrs:
            attempt(os.setxattr, where, each.name, each.value, follow_symlinks=False)
        if entry.node.kind != "link":
            attempt(os.chmod, where, entry.mode)
        attempt(os.utime, where, ns=(entry.mtime, entry.mtime), follow_symlinks=False)

def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--password-file")
    parser.add_argument("--key-file")
    parser.add_argument("repository")
    parser.add_argument("command", choices=("list", "ls", "restore"))
    parser.add_argument("snapshot", nargs="?", default="latest", help="an id's first digits, or latest")
    parser.add_argument("target", nargs="?", help="where to restore to: an empty directory, or none yet")
    given = parser.parse_args()

    @functools.lru_cache(None)
    def password():
        if given.password_file:
            with open(given.password_file, "rb") as file:
                return re.sub(rb"\r?\n\Z", b"", file.read())
        return os.fsencode(os.environ.get("NFZ_PASSWORD") or getpass.getpass())

    key_file = open(given.key_file, "rb").read(MIB + 1) if given.key_file else None
    repository = Repository(given.repository, password, key_file)
    if given.command == "list":
        for root in repository.snapshots():
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(root.time // 10**9))
            print(root.name, when, f"{shown(root.host)}:{shown(root.source)}", "" if root.complete else "(checkpoint)")
    elif given.command == "ls":
        for entry in repository.entries(given.snapshot):
            print(f"{entry.node.kind:9} {entry.mode:04o} {entry.owner[0]:5} {entry.owner[1]:5} {shown(entry.path)}")
    else:
        Restore(repository, given.target or parser.error("where to?")).run(repository.entries(given.snapshot))
    sys.exit(3 if repository.problems else 0)

if __name__ == "__main__":
    try:
        main()
    except (Refused, OSError) as error:
        sys.exit(f"nfz_read: {error}")
