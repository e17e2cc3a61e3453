"""Turns results into lines, tables and charts."""

import os
from statistics import median

import chart
import growth
from loads import GROWTH
from steps import STEPS

SHORT = {"limit": "over the limit", "failed": "failed", "skipped": "–", "absent": "–", "differs": "differs"}
STEP_WORDS = {
    "init": "init", "first": "first sync", "unchanged": "nothing changed", "renamed": "directory renamed",
    "edited": "0.1 % edited", "restore": "full restore", "one": "one file", "verify": "verify all data", "listing": "list all chunks",
}


def seconds(value):
    """As long as it needs to be."""
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s" if value < 100 else f"{value:.0f} s"


def size(value):
    """Bytes, with a unit."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= scale:
            return f"{value / scale:.{3 if unit == 'GB' else 1}f} {unit}"
    return f"{value:.0f} B"


def cpu(result):
    """CPU seconds of the program with its ssh."""
    return result["user_s"] + result["system_s"]


MEASURES = {
    "wall time": (lambda r: r["wall_s"], seconds),
    "CPU time with ssh": (cpu, seconds),
    "peak memory": (lambda r: r["peak_kib"] * 1024, size),
    "bytes up": (lambda r: r.get("up"), size),
    "bytes down": (lambda r: r.get("down"), size),
    "objects on the server": (lambda r: r["objects"], lambda n: f"{n:,.0f}"),
    "bytes on the server": (lambda r: r["stored"], size),
    "server's CPU time": (lambda r: r["server_cpu_s"], seconds),
}


def line(result):
    """One measurement as it comes."""
    head = f"{result['load']} {result['rtt_ms']:g} ms round {result['round']} {result['program']:9} {result['step']:9} "
    if "wall_s" not in result:
        return head + f"{SHORT[result['status']]} {result['message']}"
    text = head + f"{seconds(result['wall_s']):>8}, CPU {seconds(cpu(result)):>7}, {size(result['peak_kib'] * 1024):>8}"
    if "up" in result:
        text += f", up {size(result['up'])}, down {size(result['down'])}"
    if "objects" in result:
        text += f", {result['objects']} objects {size(result['stored'])}"
    return text if result["status"] == "ok" else f"{text}  {result['status'].upper()}: {result['message']}"


class Table:
    """The results of one load at one round-trip time."""

    def __init__(self, results):
        self._cells = {}
        for result in results:
            self._cells.setdefault((result["step"], result["program"]), []).append(result)
        self.programs = list(dict.fromkeys(result["program"] for result in sorted(results, key=lambda r: r["round"])))
        self.programs.sort(key=lambda name: name != "nfz")
        self.steps = [step for step in STEPS if any(key[0] == step for key in self._cells)]

    def good(self, step, program):
        """The measurements that count, by round: also of what came back different, which is told below the tables."""
        return {r["round"]: r for r in self._cells.get((step, program), []) if r["status"] in ("ok", "differs")}

    def cell(self, step, program, measure):
        """The median with its unit, or why there is none."""
        value, show = MEASURES[measure]
        found = [value(result) for result in self.good(step, program).values() if "objects" in result or "objects" not in measure]
        found = [number for number in found if number is not None]
        if found:
            return show(median(found))
        known = self._cells.get((step, program))
        if not known:
            return "–"
        return f"> {known[0]['wall_s']:.0f} s" if known[0]["status"] == "limit" else SHORT.get(known[0]["status"], "–")

    def ratios(self, step, program, measure="wall time"):
        """nfz's value divided by the peer's, round by round."""
        value, _ = MEASURES[measure]
        mine, theirs = self.good(step, "nfz"), self.good(step, program)
        pairs = [(value(mine[number]), value(theirs[number])) for number in mine if number in theirs]
        return [one / other for one, other in pairs if other]

    def bound(self, step, program):
        """nfz's median divided by the time after which the peer was ended; None if it was not."""
        mine = [r["wall_s"] for r in self.good(step, "nfz").values()]
        ended = [r["wall_s"] for r in self._cells.get((step, program), []) if r["status"] == "limit"]
        return median(mine) / min(ended) if mine and ended else None

    def steps_with(self, measure):
        """Steps that have this measure at all."""
        if measure in ("bytes up", "bytes down"):
            return [s for s in self.steps if any("up" in r for p in self.programs for r in self.good(s, p).values())]
        if measure not in ("objects on the server", "bytes on the server"):
            return self.steps
        return [s for s in self.steps if any("objects" in r for p in self.programs for r in self.good(s, p).values())]


def rows(head, body):
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in body]) + "\n"


def measure_table(table, measure):
    """Medians: a row a step, a column a program."""
    steps = table.steps_with(measure)
    return rows([measure, *table.programs], [[STEP_WORDS[s], *(table.cell(s, p, measure) for p in table.programs)] for s in steps])


def ratio(value):
    """Two digits that mean something."""
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def ratio_table(table, measure):
    """nfz divided by each peer, with the spread."""
    peers = [name for name in table.programs if name != "nfz"]

    def shown(step, peer):
        found = table.ratios(step, peer, measure)
        if not found:
            bound = table.bound(step, peer) if measure == "wall time" else None
            return f"< {ratio(bound)}" if bound else "–"
        return f"{ratio(median(found))} ({ratio(min(found))}–{ratio(max(found))})"

    return rows([f"nfz / peer, {measure}", *peers], [[STEP_WORDS[s], *(shown(s, p) for p in peers)] for s in table.steps])


def limits(results):
    """What failed, was ended, or came back different: once for each step and program."""
    told = {}
    for r in results:
        if r["status"] in ("limit", "failed", "differs"):
            told.setdefault((r["load"], r["rtt_ms"], r["program"], r["step"]), (r["status"], r["message"]))
    lines = [f"- {load}, {rtt:g} ms, {program}, {STEP_WORDS[step]}: {status}: {' '.join(message.split())[-300:]}"
             for (load, rtt, program, step), (status, message) in told.items()]
    return "\n".join(lines) or "Nothing failed or was ended."


def ciphers(results):
    """Which program used which cipher."""
    seen = {}
    for result in results:
        seen.setdefault(result["program"], set()).update(result.get("ciphers", []))
    return ", ".join(f"{name}: {' and '.join(sorted(found))}" for name, found in seen.items() if found)


def heading(about, results):
    """What was run, on what."""
    machine = about["machine"]
    programs = "; ".join(f"{name}: {version}" for name, version in about["programs"].items())
    text = [
        "# nfz and other programs, measured\n",
        f"Made by `python3 benches/compare` at {about['began']}; what is measured and how: [README.md](README.md).\n",
        f"- Machine: {machine['cpu']}, {machine['cores']} cores, {size(machine['memory_bytes'])} of memory, Linux {machine['kernel']}, "
        f"{machine['ssh']}; client, relay and server share it.",
        f"- Programs: {programs}.",
        f"- ssh's ciphers: {ciphers(results)}.",
        f"- Loads, server and restored trees lie in {'memory (tmpfs)' if about['scratch'].startswith('/dev/shm') else 'a directory on disk'}.",
        f"- {about['rounds']} rounds; medians; ratios are taken round by round, with the least and the greatest. "
        f"A step is ended after {about['limit_s']:g} s.",
    ]
    if about["bandwidth_mbit"]:
        text.append(f"- The link carries {about['bandwidth_mbit']:g} Mbit/s each way.")
    if about["missing"]:
        text.append(f"- Not there: {', '.join(about['missing'])}.")
    return "\n".join(text) + "\n"


def section(name, rtt, table, about, charts):
    """One load at one round-trip time."""
    load = about["loads"][name]
    text = [f"## {name}, round-trip time {rtt:g} ms\n", f"{load['files']:,} files, {size(load['bytes'])}.\n"]
    if charts:
        text.append(f"![nfz / peer, wall time: {name}, {rtt:g} ms]({charts})\n")
    text += [measure_table(table, "wall time"), ratio_table(table, "wall time"), measure_table(table, "CPU time with ssh"),
             ratio_table(table, "CPU time with ssh")]
    text += [measure_table(table, measure) for measure in list(MEASURES)[2:]]
    return "\n".join(text)


def growth_sections(results, about, directory):
    """How time grows with the number of files, if that was measured."""
    found = [{**r, "files": about["loads"][r["load"]]["files"]} for r in results if r["load"] in GROWTH]
    parts = []
    for rtt in dict.fromkeys(r["rtt_ms"] for r in found):
        name = f"compare-growth-{rtt:g}ms.svg"
        if growth.write(os.path.join(directory, name), [r for r in found if r["rtt_ms"] == rtt], rtt, STEP_WORDS):
            parts.append(f"## Growth, round-trip time {rtt:g} ms\n\n![wall time by number of files]({name})\n")
    return parts


def write(results, about, out, markdown):
    """The tables to `out`/results.md and to the terminal, to `markdown` too if that is given; charts beside each."""
    for path in filter(None, (os.path.join(out, "results.md"), markdown)):
        text = render(results, about, os.path.dirname(os.path.abspath(path)))
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    print("\n" + text)


def render(results, about, directory):
    """All of the page; its charts are written into the directory."""
    groups = {}
    for result in results:
        groups.setdefault((result["load"], result["rtt_ms"]), []).append(result)
    parts = [heading(about, results)]
    for (load, rtt), found in groups.items():
        table = Table(found)
        name = f"compare-{load}-{rtt:g}ms.svg"
        made = chart.write(os.path.join(directory, name), table, f"{load}, {rtt:g} ms", STEP_WORDS)
        parts.append(section(load, rtt, table, about, name if made else None))
    parts += growth_sections(results, about, directory)
    parts.append("## Limits\n\n" + limits(results) + "\n")
    return "\n".join(parts)
