"""Pictures of a report as text: charts and maps as SVG, images as data addresses. Colours of lines are the page's."""

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from vssl.arrays import Floats, Pixels

COLOURS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#edc948", "#b07aa1", "#ff9da7", "#9c755f", "#79706e")
SCALE = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]])
"""Viridis at five places, as RGB: equal steps look equal, also without colour vision."""

CHART, MAP = (300, 130), (520, 420)
THUMBNAIL = 136
"""Side in pixels of an image in the page: twice what is shown, for fine screens."""


def chart(title: str, points: Floats) -> str:
    """A line through points [n, 2], with its last value beside the title and its range at the side."""
    width, height = CHART
    left = 44
    placed = fitted(points, width, height, 10)
    placed[:, 0] = left + (placed[:, 0] - 10) / (width - 20) * (width - left - 8)
    placed[:, 1] = placed[:, 1] * (height - 18) / height
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    low, high = points[:, 1].min(), points[:, 1].max()
    bottom, top = (height - 10) * (height - 18) / height, 10 * (height - 18) / height
    ends = dict.fromkeys([(number(high), top), (number(low), bottom)] if high > low else [(number(low), bottom)])
    axis = "".join(
        f'<line class="grid" x1="{left}" x2="{width - 8}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
        for text, y in ends
    )
    return (
        f'<div class="card"><div class="title"><span>{html.escape(title)}</span><b>{number(points[-1, 1])}</b></div>'
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(title)}">{axis}'
        f'<polygon class="under" points="{placed[0, 0]:.1f},{bottom:.1f} {path} {placed[-1, 0]:.1f},{bottom:.1f}"/>'
        f'<polyline class="curve" points="{path}"/><text x="{left}" y="{height - 3}">{points[0, 0]:,.0f}</text>'
        f'<text x="{width - 8}" y="{height - 3}" text-anchor="end">step {points[-1, 0]:,.0f}</text></svg></div>'
    )


def number(value: float) -> str:
    """Three digits, or all of a number that is larger."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def scatter(points: Floats, colours: Sequence[str]) -> str:
    """Dots at [n, 2]."""
    width, height = MAP
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}" fill-opacity=".75"/>'
        for (x, y), colour in zip(fitted(points, width, height, 12), colours, strict=True)
    )
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="map">{dots}</svg>'


def fitted(points: Floats, width: int, height: int, margin: int) -> Floats:
    """Points [n, 2] scaled into a picture, y upwards."""
    low, high = points.min(0), points.max(0)
    share = (points - low) / np.where(high > low, high - low, 1)
    return np.stack(
        [margin + share[:, 0] * (width - 2 * margin), height - margin - share[:, 1] * (height - 2 * margin)], 1
    )


def on_scale(share: float) -> str:
    """Colour of a value between 0 and 1."""
    place = share * (len(SCALE) - 1)
    colour = [round(float(np.interp(place, range(len(SCALE)), channel))) for channel in SCALE.T]
    return "#" + "".join(f"{value:02x}" for value in colour)


def class_legend(names: Sequence[str], most: int = 20) -> str:
    """Names with their colours; of many classes the first ones."""
    shown = "".join(
        f'<span><i style="background:{COLOURS[i % len(COLOURS)]}"></i>{html.escape(name)}</span>'
        for i, name in enumerate(names[:most])
    )
    rest = f"<span>and {len(names) - most:,} more</span>" if len(names) > most else ""
    return f'<div class="legend">{shown}{rest}</div>'


def scale_legend(low: float, high: float) -> str:
    """The colours from certain to uncertain."""
    stops = ", ".join(on_scale(share) for share in np.linspace(0, 1, 5))
    bar = f'<i class="bar" style="background:linear-gradient(90deg, {stops})"></i>'
    return f'<div class="legend"><span>certain, {low:.2f}</span>{bar}<span>{high:.2f}, uncertain</span></div>'


def picture(image: Pixels, caption: str, kind: str = "") -> str:
    """One image [S, S, 3] with its bytes in the page; a large one becomes a thumbnail."""
    file = io.BytesIO()
    if len(image) > THUMBNAIL:
        thumbnail = Image.fromarray(image).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
        thumbnail.save(file, "JPEG", quality=85)
    else:
        Image.fromarray(image).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    text = html.escape(caption)
    return (
        f'<figure class="{kind}"><img src="data:image;base64,{data}" alt="{text}"><figcaption title="{text}">{text}'
        "</figcaption></figure>"
    )
