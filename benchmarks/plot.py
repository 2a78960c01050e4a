"""A plot of a few lines as SVG: enough for a page of documentation, and nothing to install."""

import html
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.floating]

COLOURS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#9c755f", "#17becf", "#79706e")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 340, 56, 150, 34, 44


def plot(
    file: Path, title: str, axes: tuple[str, str], lines: Mapping[str, Points], y: tuple[float, float], dots: bool
) -> None:
    """Write lines through points [n, 2], named at their ends' side; `y` is the range shown, x that of the points.

    `dots`: mark each point. A line whose name starts with a parenthesis is a reference: grey and dashed.
    """
    every = np.concatenate(list(lines.values()))
    x = (float(every[:, 0].min()), float(every[:, 0].max()))

    def place(points: Points) -> Points:
        across = LEFT + (points[:, 0] - x[0]) / (x[1] - x[0]) * (WIDTH - LEFT - RIGHT)
        down = HEIGHT - BOTTOM - (points[:, 1] - y[0]) / (y[1] - y[0]) * (HEIGHT - TOP - BOTTOM)
        return np.stack([across, down], 1)

    parts = [f'<text x="{LEFT}" y="20" font-size="13">{html.escape(title)}</text>']
    for value in np.linspace(*x, 6):
        [[at, base]] = place(np.array([[value, y[0]]]))
        parts.append(f'<text x="{at:.1f}" y="{base + 16:.1f}" text-anchor="middle" fill="#777">{value:.3g}</text>')
    for value in np.linspace(*y, 6):
        [[start, at], [end, _]] = place(np.array([[x[0], value], [x[1], value]]))
        parts.append(f'<path d="M{start:.1f} {at:.1f}H{end:.1f}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{start - 6:.1f}" y="{at + 4:.1f}" text-anchor="end" fill="#777">{value:.3g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{html.escape(axes[0])}</text>')
    parts.append(f'<text transform="translate(14 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">{axes[1]}</text>')
    for number, (name, points) in enumerate(lines.items()):
        reference = name.startswith("(")
        colour = "#999" if reference else COLOURS[number % len(COLOURS)]
        dashes = ' stroke-dasharray="4 4"' if reference else ""
        placed = place(points)
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in placed)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"{dashes}/>')
        if dots and not reference:
            parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in placed]
        row = TOP + 10 + 18 * number
        parts.append(f'<text x="{WIDTH - RIGHT + 12}" y="{row}" fill="{colour}">{html.escape(name.strip("()"))}</text>')
    style = "text{font:11px system-ui,sans-serif}"
    body = "".join(parts)
    file.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}">'
        f'<style>{style}</style><rect width="100%" height="100%" fill="#fff"/>{body}</svg>\n'
    )
