"""Uploads to S3 in small parts, and a program that is killed at the end of one.

``python s3_parts.py '["a local file", {"key": …}]'``, the options of the filesystem.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import fsspec

from hda_fsspec.fetching.remote_folder import RemoteFolder

#: The least that S3 takes in a part, and more than two of them make an upload of several.
PART_BYTES = 5 << 20


def in_parts(s3: dict[str, Any]) -> Any:
    """Return the class of filesystems of S3 that puts all files in small parts."""

    class InParts(type(fsspec.filesystem("s3", **s3))):  # type: ignore[misc]
        """Files of a test are smaller than what it takes for large."""

        async def _put_file(
            self, lpath: str, rpath: str, *, max_concurrency: int, callback: Any
        ) -> None:
            await super()._put_file(
                lpath,
                rpath,
                max_concurrency=max_concurrency,
                callback=callback,
                chunksize=PART_BYTES,
            )

    return InParts


def put_and_die(arguments: str) -> None:
    """Put a file, and be killed when all its parts are there and no object is."""
    path, s3 = json.loads(arguments)

    class Killed(in_parts(s3)):  # type: ignore[misc]
        """Ends at the end of an upload."""

        async def _call_s3(self, method: str, *args: Any, **kwargs: Any) -> Any:
            if method == "complete_multipart_upload":
                os.kill(os.getpid(), signal.SIGKILL)
            return await super()._call_s3(method, *args, **kwargs)

    folder = RemoteFolder("s3://bucket/x/", s3)
    folder.fs = Killed(**s3, skip_instance_cache=True)
    with Path(path).open("rb") as source:
        folder.put(source, "large.nc", threading.Event())


if __name__ == "__main__":
    put_and_die(sys.argv[1])
