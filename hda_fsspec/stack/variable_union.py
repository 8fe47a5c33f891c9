"""The union of the variables of products whose headers are all known.

Pure: it compares headers, and has never seen a file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from hda_fsspec.stack.header import Header, VariableHeader
from hda_fsspec.stack.product_checks import is_promoted


def unite(headers: Mapping[int, Header]) -> tuple[Header, dict[str, list[int]]]:
    """Return a header with all variables of some products, and which products lack which.

    A variable has the attributes of the first product that has it, and a dtype that holds the
    values of all of them, where numpy knows one.

    Parameters
    ----------
    headers : mapping of int to Header
        Headers by the number of their product, at least one.

    Returns
    -------
    tuple of (Header, dict of str to list of int)
        The numbers of products are sorted; a variable that all have is not among the names.
    """
    numbers = sorted(headers)
    first = headers[numbers[0]]
    holders: dict[str, list[int]] = {}
    sizes: dict[str, int] = {}
    for number in numbers:
        for name in headers[number].variables:
            holders.setdefault(name, []).append(number)
        for dim, size in headers[number].sizes.items():
            sizes.setdefault(dim, size)
    variables = {
        name: _widest([headers[number].variables[name] for number in having])
        for name, having in holders.items()
    }
    absent = {
        name: sorted(set(numbers) - set(having))
        for name, having in holders.items()
        if len(having) < len(numbers)
    }
    return Header(sizes, variables, first.attrs), absent


def _widest(variables: Sequence[VariableHeader]) -> VariableHeader:
    first = variables[0]
    dtypes = {variable.dtype for variable in variables}
    if len(dtypes) == 1:
        return first
    if all(variable.is_text for variable in variables):
        return dataclasses.replace(first, dtype=np.dtype(object))
    if all(is_promoted(first.dtype, dtype) for dtype in dtypes):
        return dataclasses.replace(first, dtype=np.result_type(*dtypes))
    return first
