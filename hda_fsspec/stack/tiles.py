"""Tiles: products of one place each, told by codes in their ids, else by their boxes.

Pure: it knows records of the catalogue, and has never heard of files. That tiles lie on one grid is
for others to find out, when a product of each was seen.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from hda_fsspec.errors import ProductMismatchError, note_once
from hda_fsspec.printable import printable
from hda_fsspec.records import Product
from hda_fsspec.stack.product_kinds import find_kinds
from hda_fsspec.stack.tile_codes import MGRS_COLUMNS

#: Codes of tiles, as they stand between other characters than letters and digits.
_CODES = tuple(
    re.compile(rf"(?<![0-9A-Za-z]){code}(?![0-9A-Za-z])")
    for code in (
        # Military grid: Sentinel-2, HR-VPP, snow and ice.
        r"(?P<mgrs>T?(?:0[1-9]|[1-5][0-9]|60)[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V])",
        # Degrees: Copernicus DEM (N00_00_E006_00), others (N45E006, 10N_020E, 0E_10N).
        r"[NS][0-9]{1,2}(?:_[0-9]{2})?_?[EW][0-9]{1,3}(?:_[0-9]{2})?",
        r"[0-9]{1,2}[NS]_?[0-9]{1,3}[EW]",
        r"[0-9]{1,3}[EW]_?[0-9]{1,2}[NS]",
        # Kilometres on the European grid: HRL, CLC+ Backbone, HR-VPP LAEA (E43N30, E4300N3000).
        r"[EW][0-9]{1,4}_?[NS][0-9]{1,4}",
        # Columns and rows: global land (X18Y02), MODIS (h18v04).
        r"X[0-9]{1,3}_?Y[0-9]{1,3}",
        r"h[0-9]{2}v[0-9]{2}",
    )
)
_WORDS = re.compile(r"[^0-9A-Za-z]+")
#: More boxes than these are those of swaths.
_MOST_PLACES = 1000
_DATE = re.compile(r"[0-9]{6}")
#: Archives of many files, of which one tile has no single data set by itself.
_ARCHIVES = (".SAFE", ".SEN3")


@dataclasses.dataclass(frozen=True)
class Tile:
    """The products of one place.

    Attributes
    ----------
    name : str
        What tells them from the others in their ids.
    products : tuple of Product
        They, in the order of time. Their boxes are left out where codes tell the place: a box may
        be that of what the satellite saw of it.
    kinds : dict of str to list of int
        The numbers of those of each kind.
    zone : str or None
        The zone of UTM that their coordinates are in, where the name tells.
    """

    name: str
    products: tuple[Product, ...]
    kinds: dict[str, list[int]]
    zone: str | None = None


def find_tiles(products: Sequence[Product], *, need_names: bool = True) -> list[Tile]:
    """Return the tiles that products are of, in the order of their first ids.

    Parameters
    ----------
    products : sequence of Product
        What a listing has, in the order of time.
    need_names : bool
        Whether tiles must be told by their ids; else products of one place are one tile, even if
        no part of their ids tells so.

    Returns
    -------
    list of Tile
        Empty where products are of no tiles: they all lie in one place, and have no code of one;
        or each has a place of its own, as swaths do.
    """
    codes = _coded(products)
    if codes is not None:
        bare = [
            dataclasses.replace(p, product_id=p.product_id.replace(code, "", 1), bbox=None)
            for p, code in zip(products, codes, strict=True)
        ]
        return _tiles(
            [dataclasses.replace(product, bbox=None) for product in products], codes, bare
        )
    places = _places(products)
    if places is None or len(set(places)) == 1:
        return []
    named = _named(products, places)
    if named is None and need_names:
        return []
    names = named or [f"place {place + 1}" for place in places]
    bare = [
        dataclasses.replace(p, product_id=p.product_id.replace(name, "", 1), bbox=None)
        for p, name in zip(products, names, strict=True)
    ]
    return _tiles(products, names, bare)


def are_archives(products: Sequence[Product]) -> bool:
    """Whether products are archives of many files, such as bands of several resolutions."""
    return all(product.product_id.endswith(_ARCHIVES) for product in products)


def refuse_several_zones(path: str, tiles: Sequence[Tile]) -> None:
    """Raise ProductMismatchError, before an order, for tiles of two zones of UTM."""
    first: dict[str, Tile] = {}
    for tile in tiles:
        if tile.zone is not None:
            first.setdefault(tile.zone, tile)
    if len(first) < 2:
        return
    (zone, one), (other_zone, other), *_ = first.items()
    msg = (
        f"Cannot put the tiles of {path} side by side: they have several coordinate reference "
        f"systems, as {printable(one.name)} lies in zone {zone} of UTM, and "
        f"{printable(other.name)} in zone {other_zone}. Open those of one zone, with a pattern "
        f"over product ids such as *{printable(one.name)[: 3 if one.name[0] == 'T' else 2]}*; or "
        'each as a node of a tree, with xr.open_datatree(…, engine="hda"), to bring them to one '
        "system."
    )
    err = ProductMismatchError(msg)
    note_once(err, "Nothing was ordered.")
    raise err


def _tiles(
    products: Sequence[Product], names: Sequence[str], bare: Sequence[Product]
) -> list[Tile]:
    """Return tiles by their names; kinds are told by what is left of the ids."""
    kind_of = {n: kind for kind, numbers in find_kinds(bare).items() for n in numbers}
    members: dict[str, list[int]] = collections.defaultdict(list)
    for number, name in enumerate(names):
        members[name].append(number)
    tiles = []
    for name, numbers in members.items():
        kinds: dict[str, list[int]] = collections.defaultdict(list)
        for place, number in enumerate(numbers):
            kinds[kind_of[number]].append(place)
        mine = tuple(products[number] for number in numbers)
        tiles.append(Tile(name, mine, dict(sorted(kinds.items())), _zone(name)))
    return sorted(tiles, key=lambda tile: min(p.product_id for p in tile.products))


def _coded(products: Sequence[Product]) -> list[str] | None:
    """Return the code of a tile that each id has, all in one manner; None if there is none."""
    for pattern in _CODES:
        found = [_code(pattern, product.product_id) for product in products]
        codes = [code for code in found if code is not None]
        if codes and len(codes) == len(found):
            return codes
    return None


def _code(pattern: re.Pattern[str], product_id: str) -> str | None:
    for match in pattern.finditer(product_id):
        code = match.group()
        if "mgrs" not in pattern.groupindex or code[-2] in MGRS_COLUMNS[int(code[-5:-3]) % 3]:
            return code
    return None


def _zone(name: str) -> str | None:
    """Return the zone of UTM of a tile of the military grid: its number, and N or S."""
    match = _CODES[0].fullmatch(name)
    if match is None:
        return None
    return f"{name[-5:-3]}{'N' if name[-3] >= 'N' else 'S'}"


def _places(products: Sequence[Product]) -> list[int] | None:
    """Return the number of the place of each product, by its box; None if some have no box."""
    boxes = [product.bbox for product in products]
    if None in boxes:
        return None
    texts = sorted({str(box) for box in boxes})
    edges = np.array([text.split(",") for text in texts], np.float64)
    place_of = np.full(len(texts), -1)
    count = 0
    for number in range(len(texts)):
        if place_of[number] < 0:
            west, south, east, north = edges[number]
            allowed = 0.01 * np.abs(np.array([east - west, north - south] * 2))
            alike = (np.abs(edges - edges[number]) <= allowed).all(axis=1)
            place_of[alike & (place_of < 0)] = count
            count += 1
            if count > _MOST_PLACES:
                return None  # swaths, each with a box of its own
    lookup = dict(zip(texts, place_of.tolist(), strict=True))
    return [lookup[str(box)] for box in boxes]


def _named(products: Sequence[Product], places: Sequence[int]) -> list[str] | None:
    """Return the word of each id that tells its place; None if no word does in all of them."""
    intervals = collections.Counter((p.startdate, p.enddate) for p in products)
    if len(intervals) == len(products) == len(set(places)):
        return None  # swaths: each has a time and a place of its own
    words = [_WORDS.split(product.product_id) for product in products]
    if len({len(word) for word in words}) > 1:
        return None
    for column in zip(*words, strict=True):
        pairs = set(zip(column, places, strict=True))
        is_told = len(pairs) == len(set(column)) == len(set(places))
        if is_told and all(column) and not any(_DATE.search(word) for word in column):
            return list(column)
    return None
