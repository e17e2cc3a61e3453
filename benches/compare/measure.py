"""Runs one program and says what it cost.

CPU time is what the kernel accounts for the program and all its descendants: those it waited for come with it (`wait4`), and
those it left behind, such as an ssh that was not waited for, fall to this process, which is a subreaper, and are waited for
here. Peak memory is sampled from /proc every 20 ms: the highest `VmHWM` of the program itself, and the highest sum over its
processes, ssh apart.
"""

import ctypes
import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass, field

PR_SET_CHILD_SUBREAPER = 36
SAMPLE_MS = 20
SEARCH_EVERY = 10
TAIL = 2000


@dataclass
class Command:
    """What to run, and how."""

    argv: list
    env: dict = field(default_factory=dict)
    cwd: str = None
    stdin: str = os.devnull
    ok: tuple = (0,)
    # A condition beyond the exit code: takes what the program printed (not its errors), gives a complaint or None.
    judge: object = None


def become_subreaper():
    """Orphaned descendants fall to this process from now on."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def children(pid):
    """The direct children of a process."""
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                found += [int(child) for child in file.read().split()]
    except OSError:
        pass
    return found


def descendants(pid):
    """The process and everything below it."""
    found = [pid]
    for known in found:
        found += children(known)
    return found


def status(pid):
    """Name, resident and highest resident memory in KiB; None once it has gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            lines = dict(line.split(":", 1) for line in file if ":" in line)
        return lines["Name"].strip(), int(lines["VmRSS"].split()[0]), int(lines["VmHWM"].split()[0])
    except (OSError, KeyError):
        return None


class Memory:
    """Peaks over the samples, in KiB."""

    def __init__(self, pid):
        self._pid, self._tree, self._turn = pid, [pid], 0
        self.own = self.tree = self.ssh = 0

    def sample(self):
        """Look once."""
        if self._turn % SEARCH_EVERY == 0 or self._turn < SEARCH_EVERY:
            self._tree = descendants(self._pid)
        self._turn += 1
        tree = ssh = 0
        for pid in self._tree:
            seen = status(pid)
            if seen is None:
                continue
            name, now, highest = seen
            tree, ssh = (tree, ssh + now) if name == "ssh" else (tree + now, ssh)
            if pid == self._pid:
                self.own = max(self.own, highest)
        self.tree, self.ssh = max(self.tree, tree), max(self.ssh, ssh)


def watch(process, memory, limit):
    """Wait for the end or the limit; True if it ended by itself."""
    handle = os.pidfd_open(process.pid)
    ends = time.monotonic() + limit
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    try:
        while time.monotonic() < ends:
            memory.sample()
            if poll.poll(SAMPLE_MS):
                return True
        return False
    finally:
        os.close(handle)


def kill(pids):
    """End these, and only these."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def reap_orphans(spare, patience=5.0):
    """Wait for what the program left behind; their CPU seconds (user, system). `spare`: children that are none of it."""
    user = system = 0.0
    ends = time.monotonic() + patience
    while left := [pid for pid in children(os.getpid()) if pid not in spare]:
        if time.monotonic() > ends:
            kill(left)
        for pid in left:
            gone, _, usage = os.wait4(pid, os.WNOHANG)
            if gone:
                user, system = user + usage.ru_utime, system + usage.ru_stime
        time.sleep(0.002)
    return user, system


def read(path):
    """What a program printed, the end of it if it is long."""
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - 200_000))
        return file.read().decode("utf-8", "replace")


def run(command, limit, spare, scratch):
    """Run it to its end or for `limit` seconds; a dictionary of what was seen (seconds, KiB)."""
    printed, complained = os.path.join(scratch, "printed"), os.path.join(scratch, "complained")
    with open(command.stdin, "rb") as stdin, open(complained, "wb") as stderr, open(printed, "wb") as stdout:
        began = time.monotonic()
        process = subprocess.Popen(
            command.argv, stdin=stdin, stdout=stdout, stderr=stderr, cwd=command.cwd, env=command.env, start_new_session=True
        )
        memory = Memory(process.pid)
        ended = False
        try:
            ended = watch(process, memory, limit)
        finally:
            # At the limit, and when this run itself is interrupted.
            if not ended:
                kill(descendants(process.pid))
        _, code, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(code)
    user, system = reap_orphans(spare)
    result = {
        "wall_s": round(wall, 4),
        "user_s": round(usage.ru_utime + user, 4),
        "system_s": round(usage.ru_stime + system, 4),
        "left_behind_cpu_s": round(user + system, 4),
        "peak_kib": memory.own,
        "peak_tree_kib": memory.tree,
        "peak_ssh_kib": memory.ssh,
        "exit": process.returncode,
    }
    result.update(verdict(command, limit if not ended else None, process.returncode, (read(printed), read(complained))))
    return result


def verdict(command, over, code, said):
    """Whether that was a success, and the last words if not. `over`: the limit, if it was ended; `said`: output, errors."""
    if over is not None:
        return {"status": "limit", "message": f"> {over:g} s"}
    complaint = command.judge(said[0]) if command.judge else None
    if code not in command.ok:
        return {"status": "failed", "message": f"exit code {code}: {(said[1].strip() or said[0].strip())[-TAIL:]}"}
    if complaint:
        return {"status": "failed", "message": complaint}
    return {"status": "ok", "message": ""}
