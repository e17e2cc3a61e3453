"""Calls nFreezer's own functions without a terminal; run by the Python that has it.

nFreezer logs in with a password, at port 22, and checks the host key against ~/.ssh/known_hosts. Here the port is the relay's,
and the login is by key; nothing else is changed: all work and all transfers are nFreezer's, pysftp's and paramiko's.
"""

import os
import sys

import nfreezer
import pysftp

OPEN = pysftp.Connection


def connect(host, username=None, password=None):
    """What nFreezer calls."""
    known = pysftp.CnOpts(knownhosts=os.environ["NFREEZER_KNOWN_HOSTS"])
    return OPEN(host, username=username, private_key=os.environ["NFREEZER_KEY"], port=int(os.environ["NFREEZER_PORT"]), cnopts=known)


def main():
    """backup|restore SOURCE TARGET."""
    pysftp.Connection = connect
    verb, source, target = sys.argv[1:]
    if verb == "restore":
        os.makedirs(target, exist_ok=True)
    call = nfreezer.backup if verb == "backup" else nfreezer.restore
    call(src=source, dest=target, sftppwd="", encryptionpwd=os.environ["NFREEZER_PASSWORD"])


main()
