#!/usr/bin/env python3
"""Checks that the reference reader, and page 4 written out here, meet the vectors in a directory."""
import os
import struct
import sys

import nfz_kit
import nfz_read as nfz
from blake3 import blake3
from nfz_read import Refused


def load(path):
    """The lines of a vector: the key, and all values that it has."""
    lines = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            key, _, value = line.rstrip("\n").partition(":")
            lines.setdefault(key, []).append(value[1:])
    return lines


class Vector(dict):
    def text(self, key):
        return self[key][0]

    def bytes(self, key):
        return bytes.fromhex(self[key][0])

    def optional(self, key):
        return self.bytes(key) if key in self else None

    def numbers(self, key):
        return [int(number) for number in self[key][0].split()]

    def keys_of_repository(self):
        return self.bytes("repo_id"), [bytes.fromhex(master) for master in self["master"]]


def same(found, expected):
    if found != expected:
        raise AssertionError(f"{str(found)[:100]} instead of {str(expected)[:100]}")


def subkeys(vector):
    keys = vector.keys_of_repository()
    for purpose in set(vector) - {"expect", "kind", "master", "repo_id"}:
        same(nfz.subkey(keys, purpose, 2048 if purpose == "cdc gear" else 32), vector.bytes(purpose))


def padding(vector):
    for line in vector["padme"]:
        length, padded = line.split()
        same(nfz.padme(int(length)), int(padded))


def slot(vector):
    def password():
        nfz.demand("wrong credentials", "password" in vector)
        return vector.bytes("password")

    opened = nfz.open_slot(vector.bytes("slot"), password, vector.optional("key_file"))
    same(opened, (vector.bytes("repo_id"), 0, vector.bytes("master")))


def keyring(vector):
    older = nfz.open_keyring(vector.bytes("keyring"), vector.bytes("master"))
    same(b"".join(older), vector.bytes("older"))


def kit(vector):
    found = nfz_kit.read_words(vector.text("words").split(), vector.bytes("repo_id"))
    same(found, (int(vector.text("epoch")), vector.bytes("master")))


def sealed(vector):
    keys = vector.keys_of_repository()
    kind, id, data = vector.text("object_kind"), vector.bytes("id"), vector.bytes("object")
    same(nfz.open_object(keys, kind, id, data), vector.bytes("plaintext"))


def stream(name, length):
    if name == "zeros":
        return bytes(length)
    if name == "xof":
        return blake3(b"nfz vectors stream").digest(length=length)
    lines, total, number = [], 0, 0
    while total < length:
        number += 1
        lines.append(b"line %d\n" % number)
        total += len(lines[-1])
    return b"".join(lines)[:length]


def first_number(key, data):
    return int.from_bytes(nfz.keyed(key, data)[:4], "little")


def cut(data, start, sizes, gear, gate):
    least, average, most = sizes
    n = (average - least) // 1024
    early, late = (min(2**32 // count, 2**32 - 1) for count in (2 * n, n // 2))
    limit, h = min(len(data) - start, most), 0
    for c in range(least, limit):
        h = ((h << 1) + gear[data[start + c]]) & 0xffffffffffffffff
        if h & 0x0000590003530000 == 0:
            if first_number(gate, data[start + c - 64:start + c]) < (early if c < average else late):
                return c
            h = 0
    return limit


def chunks(vector):
    keys, data = vector.keys_of_repository(), stream(vector.text("stream"), int(vector.text("length")))
    gear, gate = struct.unpack("<256Q", nfz.subkey(keys, "cdc gear", 2048)), nfz.subkey(keys, "cdc gate")
    at, found = 0, []
    while at < len(data):
        found.append(cut(data, at, vector.numbers("sizes"), gear, gate))
        at += found[-1]
    same(found, vector.numbers("chunks"))


def packs(vector):
    key, (least, average, _) = nfz.subkey(vector.keys_of_repository(), "pack cut"), vector.numbers("sizes")
    for line in vector["file"]:
        id, length, total, ends = line.split()
        below = (int(length) << 32) // (average - least)
        same(int(total) >= least and first_number(key, bytes.fromhex(id)) < below, ends == "end")


def segment_ends(vector):
    key, average = nfz.subkey(vector.keys_of_repository(), "segment cut"), vector.numbers("sizes")[0]
    for line in vector["path"]:
        path, _, ends = line.rpartition(" ")
        same(first_number(key, path.encode()) < 2**32 // average, ends == "end")


def segment(vector):
    entries = nfz.segment(vector.bytes("bytes"))
    same((len(entries), entries[-1].path), (int(vector.text("entries")), vector.bytes("last_path")))


def root(vector):
    same(len(nfz.snapshot_root(vector.bytes("bytes")).segments), int(vector.text("segments")))


def config(vector):
    found = nfz.newest_config([vector.bytes("bytes")])
    if vector.text("as") == "writer":
        writable(found)
    same(found.generation, int(vector.text("generation")))


def writable(found):
    """What page 1 says a writer checks."""
    nfz.demand("unknown feature", not found.writer_features)
    cmin, cavg, cmax, file_max, pmin, pavg, pmax, files, reach, savg, smax, sbytes = vars(found.sizes).values()
    good = cmin % 2 == cavg % 2 == cmax % 2 == 0 and 1024 <= cmin and cmin + 4096 <= cavg < cmax <= nfz.PLAIN_MAX
    good = good and 1 <= file_max <= pmax and pmin < pavg < pmax <= nfz.PLAIN_MAX and files >= 1 and reach >= 1
    good = good and 1 <= savg <= smax <= 65536 and 1024 <= sbytes <= 4 * nfz.MIB
    nfz.demand("configuration", good)


FORGOTTEN = {"format": "u32", "ids": [32]}
SET_ASIDE = {"format": "u32", "run": 16, "ids": [32]}


def removal(form, vector):
    data = vector.bytes("bytes")
    nfz.demand("unknown version", data[:1] in (b"", b"\x01"))
    ids = nfz.decode(form, data).ids
    nfz.demand("record", 1 <= len(ids) <= 65536, all(a < b for a, b in zip(ids, ids[1:])))
    same(len(ids), int(vector.text("ids")))


def path(vector):
    nfz.components(vector.bytes("bytes"), "path")


def repository_file(vector):
    same(nfz.repository_file(vector.bytes("bytes")), vector.bytes("repo_id"))


KINDS = {
    "subkeys": subkeys, "padding": padding, "slot": slot, "keyring": keyring, "kit": kit, "object": sealed, "chunks": chunks, "packs": packs,
    "segments": segment_ends, "segment": segment, "snapshot root": root, "configuration": config, "path": path,
    "set aside": lambda vector: removal(SET_ASIDE, vector), "forgotten": lambda vector: removal(FORGOTTEN, vector),
    "repository file": repository_file,
}


def outcome(vector):
    try:
        KINDS[vector.text("kind")](vector)
        return "success"
    except Refused as refused:
        return str(refused)
    except AssertionError as wrong:
        return str(wrong)


def main():
    directory = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "..", "vectors")
    names, unmet = sorted(name for name in os.listdir(directory) if name.endswith(".txt")), 0
    for name in names:
        vector = Vector(load(os.path.join(directory, name)))
        found = outcome(vector)
        if found != vector.text("expect"):
            unmet += 1
            print(f"{name}: expected {vector.text('expect')}, found {found}")
    print(f"{len(names)} vectors, {unmet} not met")
    sys.exit(1 if unmet or not names else 0)


if __name__ == "__main__":
    main()
