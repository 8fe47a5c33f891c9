"""Names of variables in a data set that is made of several kinds of products.

Pure: it compares headers, and has never seen a file.
"""

from __future__ import annotations

import collections
from collections.abc import Collection, Sequence

from hda_fsspec.errors import QueryError
from hda_fsspec.printable import printable
from hda_fsspec.reading.essential_attributes import GRID_MAPPING, different_meaning
from hda_fsspec.stack.concat_dim import ConcatLayout
from hda_fsspec.stack.header import Header, VariableHeader

#: What libraries call a variable that has no name of its own: that of a raster, above all.
_NAMELESS = frozenset({"band_data", "Band1", "__xarray_dataarray_variable__"})

#: A header, how its products are laid, and its product's id.
Seen = tuple[Header, ConcatLayout, str]


def names_of(
    kinds: Sequence[str], seen: Sequence[Seen], *, is_cut: bool = False
) -> list[dict[str, str | None]]:
    """Return what variables are called in a data set of several kinds of products.

    A raster's variable is called by its kind, and so is one that several kinds have in a way of
    their own; what they share is taken of the first.

    Parameters
    ----------
    kinds : sequence of str
        What kinds are called.
    seen : sequence of tuple of (Header, ConcatLayout, str)
        One product of each.
    is_cut : bool
        Whether they are parts of one whole, whose coordinates are those of all of them.

    Returns
    -------
    list of dict of str to (str or None)
        For each kind the names that are others than in its products; None for what is left to
        another kind.

    Raises
    ------
    QueryError
        Two kinds hold the same variables: they are editions of one product.
    """
    if len(kinds) == 1 and not kinds[0]:
        return [{}]
    data = [_data_names(header) for header, _, _ in seen]
    _refuse_editions(kinds, data, [product_id for _, _, product_id in seen])
    holders: dict[str, list[int]] = collections.defaultdict(list)
    for kind, (header, _, _) in enumerate(seen):
        for name in header.variables:
            holders[name].append(kind)
    names: list[dict[str, str | None]] = [{} for _ in kinds]
    taken = set(holders)
    for name, having in holders.items():
        of_them = [seen[kind] for kind in having]
        is_whole = is_cut and all(header.variables[name].is_coordinate for header, _, _ in of_them)
        is_shared = len(having) == 1 or _are_shared(name, of_them, is_whole=is_whole)
        for place, kind in enumerate(having):
            if name in _NAMELESS and name in data[kind] and kinds[kind]:
                names[kind][name] = _free(kinds[kind], taken)
            elif is_shared and place:
                names[kind][name] = None
            elif not is_shared and kinds[kind]:
                names[kind][name] = _free(f"{name}_{kinds[kind]}", taken)
    return names


def _refuse_editions(
    kinds: Sequence[str], data: Sequence[Collection[str]], product_ids: Sequence[str]
) -> None:
    first_of: dict[frozenset[str], int] = {}
    for kind, names in enumerate(data):
        own = frozenset(names) - _NAMELESS
        other = first_of.setdefault(own, kind)
        if not own or other == kind:
            continue
        held = ", ".join(map(repr, sorted(own)))
        msg = (
            f"The products {printable(product_ids[other])} and {printable(product_ids[kind])} "
            f"stand at the same time and hold the same variables ({held}), so that they are "
            "editions of one product. Open one of them with a pattern over product ids, such as "
            f"*{printable(kinds[kind])}*."
        )
        raise QueryError(msg, key="on_overlap")


def _data_names(header: Header) -> set[str]:
    """Return the variables that products are opened for: no coordinates, and none of their kin."""
    bounds = {
        str(more.get("bounds"))
        for variable in header.variables.values()
        for more in (variable.attrs, variable.encoding)
    }
    return {
        name
        for name, variable in header.variables.items()
        if not variable.is_coordinate and name not in bounds and not _is_grid_mapping(variable)
    }


def _is_grid_mapping(variable: VariableHeader) -> bool:
    return not variable.dims and bool(set(GRID_MAPPING) & variable.attrs.keys())


def _are_shared(name: str, having: Sequence[Seen], *, is_whole: bool) -> bool:
    """Whether a variable that several kinds have is the same in all of them."""
    headers = [header.variables[name] for header, _, _ in having]
    first = headers[0]
    if any(v.dims != first.dims or v.is_coordinate != first.is_coordinate for v in headers):
        return False
    if name in having[0][1].dims or all(name in layout.bounds_of(h) for h, layout, _ in having):
        return True
    if all(map(_is_grid_mapping, headers)):
        return all(different_meaning(first.meaning, v.meaning) is None for v in headers)
    if any(layout.is_part(header, name) for header, layout, _ in having):
        return is_whole
    if first.is_coordinate and first.dims:
        return True  # else their grids would differ, which is refused
    return first.digest is not None and len({v.digest for v in headers}) == 1


def _free(name: str, taken: set[str]) -> str:
    """Return a name that no variable has, and take it."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name
