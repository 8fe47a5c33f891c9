"""The writing verbs of fsspec, all refused: the filesystem is read-only."""

from __future__ import annotations

import errno
from typing import Any, NoReturn


def refuse(verb: str, path: Any) -> NoReturn:
    """Raise OSError (EROFS) for a verb that would write."""
    msg = (
        f"Cannot {verb} {path}: hda:// is read-only. fs.get or fs.download copy products to where "
        "you can write."
    )
    raise OSError(errno.EROFS, msg)


def _refusing(verb: str) -> Any:
    """Return a coroutine method that refuses to write to the path that it is given."""

    async def method(_: Any, path: Any, *_args: Any, **_kwargs: Any) -> NoReturn:
        refuse(verb, path)

    return method


class ReadOnly:
    """Mix-in for an asynchronous filesystem: each writing verb raises OSError (EROFS)."""

    _mkdir = _makedirs = _refusing("make the directory")
    _rm = _rm_file = _refusing("remove")
    _pipe_file = _refusing("write")

    async def _cp_file(self, path1: Any, path2: Any, **kwargs: Any) -> NoReturn:
        refuse("copy to", path2)

    async def _mv_file(self, path1: Any, path2: Any, **kwargs: Any) -> NoReturn:
        refuse("move", path1)

    async def _put_file(self, lpath: Any, rpath: Any, *args: Any, **kwargs: Any) -> NoReturn:
        refuse("write", rpath)

    def rmdir(self, path: Any) -> NoReturn:
        """Raise OSError (EROFS)."""
        refuse("remove the directory", path)

    def touch(self, path: Any, truncate: bool = True, **kwargs: Any) -> NoReturn:
        """Raise OSError (EROFS)."""
        refuse("write", path)

    def mv(self, path1: Any, path2: Any, **kwargs: Any) -> NoReturn:
        """Raise OSError (EROFS)."""
        refuse("move", path1)
