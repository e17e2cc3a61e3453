"""One program's turn in one round: every step in order, each measured, what depends on a failed step skipped."""

import os
import shutil

import measure
import trees
from plainer import SHARDS
from programs import Place

STEPS = ("init", "first", "unchanged", "renamed", "edited", "restore", "one", "verify", "listing")
SYNCS = ("first", "unchanged", "renamed", "edited")
PLANTED = 100_000


class Turn:
    """A program, a load, a link, a round."""

    def __init__(self, bench, program, load, link, number):
        """`bench` has the options and takes the results."""
        self.bench, self.program, self.load, self.link, self.number = bench, program, load, link, number
        self.place = Place(link, load, bench.scratch, program.name, bench.cipher)
        self.lost = None

    def run(self, steps):
        """All of these steps; the load is as before afterwards, and the server empty."""
        self._clear()
        self.place.ready()
        try:
            self.program.prepare(self.place)
            for step in STEPS:
                if step in steps:
                    self._step(step)
        finally:
            self.load.undo()
            self._clear()

    def _clear(self):
        for path in (self.place.scratch, self.place.repository):
            shutil.rmtree(path, ignore_errors=True)

    def _step(self, step):
        """Change the load if the step says so, measure, look at the result, tell."""
        if self.program.syncs_again and not self.lost:
            self._change(step)
        result = self._result(step)
        if result["status"] in ("limit", "failed") and step in ("init", *SYNCS):
            self.lost = step
        self.bench.take({**self._what(step), **result})
        for path in (self.place.out, self.place.out_one):
            remove(path)

    def _change(self, step):
        """The tree as the step wants it; it stays so for the steps that follow."""
        if step == "renamed":
            self.load.rename()
        elif step == "edited":
            self.load.edit()

    def _what(self, step):
        """What is measured."""
        return {
            "load": self.load.name, "rtt_ms": self.link.rtt, "bandwidth_mbit": self.link.bandwidth, "round": self.number,
            "step": step, "program": self.program.name, "version": self.program.version,
        }

    def _result(self, step):
        """What was seen."""
        if self.lost:
            return {"status": "skipped", "message": f"{self.lost} did not succeed"}
        if step == "listing" and self.program.shards(self.place):
            plant(self.program.shards(self.place), self.bench.planted)
        command = getattr(self.program, "sync" if step in SYNCS else step)(self.place)
        if command is None:
            return {"status": "absent", "message": ""}
        result = self._measure(command)
        if result["status"] == "ok":
            result.update(self._wrong(step))
        if step in (*SYNCS, "listing"):
            result.update(stored(self.place.repository))
        return result

    def _measure(self, command):
        """Run it between two readings of the counters."""
        link, server = self.link, self.link.server
        link.settle()
        before, log = link.counted(), server.log_size()
        costs = server.cpu(), link.cpu()
        result = measure.run(command, self.bench.limit, self.bench.infrastructure(), self.place.scratch)
        link.settle()
        after = link.counted()
        result.update({name: after[name] - before[name] for name in ("up", "down", "connections") if name in after})
        result["server_cpu_s"] = round(server.cpu() - costs[0], 2)
        result["relay_cpu_s"] = round(link.cpu() - costs[1], 2)
        result["ciphers"] = server.ciphers(log)
        result["argv"] = command.argv
        return result

    def _wrong(self, step):
        """What is wrong with what was restored: all of it in the first round, the single file always."""
        if step == "restore" and self.number == 0 and self.program.restored(self.place):
            found = trees.compare(self.load.tree, self.program.restored(self.place), self.program.faithful)
        elif step == "one":
            found = self._one_differs()
        else:
            return {}
        return {"status": "differs", "message": "restored, but differs: " + "; ".join(found)} if found else {}

    def _one_differs(self):
        restored = self.program.restored_one(self.place)
        if not os.path.isfile(restored):
            return [f"{self.load.one}: missing"]
        return [] if trees.same_content(os.path.join(self.load.tree, self.load.one), restored) else [f"{self.load.one}: content"]


def remove(path):
    """A tree or a file, if it is there."""
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.exists(path):
        os.remove(path)


def stored(repository):
    """Objects on the server, and their bytes."""
    count = total = 0
    for directory, _, names in os.walk(repository):
        count += len(names)
        total += sum(os.lstat(os.path.join(directory, name)).st_size for name in names)
    return {"objects": count, "stored": total}


def plant(shards, count):
    """Objects that nobody asked for, of 512 bytes, under names as chunks have them, evenly over 256 directories."""
    for number in range(count):
        shard = SHARDS[number % len(SHARDS)]
        if number < len(SHARDS):
            os.makedirs(os.path.join(shards, shard), exist_ok=True)
        name = shard + f"{number * 0x9E3779B97F4A7C15 % (1 << 248):062x}"
        with open(os.path.join(shards, shard, name), "wb") as file:
            file.write(bytes(512))
