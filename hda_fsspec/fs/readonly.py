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


class ReadOnly:
    """Mix-in for an asynchronous filesystem: each writing verb raises OSError (EROFS)."""

    async def _mkdir(self, path: Any, *args: Any, **kwargs: Any) -> NoReturn:
        refuse("make the directory", path)

    async def _makedirs(self, path: Any, *args: Any, **kwargs: Any) -> NoReturn:
        refuse("make the directory", path)

    async def _rm_file(self, path: Any, **kwargs: Any) -> NoReturn:
        refuse("remove", path)

    async def _rm(self, path: Any, *args: Any, **kwargs: Any) -> NoReturn:
        refuse("remove", path)

    async def _cp_file(self, path1: Any, path2: Any, **kwargs: Any) -> NoReturn:
        refuse("copy to", path2)

    async def _mv_file(self, path1: Any, path2: Any, **kwargs: Any) -> NoReturn:
        refuse("move", path1)

    async def _pipe_file(self, path: Any, value: Any, mode: str = "", **kwargs: Any) -> NoReturn:
        refuse("write", path)

    async def _put_file(self, lpath: Any, rpath: Any, mode: str = "", **kwargs: Any) -> NoReturn:
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
