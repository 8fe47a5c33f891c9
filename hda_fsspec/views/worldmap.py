"""A map of footprints as SVG: land, a grid of degrees, and outlines in the colour of their state.

Land is Natural Earth's 1:50m, which is in the public domain, simplified to a fifth of a degree;
islands of less than some 40 km across are left out.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from hda_fsspec.views.markup import Markup, element
from hda_fsspec.views.outlines import Outline

#: Units of the picture in a degree, which land is stored in.
_UNITS = 10
#: So many characters of outlines are drawn; of more, some that stand for all.
_MOST_CHARACTERS = 120_000
#: A point has some ten characters.
_MOST_POINTS = _MOST_CHARACTERS // 10
#: So few outlines are told of one by one.
_TITLED = 40
#: Of more the insides are hardly coloured, since they hide the land.
_FEW = 12
_WIDEST_DEGREES, _NARROWEST_DEGREES = 220.0, 24.0
_MARGIN = 0.18
_STEPS = (1, 2, 5, 10, 15, 30)
_NUMBER = re.compile(r"-?\d+")


@dataclasses.dataclass(frozen=True, slots=True)
class Drawn:
    """A footprint to be drawn: where, in which class of colour, and what to say of it."""

    outlines: Sequence[Outline]
    state: str
    label: str


@dataclasses.dataclass(frozen=True, slots=True)
class _Window:
    west: float
    south: float
    east: float
    north: float

    @property
    def width(self) -> float:
        return self.east - self.west

    @property
    def digits(self) -> int:
        """The number of decimals of a unit that can be seen."""
        return 0 if self.width > 60 else 1


def draw_map(footprints: Sequence[Drawn], order: Sequence[str]) -> tuple[Markup, int]:
    """Draw footprints.

    Parameters
    ----------
    footprints : sequence of Drawn
        At least one.
    order : sequence of str
        The states, the one that is drawn over all others last.

    Returns
    -------
    tuple
        The picture, and how many of the footprints are in it.
    """
    window = _window([outline for footprint in footprints for outline in footprint.outlines])
    shown = _some(footprints, window)
    x, y = window.west * _UNITS, -window.north * _UNITS
    width, height = window.width * _UNITS, (window.north - window.south) * _UNITS
    picture = element(
        "svg",
        _land(window),
        _grid(window),
        *_shapes(shown, window, order),
        viewBox=f"{x:g} {y:g} {width:g} {height:g}",
        role="img",
        aria_label=f"map of {len(shown)} footprints, {_place(window)}",
    )
    return picture, len(shown)


def place_of(footprints: Sequence[Drawn]) -> str:
    """Return which part of the world a map of footprints shows: ``10°W to 5°E, 40°N to 50°N``."""
    return _place(_window([outline for footprint in footprints for outline in footprint.outlines]))


def _window(outlines: Sequence[Outline]) -> _Window:
    """Return the part of the world that holds all outlines, with a margin."""
    west, east = _longitudes(outlines)
    south = min(outline.south for outline in outlines)
    north = max(outline.north for outline in outlines)
    wide = max(
        _NARROWEST_DEGREES, (east - west) * (1 + _MARGIN), 2 * (north - south) * (1 + _MARGIN)
    )
    if wide > _WIDEST_DEGREES:
        return _Window(-180, -90, 180, 90)
    middle_x, middle_y = (west + east) / 2, (south + north) / 2
    middle_y = min(max(middle_y, -90 + wide / 4), 90 - wide / 4)
    return _Window(
        *(
            round(edge, 1)
            for edge in (
                middle_x - wide / 2,
                middle_y - wide / 4,
                middle_x + wide / 2,
                middle_y + wide / 4,
            )
        )
    )


def _longitudes(outlines: Iterable[Outline]) -> tuple[float, float]:
    """Return the shortest range of longitudes, eastwards, that holds all outlines."""
    spans = sorted({(outline.west, outline.east) for outline in outlines})
    first = spans[0][0]
    reached = spans[0][1]
    # The widest gap between them is what the range leaves out.
    widest, after = first + 360 - max(east for _, east in spans), first
    for west, east in spans[1:]:
        if west - reached > widest:
            widest, after = west - reached, west
        reached = max(reached, east)
    if widest <= 0:
        return -180.0, 180.0
    return after, after + 360 - widest


def _some(footprints: Sequence[Drawn], window: _Window) -> Sequence[Drawn]:
    """Return so many footprints that the picture is not too large, evenly chosen.

    One that would be too large by itself, as an outline that goes around the Earth many times, is
    not among them.
    """
    footprints = [
        footprint for footprint in footprints if _points(footprint.outlines, window) <= _MOST_POINTS
    ]
    if not footprints:
        return []
    unique = list(
        {(id(footprint.outlines), footprint.state): footprint for footprint in footprints}.values()
    )
    tried = unique[:: max(1, len(unique) // 100)]
    size = (
        sum(len(_path(footprint.outlines, window)) for footprint in tried)
        / len(tried)
        * len(unique)
    )
    step = math.ceil(size / _MOST_CHARACTERS)
    return footprints if step <= 1 else unique[::step]


def _points(outlines: Iterable[Outline], window: _Window) -> int:
    return sum(len(_turns(outline, window)) * sum(map(len, outline.rows)) for outline in outlines)


def _turns(outline: Outline, window: _Window) -> range:
    """Return how many times around the Earth an outline is shown, and where."""
    first = math.ceil((window.west - outline.east) / 360)
    return range(first, math.floor((window.east - outline.west) / 360) + 1)


def _shapes(footprints: Sequence[Drawn], window: _Window, order: Sequence[str]) -> Iterator[Markup]:
    for state in order:
        mine = [footprint for footprint in footprints if footprint.state == state]
        if len(footprints) <= _TITLED:
            for footprint in mine:
                label = element("title", footprint.label)
                yield element(
                    "path",
                    label,
                    class_=_class(footprint, len(footprints)),
                    d=Markup(_path(footprint.outlines, window)),
                )
            continue
        for is_area in (True, False):
            unique = {id(footprint.outlines): footprint for footprint in mine}.values()
            parts = [
                _path(
                    [outline for outline in footprint.outlines if outline.is_area == is_area],
                    window,
                )
                for footprint in unique
            ]
            if any(parts):
                kind = "hda-shape hda-many" if is_area else "hda-shape hda-line"
                yield element("path", class_=f"{kind} {state}", d=Markup("".join(parts)))


def _class(footprint: Drawn, count: int) -> str:
    is_area = any(outline.is_area for outline in footprint.outlines)
    kind = " hda-line" if not is_area else " hda-many" if count > _FEW else ""
    return f"hda-shape{kind} {footprint.state}"


def _path(outlines: Iterable[Outline], window: _Window) -> str:
    """Return the path of outlines, once for each time around the Earth that shows them."""
    return "".join(
        _row(row, 360 * turn, window.digits, is_area=outline.is_area)
        for outline in outlines
        for turn in _turns(outline, window)
        for row in outline.rows
    )


def _row(row: Sequence[tuple[float, float]], shift: float, digits: int, *, is_area: bool) -> str:
    scale = 10**digits

    def place(point: tuple[float, float]) -> tuple[int, int]:
        x, y = point
        return round((x + shift) * _UNITS * scale), round(-y * _UNITS * scale)

    def text(number: int) -> str:
        return str(number) if digits == 0 else f"{number / scale:g}"

    places = [place(point) for point in row]
    x, y = before = places[0]
    steps = []
    for now in places[1:]:
        if now != before:
            steps.append(f"{text(now[0] - before[0])} {text(now[1] - before[1])}")
            before = now
    if not steps:  # so small that it would not be seen
        dot = 4 * scale
        return f"M{text(x - dot)} {text(y - dot)}h{text(2 * dot)}v{text(2 * dot)}h{text(-2 * dot)}z"
    # A minus parts two numbers as well as a space does.
    joined = " ".join(steps).replace(" -", "-")
    return f"M{text(x)} {text(y)}l{joined}{'z' if is_area else ''}"


def _land(window: _Window) -> Markup:
    parts = []
    for turn in (-1, 0, 1):
        west, east = window.west - 360 * turn, window.east - 360 * turn
        shown = "".join(
            line
            for line, box in _land_lines()
            if box[0] <= east * _UNITS
            and box[2] >= west * _UNITS
            and box[1] <= -window.south * _UNITS
            and box[3] >= -window.north * _UNITS
        )
        if shown:
            moved = f"translate({3600 * turn})" if turn else None
            parts.append(element("path", class_="hda-land", d=Markup(shown), transform=moved))
    return element("g", *parts)


@functools.cache
def _land_lines() -> tuple[tuple[str, tuple[int, int, int, int]], ...]:
    """Return the outline of each piece of land, as part of a path, and the box around it."""
    text = Path(__file__).with_name("land.txt").read_text(encoding="ascii")
    found = []
    for line in text.split("\n"):
        numbers = [int(number) for number in _NUMBER.findall(line)]
        if numbers:
            xs = [*itertools.accumulate(numbers[::2])]
            ys = [*itertools.accumulate(numbers[1::2])]
            found.append((line, (min(xs), min(ys), max(xs), max(ys))))
    return tuple(found)


def _grid(window: _Window) -> Markup:
    step = next((step for step in _STEPS if window.width / step <= 14), _STEPS[-1])
    top, bottom = -window.north * _UNITS, -window.south * _UNITS
    left, right = window.west * _UNITS, window.east * _UNITS
    lines = [
        f"M{x * _UNITS:g} {top:g}V{bottom:g}" for x in _multiples(step, window.west, window.east)
    ] + [
        f"M{left:g} {-y * _UNITS:g}H{right:g}" for y in _multiples(step, window.south, window.north)
    ]
    return element("path", class_="hda-grid", d=Markup("".join(lines)))


def _multiples(step: int, low: float, high: float) -> range:
    return range(math.ceil(low / step) * step, math.floor(high) + 1, step)


def _place(window: _Window) -> str:
    if window.width >= 360:
        return "the whole Earth"
    longitudes = " to ".join(_longitude(x) for x in (window.west, window.east))
    latitudes = " to ".join(
        f"{abs(y):g}°{'S' if y < 0 else 'N'}" for y in (window.south, window.north)
    )
    return f"{longitudes}, {latitudes}"


def _longitude(x: float) -> str:
    x = round((x + 180) % 360 - 180, 1)
    return f"{abs(x):g}°{'W' if x < 0 else 'E'}"
