#!/usr/bin/env python3
"""Sets a password with the words of a recovery kit, in a local copy of a repository. Written from page 2 in spec/."""
import getpass
import os
import re
import secrets
import struct
import sys

from argon2.low_level import Type, hash_secret_raw
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt as seal
from nfz_read import Refused, demand, derive, repository_file

WORDS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "src", "format", "kit-words.txt")


def read_words(words, repo_id):
    """The epoch and the master secret."""
    with open(WORDS, encoding="ascii") as file:
        places = {word[:4]: place for place, word in enumerate(file.read().split())}
    demand("kit", len(words) == 35, all(word[:4].lower() in places for word in words))
    numbers, bits = [places[word[:4].lower()] for word in words], 0
    for line in range(7):
        *carrying, last = numbers[5 * line:5 * line + 5]
        check = derive("kit line", struct.pack("<B4H", line, *carrying))
        demand(f"line {line + 1} of the kit" if __name__ == "__main__" else "kit",
               last == int.from_bytes(check[:2], "little") % 2048)
        for number in carrying:
            bits = bits << 11 | number
    data = (bits >> 4).to_bytes(38, "big")
    demand("kit", bits & 15 == 0, data[34:] == derive("kit", data[:34] + repo_id)[:4])
    return int.from_bytes(data[:2], "little"), data[2:34]


def words_of(text):
    """The words of a kit's page, or words alone."""
    lines = re.findall(r"^\s*[1-7][.:)]?((?:\s+[a-zA-Z]+){5})\s*$", text, re.MULTILINE)
    return " ".join(lines).split() or text.split()


def slot(repo_id, epoch, master, password):
    """A slot that the password opens."""
    cost = 131072, 3, 4
    salt, nonce = secrets.token_bytes(32), secrets.token_bytes(24)
    head = b"NFZK" + struct.pack("<BBH16sHIII", 1, 1, 1, repo_id, epoch, *cost) + salt
    memory, passes, lanes = cost
    stretched = hash_secret_raw(password, salt, passes, memory, lanes, 32, Type.ID, version=0x13)
    kek = derive("key slot", stretched + bytes(32) + head)
    head += nonce + derive("slot commitment", kek)
    return head + seal(master, head, nonce, kek)


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: nfz_kit.py REPOSITORY KIT (a file with the page as text, or only the words)")
    directory = sys.argv[1]
    with open(os.path.join(directory, "nfz-repository"), "rb") as file:
        repo_id = repository_file(file.read(4097))
    with open(sys.argv[2], encoding="utf-8") as file:
        epoch, master = read_words(words_of(file.read()), repo_id)
    password = os.fsencode(os.environ.get("NFZ_PASSWORD") or getpass.getpass("New password: "))
    demand("the password is empty", password)
    os.makedirs(os.path.join(directory, "keys"), exist_ok=True)
    name = os.path.join(directory, "keys", secrets.token_hex(16))
    with open(name, "xb") as file:
        file.write(slot(repo_id, epoch, master, password))
    print(f"The password opens {directory} now, by {name}.")


if __name__ == "__main__":
    try:
        main()
    except (Refused, OSError) as error:
        sys.exit(f"nfz_kit: {error}")
