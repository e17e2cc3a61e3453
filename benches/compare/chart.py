"""The chart: for each step a bar a peer, nfz's wall time divided by the peer's, on a logarithmic scale.

A bar to the left of the middle line: nfz is faster. The thin line spans the least and the greatest ratio seen.
"""

from html import escape
from math import log10
from statistics import median

COLOURS = {"restic": "#4e79a7", "restic-nocache": "#86a8cc", "rustic": "#b07aa1", "borg": "#59a14f", "rclone": "#f28e2b",
           "nfreezer": "#e15759", "sftp": "#9c755f", "pipe": "#8a8f96"}
GREY = "#808080"
LEFT, WIDTH, RIGHT = 150, 520, 90
BAR, GAP, TOP = 14, 12, 64
LOWEST, HIGHEST = -2, 1


def across(ratio):
    """Where a ratio lies."""
    place = min(max(log10(ratio), LOWEST), HIGHEST)
    return LEFT + (place - LOWEST) / (HIGHEST - LOWEST) * WIDTH


def text(x, y, words, anchor="start", size=12, fill=GREY):
    """A piece of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{fill}">{escape(words)}</text>'


def axis(bottom):
    """The scale, and the line where both are as fast."""
    parts = []
    for ratio in (0.01, 0.03, 0.1, 0.3, 1, 3, 10):
        x = across(ratio)
        strength = 'stroke-width="1.5"' if ratio == 1 else 'stroke-width="0.5" stroke-dasharray="2 3"'
        parts.append(f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{bottom}" stroke="{GREY}" {strength}/>')
        parts.append(text(x, TOP - 12, f"{ratio:g}", "middle", 11))
    return parts


def bar(y, peer, ratios):
    """One peer in one step."""
    middle, centre = across(1), y + BAR / 2
    x = across(median(ratios))
    left, width = min(x, middle), max(abs(x - middle), 1)
    low, high = across(min(ratios)), across(max(ratios))
    words = f"{median(ratios):.2f} {peer}"
    beside = text(max(x, high, middle) + 5, y + BAR - 3, words, size=11)
    return [
        f'<rect x="{left:.1f}" y="{y}" width="{width:.1f}" height="{BAR - 2}" rx="2" fill="{COLOURS.get(peer, GREY)}"/>',
        f'<line x1="{low:.1f}" y1="{centre - 1}" x2="{high:.1f}" y2="{centre - 1}" stroke="{GREY}" stroke-width="1.5"/>',
        beside,
    ]


def write(path, table, title, step_words):
    """Write the chart; False if there is nothing to show."""
    peers = [name for name in table.programs if name != "nfz"]
    groups = [(step, [(peer, table.ratios(step, peer)) for peer in peers]) for step in table.steps]
    groups = [(step, [(peer, ratios) for peer, ratios in bars if ratios]) for step, bars in groups]
    groups = [(step, bars) for step, bars in groups if bars]
    if not groups:
        return False
    parts, y = [], TOP
    for step, bars in groups:
        parts.append(text(LEFT - 10, y + len(bars) * BAR / 2 + 4, step_words[step], "end"))
        for peer, ratios in bars:
            parts += bar(y, peer, ratios)
            y += BAR
        y += GAP
    head = [text(LEFT, 20, f"nfz / peer, wall time: {title}", size=14), text(LEFT, 36, "left of 1: nfz is faster", size=11)]
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + RIGHT} {y}" '
                   f'font-family="system-ui, sans-serif">\n' + "\n".join(head + axis(y - GAP) + parts) + "\n</svg>\n")
    return True
