"""The filesystem's own verbs: prefetch, download, accept_terms; sizes, listings, refusals."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkout import TESTS
from fsspec.callbacks import Callback
from rows import for_each

from hda_fsspec import HDAFileSystem, Location
from hda_fsspec.emulator import Fault, dated_product
from hda_fsspec.errors import ConfigurationError, HDAError, LocationError, TermsNotAcceptedError

WRITING: dict[str, Callable[[Any, str], Any]] = {
    "mkdir": lambda fs, p: fs.mkdir(p),
    "mkdir of a directory": lambda fs, p: fs.mkdir("hda://EO:NEW"),
    "makedir": lambda fs, p: fs.makedir(p),
    "makedirs": lambda fs, p: fs.makedirs(p, exist_ok=True),
    "mkdirs": lambda fs, p: fs.mkdirs(p, exist_ok=True),
    "rm": lambda fs, p: fs.rm(p),
    "rm of many": lambda fs, p: fs.rm([p], recursive=True),
    "rm_file": lambda fs, p: fs.rm_file(p),
    "delete": lambda fs, p: fs.delete(p),
    "rmdir": lambda fs, p: fs.rmdir(p),
    "put": lambda fs, p: fs.put(__file__, p),
    "put of many": lambda fs, p: fs.put([__file__], [p]),
    "put_file": lambda fs, p: fs.put_file(__file__, p),
    "put of a tree": lambda fs, p: fs.put(str(TESTS), p, recursive=True),
    "upload": lambda fs, p: fs.upload(__file__, p),
    "pipe": lambda fs, p: fs.pipe(p, b"x"),
    "pipe of many": lambda fs, p: fs.pipe({p: b"x"}),
    "pipe_file": lambda fs, p: fs.pipe_file(p, b"x"),
    "pipe_file to create": lambda fs, p: fs.pipe_file(p, b"x", mode="create"),
    "write_bytes": lambda fs, p: fs.write_bytes(p, b"x"),
    "write_text": lambda fs, p: fs.write_text(p, "x"),
    "touch": lambda fs, p: fs.touch(p),
    "touch without truncation": lambda fs, p: fs.touch(p, truncate=False),
    "mv": lambda fs, p: fs.mv(p, p + "2"),
    "move": lambda fs, p: fs.move(p, p + "2"),
    "rename": lambda fs, p: fs.rename(p, p + "2"),
    "cp": lambda fs, p: fs.cp(p, p + "2"),
    "copy": lambda fs, p: fs.copy(p, p + "2"),
    "copy of many": lambda fs, p: fs.copy([p], [p + "2"]),
    "cp_file": lambda fs, p: fs.cp_file(p, p + "2"),
    **{
        f"open {mode}": lambda fs, p, mode=mode: fs.open(p, mode)  # type: ignore[misc]
        for mode in ("wb", "w", "ab", "a", "r+b", "r+", "xb", "x", "w+b")
    },
}


@pytest.mark.slow
@for_each("verb", WRITING)
def test_writing_is_refused_and_costs_nothing(bench: Any, verb: str) -> None:
    """Each writing verb raises EROFS, says what to do instead, and orders nothing."""
    emulator = bench.start(days=1)
    fs = bench.filesystem(emulator)

    with pytest.raises(OSError, match="read-only") as caught:
        WRITING[verb](fs, bench.path(1))

    assert caught.value.errno == errno.EROFS
    assert emulator.order_posts == 0


@for_each(
    "write",
    [
        lambda fs, p: fs.rm(recursive=True, path=p),
        lambda fs, p: fs.makedirs(exist_ok=True, path=p),
        lambda fs, p: fs.pipe_file(value=b"much", path=p),
        lambda fs, p: fs.put_file(rpath=p, lpath=__file__),
        lambda fs, p: fs.cp_file(path2=p, path1="hda://EO:TEST:DAT/x=1/other"),
    ],
)
def test_what_cannot_be_written_is_named(write: Callable[[Any, str], Any], bench: Any) -> None:
    """A refusal names the path, in whatever order the arguments are given, and no content."""
    path = "hda://EO:TEST:DAT/x=1/p"
    fs = bench.filesystem(bench.start(days=1))

    with pytest.raises(OSError, match=rf"Cannot [a-z ]+ {path}: hda:// is read-only"):
        write(fs, path)


def test_prefetch_keeps_the_order_of_what_was_asked(bench: Any) -> None:
    """Queries, patterns, products and locations may be mixed; each stands in its place."""
    emulator = bench.start(days=5, preparation_seconds=0.05)
    fs = bench.filesystem(emulator)
    mixture = [
        bench.path(4),
        f"{bench.query}/*0[12].nc",
        Location.parse(bench.path(4)),
        Location.parse(bench.query),
    ]

    paths = fs.prefetch(mixture)

    days = [4, 1, 2, 4, 1, 2, 3, 4, 5]
    assert [Path(path).read_bytes() for path in paths] == [bench.body(day) for day in days]
    assert (emulator.orders, emulator.downloads) == (5, 5)
    assert emulator.max_in_preparation > 1


@pytest.mark.parametrize("one", [str, Location.parse])
def test_prefetch_takes_one_path(bench: Any, one: Callable[[str], Any]) -> None:
    """A single product, query or pattern needs no list; the answer is a list all the same."""
    fs = bench.filesystem(bench.start(days=2))

    assert len(fs.prefetch(one(bench.path(1)))) == 1
    assert len(fs.prefetch(one(bench.query))) == 2
    assert len(fs.prefetch(one(f"{bench.query}/*2.nc"))) == 1
    assert fs.prefetch([]) == []


@pytest.mark.parametrize("what", ["/nope.nc", "/*.grib"])
def test_prefetch_of_nothing_is_an_error(bench: Any, what: str) -> None:
    """A product that is not there, or a pattern that finds nothing, orders nothing else either."""
    emulator = bench.start(days=2)
    fs = bench.filesystem(emulator)

    with pytest.raises(FileNotFoundError):
        fs.prefetch([bench.path(1), bench.query + what])

    assert emulator.order_posts == 0


def test_prefetch_of_everything_is_refused(bench: Any) -> None:
    """All data sets, or a pattern over them, are never fetched."""
    emulator = bench.start(days=2)
    fs = bench.filesystem(emulator)

    for everything in ("hda://", "hda://*", "hda://EO:*"):
        with pytest.raises(LocationError, match="every data set"):
            fs.prefetch(everything)
    assert emulator.count("POST", "") == emulator.logins


def test_prefetch_of_unknown_sizes_stops_when_the_cache_is_full(bench: Any) -> None:
    """Where nobody knew that products do not fit, no more of them are ordered than is needed."""
    emulator = bench.start(days=12, sizes="ND")
    fs = bench.filesystem(emulator, cache_max_bytes=5000, max_orders=1, max_connections=1)

    with pytest.raises(OSError, match=r"12 products at one time.*have filled it") as caught:
        fs.prefetch(bench.query)

    assert caught.value.errno == errno.ENOSPC
    assert emulator.orders < 12


def test_prefetch_names_all_that_failed(bench: Any) -> None:
    """The others are fetched; the first failure is raised, with notes of the rest."""
    emulator = bench.start(days=4)
    for day in (2, 3):
        emulator.fault(Fault("order-failed", product_id=bench.product_id(day), times=None))
    fs = bench.filesystem(emulator)

    with pytest.raises(HDAError, match=bench.product_id(2)) as caught:
        fs.prefetch(bench.query)

    assert bench.product_id(3) in "".join(caught.value.__notes__)
    assert emulator.downloads == 2


class Recorder(Callback):  # type: ignore[misc]  # fsspec is untyped
    """Remembers how it was called, as does each of its branches."""

    def __init__(self) -> None:
        super().__init__()
        self.branches: dict[str, Recorder] = {}

    def branched(self, path_1: str, path_2: str, **kwargs: Any) -> Recorder:
        """Return a recorder for one file."""
        return self.branches.setdefault(path_1, Recorder())


@pytest.mark.parametrize("content_length", [True, False])
def test_get_tells_sizes_and_totals(bench: Any, tmp_path: Path, content_length: bool) -> None:
    """Each file's callback ends at its true length, the outer one counts files."""
    fs = bench.filesystem(bench.start(days=3, content_length=content_length, sizes="ND"))
    callback = Recorder()

    fs.get(bench.query + "/", f"{tmp_path}/out/", recursive=True, callback=callback)

    files = {k: v for k, v in callback.branches.items() if k.endswith(".nc")}
    assert callback.value == callback.size == 4  # the query itself, which becomes a folder, too
    assert [(one.size, one.value) for one in files.values()] == [(2032, 2032)] * 3


def test_prefetch_and_download_count_products(bench: Any, tmp_path: Path) -> None:
    """Their callbacks count products, those that were local included, each once."""
    fs = bench.filesystem(bench.start(days=3))
    first, second, third = Recorder(), Recorder(), Recorder()

    fs.prefetch([bench.path(1), bench.path(1), bench.path(2)], callback=first)
    fs.prefetch(bench.query, callback=second)
    fs.download(bench.query, tmp_path / "out", callback=third)

    assert (first.size, first.value) == (2, 2)
    assert (second.size, second.value) == (3, 3)
    assert (third.size, third.value) == (3, 3)


def test_a_failing_callback_does_not_spoil_what_is_local(bench: Any, tmp_path: Path) -> None:
    """An error in a progress bar reaches its owner, and leaves no half file in the target."""

    class Broken(Recorder):
        def absolute_update(self, value: int) -> None:
            raise RuntimeError("no terminal")

    fs = bench.filesystem(bench.start(days=1))
    fs.prefetch(bench.path(1))

    with pytest.raises(RuntimeError, match="no terminal"):
        fs.get_file(bench.path(1), f"{tmp_path}/x.nc", callback=Broken())

    assert fs.cat(bench.path(1)) == bench.body(1)
    assert [path.name for path in tmp_path.glob("*.part")] == []


def test_sizes_are_unknown_until_products_are_local(bench: Any) -> None:
    """Without sizes in the catalogue they are None, which du counts as nothing and says so."""
    fs = bench.filesystem(bench.start(days=3, sizes="ND"))

    assert [info["size"] for info in fs.ls(bench.query)] == [None] * 3
    assert fs.size(bench.path(1)) is None
    with pytest.warns(UserWarning, match=r"3 of 3 products have no known length.* 3 as 0 bytes"):
        assert fs.du(bench.query) == 0
    fs.prefetch(bench.path(1))
    assert fs.sizes([bench.path(1), bench.path(2)]) == [2032, None]
    with pytest.warns(UserWarning, match=r"2 of 3"):
        assert fs.du(bench.query) == 2032


@pytest.mark.parametrize("sizes", ["exact", "estimate"])
def test_du_counts_the_catalogues_sizes(bench: Any, sizes: str) -> None:
    """Where no better one is known the catalogue's size counts, and it is said to be a guess."""
    fs = bench.filesystem(bench.start(days=3, sizes=sizes))
    estimate = fs.info(bench.path(2))["catalogue_size"]

    with pytest.warns(UserWarning, match=r"3 of 3.*3 count as the catalogue's size") as told:
        assert fs.du(bench.query) == 3 * estimate
    assert len(told) == 1
    assert "0 bytes" not in str(told[0].message)
    with pytest.warns(UserWarning, match=r"1 of 1"):
        assert fs.du(bench.path(2), total=False) == {bench.path(2)[6:]: estimate}
    fs.prefetch(bench.path(2))
    if sizes == "exact":
        assert fs.du(bench.query) == 3 * 2032  # proved, so nothing is to be said
    else:
        with pytest.warns(UserWarning, match=r"2 of 3"):
            assert fs.du(bench.query) == 2 * estimate + 2032
    assert [info["size"] for info in fs.ls(bench.path(2))] == [2032]


def test_du_of_sizes_and_none(bench: Any) -> None:
    """The message counts products with an estimate and those with nothing."""
    sized = [dated_product(bench.product_id(day), bench.body(day)) for day in (1, 2)]
    unsized = dated_product(bench.product_id(3), bench.body(3), size="ND")
    fs = bench.filesystem(bench.start(products=[*sized, unsized]))

    with pytest.warns(UserWarning, match=r"3 of 3 .*2 count as .*, and 1 as 0 bytes"):
        assert fs.du(bench.query) == 2 * 2032


def test_sizes_of_the_catalogue_count_once_they_proved_exact(bench: Any) -> None:
    """After one product was fetched and compared, the others' sizes are believed."""
    fs = bench.filesystem(bench.start(days=3))

    before = [info["size"] for info in fs.ls(bench.query)]
    fs.prefetch(bench.path(1))
    after = fs.ls(bench.query)

    assert before == [None] * 3
    assert [info["size"] for info in after] == [2032] * 3
    assert [info["catalogue_size"] for info in after] == [2032] * 3
    assert fs.du(bench.query) == 3 * 2032


def test_estimated_sizes_are_never_believed(bench: Any) -> None:
    """A catalogue that was wrong once tells no length; what is local does."""
    fs = bench.filesystem(bench.start(days=2, sizes="estimate"))

    fs.prefetch(bench.path(1))

    assert fs.sizes([bench.path(1), bench.path(2)]) == [2032, None]
    assert fs.info(bench.path(2))["catalogue_size"] == int(2032 * 2.7)


def test_a_listing_is_asked_once_and_again_on_demand(bench: Any) -> None:
    """A new product shows after refresh, after invalidate_cache, or without a listings cache."""
    emulator = bench.start(days=3)
    fs = bench.filesystem(emulator)
    uncached = bench.filesystem(emulator, use_listings_cache=False)
    assert len(fs.ls(bench.query)) == len(fs.ls(bench.query)) == 3
    assert emulator.count("POST", "dataaccess/search") == 1

    def publish(day: int) -> None:
        entry = emulator.catalogue.get(bench.dataset)
        new = dated_product(bench.product_id(day), bench.body(day))
        emulator.catalogue._datasets[bench.dataset] = type(entry)(
            bench.dataset, [*entry.products, new]
        )

    publish(4)
    assert len(fs.ls(bench.query)) == 3
    assert not fs.exists(bench.path(4))
    assert len(uncached.ls(bench.query)) == 4
    publish(5)
    assert len(fs.ls(bench.query, refresh=True)) == 5
    publish(6)
    assert fs.exists(bench.path(6), refresh=True)
    publish(7)
    assert len(fs.find(bench.query, refresh=True)) == 7
    publish(8)
    assert len(fs.glob(bench.query + "/*", refresh=True)) == 8
    publish(9)
    fs.invalidate_cache(bench.query)
    assert len(fs.ls(bench.query)) == 9
    publish(10)
    fs.invalidate_cache()
    assert len(fs.ls(bench.query)) == 10


def test_an_unknown_setting_is_refused_at_once() -> None:
    """A misspelt option is told with the list of those there are."""
    with pytest.raises(ConfigurationError, match=r"'cachedir'.*cache_dir"):
        HDAFileSystem(cachedir="/tmp/x")


def test_making_a_filesystem_touches_nothing(tmp_path: Path) -> None:
    """The constructor makes no folder and no request, whatever the settings."""
    cache = tmp_path / "cache"

    HDAFileSystem(endpoint_url="http://nowhere.invalid/", user="u", cache_dir=cache)

    assert not cache.exists()


def test_licences_are_accepted_by_hand(bench: Any) -> None:
    """accept_terms opens a data set, once; for all data sets at a time it is refused."""
    emulator = bench.start(days=1, accepted_terms=())
    fs = bench.filesystem(emulator)
    with pytest.raises(TermsNotAcceptedError, match=r"fs\.accept_terms\("):
        fs.ls(bench.query)

    accepted = fs.accept_terms(bench.dataset)

    assert accepted == ["Copernicus_General_License"]
    assert fs.accept_terms(bench.query) == []
    assert fs.cat(bench.path(1)) == bench.body(1)
    assert emulator.count("PUT", "termsaccepted") == 1
    with pytest.raises(LocationError, match="one data set"):
        fs.accept_terms("hda://")
