"""What a service tells, made into views: well-formed HTML, and text that can be shown."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree as ET

from hda_fsspec.catalogue.dataset_search import Wanted
from hda_fsspec.errors import HDAError
from hda_fsspec.paths.locations import Location
from hda_fsspec.printable import LONGEST_LINES
from hda_fsspec.records import Dataset, Product
from hda_fsspec.schema.schema import Schema
from hda_fsspec.views import markup
from hda_fsspec.views.datasets import find_view
from hda_fsspec.views.outlines import outlines_of
from hda_fsspec.views.queryables import QueryablesView
from hda_fsspec.views.timebar import draw_times
from hda_fsspec.views.worldmap import Drawn, draw_map

_DATASET = "EO:ECMWF:DAT:FUZZ"
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_STATES = ("hda-missing", "hda-cached")


def show(value: Mapping[str, Any]) -> list[str]:
    """Return what is shown of a feature, an entry and a schema; raises where it is not fit."""
    texts = []
    with contextlib.suppress(HDAError):
        texts.append(_pictures(Product.from_feature(_DATASET, value.get("feature"))))
    entry = value.get("dataset")
    dataset = None
    if isinstance(entry, Mapping):
        dataset = Dataset.from_json({**entry, "dataset_id": _DATASET})
        view = find_view([dataset], Wanted.read("fuzz", period="2020/2024", bbox="170,-5,-170,5"))
        texts += [view._repr_html_(), repr(view)]
    with contextlib.suppress(HDAError):
        schema = Schema.from_queryable(_DATASET, value.get("schema", {}))
        asked = QueryablesView(schema, dataset, now=_NOW)
        schema.request(Location.parse(asked.path).query)
        texts += [asked._repr_html_(), repr(asked)]
    for text in texts:
        if text.startswith("<"):
            ET.fromstring(text)
    return texts


def is_shown(texts: list[str]) -> bool:
    """Whether all lines can be shown."""
    lines = [line for text in texts for line in text.split("\n")]
    return all(line.isprintable() for line in lines) and all(
        text.startswith("<") or len(text) <= LONGEST_LINES for text in texts
    )


def _pictures(product: Product) -> str:
    parts: list[Any] = [markup.title(product.product_id)]
    outlines = outlines_of(product.footprint, product.bbox)
    if outlines:
        parts.append(draw_map([Drawn(outlines, _STATES[0], product.product_id)], _STATES)[0])
    if product.start is not None and product.end is not None:
        first, last = sorted((product.start, product.end))
        parts.append(draw_times([(first, last, _STATES[1])], _STATES))
    return markup.view(*parts)
