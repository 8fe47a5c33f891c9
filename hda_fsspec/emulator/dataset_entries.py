"""Data sets of the emulator and their products, as values."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from hda_fsspec.emulator.content import ARCHIVED_SUFFIXES, Content
from hda_fsspec.emulator.schemas import Parameter, build_schema
from hda_fsspec.records import parse_time

BBox = tuple[float, float, float, float]

WORLD: BBox = (-180.0, -90.0, 180.0, 90.0)

#: What "estimate" makes of a size: the uncompressed bytes, as the marine service tells them.
ESTIMATE_FACTOR = 2.7


@dataclasses.dataclass(frozen=True)
class ProductEntry:
    """One product of the emulator's catalogue.

    Parameters
    ----------
    product_id : str
        The id of the feature.
    source : Path or bytes
        The bytes of the product; a folder is delivered as a ZIP.
    startdate, enddate : str
        What the catalogue shows, verbatim.
    bbox : tuple of float
        W, S, E, N in degrees.
    size : int or str or None
        "exact" for the true length (or what the data set's ``sizes`` makes of it), "ND", a number,
        or None for no size at all.
    delivered_name : str or None
        The name of the delivered file, which may be a hostile one; None for the product id (with
        ``.zip`` after .SEN3 and .SAFE); empty for an answer without a name.
    location : str or None
        The opaque locator; None for a made-up one.
    geometry : mapping or None or "box"
        The footprint as GeoJSON, verbatim; "box" for the outline of ``bbox``.
    metadata : mapping
        ``properties.metadata`` of the feature.
    updated, publication : str or None
        Dates that the feature shows, if any.
    """

    product_id: str
    source: Path | bytes = dataclasses.field(repr=False)
    startdate: str
    enddate: str
    _: dataclasses.KW_ONLY
    bbox: BBox = WORLD
    size: int | str | None = "exact"
    delivered_name: str | None = None
    location: str | None = None
    geometry: Any = "box"
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    updated: str | None = None
    publication: str | None = None

    @functools.cached_property
    def content(self) -> Content:
        """The bytes to deliver."""
        return Content(self.source)

    @property
    def name(self) -> str:
        """The name of the delivered file."""
        if self.delivered_name is not None:
            return self.delivered_name
        archived = self.product_id.endswith(ARCHIVED_SUFFIXES)
        return f"{self.product_id}.zip" if archived else self.product_id

    @functools.cached_property
    def locator(self) -> str:
        """The opaque locator that an order must repeat."""
        if self.location is not None:
            return self.location
        unique = uuid.UUID(
            bytes=hashlib.sha256(self.product_id.encode(errors="surrogatepass")).digest()[:16]
        )
        return f"https://download.upstream.example/odata/v1/Products({unique})/$value"

    @functools.cached_property
    def times(self) -> tuple[datetime, datetime] | None:
        """The interval that searches compare; None if the dates are not readable."""
        try:
            return parse_time(self.startdate), parse_time(self.enddate)
        except ValueError:
            return None

    def shown_size(self, sizes: str) -> int | str | None:
        """Return the size that the catalogue shows, None for none."""
        if self.size != "exact" or sizes == "exact":
            return self.content.length if self.size == "exact" else self.size
        if sizes == "estimate":
            return int(self.content.length * ESTIMATE_FACTOR)
        return "ND" if sizes == "ND" else None


@dataclasses.dataclass(frozen=True)
class DatasetEntry:
    """One data set of the emulator's catalogue.

    Parameters
    ----------
    dataset_id : str
        For example ``EO:EUM:DAT:SENTINEL-3:OL_2_WFR___``.
    products : sequence of ProductEntry
        In any order: searches answer them by start time.
    title, terms : str, tuple of str
        The title, and the ids of the licences.
    abstract : str
        What it is; empty for a sentence with the title.
    period : tuple of str or None
        First and last day, verbatim; None for those of the products.
    bbox : tuple of float
        The box that it covers: W, S, E, N.
    queryable : mapping or None
        The schema; None for one made of ``date_keys`` (None for no dates), ``has_bbox`` and
        ``parameters``, which map a name to a property, a type name or a list of choices.
    required : sequence of str
        What the schema lists as required, which is not always true at the service.
    needed : sequence of str
        What a search really needs, whatever the schema says.
    paging, sizes, max_page
        Override the options of the emulator for this data set.
    ids_with_suffix : bool
        False: ids are shown without the extension, which only the delivered name has.
    """

    dataset_id: str
    products: Sequence[ProductEntry]
    _: dataclasses.KW_ONLY
    title: str = ""
    terms: Sequence[str] = ("Copernicus_General_License",)
    abstract: str = ""
    period: tuple[str, str] | None = None
    bbox: BBox = WORLD
    queryable: Mapping[str, Any] | None = None
    date_keys: tuple[str, str] | None = ("startdate", "enddate")
    has_bbox: bool = True
    parameters: Mapping[str, Parameter] = dataclasses.field(default_factory=dict)
    required: Sequence[str] = ("dataset_id",)
    needed: Sequence[str] = ()
    paging: str | None = None
    sizes: str | None = None
    max_page: int | None = None
    ids_with_suffix: bool = True

    def __post_init__(self) -> None:
        shown = self.products if self.ids_with_suffix else map(_without_suffix, self.products)
        ordered = sorted(shown, key=lambda entry: (entry.startdate, entry.product_id))
        object.__setattr__(self, "products", tuple(ordered))

    @functools.cached_property
    def by_id(self) -> dict[str, ProductEntry]:
        """The products by id."""
        return {product.product_id: product for product in self.products}

    @functools.cached_property
    def schema(self) -> dict[str, Any]:
        """The answer of ``dataaccess/queryable``."""
        if self.queryable is not None:
            return dict(self.queryable)
        return build_schema(
            self.dataset_id,
            date_keys=self.date_keys,
            has_bbox=self.has_bbox,
            parameters=self.parameters,
            required=self.required,
        )

    def ordered(self, product_id: str, location: str | None) -> ProductEntry | None:  # noqa: ARG002
        """Return the product that an order names, None if there is none of this id."""
        return self.by_id.get(product_id)

    def to_json(self) -> dict[str, Any]:
        """Return the data set as ``datasets/{id}`` answers it."""
        title = self.title or self.dataset_id
        begin, end = self.period or self._period()
        west, south, east, north = self.bbox
        source = {
            "datasetTitle": title,
            "abstract": self.abstract or f"Products of {title}, served by an emulator.",
            "thumbnails": "",
            "keywords": [],
            "tempextent_begin": begin,
            "tempextent_end": end,
            "location": {"coordinates": [[west, north], [east, south]]},
        }
        metadata = {"_source": source, "title": title, "description": source["abstract"]}
        return {"dataset_id": self.dataset_id, "terms": list(self.terms), "metadata": metadata}

    def _period(self) -> tuple[str, str]:
        times = [p.times for p in self.products if p.times is not None]
        if not times:
            return "Not Available", "Not Available"
        begin, end = min(start for start, _ in times), max(end for _, end in times)
        return begin.date().isoformat(), end.date().isoformat()


def _without_suffix(product: ProductEntry) -> ProductEntry:
    stem, dot, suffix = product.product_id.rpartition(".")
    if not dot or not 1 <= len(suffix) <= 7:
        return product
    return dataclasses.replace(product, product_id=stem, delivered_name=product.name)
