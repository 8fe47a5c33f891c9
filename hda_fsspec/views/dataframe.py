"""Products as a table of pandas, and of GeoPandas where it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hda_fsspec.records import Product
from hda_fsspec.views.outlines import Outline, outlines_of

if TYPE_CHECKING:
    import pandas as pd

_LONGITUDES_AND_LATITUDES = "EPSG:4326"


def dataframe_of(
    products: Sequence[Product],
    paths: Sequence[str],
    states: Sequence[str],
    sizes: Sequence[int | None],
) -> pd.DataFrame:
    """Return one row for each product; see :meth:`QueryView.to_dataframe`."""
    import pandas as pd

    columns: dict[str, Any] = {
        "product_id": _texts([product.product_id for product in products]),
        "startdate": _times([product.startdate for product in products]),
        "enddate": _times([product.enddate for product in products]),
        "size": _sizes(sizes),
        "catalogue_size": _sizes([product.size for product in products]),
        "state": list(states),
        "path": _texts(paths),
        "bbox": _texts([product.bbox for product in products]),
    }
    told = [dict(product.properties) for product in products]
    for name in dict.fromkeys(name for facts in told for name in facts):
        column = f"properties.{name}" if name in columns or name == "geometry" else name
        columns[column] = _texts([facts.get(name) for facts in told])
    if importlib.util.find_spec("geopandas") is None:
        return pd.DataFrame(columns)
    import geopandas

    geometry = [_geometry(outlines_of(p.footprint, p.bbox)) for p in products]
    return geopandas.GeoDataFrame(columns, geometry=geometry, crs=_LONGITUDES_AND_LATITUDES)


def _texts(values: Sequence[Any]) -> Any:
    """Return the values of a column, which is one of objects if not all texts can be encoded."""
    import pandas as pd

    try:
        for value in values:
            if isinstance(value, str):
                value.encode()
    except UnicodeEncodeError:
        return pd.Series(list(values), dtype=object)
    return list(values)


def _sizes(sizes: Sequence[int | None]) -> Any:
    import pandas as pd

    # A catalogue may tell more than any file has, and than a column holds.
    kept = [None if size is None or size >= 1 << 63 else size for size in sizes]
    return pd.array(kept, dtype="Int64")


def _times(texts: Sequence[str | None]) -> pd.Series[Any]:
    import numpy as np
    import pandas as pd

    # Microseconds: in nanoseconds the years end with 2262.
    times = np.array([text and text.removesuffix("Z") for text in texts], dtype="datetime64[us]")
    return pd.Series(times).dt.tz_localize("UTC")


def _geometry(outlines: Sequence[Outline]) -> Any:
    """Return a geometry of shapely, within -180 and 180 degrees; None for nothing."""
    import shapely
    from shapely.affinity import translate

    parts = []
    for outline in outlines:
        if outline.is_area:
            first, *holes = outline.rows
            whole = shapely.Polygon(first, holes)
        elif len(outline.rows[0]) == 1:
            whole = shapely.Point(outline.rows[0][0])
        else:
            whole = shapely.MultiLineString(outline.rows)
        if outline.west >= -180 and outline.east <= 180:
            parts.append(whole)
            continue
        world = shapely.box(-180, -90, 180, 90)
        valid = shapely.make_valid(whole)
        turned = [shapely.intersection(translate(valid, 360 * n), world) for n in (-1, 0, 1)]
        parts += [part for part in turned if not part.is_empty]
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else shapely.union_all(parts)
