"""What the documents say is run: every Python block, in order, against an emulator."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import fsspec
import pytest
from checkout import ROOT
from clusters import forked_workers
from rows import for_each

from hda_fsspec import errors
from hda_fsspec.emulator import Catalogue, Emulator, Fault
from hda_fsspec.emulator.identity import name_of
from hda_fsspec.emulator.permanent_faults import ODDITIES
from hda_fsspec.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PICTURE_BYTES = 60_000

# What the reader's disk has room for differs, and is the only thing shown that does.
_ROOM = re.compile(r"^(  (?:cache|disk) +)[\d.,]+ \w+", re.MULTILINE)


def _load_beside_documents(name: str) -> ModuleType:
    """Import a script that lies beside the documents, in no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass asks for it
    spec.loader.exec_module(module)
    return module


documents = _load_beside_documents("make_pictures")
_blocks = documents.read_blocks


def _python(path: Path) -> list[Any]:
    return [block for block in _blocks(path) if block.language in {"python", "py"}]


def _document_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def catalogue(samples: Path) -> Catalogue:
    """Return the sample data sets, which the documents use."""
    return Catalogue.from_json(samples)


@pytest.fixture(scope="module")
def home(catalogue: Catalogue) -> str:
    """Return the name of a service that offers them, for which all their files are read."""
    return name_of(catalogue)


@pytest.fixture
def emulator(
    samples: Path, catalogue: Catalogue, home: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Emulator]:
    """Serve the catalogue where the environment leads, with a working folder of its own.

    Samples are there already for pages that have them written.
    """
    import matplotlib  # which takes its time, in all processes of a run

    work = tmp_path / "work"
    work.mkdir()
    (work / "samples").symlink_to(samples.parent)
    monkeypatch.chdir(work)
    monkeypatch.setattr("hda_fsspec.emulator.emulator.name_of", lambda _: home)
    monkeypatch.setitem(matplotlib.rcParams, "savefig.dpi", 25)  # which nobody looks at
    with mock.patch.dict(os.environ), Emulator(catalogue) as running:
        os.environ.update(running.environment)
        _forget_instances()
        with forked_workers():
            yield running
        _forget_instances()


def _forget_instances() -> None:
    fsspec.get_filesystem_class("hda").clear_instance_cache()


WITH_CODE = [path for path in DOCUMENTS if _python(path)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # rioxarray's
@pytest.mark.parametrize("path", WITH_CODE, ids=_document_id)
def test_python_blocks_run(path: Path, emulator: Emulator) -> None:
    """A document's Python blocks run, in order, print what is shown, and draw its pictures."""
    shown = {block.line: block.code for block in _blocks(path) if block.is_output}

    printed = documents.run_blocks(path)

    for line, text in shown.items():
        assert _ROOM.sub(r"\1#", printed[line]) == _ROOM.sub(r"\1#", text)
    drawn = {name: Path(name).read_bytes()[:4] for name in documents.drawn_by(path)}
    assert drawn == dict.fromkeys(drawn, b"\x89PNG")


@pytest.mark.slow
def test_the_script_takes_over_pictures_and_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a block draws and prints goes where the document shows it, and nothing else changes."""
    monkeypatch.setattr(documents, "PICTURES", tmp_path)
    page = tmp_path / "page.md"
    start = (
        "```python\nfrom matplotlib.figure import Figure\n"
        'Figure().savefig("a.png")\nprint("new")\n```\n\n<!-- output -->\n```text\n'
    )
    page.write_text(f"{start}old\n```\n\n![A picture](pictures/a.png)\n", encoding="utf-8")

    documents._update(page)

    end = "new\n```\n\n![A picture](pictures/a.png)\n"
    assert page.read_text(encoding="utf-8") == start + end
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_pictures_are_there_and_small() -> None:
    """Each picture is shown, has a text for those who do not see it, and loads at once."""
    shown = [name for path in DOCUMENTS for name in documents.pictures_of(path)]
    sizes = {path.name: path.stat().st_size for path in (ROOT / "docs/pictures").iterdir()}
    bare = [path for path in DOCUMENTS if "![](" in path.read_text(encoding="utf-8")]

    assert sorted(set(shown)) == sorted(sizes)
    assert [name for name, size in sizes.items() if size > PICTURE_BYTES] == []
    assert bare == []


@for_each("path", WITH_CODE)
def test_a_block_that_is_not_run_says_why(path: Path) -> None:
    """A block can be left unrun only with a reason that is worth reading."""
    reasons = {block.line: block.not_run for block in _python(path) if block.not_run is not None}

    assert {line: reason for line, reason in reasons.items() if len(reason.split()) < 3} == {}


def test_blocks_are_found() -> None:
    """The documents that show code are seen to show it, indented blocks included."""
    counts = {_document_id(path): len(_python(path)) for path in DOCUMENTS}

    assert counts["README.md"] >= 3
    assert counts["docs/quickstart.md"] >= 5
    assert counts["docs/paths.md"] >= 3


def test_readme_starts_with_two_console_blocks() -> None:
    """The first block makes an environment and runs the demo, the second runs the tests."""
    first, second = [block for block in _blocks(ROOT / "README.md") if block.language == "console"][
        :2
    ]

    assert first.code.splitlines()[0].startswith("python3 -m venv .venv")
    assert first.code.splitlines()[-1] == "hda-fsspec demo"
    assert second.code.splitlines()[-1] == "pytest"
    assert second.line < 60


def test_every_setting_is_documented() -> None:
    """The table of settings has each setting, and no other."""
    rows = re.findall(
        r"^\| `(\w+)` \|", (ROOT / "docs/settings.md").read_text(encoding="utf-8"), re.MULTILINE
    )

    fields = [field.name for field in dataclasses.fields(Settings)]
    assert sorted(rows) == sorted(name for name in fields if not name.startswith("_"))


def test_every_error_is_documented() -> None:
    """Errors A to Z has a section for each error, in that order."""
    sections = re.findall(
        r"^## (\w+)$", (ROOT / "docs/errors.md").read_text(encoding="utf-8"), re.MULTILINE
    )

    named = [name for name in vars(errors) if name.endswith("Error")]
    assert sections == sorted(named)


def test_every_fault_of_the_table_exists() -> None:
    """The table of faults names only kinds that the emulator has."""
    text = (ROOT / "docs/emulator.md").read_text(encoding="utf-8").partition("## Faults")[2]
    rows = re.findall(r"^\| (`.*?`) \|", text, re.MULTILINE)

    kinds = [kind for row in rows for kind in re.findall(r"`([\w-]+)`", row)]

    assert kinds
    assert [Fault(kind).kind for kind in kinds] == kinds


def test_every_odd_answer_is_in_the_table() -> None:
    """The table of odd answers names all that the emulator has, and no other."""
    text = (ROOT / "docs/emulator.md").read_text(encoding="utf-8")
    table = text.partition("## Odd answers")[2].partition("## Faults")[0]
    rows = re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)

    assert sorted(name for row in rows for name in re.findall(r"`([\w-]+)`", row)) == sorted(
        ODDITIES
    )


def test_docstrings_are_shown_without_roles() -> None:
    """What Sphinx would make a link of is code on the site; other colons stay."""
    shown = _load_beside_documents("hooks").on_page_content

    assert shown("<p>of :class:<code>A</code>, :meth:<code>a.b</code></p>") == (
        "<p>of <code>A</code>, <code>a.b</code></p>"
    )
    assert shown("<p>cache: <code>a</code> at 12:<code>b</code></p>") == (
        "<p>cache: <code>a</code> at 12:<code>b</code></p>"
    )


def test_local_links_lead_somewhere() -> None:
    """A link to a file of the repository names one that is there."""
    broken = [
        f"{_document_id(path)}: {target}"
        for path in [*DOCUMENTS, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
        for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8"))
        if "://" not in target and not (path.parent / target).exists()
    ]

    assert broken == []
