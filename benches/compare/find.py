"""Finds the programs: in PATH, and in the directory that peers.sh fills."""

import os
import shutil
import subprocess

from plainer import Nfreezer, Pipe, Rclone, Sftp
from programs import Borg, Nfz, Restic, Rustic, version_of
from server import Missing

PROJECT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
ALL = ("restic", "rustic", "borg", "rclone", "nfreezer", "sftp", "pipe")
# Found only if asked for by name.
VARIANTS = ("restic-nocache",)
ASKED = {"restic": "version", "rclone": "version", "borg": "--version", "rustic": "--version"}
KINDS = {"restic": Restic, "rustic": Rustic, "borg": Borg, "rclone": Rclone, "nfreezer": Nfreezer, "sftp": Sftp, "pipe": Pipe}


def target():
    """Where cargo builds."""
    return os.path.abspath(os.environ.get("CARGO_TARGET_DIR", os.path.join(PROJECT, "target")))


def nfz(given):
    """nfz: the one given, or this project's, built if it is not there."""
    path = os.path.abspath(given or os.path.join(target(), "release", "nfz"))
    if not os.path.exists(path):
        if given:
            raise Missing(f"there is no {given}")
        subprocess.run(["cargo", "build", "--release", "--locked"], cwd=PROJECT, check=True)
    return Nfz("nfz", path, version_of([path, "--version"]))


def program(name, directory):
    """The peer of this name, or None."""
    base = name.removesuffix("-nocache")
    path = which({"pipe": "ssh"}.get(base, base), directory)
    if path is None:
        return None
    version = version_of_peer(base, path)
    if name == "restic-nocache":
        return Restic(name, path, version, cache=False)
    return KINDS[base](name, path, version)


def which(name, directory):
    """What peers.sh fetched, which is newer, or what PATH has."""
    fetched = os.path.join(directory, "bin", name)
    return os.path.abspath(fetched) if os.access(fetched, os.X_OK) else shutil.which(name)


def version_of_peer(name, path):
    """What it says of itself."""
    if name in ASKED:
        said = version_of([path, ASKED[name]])
        return " ".join(said.split(" compiled ")[0].split())
    if name == "nfreezer":
        python = os.path.join(os.path.dirname(os.path.realpath(path)), "python")
        return "nFreezer " + version_of([python, "-c", "from importlib.metadata import version as v; print(v('nfreezer'))"])
    return version_of(["ssh", "-V"]).split(",")[0]


def peers(names, directory):
    """All that were asked for and are there, and the names of those that are not."""
    found = [(name, program(name, directory)) for name in names]
    return [peer for _, peer in found if peer], [name for name, peer in found if not peer]
