"""The sanitiser by itself: for any text, what comes out can be shown, and tells what was there."""

from __future__ import annotations

import io
import logging
import unicodedata
import warnings
from collections.abc import Iterator

import hypothesis
import pytest
from hypothesis import strategies as st
from rows import for_each

from hda_fsspec.cli.terminal import echo, echo_block, echo_locations, echo_table
from hda_fsspec.errors import HDAError, note_once, note_others
from hda_fsspec.paths.locations import Location
from hda_fsspec.printable import (
    LONGEST_LINES,
    LONGEST_TEXT,
    LONGEST_WORD,
    PrintableRecords,
    escaped,
    format_bytes,
    is_shown,
    lines,
    plural,
    printable,
    printable_lines,
    python_text,
    warn,
)

ANY_TEXT = st.text(st.characters(codec=None, categories=None, exclude_categories=()))
ENCODINGS = st.sampled_from(["ascii", "latin-1", "cp1252", "utf-8", "shift_jis", "utf-16"])


@hypothesis.given(ANY_TEXT)
def test_whatever_comes_in_can_be_shown(text: str) -> None:
    """One line, printable, encodable, of bounded length; and it stays what it is."""
    shown = printable(text)

    assert shown.isprintable()
    assert all(map(is_shown, shown))
    shown.encode()
    assert len(shown) <= LONGEST_TEXT
    assert printable(shown) == shown
    assert escaped(text).isprintable()


@hypothesis.given(st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126)))
def test_plain_text_is_left_alone(text: str) -> None:
    """What a keyboard writes is shown as it is."""
    assert escaped(text) == text


@for_each("text", ["naïve", "Ångström", "海面水温", "מים", "بحر", "e\u0301", "😀"])
def test_letters_of_all_scripts_are_left_alone(text: str) -> None:
    """Letters, their accents and signs are shown as they are."""
    assert printable(text) == text


@pytest.mark.slow
def test_categories_that_do_not_show() -> None:
    """No character of these categories gets through, and each is told by its number."""
    chars: dict[str, list[str]] = {key: [] for key in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")}
    for char in map(chr, range(0x110000)):
        chars.get(unicodedata.category(char), []).append(char)

    for category, found in chars.items():
        assert found
        for char in found[:3000]:
            shown = escaped(f"a{char}b")
            assert shown == f"a{char.encode('unicode_escape').decode()}b", category


def test_spaces_are_spaces() -> None:
    """Spaces of other widths, which titles hold, are plain ones."""
    assert printable("100\xa0km\u202f,\u3000x\u2009y") == "100 km , x y"


def test_long_texts_keep_both_ends() -> None:
    """A long word loses its middle, and so does a long text; how much is told."""
    word = printable("begin" + "x" * 5000 + "end")
    text = printable("first " + "word " * 5000 + "last")

    assert len(word) <= LONGEST_WORD
    assert (word[:5], word[-3:]) == ("begin", "end")
    assert len(text) <= LONGEST_TEXT
    assert (text.split()[0], text.split()[-1]) == ("first", "last")
    assert "characters …]" in word
    assert printable("y" * LONGEST_WORD) == "y" * LONGEST_WORD


def test_lines_are_those_that_were_given() -> None:
    """Lines are made here, and what they hold makes none."""
    assert lines("a\nb", "c") == "a\\nb\nc"
    assert printable_lines("a\x1b\nb\r") == "a\\x1b\nb\\r"
    assert len(printable_lines("a\n" * 100_000)) <= LONGEST_LINES


def test_errors_and_notes_are_printable() -> None:
    """A message and the notes of others are printable; the attributes of an error are as given."""
    error = HDAError("a\x1bb\u202e\ud800")
    note_once(error, "c\x9b")
    note_once(error, "c\x9b")
    note_others(error, [("d", OSError("e\nFORGED")), ("f\r", OSError("g"))], "products")

    assert str(error) == "a\\x1bb\\u202e\\ud800"
    assert error.__notes__ == ["c\\x9b", "2 other products failed too:\n  d: e FORGED\n  f: g"]


def test_one_reason_of_many_faults_is_told_once() -> None:
    """Seconds that differ make no other reason; that of the error itself is not told again."""
    refused = [OSError(f"The quota is used up for another {3600 - n} s.") for n in range(30)]
    named = [(f"{n}.nc", error) for n, error in enumerate(refused)]
    same, other = OSError("The quota is used up for another 2 s."), OSError("Gone.")

    note_others(same, named[:3], "products")
    note_others(other, named, "products")

    assert same.__notes__ == [
        "3 other products failed too, for the same reason: 0.nc, 1.nc, 2.nc",
    ]
    first, line = other.__notes__[0].split("\n")
    assert first == "30 other products failed too:"
    assert line.startswith("  0.nc, 1.nc, ")
    assert line.endswith("19.nc and 10 more: The quota is used up for another 3600 s.")


def test_a_reason_that_names_its_product_is_not_named_twice() -> None:
    """Reasons that are those of the error, and names that stand in a reason, are not repeated."""
    error = OSError("Gone.")

    note_others(error, [("a", OSError("Gone.")), ("b", OSError("The product b is ill."))], "copies")

    assert error.__notes__ == [
        "2 other copies failed too:\n  a: the same reason\n  The product b is ill.",
    ]


def test_warnings_are_printable_and_told_where_they_are_raised() -> None:
    """The message is one line; the place is that of whoever warns."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn("a\nb\x1b", RuntimeWarning)

    [warning] = caught
    assert str(warning.message) == "a\\nb\\x1b"
    assert warning.category is RuntimeWarning
    assert warning.filename == __file__


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Return what a plain handler writes of the package's log."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("hda_fsspec")
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)


def test_log_records_are_printable(log: io.StringIO) -> None:
    """A record is one line, whatever its arguments; a traceback keeps its own lines."""
    logger = logging.getLogger("hda_fsspec")

    logger.warning("of %s: %s and %r, %d%%", "a\nb", ValueError("c\x1bd"), "e\x9b", 7)
    try:
        raise ValueError("g\x1bh")
    except ValueError:
        logger.exception("failed")

    first, *rest = log.getvalue().splitlines()
    assert first == "of a\\nb: c\\x1bd and 'e\\x9b', 7%"
    assert rest[0] == "failed"
    assert rest[1].startswith("Traceback")
    assert rest[-1] == "ValueError: g\\x1bh"


def test_records_that_are_printable_keep_their_arguments() -> None:
    """Whoever counts records by message and arguments still can."""
    record = logging.LogRecord("x", 20, __file__, 1, "%s of %d", ("a", 2), None)

    assert PrintableRecords().filter(record)
    assert (record.msg, record.args) == ("%s of %d", ("a", 2))


@hypothesis.given(ANY_TEXT)
def test_what_is_offered_to_python_is_that_text(text: str) -> None:
    """A literal evaluates to the text, and begins and ends as one."""
    import ast

    assert ast.literal_eval(python_text(text)) == text
    assert ascii(python_text(text))[1:2] in "\"'\\"


class _Stream(io.TextIOWrapper):
    """A standard output of some encoding."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)

    @property
    def text(self) -> str:
        """What was written."""
        return self.buffer.getvalue().decode(self.encoding)  # type: ignore[attr-defined,no-any-return]


@hypothesis.given(ANY_TEXT, ENCODINGS)
def test_everything_can_be_printed_in_every_encoding(text: str, encoding: str) -> None:
    """Lines are lines and tables are tables, whatever they hold and wherever they go."""
    stream = _Stream(encoding)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", stream)
        echo(text, text)
        echo_table([("A", "B"), (text, text)], right=[0], whole=[1])
        echo_block(f"{text}\nb")

    written = stream.text.removeprefix("\ufeff")
    assert all(char.isprintable() or char == "\n" for char in written)
    assert len(written.split("\n")) == 2 + 2 + 1 + 1 + text.count("\n") + 1


@pytest.mark.slow
@hypothesis.given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), ENCODINGS)
@hypothesis.example("¥100", "shift_jis")  # which writes a backslash for it
def test_printed_locations_open(product: str, encoding: str) -> None:
    """A location is printed in one line of any encoding, and is read back as itself."""
    location = Location("EO:X", {"k": product}, product)
    stream = _Stream(encoding)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", stream)
        echo_locations(location.path)

    [line, rest] = stream.text.removeprefix("\ufeff").split("\n")
    assert rest == ""
    assert line.isprintable()
    assert Location.parse(line) == location
    assert location.path.isprintable()


@for_each(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_960, "1.0 MB"),
        (50_000_000_000, "50.0 GB"),
        (12_345_678_900_000_000, "12.3 PB"),
    ],
)
def test_human_bytes(count: int, text: str) -> None:
    """Bytes are shown with one decimal and a decimal unit."""
    assert format_bytes(count) == text


def test_nouns_of_numbers() -> None:
    """One of a thing is told in the singular."""
    assert [plural(count, "file") for count in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
