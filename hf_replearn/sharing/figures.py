"""Figures of the page, as SVG that takes its colours from the page's style.

Every text that comes from data is escaped: `Markup.format` does so for whatever is not Markup itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

WIDTH, HEIGHT = 640, 340
LEFT, RIGHT, TOP, BOTTOM = 66, 26, 14, 48
COLOURS = 10  # that the style has: c0 … c9
SHAPES = (
    "M{x},{y}h0",
    "M{x},{y}m-9,-9l18,18m0,-18l-18,18",
    "M{x},{y}m-11,0h22m-11,-11v22",
    "M{x},{y}m-9,9l9,-18l9,18z",
)
CUT = 14  # characters of a class's name
DASHES = ("", "6 3", "2 3", "8 3 2 3")
MANY_CLASSES = 30  # more have no names beside a confusion matrix and no legend


def whole_numbers(points) -> list[list[int]]:
    """Points (N, 2) moved into the middle of the square of 0 … 1000, without changing their shape."""
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    scale = max(float((points.max(axis=0) - points.min(axis=0)).max()), 1e-12)
    return (500 + (points - middle) / scale * 1000).round().astype(int).tolist()


def line_chart(
    curves: dict[str, Sequence[tuple[float, float, float]]], *, x: str, y: str, log: bool = False
) -> Markup | None:
    """Lines with bands. curves: name -> (x, y, half width of the band or 0), ascending in x; log: of the x axis.

    None where there is nothing to draw.
    """
    curves = {
        name: [(u, v, h or 0.0) for u, v, h in points if v is not None and math.isfinite(v)]
        for name, points in curves.items()
    }
    curves = {name: points for name, points in curves.items() if points}
    if not curves:
        return None
    every = [point for points in curves.values() for point in points]
    first = min(u for u, _, _ in every)  # K examples may be none
    place = (lambda u: math.log2(u + (first == 0))) if log else float
    low_x, high_x = place(min(u for u, _, _ in every)), place(max(u for u, _, _ in every))
    ticks = round_ticks(min(v - h for _, v, h in every), max(v + h for _, v, h in every))
    low_y, high_y = ticks[0], ticks[-1]

    def at(u: float, v: float) -> str:
        across = (place(u) - low_x) / ((high_x - low_x) or 1)
        up = (v - low_y) / ((high_y - low_y) or 1)
        return f"{LEFT + across * (WIDTH - LEFT - RIGHT):.1f},{HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM):.1f}"

    parts = []
    for tick in ticks:
        level = at(every[0][0], tick).split(",")[1]
        parts.append(f'<path class="grid" d="M{LEFT},{level}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{level}" dy="4" text-anchor="end">{tick:g}</text>')
    marks = sorted({u for u, _, _ in every}) if log else round_ticks(min(every)[0], max(every)[0])
    if all(u == int(u) for u, _, _ in every):  # there is no layer 1.5
        marks = [mark for mark in marks if mark == int(mark)]
    for mark in marks:
        if low_x <= place(mark) <= high_x:
            across = at(mark, low_y).split(",")[0]
            parts.append(f'<text x="{across}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{number(mark)}</text>')
    for index, points in enumerate(curves.values()):
        style = f'class="c{index % COLOURS}"'
        band = [at(u, v + h) for u, v, h in points] + [at(u, v - h) for u, v, h in reversed(points)]
        if any(h for _, _, h in points):
            parts.append(f'<path {style} stroke="none" fill="currentColor" fill-opacity=".16" d="M{"L".join(band)}Z"/>')
        line = "L".join(at(u, v) for u, v, _ in points)
        dash = DASHES[index // COLOURS % len(DASHES)] or DASHES[index % len(DASHES)]
        parts.append(
            f'<path {style} fill="none" stroke="currentColor" stroke-width="2" stroke-dasharray="{dash}" d="M{line}"/>'
        )
        if len(points) <= 20:
            parts += [
                f'<circle {style} fill="currentColor" r="3" cx="{u}" cy="{v}"/>'
                for u, v in (at(u, v).split(",") for u, v, _ in points)
            ]
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) // 2}" y="{HEIGHT - 6}" text-anchor="middle">')
    label = Markup("{}</text>").format(x)
    ends = ", ".join(f"{name} from {points[0][1]:.3g} to {points[-1][1]:.3g}" for name, points in curves.items())
    svg = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg>').format(
        WIDTH, HEIGHT, f"{y} over {x}: {ends}", Markup("".join(parts)), label
    )
    return svg + legend(list(curves)) if len(curves) > 1 else svg  # of one run, the page says which


def scatter(points: Sequence[Sequence[float]], labels: Sequence[int], names: Sequence[str], *, title: str) -> Markup:
    """A map of points of 0 … 1000: ten colours, then the same in another shape. Its class is told where one points."""
    groups: dict[int, list[str]] = {}
    for (across, up), label in zip(points, labels, strict=True):
        shape = SHAPES[label // COLOURS % len(SHAPES)]
        groups.setdefault(label, []).append(shape.format(x=across, y=1000 - up))
    drawn = Markup("")
    for label in sorted(groups):
        name = names[label] if label < len(names) else str(label)
        drawn += Markup('<g class="c{} s{}"><title>{}</title><path d="{}"/></g>').format(
            label % COLOURS, label // COLOURS % len(SHAPES), name, "".join(groups[label])
        )
    return Markup('<svg class="map" viewBox="-20 -20 1040 1040" role="img" aria-label="{}">{}</svg>').format(
        f"{title}: {len(points)} test examples, coloured by class", drawn
    )


def class_legend(names: Sequence[str]) -> Markup:
    """The classes of a map beside their colour and shape."""
    items = Markup("")
    for index, name in enumerate(names):
        shape = SHAPES[index // COLOURS % len(SHAPES)].format(x=0, y=0)
        items += Markup(
            '<li><svg class="dot c{} s{}" viewBox="-16 -16 32 32" aria-hidden="true"><path d="{}"/></svg>{}</li>'
        ).format(index % COLOURS, index // COLOURS % len(SHAPES), shape, name)
    return Markup('<ul class="legend">{}</ul>').format(items)


def legend(names: Sequence[str]) -> Markup:
    """The lines of a chart beside their colour and dashes."""
    items = Markup("")
    for index, name in enumerate(names):
        dash = DASHES[index // COLOURS % len(DASHES)] or DASHES[index % len(DASHES)]
        items += Markup(
            '<li><svg class="key c{}" viewBox="0 0 24 8" aria-hidden="true"><path d="M0,4H24" stroke="currentColor" '
            'stroke-width="2.5" stroke-dasharray="{}"/></svg>{}</li>'
        ).format(index % COLOURS, dash, name)
    return Markup('<ul class="legend">{}</ul>').format(items)


def confusion(table: Sequence[Sequence[int]], names: Sequence[str], *, title: str) -> Markup:
    """Classes (lines) told as classes (columns), darker for a larger share of the line; and the worst mistakes."""
    size = len(table)
    cell, left = 460 / size, 112 if size <= MANY_CLASSES else 12
    parts = Markup("")
    for row, counts in enumerate(table):
        total = sum(counts) or 1
        for column, count in enumerate(counts):
            if not count:
                continue
            told = f"{names[row]} told as {names[column]}: {100 * count / total:.0f} % ({count} of {total})"
            parts += Markup(
                '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill="currentColor" fill-opacity="{:.3f}">'
                "<title>{}</title></rect>"
            ).format(left + column * cell, row * cell, cell, cell, count / total, told)
            if size <= 12:
                parts += Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="middle">{:.0f}</text>').format(
                    "on" if count / total > 0.55 else "off",
                    left + (column + 0.5) * cell,
                    (row + 0.5) * cell + 5,
                    100 * count / total,
                )
    for place, name in enumerate(names if size <= MANY_CLASSES else []):
        middle = (place + 0.5) * cell
        parts += Markup('<text x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
            left - 6, middle + 5, cut(name, CUT)
        )
        parts += Markup('<text transform="translate({:.1f},474) rotate(-45)" text-anchor="end">{}</text>').format(
            left + middle + 4, cut(name, CUT)
        )
    right = sum(table[i][i] for i in range(size)) / max(1, sum(map(sum, table)))
    worst = mistakes(table, names)
    small = " small" if 12 < size <= MANY_CLASSES else ""
    longest = max((len(cut(name, CUT)) for name in names), default=0) if size <= MANY_CLASSES else 0
    svg = Markup('<svg class="matrix{}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        small,
        left + 472,
        484 + 7 * longest,
        f"{title}: {right:.1%} right; most often {worst[0] if worst else 'nothing'} is mistaken",
        parts,
    )
    lines = Markup("").join(Markup("<li>{}</li>").format(line) for line in worst)
    listed = Markup('<p class="note">Most frequent mistakes, as a share of the class:</p><ol class="mistakes">{}</ol>')
    return svg + listed.format(lines) if worst else svg


def telling(names: Sequence[str], numbers: Sequence[int], shares: Sequence[Sequence[float]], *, title: str) -> Markup:
    """Factors (lines) and numbers of a code (columns), darker where a number tells more of a factor.

    shares: of each number, those of each factor's entropy, 0 … 1.
    """
    cell, left, top = min(40.0, 460 / max(1, len(numbers))), 112, 26
    high = 36
    parts = Markup("")
    for column, (number_, line) in enumerate(zip(numbers, shares, strict=True)):
        across = left + column * cell
        parts += Markup('<text x="{:.1f}" y="18" text-anchor="middle">{}</text>').format(across + cell / 2, number_)
        for row, share in enumerate(line):
            told = f"number {number_} tells {share:.0%} of {names[row]}"
            parts += Markup(
                '<rect x="{:.1f}" y="{}" width="{:.1f}" height="{}" fill="currentColor" fill-opacity="{:.3f}">'
                "<title>{}</title></rect>"
            ).format(across + 1, top + row * high + 1, cell - 2, high - 2, 0.04 + 0.96 * min(1.0, share), told)
            if cell >= 28 and share >= 0.095:
                parts += Markup('<text class="{}" x="{:.1f}" y="{}" text-anchor="middle">{:.0f}</text>').format(
                    "on" if share > 0.55 else "off", across + cell / 2, top + row * high + high // 2 + 5, 100 * share
                )
    for row, name in enumerate(names):
        parts += Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(
            left - 8, top + row * high + high // 2 + 5, cut(name, CUT)
        )
    size = (left + 464, top + high * len(names) + 4)
    best = [max((line[row] for line in shares), default=0.0) for row in range(len(names))]
    most = ", ".join(f"{name} {share:.0%}" for name, share in zip(names, best, strict=True))
    return Markup('<svg class="matrix small" viewBox="0 0 {:.0f} {}" role="img" aria-label="{}">{}</svg>').format(
        *size, f"{title}; most that one number tells: {most}", parts
    )


def mistakes(table: Sequence[Sequence[int]], names: Sequence[str], *, most: int = 5) -> list[str]:
    """ "cat taken for dog: 31 %" of the pairs with the largest shares."""
    shares = [
        (count / sum(counts), names[row], names[column])
        for row, counts in enumerate(table)
        for column, count in enumerate(counts)
        if count and row != column
    ]
    shares.sort(key=lambda found: -found[0])
    return [f"{true} taken for {told}: {share:.0%}" for share, true, told in shares[:most]]


def cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def number(value: float) -> str:
    """1,500 or 0.25."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def round_ticks(low: float, high: float, *, most: int = 6) -> list[float]:
    """Round numbers, at most about `most`, from at or below low to at or above high."""
    if high <= low:
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / most
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * index, 12) for index in range(first, last + 1)]
