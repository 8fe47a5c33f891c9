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


def _refusing(verb: str, position: int = 0) -> Any:
    """Return a coroutine method that refuses to write to one of the paths that it is given."""

    async def method(_: Any, *args: Any, **kwargs: Any) -> NoReturn:
        refuse(verb, [*args, *kwargs.values()][position])

    return method


class ReadOnly:
    """Mix-in for an asynchronous filesystem: each writing verb raises OSError (EROFS)."""

    _mkdir = _makedirs = _refusing("make the directory")
    _rm = _rm_file = _refusing("remove")
    _cp_file = _refusing("copy to", 1)
    _mv_file = _refusing("move")
    _pipe_file = _refusing("write")
    _put_file = _refusing("write", 1)

    def rmdir(self, path: Any) -> NoReturn:
        """Raise OSError (EROFS)."""
        refuse("remove the directory", path)

    def touch(self, path: Any, truncate: bool = True, **kwargs: Any) -> NoReturn:
        """Raise OSError (EROFS)."""
        refuse("write", path)

    def mv(self, path1: Any, path2: Any, **kwargs: Any) -> NoReturn:
        """Raise OSError (EROFS)."""
        refuse("move", path1)
