"""The command line."""

import argparse
import os
import shutil

import find
import loads
from steps import STEPS

DESCRIPTION = """Runs nfz and every other program it finds over the same loads, through sshd and a relay with a round-trip time,
one after the other, and prints what each step cost and how nfz compares. Without options: the source tree and the incompressible
file, three rounds, on loopback and at 50 ms. benches/README.md says what is measured and how."""

EPILOG = """examples:
  benches/compare/peers.sh                            fetch restic, rclone, Borg and nFreezer into target/peers
  python3 benches/compare --small                     does it work? under a minute
  python3 benches/compare --loads source --peers restic --rtt 0,50 --rounds 5
  python3 benches/compare --loads all --rounds 3 --markdown benches/RESULTS.md
"""


def words(text):
    """A list with commas."""
    return [word for word in text.split(",") if word]


def numbers(text):
    """A list of numbers with commas."""
    return [float(word) for word in words(text)]


def parser():
    """All options."""
    made = argparse.ArgumentParser(prog="python3 benches/compare", description=DESCRIPTION, epilog=EPILOG,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    add = made.add_argument
    add("--nfz", metavar="PATH", help="the nfz to measure (target/release/nfz, built if it is not there)")
    add("--loads", type=words, metavar="LIST", help="of source,random,image,small,growth,listing; or all (source,random)")
    add("--peers", type=words, metavar="LIST", help="of " + ",".join(find.ALL + find.VARIANTS) + "; or none (all that are found)")
    add("--peers-dir", metavar="DIR", help="where peers.sh put them (target/peers)")
    add("--steps", type=words, metavar="LIST", help="of " + ",".join(STEPS) + " (all that suit the load)")
    add("--rtt", type=numbers, metavar="LIST", help="round-trip times in ms (0,50)")
    add("--bandwidth", type=float, default=0, metavar="MBIT", help="of the link, each way (no cap)")
    add("--rounds", type=int, metavar="N", help="how often; the order of programs rotates (3)")
    add("--limit", type=float, default=600, metavar="SECONDS", help="a step that takes longer is ended (600)")
    add("--cipher", help="ssh's cipher for sftp and the pipe (the one nfz is seen to use)")
    add("--source", metavar="DIR", help="a tree to take for the load `source` (Debian's linux-source)")
    add("--scratch", metavar="DIR", help="for loads, server and restored trees (/dev/shm if it has 8 GiB free, else target)")
    add("--discard", action="store_true", help="remove each load after its rounds")
    add("--out", metavar="DIR", help="for results.jsonl, results.md and charts (target/compare)")
    add("--markdown", metavar="FILE", help="write the tables there too, its charts beside it")
    add("--small", action="store_true", help="tiny loads, one round: whether it works; fails if any step does")
    return made


def scratch_directory():
    """Memory if there is room, as disks' moods spoil ratios."""
    shm = "/dev/shm"
    if os.path.isdir(shm) and os.access(shm, os.W_OK) and shutil.disk_usage(shm).free > 8 << 30:
        return os.path.join(shm, f"nfz-compare-{os.getuid()}")
    return os.path.join(find.target(), "compare-scratch")


def expand(names):
    """`all` and `growth` stand for several loads."""
    every = ["source", "random", "image", "small", "growth", "listing"]
    named = every if names == ["all"] else names
    return [load for name in named for load in (loads.GROWTH if name == "growth" else (name,))]


def parse(arguments=None):
    """The options, with what follows from them."""
    made = parser()
    options = made.parse_args(arguments)
    small = options.small
    options.loads = expand(options.loads or (["source", "listing"] if small else ["source", "random"]))
    options.peers = [] if options.peers == ["none"] else options.peers
    options.rtt = options.rtt or ([0, 2] if small else [0, 50])
    options.rounds = options.rounds or (1 if small else 3)
    options.peers_dir = options.peers_dir or os.path.join(find.target(), "peers")
    options.scratch = os.path.abspath(options.scratch or scratch_directory())
    # A small round shares nothing with other runs, and leaves nothing.
    options.scratch = os.path.join(options.scratch, f"small-{os.getpid()}") if small else options.scratch
    options.out = os.path.abspath(options.out or os.path.join(find.target(), "compare"))
    check(made, options)
    return options


def check(made, options):
    """Refuse words that are not known."""
    known = (("--loads", options.loads, loads.MAKERS), ("--steps", options.steps or [], STEPS),
             ("--peers", options.peers or [], find.ALL + find.VARIANTS))
    for option, given, allowed in known:
        if unknown := set(given) - set(allowed):
            made.error(f"{option}: not known: {', '.join(sorted(unknown))}")
