"""Run documents against the emulator, and keep the pictures that they draw and what they print.

    python docs/make_pictures.py                     # all documents that show pictures or output
    python docs/make_pictures.py docs/index.md       # these

A Python block that ends in ``savefig("july.png")`` makes the picture ``pictures/july.png``. A block
of text after ``<!-- output -->`` holds what the Python block before it printed.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import os
import re
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
PICTURES = DOCS / "pictures"

_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```\s*$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"<!--\s*not run:(.*?)-->\s*\Z", re.DOTALL)
_OUTPUT = re.compile(r"<!--\s*output\s*-->\s*\Z")
_PICTURE = re.compile(r"\]\((?:\.\./)?pictures/([\w-]+\.(?:png|svg))\)")


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block of a document.

    Attributes
    ----------
    language : str
        The word after the fence.
    line : int
        The line of the opening fence.
    code : str
        What it holds, without indentation.
    span : tuple of int
        Where ``code`` begins and ends in the text of the document.
    not_run : str or None
        The reason why it is not run.
    is_output : bool
        Whether it shows what the Python block before it prints.
    """

    language: str
    line: int
    code: str
    span: tuple[int, int]
    not_run: str | None
    is_output: bool


def read_blocks(path: Path) -> list[Block]:
    """Return the fenced blocks of a document, in order."""
    text = path.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        before = text[: match.start()].rstrip(" ")
        mark = _NOT_RUN.search(before)
        found.append(
            Block(
                language=match.group(2),
                line=text.count("\n", 0, match.start()) + 1,
                code=textwrap.dedent(match.group(3)),
                span=match.span(3),
                not_run=mark.group(1).strip() if mark else None,
                is_output=_OUTPUT.search(before) is not None,
            )
        )
    return found


def pictures_of(path: Path) -> list[str]:
    """Return the names of the pictures of the documentation that a document shows."""
    return _PICTURE.findall(path.read_text(encoding="utf-8"))


def drawn_by(path: Path) -> list[str]:
    """Return those of them that its own code draws; diagrams (SVG) are drawn by hand."""
    return [name for name in pictures_of(path) if name.endswith(".png")]


def run_blocks(path: Path) -> dict[int, str]:
    """Run the Python blocks of a document in order, in the working folder.

    Returns
    -------
    dict
        What each block printed, by the line of the block. Where the output of a block is shown,
        it has the line of the block that shows it as well.
    """
    namespace: dict[str, Any] = {"__name__": f"document_{path.stem}"}
    printed: dict[int, str] = {}
    last = ""
    for block in read_blocks(path):
        if block.is_output:
            printed[block.line] = last
        elif block.language in {"python", "py"} and block.not_run is None:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                # Line numbers of a traceback are those of the document.
                code = "\n" * block.line + block.code
                exec(compile(code, str(path), "exec"), namespace)
            printed[block.line] = last = out.getvalue()
    return printed


def _update(path: Path) -> None:
    """Run a document in an empty folder; take over its pictures and its output."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        try:
            printed = run_blocks(path)
        finally:
            os.chdir(here)
        for name in drawn_by(path):
            (PICTURES / name).write_bytes((Path(work) / name).read_bytes())
    text = path.read_text(encoding="utf-8")
    for block in reversed(read_blocks(path)):
        if block.is_output:
            start, end = block.span
            text = text[:start] + printed[block.line] + text[end:]
    path.write_text(text, encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Update the documents that are named, or all that show pictures or output."""
    parser = argparse.ArgumentParser(description="Make the pictures and outputs of documents.")
    parser.add_argument("document", nargs="*", type=Path)
    chosen = [path.resolve() for path in parser.parse_args(arguments).document] or [
        path
        for path in sorted(DOCS.rglob("*.md"))
        if pictures_of(path) or any(block.is_output for block in read_blocks(path))
    ]
    from hda_fsspec.emulator import Catalogue, Emulator, write_samples

    os.environ["MPLBACKEND"] = "Agg"
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        catalogue = Catalogue.from_json(write_samples(Path(folder) / "samples"))
        for number, path in enumerate(chosen):
            # A service and a cache of its own for each, so that what a document orders is told
            # by itself alone.
            cache = str(Path(folder) / f"cache-{number}")
            with Emulator(catalogue) as emulator:
                os.environ.update(emulator.environment, HDA_CACHE_DIR=cache, HDA_PROGRESS="0")
                _update(path)
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
