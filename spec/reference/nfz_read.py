#!/usr/bin/env python3
"""Lists and restores nfz repositories in a local directory. Written from the pages in spec/, not from the program."""
import argparse, contextlib, functools, getpass, hmac, io, os, re, stat, struct, sys, time, types
import nacl.exceptions, zstandard
from argon2.low_level import Type, hash_secret_raw
from blake3 import blake3
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt as aead_open

MIB, OBJECT_MAX, PLAIN_MAX = 1 << 20, 16 << 20, 12 << 20
TYPES = dict(file=stat.S_IFREG, fifo=stat.S_IFIFO, socket=stat.S_IFSOCK, char=stat.S_IFCHR, disk=stat.S_IFBLK)
KINDS = {"data": 1, "segment": 2, "snapshot": 3, "config": 4, "forgotten": 6, "set aside": 8}
class Refused(Exception):
    """What was read is not what the pages say. Its text is a class of failure, such as those of vectors/README.md."""
def demand(failure, *conditions):
    if not all(conditions):
        raise Refused(failure)
def opened(failure, function, *arguments, **named):
    try:
        return function(*arguments, **named)
    except (nacl.exceptions.CryptoError, zstandard.ZstdError):
        raise Refused(failure) from None

# Page 1: the repository file. Page 2: keys.
def keyed(key, data, length=32):
    return blake3(data, key=key).digest(length=length)
def derive(context, data, length=32):
    return blake3(data, derive_key_context="nfz v1 " + context).digest(length=length)
def subkey(keys, purpose, length=32, epoch=0):
    return derive(purpose, keys[1][epoch] + keys[0], length)  # the epoch's master secret, the repository id
def repository_file(data):
    match = re.match(rb"nfz repository\nformat: ([^\n]*)(?:\nid: ([0-9a-f]{32})(?:\n|\Z))?", data)
    demand("repository file", match, len(data) <= 4096)
    demand("unknown version", match[1] == b"1")
    demand("repository file", match[2])
    return bytes.fromhex(match[2].decode())
def open_slot(slot, password, key_file):  # gives repo_id, epoch, master secret; calls `password` only if it needs one
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
        stretched = hash_secret_raw(password(), salt, t, m, p, 32, Type.ID, version=0x13)
    kek = derive("key slot", stretched + key_hash + slot[:70])
    demand("wrong credentials", hmac.compare_digest(derive("slot commitment", kek), commitment))
    return repo_id, epoch, opened("altered slot", aead_open, slot[126:], slot[:126], nonce, kek)
def open_keyring(data, newest):  # gives the master secrets before `newest`, which no other keyring opens with
    demand("malformed keyring", data[:4] == b"NFZR", len(data) > 4)
    demand("unknown version", data[4] == 1)
    epoch, key = int.from_bytes(data[6:8], "little"), derive("keyring", newest + data[8:24])
    demand("malformed keyring", len(data) == 64 + 32 * epoch, data[5:6] == b"\0", 1 <= epoch < 1024)
    older = opened("altered keyring", aead_open, data[48:], data[:48], data[24:48], key)
    return [older[at:at + 32] for at in range(0, len(older), 32)]

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
    demand("unknown epoch", epoch < len(keys[1]))
    aad = data[:12] + keys[0] + bytes([KINDS[kind]]) + id
    payload = opened("not authentic", aead_open, data[36:], aad, data[12:36], subkey(keys, "seal " + kind, 32, epoch))
    codec, zeros, raw_len, comp_len = struct.unpack_from("<B3sII", payload)
    plain, padding = payload[12:12 + comp_len], payload[12 + comp_len:]
    demand("malformed payload", not any(zeros + padding), len(plain) == comp_len, len(data) == padme(64 + comp_len))
    demand("malformed payload", codec in (0, 1), 1 <= raw_len <= PLAIN_MAX)
    if codec == 1:  # one frame, and none of the frames that are to be skipped
        size = opened("malformed payload", zstandard.frame_content_size, plain)
        demand("malformed payload", plain[:4] == zstandard.FRAME_HEADER, size == raw_len)
        plain = opened("malformed payload", zstandard.ZstdDecompressor().decompress, plain, allow_extra_data=False)
    demand("malformed payload", len(plain) == raw_len, keyed(subkey(keys, "id " + kind), plain) == id)
    return plain

# Page 5: encoding. A form is the name of a type, a number of fixed bytes, [the form of a list's elements],
# {a record's fields: their forms}, or a choice, which is a tuple of (kind, fields).
FILE = {"size": "u64", "part": "u32", "more": "bool", "torn": "bool", "extents": [{"data": "u64", "hole": "u64"}],
        "content": (("empty", {}), ("packed", {"chunk": "u32", "offset": "u32", "length": "u32", "content_id": 16}),
                    ("chunked", {"chunks": ["u32"]}))}
DEVICE = {"major": "u32", "minor": "u32"}
NODE = (("directory", {}), ("file", FILE), ("link", {"target": "bytes"}), ("fifo", {}), ("socket", {}),
        ("char", DEVICE), ("disk", DEVICE))
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
        demand("encoding", len(data := stream.read(min(form, PLAIN_MAX))) == form)
        return data
    if isinstance(form, dict):
        return types.SimpleNamespace(**{name: read(stream, each) for name, each in form.items()})
    if isinstance(form, list):
        return [read(stream, form[0]) for _ in range(read(stream, "u64"))]
    if isinstance(form, tuple):
        choice = read(stream, "u32")
        demand("encoding", choice < len(form))
        return types.SimpleNamespace(kind=form[choice][0], **vars(read(stream, form[choice][1])))
    if form == "bytes":
        return read(stream, read(stream, "u64"))
    if form == "time":  # in nanoseconds, or None if it is not valid
        zigzag, nanoseconds = read(stream, "u64"), read(stream, "u32")
        return (zigzag >> 1 ^ -(zigzag & 1)) * 10**9 + nanoseconds if nanoseconds < 10**9 else None
    first = read(stream, 1)[0]
    length, least = LONG_NUMBERS.get(first, (0, 0))
    value = int.from_bytes(read(stream, length), "little") if length else first
    demand("encoding", length or first < 251, least <= value < 1 << BITS[form])
    return value
def decode(form, data):
    found = read(stream := io.BytesIO(data), form)
    demand("encoding", stream.tell() == len(data))
    return found

# Page 1: the configuration. Page 5: what a reader checks.
def newest_config(plaintexts):  # these come in the order of their ids
    found = sorted((decode(CONFIG, plain) for plain in plaintexts), key=lambda each: each.generation)
    demand("configuration", found, all(each.created is not None for each in found))
    demand("unknown feature", not found[-1].reader_features)
    return found[-1]
def components(path, failure="manifest"):  # paths are in the order of these
    parts = path.split(b"/") if path else []
    good = all(part not in (b"", b".", b"..") and len(part) <= 1024 for part in parts)
    demand(failure, good, len(path) <= 65535, b"\0" not in path)
    return parts
def snapshot_root(data):
    demand("unknown version", data[:1] in (b"", b"\x01"))
    root = decode(ROOT, data)
    paths, counts = [components(each.first_path) for each in root.segments], [each.entries for each in root.segments]
    demand("manifest", paths and paths[0] == [], paths == sorted(paths), len(root.follows) <= 64, root.time is not None)
    demand("manifest", all(1 <= count <= 65536 for count in counts), len(root.sparse_packs) <= 256)
    demand("manifest", sum(counts) >= root.entries >= root.files + root.directories)
    return root
def segment(data, before=None, row=None):  # its entries, after the entry `before`; `row` is what the root says of it
    found, path = decode(SEGMENT, data), b""
    chunks, owners, entries = found.chunks, [tuple(vars(owner).values()) for owner in found.owners], found.entries
    demand("manifest", 1 <= len(entries) <= 65536, all(1 <= chunk.plain <= PLAIN_MAX for chunk in chunks))
    named = [number for entry in entries for number in chunk_rows(entry.node)]
    check_rows([chunk.id for chunk in chunks], named, "manifest")
    check_rows(owners, [entry.owner for entry in entries], "encoding")  # the encoder derives them
    for last, entry in zip([before, *entries], entries):
        demand("manifest", entry.shared <= len(path))
        demand("encoding", entry.shared == len(path) or path[entry.shared:entry.shared + 1] != entry.suffix[:1])
        entry.path = path = path[:entry.shared] + entry.suffix
        entry.order, entry.owner, node = components(path), owners[entry.owner], entry.node
        entry.part, entry.more, entry.torn = [vars(node).get(name, 0) for name in ("part", "more", "torn")]
        check_attributes(entry, [each.name for each in entry.xattrs])
        demand("manifest", node.kind != "link" or (1 <= len(node.target) <= 65535 and b"\0" not in node.target))
        if node.kind == "file":
            check_file(node, node.content, [chunks[number] for number in chunk_rows(node)])
        demand("manifest", last is None or follows(last, entry))
    demand("manifest", row is None or (row.entries, row.first_path) == (len(entries), entries[0].path))
    return entries
def chunk_rows(node):
    content = vars(node).get("content", node)
    return [content.chunk] if content.kind == "packed" else vars(content).get("chunks", [])
def check_rows(rows, named, failure):
    demand("manifest", all(number < len(rows) for number in named))
    demand(failure, list(dict.fromkeys(named)) == list(range(len(rows))), len(set(rows)) == len(rows))
def check_attributes(entry, names):
    demand("manifest", all(name and b"\0" not in name for name in names), all(a < b for a, b in zip(names, names[1:])))
    demand("manifest", sum(len(each.name) + len(each.value) for each in entry.xattrs) <= MIB, entry.mode < 1 << 12)
    demand("manifest", entry.path or entry.node.kind == "directory", None not in (entry.mtime, entry.ctime))
def check_file(file, content, chunks):  # and find its pieces: (chunk, offset in it, length, content id)
    file.pieces = [(chunk, 0, chunk.plain, None) for chunk in chunks]
    if content.kind == "packed":
        file.pieces = [(chunks[0], content.offset, content.length, content.content_id)]
        demand("manifest", 0 < content.length <= chunks[0].plain - content.offset)
    data, extents = sum(piece[2] for piece in file.pieces), [(each.data, each.hole) for each in file.extents]
    demand("manifest", len(chunks) <= 16384, len(extents) <= 16384, chunks or content.kind != "chunked")
    demand("manifest", all(data for data, _ in extents[1:]), all(hole for _, hole in extents[:-1] or extents))
    demand("manifest", not extents or data == sum(data for data, _ in extents))
    file.extents, is_part = extents or [(data, 0)], file.part > 0 or file.more
    length = sum(data + hole for data, hole in file.extents)
    demand("manifest", length == file.size or (is_part and length < file.size), file.part < 2**32 - 1 or not file.more)
    demand("manifest", not is_part or content.kind == "chunked" or (content.kind == "empty" and extents))
def follows(before, entry):
    if not before.more:
        return before.order < entry.order and entry.part == 0
    names = set(ENTRY) - {"shared", "suffix", "node"} | {"path", "torn"}
    same = entry.part == before.part + 1 and before.node.size == entry.node.size
    return same and all(vars(before)[name] == vars(entry)[name] for name in names)

# A repository in a directory, and how its trees are restored.
class Repository:
    def __init__(self, directory, password, key_file):
        self.directory, slots = directory, []
        repo_id, names = repository_file(self.read("nfz-repository", 4096)), self.names("keys", "[0-9a-f]{32}")
        self.attempt("keys", demand, "only 16 key slots are looked at", len(names) <= 16)
        for name in names[:16]:
            slot = self.attempt("keys/" + name, lambda: open_slot(self.read("keys/" + name, 1024), password, key_file))
            slots += [slot[1:]] if slot and slot[0] == repo_id else []
        demand("no key slot opens", slots)
        epoch, newest = max(slots)
        rings = ["keyring/" + name for name in self.names("keyring", "[0-9a-f]{32}")] if epoch else []
        older = [self.attempt(name, lambda: open_keyring(self.read(name, 32800), newest)) for name in rings]
        demand("no keyring opens", any(older) or epoch == 0)
        self.keys = repo_id, [*next(filter(None, older), []), newest]
        newest_config(filter(None, [self.attempt(name, self.object, "config", name) for name in self.names("config")]))
        self.problems, self.chunk = 0, functools.lru_cache(8)(functools.partial(self.object, "data"))
    def attempt(self, what, function, *arguments, **named):  # names what fails, and goes on with None
        try:
            return function(*arguments, **named)
        except (Refused, OSError, OverflowError, RecursionError) as error:
            print(f"{os.fsdecode(what)!r}: {error}", file=sys.stderr)
            self.problems = 1
    def read(self, name, limit):
        with open(os.path.join(self.directory, name), "rb") as file:
            return file.read(limit + 1)  # what is too long is refused for its length
    def names(self, directory, pattern="[0-9a-f]{64}"):
        names = os.listdir(os.path.join(self.directory, directory))
        demand("length", len(names) <= MIB)
        return sorted(name for name in names if re.fullmatch(pattern, name))
    def object(self, kind, name):
        path = {"config": "config/", "snapshot": "snapshots/"}.get(kind, f"chunks/{name[:2]}/") + name
        if path.startswith("chunks/") and not os.path.exists(os.path.join(self.directory, path)):
            path = "trash/" + (self.names("trash", "c-[0-9a-f]{32}-" + name) or ["c--" + name])[0]  # set aside, or lost
        return open_object(self.keys, kind, bytes.fromhex(name), self.read(path, OBJECT_MAX))
    def snapshots(self):  # each ends with its name and its root; oldest first
        names = self.names("snapshots")
        roots = [self.attempt(name, lambda: snapshot_root(self.object("snapshot", name))) for name in names]
        return sorted((root.time, root.generation, name, root) for root, name in zip(roots, names) if root)
    def entries(self, wanted):
        found = [root for *_, name, root in self.snapshots() if wanted == "latest" or name.startswith(wanted)]
        if wanted == "latest":
            found = [root for root in found if root.complete][-1:] or found[-1:]
        demand(f"{len(found)} snapshots are called {wanted}", len(found) == 1)
        entries = [None]
        for row in found[0].segments:
            what, before = b"entries from /" + row.first_path, entries[-1]
            entries = self.attempt(what, lambda: segment(self.object("segment", row.id.hex()), before, row)) or [None]
            yield from filter(None, entries)
        if entries[-1] and entries[-1].more:
            self.attempt(entries[-1].path, demand, "its last part is missing", False)
    def piece(self, chunk, offset, length, content_id):
        data = self.chunk(chunk.id.hex())
        demand("manifest", len(data) == chunk.plain)
        data = data[offset:offset + length]
        demand("wrong id", content_id is None or keyed(subkey(self.keys, "id content"), data, 16) == content_id)
        return data

class Restore:
    """Writes below an empty directory only. Every parent is a directory that was made here, never a link."""
    def __init__(self, repository, target, entries):
        os.umask(0o077)
        os.makedirs(target, exist_ok=True)
        demand("the target is not empty", not os.listdir(target))
        self.piece, self.attempt, self.target = repository.piece, repository.attempt, os.fsencode(target)
        self.made, self.directories, self.first_names, self.path = {b""}, [], {}, None
        for entry in entries:
            entry.where = os.path.join(self.target, entry.path)
            self.attempt(entry.path, self.one, entry, entry.node)
        for entry in reversed(self.directories):
            self.attributes(entry)
    def directory(self, path):  # makes it and those above it, unless it did so before
        if path not in self.made:
            self.directory(os.path.dirname(path))
            os.mkdir(os.path.join(self.target, path))
            self.made.add(path)
    def one(self, entry, node):
        self.directory(entry.path if node.kind == "directory" else os.path.dirname(entry.path))
        if node.kind == "directory":
            return self.directories.append(entry)  # its attributes come last
        if entry.part == 0:
            self.path, self.at = None, 0
            self.is_link, self.path = self.link_or_make(entry, node), entry.path
        demand("the part before is missing", self.path == entry.path)
        if node.kind == "file" and not self.is_link:
            self.write(entry, node)
        if not entry.more and not self.is_link:
            self.attributes(entry)
        demand("torn: it changed while it was saved, and may mix several states", entry.more or not entry.torn)
    def link_or_make(self, entry, node):  # whether it is a further name of what was restored before
        group = (entry.link_group, node.kind)
        if entry.link_group and group in self.first_names:
            with contextlib.suppress(OSError):  # where names cannot be linked, each is a file of its own
                os.link(self.first_names[group], entry.where, follow_symlinks=False)
                return True
        if node.kind == "link":
            os.symlink(node.target, entry.where)
        else:
            device = os.makedev(node.major, node.minor) if node.kind in ("char", "disk") else 0
            os.mknod(entry.where, TYPES[node.kind] | 0o600, device)
        self.first_names[group] = entry.where
        return False
    def write(self, entry, file):  # zeros stand for data that is damaged
        piece, pieces = b"", (self.attempt(entry.path, self.piece, *each) or bytes(each[2]) for each in file.pieces)
        with open(entry.where, "r+b") as out:
            out.truncate(file.size)
            for data, hole in file.extents:
                out.seek(self.at)
                self.at += data + hole
                while data > 0:
                    piece = piece or next(pieces)
                    written = out.write(piece[:data])
                    piece, data = piece[written:], data - written
        demand("sum of the parts", self.at <= file.size, file.more or self.at == file.size)
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
    for name in ("--password-file", "--key-file", "repository"):
        parser.add_argument(name)
    parser.add_argument("command", choices=("list", "restore"))
    parser.add_argument("snapshot", nargs="?", default="latest", help="an id's first digits, or latest")
    parser.add_argument("target", nargs="?", help="where to restore to: an empty directory, or none yet")
    given = parser.parse_args()
    @functools.lru_cache(None)
    def password():
        if given.password_file:
            return re.sub(rb"\r?\n\Z", b"", open(given.password_file, "rb").read())
        return os.fsencode(os.environ.get("NFZ_PASSWORD") or getpass.getpass())
    repository = Repository(given.repository, password, given.key_file and open(given.key_file, "rb").read(MIB + 1))
    if given.command == "list":
        for *_, name, root in repository.snapshots():
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(root.time // 10**9))
            print(name, when, repr(os.fsdecode(root.source)), "" if root.complete else "(checkpoint)")
    else:
        Restore(repository, given.target or parser.error("where to?"), repository.entries(given.snapshot))
    sys.exit(repository.problems * 3)

if __name__ == "__main__":
    try:
        main()
    except (Refused, OSError) as error:
        sys.exit(f"nfz_read: {error}")
