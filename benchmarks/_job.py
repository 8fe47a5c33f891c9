"""One job of one client in this process: search a data set, download all of it into a folder.

``python -m benchmarks._job JSON`` prints as JSON what became of it: the error that was raised, and
the classes of those that were only logged.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import resource
import sys
from typing import Any

from benchmarks._serving import storage_options

DATASET = "EO:TEST:DAT:FAULTS"
QUERY = f"hda://{DATASET}/startdate=2024-01-01/enddate=2024-12-31"
REQUEST = {
    "dataset_id": DATASET,
    "startdate": "2024-01-01T00:00:00.000Z",
    "enddate": "2024-12-31T23:59:59.999Z",
}
OFFICIAL, OURS = "hda", "hda_fsspec"


class _Errors(logging.Handler):
    """Keeps the classes of errors that are logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0] if record.exc_info else None
        self.seen.append(kind.__name__ if kind else record.getMessage())


def _with_hda(account: dict[str, str], target: str, _cache_dir: str) -> None:
    import hda

    client = hda.Client(hda.Configuration(**account, path="/nonexistent"), progress=False)
    client.search(dict(REQUEST)).download(target)


def _with_ours(account: dict[str, str], target: str, cache_dir: str) -> None:
    import fsspec

    fsspec.filesystem("hda", **storage_options(account, cache_dir)).download(QUERY, target)


def main() -> None:
    """Do the job that the first argument describes."""
    given: dict[str, Any] = json.loads(sys.argv[1])
    errors = _Errors()
    logging.getLogger().addHandler(errors)
    job = {OFFICIAL: _with_hda, OURS: _with_ours}[given["client"]]
    if given["max_file_bytes"]:
        # Writing beyond it fails as it does on a disk that is full.
        resource.setrlimit(resource.RLIMIT_FSIZE, (given["max_file_bytes"],) * 2)
    raised = None
    # The official client announces each file on standard output, where the report belongs.
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            job(given["account"], given["target"], given["cache_dir"])
        except Exception as err:  # noqa: BLE001  (what a user would see is the report)
            raised = f"{type(err).__name__}: {err}"
    print(json.dumps({"raised": raised, "logged": errors.seen}))


if __name__ == "__main__":
    main()
