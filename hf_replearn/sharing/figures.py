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
DASHES = ("", "6 3", "2 3", "8 3 2 3")
MANY_CLASSES = 30  # more are not written beside a confusion matrix


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
    place = math.log2 if log else float
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
    return svg + legend(list(curves), dashed=True)


def scatter(points: Sequence[Sequence[int]], labels: Sequence[int], *, title: str) -> Markup:
    """A map of points of 0 … 1000, one colour a class (ten colours, then again)."""
    paths = {}
    for (across, up), label in zip(points, labels, strict=True):
        paths.setdefault(label, []).append(f"M{across},{1000 - up}h0")
    drawn = "".join(f'<path class="c{label % COLOURS}" d="{"".join(paths[label])}"/>' for label in sorted(paths))
    return Markup(
        '<svg class="map" viewBox="-20 -20 1040 1040" role="img" aria-label="{}"><g stroke="currentColor" '
        'stroke-width="14" stroke-linecap="round" stroke-opacity=".7">{}</g></svg>'
    ).format(f"{title}: {len(points)} test examples, coloured by class", Markup(drawn))


def legend(names: Sequence[str], *, dashed: bool = False) -> Markup:
    """Names beside their colours, as a list below the figure."""
    items = Markup("")
    for index, name in enumerate(names):
        dash = DASHES[index // COLOURS % len(DASHES)] or DASHES[index % len(DASHES)] if dashed else ""
        items += Markup(
            '<li><svg class="key c{}" viewBox="0 0 24 8" aria-hidden="true"><path d="M0,4H24" stroke="currentColor" '
            'stroke-width="{}" stroke-dasharray="{}"/></svg>{}</li>'
        ).format(index % COLOURS, 2.5 if dashed else 8, dash, name)
    return Markup('<ul class="legend">{}</ul>').format(items)


def confusion(table: Sequence[Sequence[int]], names: Sequence[str], *, title: str) -> Markup:
    """Classes (lines) told as classes (columns); the darker, the larger the share of its line."""
    size = len(table)
    cell = 460 / size
    parts = []
    for row, counts in enumerate(table):
        total = sum(counts) or 1
        for column, count in enumerate(counts):
            if count:
                parts.append(
                    f'<rect x="{100 + column * cell:.1f}" y="{row * cell:.1f}" width="{cell:.1f}" height="{cell:.1f}" '
                    f'fill="currentColor" fill-opacity="{count / total:.3f}"/>'
                )
                if size <= 12:
                    contrast = ' class="on"' if count / total > 0.55 else ' class="off"'
                    parts.append(
                        f'<text{contrast} x="{100 + (column + 0.5) * cell:.1f}" y="{(row + 0.5) * cell + 5:.1f}" '
                        f'text-anchor="middle">{100 * count / total:.0f}</text>'
                    )
    labels = Markup("")
    for place, name in enumerate(names if size <= MANY_CLASSES else []):
        middle = (place + 0.5) * cell
        labels += Markup('<text x="94" y="{:.1f}" text-anchor="end">{}</text>').format(middle + 4, cut(name, 13))
        labels += Markup('<text transform="translate({:.1f},474) rotate(-40)" text-anchor="end">{}</text>').format(
            100 + middle, cut(name, 13)
        )
    right = sum(table[i][i] for i in range(size)) / max(1, sum(map(sum, table)))
    worst = max(((table[i][j], i, j) for i in range(size) for j in range(size) if i != j), default=(0, 0, 0))
    text = f"{title}: {right:.1%} right; most often {names[worst[1]]} is taken for {names[worst[2]]} ({worst[0]} times)"
    return Markup('<svg class="matrix" viewBox="0 0 570 560" role="img" aria-label="{}">{}{}</svg>').format(
        text, Markup("".join(parts)), labels
    )


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
