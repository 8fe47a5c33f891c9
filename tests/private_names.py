"""Private names of other packages that the package may use, each with its reason."""

from __future__ import annotations

#: Private names of other packages that we use all the same: (module, dotted name) → the reason.
PRIVATE_ALLOWED: dict[tuple[str, str], str] = {
    **{
        (module, "xarray.core.indexing"): "xarray documents it for writers of backends"
        for module in (
            *("lazy.arrays", "lazy.open_product", "stack.dataset", "planning.selections"),
            *("reading.concatenating", "reading.gdal"),
        )
    },
    **{
        (
            "planning.dask_graphs",
            f"dask._task_spec.{name}",
        ): "what a graph is made of has no public name"
        for name in (
            *("Alias", "DataNode", "GraphNode", "Task", "TaskRef", "_execute_subgraph"),
            *("convert_legacy_graph", "cull"),
        )
    },
    **{
        (
            "planning.shared_chunks",
            f"dask._task_spec.{name}",
        ): "what a graph is made of has no public name"
        for name in ("GraphNode", "convert_legacy_graph")
    },
}
