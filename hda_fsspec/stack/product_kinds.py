"""Kinds of products of one place and time, told by their ids: ``…_PPI``, ``…_QFLAG``.

Pure: it knows records of the catalogue, and has never heard of files. That two kinds really hold
different variables is for others to find out, when one product of each was seen.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Sequence

import numpy as np

from hda_fsspec.records import Product
from hda_fsspec.stack.footprints import most_different_bbox

_TOKENS = re.compile(r"[^0-9A-Za-z]+")
_SUFFIX = re.compile(r"\.[0-9A-Za-z]{1,5}\Z")
#: Words and bands; what begins with a letter and a digit is a tile, a version or an orbit.
_WORD = re.compile(r"[A-Za-z]{2}[0-9A-Za-z]*|B[0-9][0-9A]|s[12]")
#: What tells editions of one product apart, and not kinds.
_EDITION = re.compile(
    r"(?:v|ver|version|rev|rt|col|fv|baseline)[0-9]+[a-z]?"
    r"|nr|nt|st|nrt|ntc|stc|rpro|repro|reproc|offl|oper|my|myint|rt|final|prelim|preliminary"
    r"|interim|int|dt|early|late|latest|new|old|copy|orig|original|update|updated|corrected",
    re.IGNORECASE,
)
_HASH = re.compile(r"(?=.*[0-9])[0-9A-Fa-f]{6,}")
_MASKED = ""


def find_kinds(products: Sequence[Product]) -> dict[str, list[int]]:
    """Return the kinds of products by what tells their ids from each other.

    Parameters
    ----------
    products : sequence of Product
        What a listing has, in the order of time.

    Returns
    -------
    dict of str to list of int
        The numbers of the products of each kind. There is one, without a name, unless several
        products share an interval and a box, and words in their ids tell all of these apart.
    """
    everything = {"": list(range(len(products)))}
    intervals = collections.Counter((p.startdate, p.enddate) for p in products)
    if len(intervals) == len(products):
        return everything
    signatures = [_signature(product.product_id) for product in products]
    distinct = sorted(set(signatures))
    if len(distinct) == 1:
        return everything
    groups: dict[tuple[str | None, str | None], list[int]] = collections.defaultdict(list)
    for number, product in enumerate(products):
        groups[product.startdate, product.enddate].append(number)
    shared = [group for group in groups.values() if len({signatures[n] for n in group}) > 1]
    if not shared or not all(_stand_together([products[n] for n in group]) for group in shared):
        return everything
    labels = dict(zip(distinct, _labels(distinct), strict=True))
    kinds: dict[str, list[int]] = {label: [] for label in labels.values()}
    for number, signature in enumerate(signatures):
        kinds[labels[signature]].append(number)
    return kinds


def _stand_together(products: Sequence[Product]) -> bool:
    return most_different_bbox([product.bbox for product in products], [0]) is None


def _signature(product_id: str) -> tuple[str, ...]:
    """Return the words of an id that may tell its kind; what else stands there is left out."""
    tokens = [token for token in _TOKENS.split(_SUFFIX.sub("", product_id)) if token]
    return tuple(token if _tells(token) else _MASKED for token in tokens)


def _tells(token: str) -> bool:
    return (
        _WORD.fullmatch(token) is not None
        and _EDITION.fullmatch(token) is None
        and _HASH.fullmatch(token) is None
    )


def _labels(signatures: Sequence[tuple[str, ...]]) -> list[str]:
    """Return what tells signatures apart; all of them are different."""
    if len({len(signature) for signature in signatures}) == 1:
        columns = np.array(signatures, dtype=object)
        differs = (columns != columns[0]).any(axis=0)
        middles = [tuple(signature[differs]) for signature in columns]
    else:
        first = _shared_words(signatures)
        backwards = [signature[first:][::-1] for signature in signatures]
        last = _shared_words(backwards)
        middles = [signature[last:][::-1] for signature in backwards]
    labels = ["_".join(filter(None, middle)) for middle in middles]
    if len(set(labels)) < len(labels):
        labels = ["_".join(filter(None, signature)) for signature in signatures]
    if len(set(labels)) < len(labels):
        labels = [f"{label}_{number}" for number, label in enumerate(labels)]
    return labels


def _shared_words(signatures: Sequence[tuple[str, ...]]) -> int:
    """Return how many words all begin with."""
    count = 0
    for words in zip(*signatures, strict=False):
        if len(set(words)) > 1:
            break
        count += 1
    return count
