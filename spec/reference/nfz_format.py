"""What the pages in spec/ say of bytes: keys, sealing, encoding, and what a reader checks. Touches no files."""
import hmac
import re
import struct
from collections import namedtuple

import argon2.low_level
import zstandard
from blake3 import blake3
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt as aead_open
from nacl.exceptions import CryptoError

MIB = 1 << 20
OBJECT_MAX, PLAIN_MAX = 16 * MIB, 12 * MIB
KINDS = {"data": 1, "segment": 2, "snapshot": 3, "config": 4}
ZERO32 = bytes(32)


class Refused(Exception):
    """What was read is not what the pages say. The class of failure is one of those in vectors/README.md."""

    def __init__(self, failure, text=""):
        super().__init__(failure + (": " + text if text else ""))
        self.failure = failure


def demand(condition, failure, text=""):
    if not condition:
        raise Refused(failure, text)


def keyed(key, data, length=32):
    return blake3(data, key=key).digest(length=length)


def derive(context, data, length=32):
    return blake3(data, derive_key_context=context).digest(length=length)


# Page 1: the repository file. Page 2: keys.

def repository_file(data):
    demand(len(data) <= 4096, "repository file", "too long")
    match = re.match(rb"nfz repository\nformat: ([^\n]*)(?:\nid: ([0-9a-f]{32})(?:\n|\Z))?", data)
    demand(match, "repository file", "not an nfz repository")
    demand(match[1] == b"1", "unknown version", "a format that this program does not know")
    demand(match[2], "repository file", "no id")
    return bytes.fromhex(match[2].decode())


Slot = namedtuple("Slot", "data flags repo_id epoch m t p")


def slot_header(data):
    demand(len(data) > 4 and data[:4] == b"NFZK", "malformed slot", "first bytes")
    demand(data[4] == 1, "unknown version", "slot")
    demand(len(data) == 174, "malformed slot", "length")
    kdf, flags, repo_id, epoch, m, t, p = struct.unpack_from("<BH16sHIII", data, 5)
    demand((kdf, flags) in ((1, 1), (1, 3), (0, 2)), "malformed slot", "kdf and flags")
    if kdf == 0:
        demand((m, t, p) == (0, 0, 0) and data[38:70] == ZERO32, "malformed slot", "cost or salt without a password")
    else:
        demand(19456 <= m <= MIB and 1 <= t <= 16 and 1 <= p <= 16 and m * t <= 8388608, "absurd cost")
    return Slot(data, flags, repo_id, epoch, m, t, p)


def open_slot(data, password, key_file):
    """Gives repo_id, epoch and master secret."""
    slot = slot_header(data)
    stretched = key_hash = ZERO32
    demand(password is not None or not slot.flags & 1, "wrong credentials", "needs a password")
    demand(key_file is not None or not slot.flags & 2, "wrong credentials", "needs a key file")
    if slot.flags & 1:
        stretched = argon2.low_level.hash_secret_raw(
            password, data[38:70], slot.t, slot.m, slot.p, 32, argon2.low_level.Type.ID, version=0x13)
    if slot.flags & 2:
        demand(1 <= len(key_file) <= MIB, "wrong credentials", "a key file has 1 byte to 1 MiB")
        key_hash = derive("nfz v1 key file", key_file)
    kek = derive("nfz v1 key slot", stretched + key_hash + data[:70])
    demand(hmac.compare_digest(derive("nfz v1 slot commitment", kek), data[94:126]), "wrong credentials")
    try:
        return slot.repo_id, slot.epoch, aead_open(data[126:], data[:126], data[70:94], kek)
    except CryptoError:
        raise Refused("altered slot") from None


class Keys:
    def __init__(self, repo_id, master):
        self.repo_id, self.material = repo_id, master + repo_id
        self.ids = {kind: self.subkey("id " + kind) for kind in KINDS}
        self.seal = {kind: self.subkey("seal " + kind) for kind in KINDS}
        self.content = self.subkey("id content")

    def subkey(self, purpose, length=32):
        return derive("nfz v1 " + purpose, self.material, length)


# Page 3: sealing.

def padme(length):
    e = length.bit_length() - 1
    low = (1 << (e - e.bit_length())) - 1
    return (length + low) & ~low


def open_object(keys, kind, id, data):
    demand(64 <= len(data) <= OBJECT_MAX and data[:4] == b"NFZ1", "header", "too short, too long or no object")
    version, mode, epoch, length = struct.unpack_from("<BBHI", data, 4)
    demand(version == 1 and mode == 0, "unknown version", "of an object, or mode")
    demand(length == len(data), "length", "not as long as it says")
    demand(epoch == 0, "unknown epoch")
    aad = data[:12] + keys.repo_id + bytes([KINDS[kind]]) + id
    try:
        payload = aead_open(data[36:], aad, data[12:36], keys.seal[kind])
    except CryptoError:
        raise Refused("not authentic") from None
    codec, zeros, raw_len, comp_len = struct.unpack_from("<B3sII", payload)
    demand(zeros == bytes(3) and 12 + comp_len <= len(payload), "malformed payload", "fields")
    demand(len(data) == padme(64 + comp_len), "malformed payload", "padded length")
    demand(not any(payload[12 + comp_len:]), "malformed payload", "padding")
    demand(1 <= raw_len <= PLAIN_MAX, "malformed payload", "length of the plaintext")
    plain = payload[12:12 + comp_len]
    demand(codec in (0, 1), "malformed payload", "unknown codec")
    if codec == 1:
        plain = decompressed(plain, raw_len)
    demand(len(plain) == raw_len, "malformed payload", "length of the plaintext")
    demand(keyed(keys.ids[kind], plain) == id, "malformed payload", "another id")
    return plain


def decompressed(frame, raw_len):
    try:
        demand(frame[:4] == b"\x28\xb5\x2f\xfd", "malformed payload", "not a zstd frame")
        demand(zstandard.frame_content_size(frame) == raw_len, "malformed payload", "size in the zstd frame")
        return zstandard.ZstdDecompressor().decompress(frame, max_output_size=raw_len, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Refused("malformed payload", str(error)) from None


# Page 5: encoding.

class Decoder:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        demand(count <= len(self.data) - self.at, "encoding", "cut short")
        self.at += count
        return self.data[self.at - count:self.at]

    def number(self, bits):
        first = self.take(1)[0]
        if first <= 250:
            return first
        demand(first <= 253, "encoding", "number")
        size = 1 << (first - 250)
        value = int.from_bytes(self.take(size), "little")
        demand(value > (250 if size == 2 else (1 << 4 * size) - 1), "encoding", "number not the shortest")
        demand(value < 1 << bits, "encoding", "number too large")
        return value

    def u32(self):
        return self.number(32)

    def u64(self):
        return self.number(64)

    def i64(self):
        value = self.number(64)
        return value >> 1 if value & 1 == 0 else -(value >> 1) - 1

    def flag(self):
        value = self.take(1)[0]
        demand(value <= 1, "encoding", "bool")
        return value == 1

    def bytes(self):
        return self.take(self.u64())

    def list(self, element):
        count = self.u64()  # every element has at least one byte
        demand(count <= len(self.data) - self.at, "encoding", "cut short")
        return [element() for _ in range(count)]

    def time(self, failure):
        seconds, nanoseconds = self.i64(), self.u32()
        demand(nanoseconds < 10**9, failure, "time")
        return seconds * 10**9 + nanoseconds

    def end(self):
        demand(self.at == len(self.data), "encoding", "bytes after the end")


# Page 1: the configuration.

def config(data):
    d = Decoder(data)
    found = {"generation": d.u64(), "created": d.time("configuration"), "sizes": [d.u32() for _ in range(12)]}
    found["reader_features"], found["writer_features"] = d.list(d.u32), d.list(d.u32)
    d.end()
    demand(not found["reader_features"], "unknown feature")
    return found


# Page 5: paths, segments, snapshot roots.

def checked_path(path, failure="path"):
    demand(len(path) <= 65535 and b"\0" not in path, failure, "path")
    for part in path.split(b"/") if path else ():
        demand(part not in (b"", b".", b"..") and len(part) <= 1024, failure, "component of a path")
    return path


def order(path):
    return path.split(b"/") if path else []


Entry = namedtuple("Entry", "path owner mode mtime ctime inode link_group xattrs kind node")
File = namedtuple("File", "size part more torn extents content data total")  # total: data and holes
NODES = ("directory", "file", "link", "fifo", "socket", "character", "disk")


class Rows:
    """Rows are first named in order, each is named, and none stands there twice."""

    def __init__(self, rows, names, failure):
        self.rows, self.named, self.failure = rows, 0, failure
        demand(len(set(names)) == len(rows), failure, "a row twice")

    def row(self, number):
        demand(number < len(self.rows), "manifest", "a row that is not there")
        demand(number <= self.named, self.failure, "rows out of order")
        self.named = max(self.named, number + 1)
        return self.rows[number]

    def end(self):
        demand(self.named == len(self.rows), self.failure, "a row that nothing names")


def segment(data):
    d = Decoder(data)
    rows = d.list(lambda: (d.take(32), d.u32(), d.u32()))
    chunks = Rows(rows, [id for id, _, _ in rows], "manifest")
    rows = d.list(lambda: (d.u32(), d.u32(), d.bytes(), d.bytes()))
    owners = Rows(rows, rows, "encoding")  # the encoder derives them
    demand(all(1 <= plain <= PLAIN_MAX for _, plain, _ in chunks.rows), "manifest", "length of a chunk")
    count, entries, before = d.u64(), [], None
    demand(1 <= count <= 65536, "manifest", "number of entries")
    for _ in range(count):
        entry = one_entry(d, chunks, owners, before.path if before else b"")
        demand(before is None or follows(before, entry), "manifest", "order")
        entries.append(entry)
        before = entry
    d.end()
    chunks.end()
    owners.end()
    return entries


def one_entry(d, chunks, owners, before):
    shared, suffix = d.u32(), d.bytes()
    demand(shared <= len(before), "manifest", "shares more than there is")
    demand(shared == len(before) or before[shared:shared + 1] != suffix[:1], "encoding", "could share more")
    path = checked_path(before[:shared] + suffix, "manifest")
    owner, mode = owners.row(d.u32()), d.u32()
    mtime, ctime, inode, link_group = d.time("manifest"), d.time("manifest"), d.u64(), d.u64()
    xattrs = d.list(lambda: (d.bytes(), d.bytes()))
    names = [name for name, _ in xattrs]
    demand(all(name and b"\0" not in name for name in names), "manifest", "name of an extended attribute")
    demand(all(a < b for a, b in zip(names, names[1:])), "manifest", "order of extended attributes")
    demand(sum(len(n) + len(v) for n, v in xattrs) <= MIB, "manifest", "extended attributes too long")
    demand(mode < 1 << 12, "manifest", "mode")
    kind = d.u32()
    demand(kind < len(NODES), "encoding", "node")
    kind, node = NODES[kind], None
    demand(path or kind == "directory", "manifest", "the source is not a directory")
    if kind == "file":
        node = one_file(d, chunks)
    elif kind == "link":
        node = d.bytes()
        demand(1 <= len(node) <= 65535 and b"\0" not in node, "manifest", "target of a link")
    elif kind in ("character", "disk"):
        node = (d.u32(), d.u32())
    return Entry(path, owner, mode, mtime, ctime, inode, link_group, xattrs, kind, node)


def one_file(d, chunks):
    size, part, more, torn = d.u64(), d.u32(), d.flag(), d.flag()
    extents, form = d.list(lambda: (d.u64(), d.u64())), d.u32()
    demand(form <= 2, "encoding", "content")
    content, data = ("empty",), 0
    if form == 1:
        row, offset, data, content_id = d.u32(), d.u32(), d.u32(), d.take(16)
        content = ("packed", chunks.row(row), offset, data, content_id)
        demand(data > 0 and offset + data <= content[1][1], "manifest", "outside its pack")
    elif form == 2:
        content = ("chunked", [chunks.row(row) for row in d.list(d.u32)])
        demand(1 <= len(content[1]) <= 16384, "manifest", "number of chunks")
        data = sum(plain for _, plain, _ in content[1])
    for at, (some, hole) in enumerate(extents):
        demand((some or at == 0) and (hole or at == len(extents) - 1 > 0), "manifest", "extents")
    demand(len(extents) <= 16384, "manifest", "number of extents")
    demand(not extents or sum(some for some, _ in extents) == data, "manifest", "sum of the data")
    total = data + sum(hole for _, hole in extents)
    several = part > 0 or more
    demand(part < (1 << 32) - 1 or not more, "manifest", "number of parts")
    demand(total <= size if several else total == size, "manifest", "size")
    demand(not several or form == 2 or (form == 0 and len(extents) == 1), "manifest", "what a part may be")
    return File(size, part, more, torn, extents, content, data, total)


def follows(before, entry):
    """Whether an entry may come after another one."""
    if before.kind == "file" and before.node.more:
        same = before._replace(node=None) == entry._replace(node=None) and entry.node is not None
        same = same and (entry.node.size, entry.node.torn) == (before.node.size, before.node.torn)
        return same and entry.node.part == before.node.part + 1
    return order(before.path) < order(entry.path) and (entry.kind != "file" or entry.node.part == 0)


class Tree:
    """What goes on from one segment to the next. After a segment that cannot be read it starts anew, `torn`."""

    def __init__(self, torn=False):
        self.before, self.total, self.torn = None, None, torn

    def check(self, entry):
        if self.before:
            demand(follows(self.before, entry), "manifest", "order from one segment to the next")
        elif not self.torn:
            demand(entry.path == b"", "manifest", "does not begin with the source")
        self.before = entry
        if entry.kind != "file" or entry.node.part == 0:
            self.total = 0
        if entry.kind == "file" and self.total is not None:
            self.total += entry.node.total
            good = self.total <= entry.node.size if entry.node.more else self.total == entry.node.size
            demand(good, "manifest", "sum of the parts")

    def unfinished(self):
        return self.before is not None and self.before.kind == "file" and self.before.node.more


Root = namedtuple("Root", "time host user source label program totals complete generation follows sparse segments")


def snapshot_root(data):
    d = Decoder(data)
    demand(data[:1] in (b"", b"\x01"), "unknown version", "snapshot root")
    d.u32()
    root = Root(d.time("manifest"), d.bytes(), d.bytes(), d.bytes(), d.bytes(), d.bytes(), [d.u64() for _ in range(5)],
                d.flag(), d.u64(), d.list(lambda: d.take(32)), d.list(lambda: d.take(32)),
                d.list(lambda: (d.take(32), d.u32(), d.u32(), d.bytes())))
    d.end()
    demand(len(root.follows) <= 64 and len(root.sparse) <= 256, "manifest", "too many in a list")
    paths = [checked_path(path, "manifest") for _, _, _, path in root.segments]
    demand(paths and paths[0] == b"", "manifest", "the first segment")
    demand(all(order(a) <= order(b) for a, b in zip(paths, paths[1:])), "manifest", "order of segments")
    demand(all(1 <= count <= 65536 for _, _, count, _ in root.segments), "manifest", "number of entries")
    sums = [sum(count for _, _, count, _ in root.segments), root.totals[0], root.totals[1] + root.totals[2]]
    demand(sums[0] >= sums[1] >= sums[2], "manifest", "totals")
    return root
