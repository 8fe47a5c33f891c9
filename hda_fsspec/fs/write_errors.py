"""Errors of local file systems while copies are written, told with the next step."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from hda_fsspec.printable import printable

_STEPS = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
        "Free some space there, or copy to another disk. What was fetched stays in the cache",
    ),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS), "Copy to a folder that you may write to"
    ),
    errno.ENAMETOOLONG: (
        "Copy to a shorter path, or give the file a name of your own: "
        "fs.get_file(product, 'name') or fs.download(product, 'name')"
    ),
    errno.ENOENT: "There is no such folder, and none can be made. Copy to another path",
    errno.EISDIR: "There is a folder of that name. Copy to another path",
    **dict.fromkeys(
        (errno.ENOTDIR, errno.EEXIST, errno.ELOOP),
        "Something that is no folder is in the way. Copy to another path",
    ),
}


@contextlib.contextmanager
def explained(target: str | os.PathLike[str] | None = None) -> Iterator[None]:
    """Say of a file system's refusal what was being written, and the next step.

    What is raised keeps its number, and with it its class: a PermissionError stays one. Without a
    target only errors that name a file are those of a file system.
    """
    try:
        yield
    except OSError as err:
        number, where = err.errno or 0, err.filename if target is None else os.fspath(target)
        if number not in _STEPS or where is None:
            raise
        msg = f"{os.strerror(number)}: cannot write the copy {where}. {_STEPS[number]}."
        raise OSError(number, printable(msg)) from err
