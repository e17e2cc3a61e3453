"""How cost grows with the number of files: a table and a chart over the loads growth-10k, growth-100k and growth-1m."""

from html import escape
from math import log10
from statistics import median

from chart import COLOURS, GREY, text

SHOWN = ("first", "unchanged")
NFZ = "#d37295"
SIDE, HEIGHT, LEFT, TOP, BETWEEN = 300, 240, 60, 50, 90


def points(results, step, value):
    """Program: [(files, median)], by files; `results` have a number of files each (`files`)."""
    found = {}
    for r in results:
        if r["step"] == step and r["status"] in ("ok", "differs"):
            found.setdefault(r["program"], {}).setdefault(r["files"], []).append(value(r))
    return {name: sorted((files, median(values)) for files, values in by.items()) for name, by in found.items()}


def panel(left, title, lines):
    """One step: both scales logarithmic."""
    xs = [log10(files) for line in lines.values() for files, _ in line]
    ys = [log10(max(seconds, 0.01)) for line in lines.values() for _, seconds in line]
    low, high = int(min(ys) // 1), int(-(-max(ys) // 1))
    high = max(high, low + 1)
    first, last = min(xs), max(max(xs), min(xs) + 1)

    def place(files, seconds):
        x = left + (log10(files) - first) / (last - first) * SIDE
        return x, TOP + HEIGHT - (log10(max(seconds, 0.01)) - low) / (high - low) * HEIGHT

    parts = [text(left, TOP - 14, title, size=13)]
    for power in range(low, high + 1):
        y = place(10**first, 10**power)[1]
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + SIDE}" y2="{y:.1f}" stroke="{GREY}" stroke-width="0.5"/>')
        parts.append(text(left - 6, y + 4, f"{10.0**power:g} s", "end", 11))
    for files in sorted({files for line in lines.values() for files, _ in line}):
        parts.append(text(place(files, 1)[0], TOP + HEIGHT + 18, f"{files:,}", "middle", 11))
    return parts + [curve(name, [place(*point) for point in line]) for name, line in lines.items()]


def curve(name, line):
    """One program."""
    colour = COLOURS.get(name, NFZ)
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in line)
    x, y = line[-1]
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}' + text(x + 6, y + 4, name, size=11, fill=colour)


def write(path, results, rtt, step_words):
    """Write the chart; False if there is nothing to show."""
    panels = [(step, points(results, step, lambda r: r["wall_s"])) for step in SHOWN]
    panels = [(step, lines) for step, lines in panels if lines]
    if not panels:
        return False
    parts = [text(LEFT, 18, f"wall time by number of files, {escape(f'{rtt:g}')} ms", size=14)]
    for number, (step, lines) in enumerate(panels):
        parts += panel(LEFT + number * (SIDE + BETWEEN + LEFT), step_words[step], lines)
    width = LEFT + len(panels) * (SIDE + BETWEEN + LEFT)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {TOP + HEIGHT + 40}" '
                   f'font-family="system-ui, sans-serif">\n' + "\n".join(parts) + "\n</svg>\n")
    return True
