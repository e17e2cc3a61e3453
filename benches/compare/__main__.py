"""`python3 benches/compare`: the benchmark of nfz against other programs. See --help and benches/README.md."""

import fcntl
import json
import os
import platform
import shutil
import signal
import sys
import time

import find
import loads
import measure
import options as command_line
import report
import server
from programs import Place
from steps import PLANTED, STEPS, Turn

BAD = ("failed", "limit", "differs")


def steps_for(load, asked):
    """Which steps suit a load."""
    if load.name == "listing":
        return ["init", "first", "listing"]
    suits = ["init", "first", "unchanged"] if load.name in loads.GROWTH else [step for step in STEPS if step != "listing"]
    # Nothing is restored that was not saved.
    return [step for step in suits if not asked or step in asked or step in ("init", "first")]


def machine():
    """What it ran on."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cpu": models[0] if models else platform.machine(), "cores": os.cpu_count(), "memory_bytes": memory,
            "kernel": platform.release(), "ssh": find.version_of(["ssh", "-V"])}


def lock(directory):
    """Two runs must not change the same loads; the file is locked as long as it is open."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    file = open(os.path.join(directory, "lock"), "w", encoding="ascii")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise server.Missing(f"another run uses {directory}: wait for it, or give another --scratch") from error
    return file


class Bench:
    """A run: its options, its server, its results."""

    def __init__(self, options):
        """Find the programs; start the server."""
        self.options, self.limit = options, options.limit
        self.scratch = os.path.join(options.scratch, "run")
        self.planted = 2000 if options.small else PLANTED
        self.results, self.cipher, self._links = [], options.cipher, []
        self._lock = lock(options.scratch)
        shutil.rmtree(self.scratch, ignore_errors=True)
        os.makedirs(self.scratch)
        os.makedirs(options.out, exist_ok=True)
        self.nfz = find.nfz(options.nfz)
        self.peers, self.missing = find.peers(find.ALL if options.peers is None else options.peers, options.peers_dir)
        self.programs = [self.nfz, *self.peers]
        self._file = open(os.path.join(options.out, "results.jsonl"), "w", encoding="utf-8")
        self.server = server.Server(self.scratch)
        self.about = {"machine": machine(), "scratch": options.scratch, "began": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
                      "limit_s": options.limit, "bandwidth_mbit": options.bandwidth, "rounds": options.rounds, "small": options.small, "missing": self.missing,
                      "programs": {program.name: program.version for program in self.programs}, "loads": {}}

    def infrastructure(self):
        """Processes of ours that belong to no program."""
        return {self.server.pid, *(link.pid for link in self._links if link.pid)}

    def take(self, result):
        """Keep a result, write it down, say it."""
        self.results.append(result)
        self._file.write(json.dumps({**result, "machine": self.about["machine"], "at": time.time()}) + "\n")
        self._file.flush()
        print(report.line(result), flush=True)

    def run(self):
        """All loads, links and rounds."""
        for name in self.options.loads:
            try:
                load = loads.Load(name, os.path.join(self.options.scratch, "loads"), self.options.small, self.options.source)
            except loads.Unavailable as why:
                print(f"{name}: {why}", file=sys.stderr)
                self.about["missing"].append(f"load {name}: {why}")
                continue
            self._load(load)
            if self.options.discard:
                load.remove()

    def _load(self, load):
        """One load over all links."""
        files, size = load.warm()
        self.about["loads"][load.name] = {"files": files, "bytes": size}
        for rtt in self.options.rtt:
            link = server.Link(self.server, rtt, self.options.bandwidth)
            self._links.append(link)
            try:
                self.cipher = self.cipher or self._probe_cipher(link, load)
                self._rounds(load, link)
            finally:
                link.stop()
                self._links.remove(link)

    def _rounds(self, load, link):
        """So many rounds, the order of programs rotating."""
        steps = steps_for(load, self.options.steps)
        for number in range(self.options.rounds):
            load.warm()
            turn = number % len(self.programs)
            for program in self.programs[turn:] + self.programs[:turn]:
                Turn(self, program, load, link, number).run(steps)

    def _probe_cipher(self, link, load):
        """The cipher that nfz and this server agree on, from sshd's log of an init."""
        place = Place(link, load, self.scratch, "probe", None)
        place.ready()
        log = self.server.log_size()
        measure.run(self.nfz.init(place), self.limit, self.infrastructure(), place.scratch)
        link.settle()
        seen = self.server.ciphers(log)
        for path in (place.scratch, place.repository):
            shutil.rmtree(path, ignore_errors=True)
        return seen[0] if len(seen) == 1 else None

    def finish(self):
        """Tables, charts, and whether all is well."""
        self.about["cipher"] = self.cipher
        report.write(self.results, self.about, self.options.out, self.options.markdown)
        if not self.results:
            return 1
        judged = self.results if self.options.small else [r for r in self.results if r["program"] == "nfz"]
        return 1 if any(result["status"] in BAD for result in judged) else 0

    def stop(self):
        """End the server; take the scratch files away."""
        self.server.stop()
        self._file.close()
        shutil.rmtree(self.options.scratch if self.options.small else self.scratch, ignore_errors=True)


def main():
    """Run and report."""
    options = command_line.parse()
    # So that the server and the relay are ended then too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    measure.become_subreaper()
    try:
        bench = Bench(options)
    except server.Missing as why:
        print(f"benches/compare: {why}", file=sys.stderr)
        return 2
    try:
        bench.run()
        return bench.finish()
    finally:
        bench.stop()


if __name__ == "__main__":
    sys.exit(main())
