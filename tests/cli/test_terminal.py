"""What a terminal gets: tables that fit, bars for what arrives; and nothing of it elsewhere."""

from __future__ import annotations

import io
import re
import threading
from typing import Any

import hypothesis
import pytest
from clocks import Clock
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rows import for_each

from hda_fsspec.cli import main
from hda_fsspec.cli.progress import Bars, console_of
from hda_fsspec.cli.terminal import echo, echo_block, echo_table
from hda_fsspec.emulator import Fault, dated_product
from hda_fsspec.fetching.quota import QuotaView
from hda_fsspec.printable import is_shown

ID = "S3A_OL_2_WFR____202405{:02}T101112_20240503T191817_0179_112_008_2160_MAR_O_NT_003.SEN3"
BOLD = re.compile(r"\x1b\[[01]m")
LONG = "hda://EO:X/" + "y" * 200
ANY_TEXT = st.text(st.characters(codec=None, categories=None, exclude_categories=()), max_size=90)
UNKNOWN = QuotaView(None, None, None)


class Terminal(io.StringIO):
    """A standard output that somebody looks at."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        """Return that it is one."""
        return True

    def run(self, *words: str) -> None:
        """Run a command that prints to it."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdout", self)
            assert main(words) == 0

    def table(self, *rows: tuple[str, ...], **more: Any) -> None:
        """Have a table printed to it."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdout", self)
            echo_table(rows, **more)

    @property
    def lines(self) -> list[str]:
        """What is seen, without what makes it bold."""
        return BOLD.sub("", self.getvalue()).split("\n")[:-1]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Return a terminal of 80 columns."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    return Terminal()


@pytest.fixture
def query(bench: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Serve three products with long ids, of which the first is local."""
    entries = [dated_product(ID.format(day), bench.body(day)) for day in (1, 2, 3)]
    emulator = bench.start(products=entries, entry={"title": "Ocean [bold]colour[/bold] :smile:"})
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HDA_CACHE_DIR", str(bench.cache_dir))
    assert main(["get", f"{bench.query}/{ID.format(1)}", str(bench.folder / "out")]) == 0
    return str(bench.query)


def test_ls_is_a_table_that_fits(query: str, terminal: Terminal, capsys: Any) -> None:
    """Size, start and whether it is cached; what is too long goes on below; a sum at the end."""
    terminal.run("ls", query)

    head, first, rest, *_, end = terminal.lines
    assert head.split() == ["SIZE", "START", "CACHED", "PRODUCT"]
    assert first.split()[:5] == ["2.0", "kB", "2024-05-01", "00:00", "yes"]
    assert first.split()[5] + rest.strip() == ID.format(1)
    assert rest.index(rest.strip()) == head.index("PRODUCT")
    assert [line.split()[4] for line in terminal.lines[1:-1:2]] == ["yes", "no", "no"]
    assert end == "3 products, 6.1 kB, 1 cached; ls -1 prints one path a line"
    assert max(map(len, terminal.lines)) <= 80
    assert terminal.getvalue().startswith("\x1b[1m")


def test_ls_on_a_narrow_terminal(
    query: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no room for columns, each product takes some lines of its own."""
    monkeypatch.setenv("COLUMNS", "40")

    terminal.run("ls", query)

    lines = terminal.lines
    assert "".join(lines[:3]) == ID.format(1)
    assert lines[3].split() == ["2.0", "kB", "2024-05-01", "00:00", "yes"]
    assert max(map(len, lines)) <= 40


def test_ls_that_needs_no_folding(
    query: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where each product has one line nothing is said of another form."""
    monkeypatch.setenv("COLUMNS", "160")

    terminal.run("ls", query)

    assert terminal.lines[-1] == "3 products, 6.1 kB, 1 cached"


@pytest.mark.parametrize("columns", [48, 80, 160])
def test_all_views_fit(
    columns: int, query: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wider than the terminal goes on below its column; paths alone stay whole."""
    monkeypatch.setenv("COLUMNS", str(columns))
    for words in (["info", query], ["plan", query], ["doctor"], ["orders"], ["cache", "du"]):
        terminal.run(*words)

    wide = [line for line in terminal.lines if len(line) > columns]
    assert [line for line in wide if " " in line.strip()] == []
    assert "".join("".join(terminal.lines).split()).count(ID.format(2)) == 1


def test_folding_hangs_below_the_last_column(terminal: Terminal) -> None:
    """Words stay whole unless that is asked for, and what fits stays as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", terminal)
        patch.setenv("COLUMNS", "40")
        echo("ok    one two three four five six seven eight nine", "short  line")
        echo("ok    " + "y" * 50 + " z")
        echo_block("  a  b " + "y" * 40, is_folded=True)

    assert terminal.lines == [
        *("ok    one two three four five six seven", "      eight nine", "short  line"),
        *("ok    " + "y" * 50, "      z"),
        *("  a  b " + "y" * 33, "     " + "y" * 7),
    ]


@pytest.mark.parametrize("words", [["ls", "-1"], ["ls", "--json"]])
def test_what_is_asked_for_is_what_comes(
    words: list[str], query: str, terminal: Terminal, capsys: Any
) -> None:
    """Paths and JSON are the same on a terminal and in a pipe."""
    terminal.run(*words, query)
    capsys.readouterr()

    assert main([*words, query]) == 0

    assert capsys.readouterr().out == terminal.getvalue()


@pytest.mark.parametrize(
    ("name", "value"), [("TERM", "dumb"), ("TERM", "unknown"), ("NO_COLOR", "1")]
)
def test_terminals_that_can_little(
    name: str, value: str, query: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dumb terminal gets no escapes at all; without colour nothing has one."""
    monkeypatch.setenv(name, value)

    terminal.run("ls", query)

    codes = set(re.findall(r"\x1b.*?[A-Za-z]", terminal.getvalue()))
    assert codes == ({"\x1b[1m", "\x1b[0m"} if name == "NO_COLOR" else set())
    assert max(map(len, terminal.lines)) <= 80


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE", "CLICOLOR_FORCE"])
def test_what_is_no_terminal_is_plain(
    variable: str, query: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """No escape and no folding, whatever the width, and whatever asks for colour."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv(variable, "1")
    capsys.readouterr()

    assert main(["ls", "-l", query]) == 0
    assert main(["cache", "ls"]) == 0
    assert main(["--help"]) == 0

    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert [line.split()[-1] for line in out.splitlines()[1:4]] == [ID.format(d) for d in (1, 2, 3)]


def test_markup_of_a_title_is_text(query: str, terminal: Terminal) -> None:
    """What the catalogue says is shown as it is, and draws nothing."""
    terminal.run("ls")
    terminal.run("datasets", "ocean")

    assert terminal.getvalue().count("Ocean [bold]colour[/bold] :smile:") == 2


@pytest.mark.slow
@hypothesis.given(
    st.lists(st.tuples(ANY_TEXT, ANY_TEXT, ANY_TEXT), min_size=1, max_size=4),
    st.integers(20, 200),
    st.sampled_from([(), (0,)]),
)
@hypothesis.example([("海" * 30, "面", "水" * 30)], 20, ())
@hypothesis.example([("a", "[red]b[/red]", "\x1b[31m")], 20, ())
def test_tables_of_anything_fit(
    rows: list[tuple[str, str, str]], width: int, whole: tuple[int, ...]
) -> None:
    """No cell makes a line, an escape or a longer line; only what is copied may be longer."""
    terminal = Terminal()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        patch.setenv("TERM", "xterm")
        terminal.table(("A", "B", "C"), *rows, right=[1], whole=whole)

    lines = terminal.lines
    assert all(is_shown(char) for line in lines for char in line)
    if not whole:
        assert max(map(cell_len, lines)) <= width


def test_what_is_copied_is_never_folded(terminal: Terminal) -> None:
    """A long path is one line, which the terminal wraps and gives back whole."""
    terminal.table(("SIZE", "PATH"), ("1 B", LONG), ("2 B", "hda://EO:X/z"), right=[0], whole=[1])

    assert terminal.lines == [LONG, "  1 B", "hda://EO:X/z", "  2 B"]


@pytest.mark.slow
def test_ten_thousand_rows_in_one_go(terminal: Terminal) -> None:
    """A long list is written as a table, each row once."""
    terminal.table(("N", "ID"), *((str(n), f"{n:0100}") for n in range(10_000)))

    count = len(terminal.lines)
    assert count == 1 + 2 * 10_000


def _seen(bars: Bars, width: int) -> list[str]:
    """Return what bars show on a terminal of some width, without ends of lines."""
    file = io.StringIO()
    console = Console(file=file, width=width, color_system=None, markup=False, highlight=False)
    bars._console = console
    console.print(bars.drawn())
    return [line.rstrip() for line in file.getvalue().splitlines()]


@pytest.fixture
def clock() -> Clock:
    """Return a clock for bars."""
    return Clock(1_714_557_600.0)


def _bars(clock: Clock, quota: QuotaView = UNKNOWN) -> Bars:
    return Bars(lambda: quota, console_of(io.StringIO()), clock=clock)


def test_bars_of_each_file_and_of_all(clock: Clock) -> None:
    """What arrives has a bar, what waits and what is done has none, and all together have one."""
    bars = _bars(clock)
    bars.set_size(4)
    files = [bars.branched(f"hda://EO:X/startdate=2024/{ID.format(d)}", "") for d in (1, 2, 3, 4)]
    files[0].set_size(2_000_000)
    files[0].absolute_update(2_000_000)
    files[0].close()
    files[1].set_size(8_000_000)
    files[1].absolute_update(2_000_000)
    files[2].absolute_update(500)

    known, unknown, total = _seen(bars, 100)

    assert known.startswith("...20240502T101112_20240503T")
    assert known.endswith("2.0 MB of 8.0 MB")
    assert "..20240503T" in unknown
    assert unknown.endswith(" 500 B")
    assert total.startswith("1 of 4 files ")
    assert total.endswith(" 4.0 MB, 0:00:00")
    assert "━" in known


def test_bars_tell_what_is_waited_for(clock: Clock) -> None:
    """After two seconds: the first file, how many more, since when, and the quota."""
    bars = _bars(clock, QuotaView(50, 47, None))
    bars.set_size(3)
    files = [bars.branched(f"hda://EO:X/k=v/{d}.nc", "") for d in (1, 2, 3)]
    clock.now += 1.9
    early = _seen(bars, 100)
    clock.now += 10
    late = _seen(bars, 100)
    for file in files:
        file.absolute_update(1)
    arriving = _seen(bars, 100)

    assert len(early) == 1
    said, _, quota = late[1].partition("; ")
    assert re.fullmatch(r"waiting for 1\.nc and 2 more since \d\d:\d\d:\d\d \(0:00:11\)", said)
    assert quota == "47 of 50 orders an hour left"
    assert not any("waiting" in line for line in arriving)


def test_bars_tell_of_a_used_up_quota(clock: Clock) -> None:
    """Until when there are no orders is what who waits wants to know."""
    bars = _bars(clock, QuotaView(50, 0, clock.now + 3600))
    bars.set_size(1)
    bars.branched("hda://EO:X/k=v/1.nc", "")
    clock.now += 60

    assert re.search(r"; order quota used up until \d\d:\d\d:\d\d$", _seen(bars, 120)[-1])


def test_bars_count_what_failed_and_what_is_only_counted(clock: Clock) -> None:
    """A file that ended before all of it was here failed; a transfer may only count its files."""
    bars = _bars(clock)
    bars.set_size(2)
    bars.branched("hda://EO:X/k=v/1.nc", "").close()
    whole = bars.branched("hda://EO:X/k=v/2.nc", "")
    whole.set_size(0)
    whole.close()
    counting = _bars(clock)
    counting.set_size(5)
    counting.relative_update(1)
    clock.now += 3

    assert _seen(bars, 80)[0].startswith("2 of 2 files, 1 failed ")
    assert _seen(counting, 100)[0].startswith("1 of 5 files ")
    assert _seen(counting, 100)[1].startswith("waiting for 4 files since ")


@for_each("width", [20, 40, 59, 60, 80, 200])
@for_each("name", ["[red]x[/red]:smile:.nc", "\x1b[31m\n.nc", "海" * 80, ID])
def test_bars_fit_every_width(name: str, width: int, clock: Clock) -> None:
    """Nothing of a name is drawn but its letters, and no line is too long."""
    from hda_fsspec.paths.locations import Location

    bars = _bars(clock)
    bars.set_size(20)
    for number in range(20):
        product = f"{number}{name}"
        file = bars.branched(Location("EO:X", {"k": "v"}, product).path, "")
        file.set_size(999_900_000)
        file.absolute_update(123_400_000 if number % 2 else 0)
    clock.now += 5

    lines = _seen(bars, width)

    assert max(map(cell_len, lines)) <= width
    assert len(lines) <= 8 + 1 + 12
    assert all(is_shown(char) for line in lines for char in line)
    if width >= 80 and "[red]" in name:
        assert "1[red]x[/red]:smile:.nc" in lines[0]


def test_threads_tell_bars_at_the_same_time(clock: Clock) -> None:
    """Files that end while others begin are each counted once."""
    bars = _bars(clock)
    bars.set_size(400)

    def transfer(number: int) -> None:
        for part in range(50):
            with bars.branched(f"hda://EO:X/k=v/{number}-{part}.nc", "") as file:
                file.set_size(10)
                file.absolute_update(10)
                bars.drawn()

    threads = [threading.Thread(target=transfer, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert _seen(bars, 80)[0].endswith("4.0 kB, 0:00:00")
    assert _seen(bars, 80)[0].startswith("400 of 400 files ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "variables", "is_drawn", "count"),
    [
        ([], {}, True, 1),
        ([], {}, True, 3),
        (["--delivered-names"], {}, True, 3),
        ([], {"NO_COLOR": "1", "COLUMNS": "40"}, True, 1),
        ([], {"TERM": "dumb"}, False, 3),
        (["--debug"], {}, False, 1),
        ([], {"HDA_PROGRESS": "0"}, False, 3),
    ],
)
def test_get_draws_bars_on_a_terminal(
    words: list[str],
    variables: dict[str, str],
    is_drawn: bool,
    count: int,
    bench: Any,
    terminal: Terminal,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    """Bars are drawn on standard error alone and are gone at the end; paths go to the output."""
    emulator = bench.start(count, size=300_000)
    given = {"HDA_CACHE_DIR": str(bench.cache_dir), **emulator.environment, **variables}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    folder = bench.folder / "out"
    paths = [bench.query] if count > 1 else [bench.path(1)]

    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", terminal)
        assert main(["get", *words, *paths, str(folder)]) == 0

    assert capsys.readouterr().out.splitlines() == [
        str(folder / bench.product_id(day)) for day in range(1, count + 1)
    ]
    drawn = terminal.getvalue()
    files = "1 of 1 file " if count == 1 else "3 of 3 files "
    assert (files in drawn) is is_drawn
    assert ("\x1b" in drawn) is is_drawn
    if is_drawn:
        assert drawn.endswith("\x1b[2K")  # the line of the last bar is empty again
        assert "\x1b[?25h" in drawn  # and the cursor is there again
    if "NO_COLOR" in variables:
        assert not re.search(r"\x1b\[[0-9;]*3[0-9]", drawn)


@pytest.mark.parametrize("words", [[], ["--delivered-names"]])
def test_bars_are_gone_when_a_transfer_fails(
    words: list[str],
    bench: Any,
    terminal: Terminal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error stands alone on the terminal, with what failed; the others were copied."""
    emulator = bench.start(3)
    emulator.fault(Fault("order-failed", times=1))
    for name, value in {"HDA_CACHE_DIR": str(bench.cache_dir), **emulator.environment}.items():
        monkeypatch.setenv(name, value)

    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", terminal)
        assert main(["get", *words, bench.query, str(bench.folder / "out")]) == 1

    before, _, said = terminal.getvalue().rpartition("\x1b[2K")
    assert "\x1b[?25h" in before
    assert said.startswith("hda-fsspec: error: ")
    assert len(list((bench.folder / "out").iterdir())) == 2


def test_get_that_is_not_looked_at_draws_nothing(bench: Any, monkeypatch: Any, capsys: Any) -> None:
    """Neither the bars nor what draws them are there where standard error is no terminal."""
    emulator = bench.start(2)
    for name, value in emulator.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HDA_CACHE_DIR", str(bench.cache_dir))
    monkeypatch.setenv("FORCE_COLOR", "1")

    assert main(["get", bench.query, str(bench.folder / "out")]) == 0

    assert capsys.readouterr().err == ""


def test_the_title_of_a_data_set_goes_on_below(terminal: Terminal) -> None:
    """Ids stay whole, so that they can be copied, and titles are folded beside them."""
    rows = [("DATA SET", "TITLE"), ("EO:X:DAT:" + "A" * 30, "word " * 20)]

    terminal.table(*rows, whole=[0])

    assert terminal.lines[1].startswith(f"{rows[1][0]}  word word")
    assert terminal.lines[2].startswith(" " * 41 + "word")
