"""A product reads no other file: what leads out of one is refused before anything is read."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.formats.file_reader import CorruptFileError, FileBytes, Reference
from hda_fsspec.formats.references import find_reference
from hda_fsspec.reading import selfcontained
from hda_fsspec.reading.opening import OpenOptions, open_local
from hda_fsspec.reading.selfcontained import refuse_references
from hda_fsspec.reading.variables import open_variables

SECRET = b"root:x:0:0:root:/root:/bin/bash\n" * 25
Make = Callable[[Any, Path], None]


def external_storage(group: Any, victim: Path) -> None:
    """Keep the values of a variable in another file."""
    group.create_dataset("v", shape=(100,), dtype="f8", external=[(str(victim), 0, 800)])


def virtual(group: Any, victim: Path) -> None:
    """Make a variable of those of another file."""
    layout = h5py.VirtualLayout((100,), "f8")
    layout[:] = h5py.VirtualSource(f"{victim}", "v", (100,))
    group.create_virtual_dataset("v", layout)


def external_link(group: Any, victim: Path) -> None:
    """Link to a variable of another file."""
    group["v"] = h5py.ExternalLink(str(victim), "/v")


def soft_link_out(group: Any, victim: Path) -> None:
    """Link to what a link to another file leads to."""
    group.file["elsewhere"] = h5py.ExternalLink(str(victim), "/")
    group["v"] = h5py.SoftLink("/elsewhere/v")


KINDS: dict[Make, str] = {
    external_storage: "external storage",
    virtual: "virtual data set",
    external_link: "external link",
    soft_link_out: "external link",
}


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Write a file that no product may read, which is an HDF5 file, too."""
    path = tmp_path / "victim"
    with h5py.File(path, "w", userblock_size=1024) as file:
        file["v"] = np.arange(100.0)
    with path.open("r+b") as stream:
        stream.write(SECRET)
    return path


def hdf5(
    path: Path,
    make: Make | None,
    victim: Path,
    *,
    where: str = "/",
    beside: int = 0,
    block: int = 0,
    **how: Any,
) -> Path:
    """Write a file with something odd in one of its groups, beside other variables."""
    with h5py.File(path, "w", userblock_size=block, **how) as file:
        file["x"] = np.arange(4.0)
        group = file
        for name in where.strip("/").split("/"):
            group = group.create_group(name, track_order=how.get("track_order")) if name else group
        for number in range(beside):
            group[f"beside_{number}"] = np.float64(number)
            group.attrs[f"attribute_{number}"] = "text" * number
        if make is not None:
            make(group, victim)
    return path


def look(path: Path) -> Reference | None:
    """Return what leads out of a file."""
    with path.open("rb") as stream:
        return find_reference(FileBytes(stream))


def open_it(path: Path, tmp_path: Path, **options: Any) -> xr.Dataset:
    """Open a local file as a product."""
    made = OpenOptions.make(**options)
    return open_local(path, made, name="the product", scratch=tmp_path / "scratch")


#: In which group it stands, and how many variables and attributes stand beside it.
PLACES = [("/", 0), ("/", 40), ("/a", 3), ("/a/b/c", 0), ("/a/b/c", 40)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [
        {"libver": "earliest"},
        {"libver": "latest"},
        {"libver": ("v110", "v110"), "track_order": True},
        {"libver": "earliest", "block": 512},
        {"libver": "latest", "block": 4096, "track_order": True},
    ],
    ids=str,
)
def test_whatever_leads_out_of_hdf5_is_found(
    how: dict[str, Any], victim: Path, tmp_path: Path
) -> None:
    """In any group, however the library lays groups, links and attributes out."""
    for where, beside in PLACES:
        plain = hdf5(tmp_path / "plain", None, victim, where=where, beside=beside, **how)
        assert look(plain) is None
        for make, kind in KINDS.items():
            path = hdf5(tmp_path / "p", make, victim, where=where, beside=beside, **how)

            found = look(path)

            assert found is not None, (make, where, beside)
            assert kind in found.kind
            assert found.target.startswith(str(victim))
            wanted = where.rstrip("/")
            assert found.inside == ("/elsewhere" if make is soft_link_out else f"{wanted}/v")


@pytest.mark.parametrize("attributes", [0, 30])
@pytest.mark.parametrize("is_in_a_list", [False, True])
def test_a_variable_without_a_name_is_found_by_what_refers_to_it(
    attributes: int, is_in_a_list: bool, victim: Path, tmp_path: Path
) -> None:
    """An attribute may hold the address of an object that no group leads to."""
    path = tmp_path / "p"
    with h5py.File(path, "w", libver="latest") as file:
        hidden = file.create_dataset(
            "without_a_name", shape=(9,), dtype="f8", external=[(str(victim), 0, 72)]
        )
        for number in range(attributes):
            file.attrs[f"a{number}"] = "text" * number
        if is_in_a_list:
            kind = h5py.vlen_dtype(h5py.ref_dtype)
            values = np.empty(1, dtype=kind)
            values[0] = np.array([hidden.ref], dtype=h5py.ref_dtype)
            file.attrs.create("to", values, dtype=kind)
        else:
            file.attrs["to"] = hidden.ref
    body = bytearray(path.read_bytes())
    name = body.index(b"without_a_name")
    assert body[name - 7] == 6
    body[name - 7] = 0  # the message that links it becomes one of no meaning
    path.write_bytes(body)

    found = look(path)

    assert found is not None
    assert (found.inside, found.target) == ("/@to", str(victim))


@pytest.mark.slow
def test_a_group_of_thousands_with_one_long_link_out(victim: Path, tmp_path: Path) -> None:
    """Trees of several levels, heaps of many blocks, and what is too large for a block."""
    for libver in ("earliest", "latest"):
        with h5py.File(tmp_path / "p", "w", libver=libver) as file:
            group = file.create_group("g")
            for number in range(2000):
                group.create_group(f"{number}_{'y' * (number % 60)}")
        plain = look(tmp_path / "p")
        with h5py.File(tmp_path / "p", "a", libver=libver) as file:
            group = file["g"]
            group["out"] = h5py.ExternalLink(str(victim) + "x" * 20_000, "/v")
        found = look(tmp_path / "p")

        assert plain is None
        assert found is not None
        assert found.inside == "/g/out"
        assert found.target.startswith(str(victim))


def test_what_stays_inside_is_no_reason_to_refuse(victim: Path, tmp_path: Path) -> None:
    """Links within a file, loops of groups, links to nothing, named types, references."""
    for libver in ("earliest", "latest"):
        path = tmp_path / "p"
        with h5py.File(path, "w", libver=libver) as file:
            group = file.create_group("a/b")
            group["up"] = file["a"]
            file["loop"] = h5py.SoftLink("/loop")
            file["nothing"] = h5py.SoftLink("/nowhere")
            file["x"] = np.arange(3.0)
            file["same"] = file["x"]
            file["type"] = np.dtype("f8")
            file.attrs["reference"] = file["x"].ref
            file.attrs["region"] = file["x"].regionref[0:2]
            file.attrs["null"] = h5py.Reference()
            file["x"].make_scale("x")
            file["y"] = np.arange(3.0)
            file["y"].dims[0].attach_scale(file["x"])
            hidden = file.create_dataset("gone", data=np.arange(3.0))
            file.attrs["dangling"] = hidden.ref
            del file["gone"]

        assert look(path) is None
    assert victim.exists()


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("engine", [None, "netcdf4", "h5netcdf", "rasterio"])
def test_no_engine_opens_it(make: Make, engine: str | None, victim: Path, tmp_path: Path) -> None:
    """The error names what was found, where it stands, and what it leads to."""
    path = hdf5(tmp_path / "p", make, victim, where="/deep/er")

    for group in (None, "deep/er"):
        with pytest.raises(ProductFormatError) as caught:
            open_it(path, tmp_path, product_engine=engine, group=group)

        assert KINDS[make] in str(caught.value)
        assert str(victim) in str(caught.value)
        assert "the product" in str(caught.value)


@pytest.mark.parametrize("outer", ["zip", "tar", "zip of tar"])
def test_members_of_archives_are_looked_at(outer: str, victim: Path, tmp_path: Path) -> None:
    """Each file of an archive, at any depth, as one data set and as a tree."""
    inner = hdf5(tmp_path / "inner.nc", external_storage, victim, where="/g")
    path = tmp_path / "p"
    body = inner.read_bytes()
    if outer != "zip":
        held = io.BytesIO()
        with tarfile.open(fileobj=held, mode="w") as archive:
            archive.add(inner, "x/inner.nc")
        body = held.getvalue()
    if outer == "tar":
        path.write_bytes(body)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x/inner.nc" if outer == "zip" else "x.tar", body)

    with pytest.raises(ProductFormatError, match=r"inner\.nc.*external storage"):
        open_it(path, tmp_path, group="g")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "how"),
    [*((make, "one") for make in KINDS), (external_storage, "stack"), (external_link, "tree")],
)
def test_hostile_products_of_a_service(make: Make, how: str, victim: Path, stacks: Any) -> None:
    """From the service through the cache: no door opens them, now or the next time."""
    paths = {}
    for day in (1, 2):
        name = f"sst_2024050{day}.nc"
        paths[name] = hdf5(stacks.folder / name, make, victim, where="/g")
    stacks.serve(paths)
    query = f"hda://{stacks.dataset}/sst_20240501.nc" if how == "one" else stacks.query
    for _ in range(2):
        function: Any
        more: dict[str, Any]
        function, more = (
            (xr.open_datatree, {}) if how == "tree" else (xr.open_dataset, {"group": "g"})
        )
        with pytest.raises(ProductFormatError, match=KINDS[make]):
            function(query, engine="hda", storage_options=stacks.options, **more)
        stacks.forget()
    assert len(stacks.ordered) <= 2


@pytest.mark.parametrize("make", KINDS)
def test_variables_that_are_opened_singly_are_looked_at(
    make: Make, victim: Path, tmp_path: Path
) -> None:
    """So are files that are read without being opened as a whole, since their header is known."""
    path = hdf5(tmp_path / "p", make, victim)

    with pytest.raises(ProductFormatError, match=KINDS[make]):
        open_variables(path, OpenOptions(), name="p", scratch=tmp_path / "scratch")
    plain = hdf5(tmp_path / "plain", None, victim)
    found = open_variables(plain, OpenOptions(), name="p", scratch=tmp_path / "scratch")
    assert found is not None
    assert found["x"].values.tolist() == [0.0, 1.0, 2.0, 3.0]
    found.closer()


def test_what_was_looked_at_is_not_looked_at_again(
    victim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in this process nor in the next; a file that is another one by then is."""
    path = hdf5(tmp_path / "p", None, victim)
    scratch = tmp_path / "scratch"
    looked: list[Path] = []
    real = find_reference

    def counted(data: FileBytes) -> Reference | None:
        looked.append(path)
        return real(data)

    monkeypatch.setattr(selfcontained, "find_reference", counted)
    refuse_references(path, name="p", scratch=scratch)
    refuse_references(path, name="p", scratch=scratch)
    assert len(looked) == 1
    selfcontained._trusted.clear()
    refuse_references(path, name="p", scratch=scratch)
    assert len(looked) == 1

    found = path.stat()
    hdf5(path, external_storage, victim)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    for _ in range(2):
        with pytest.raises(ProductFormatError, match="external storage"):
            refuse_references(path, name="p", scratch=scratch)
        selfcontained._trusted.clear()
    assert len(looked) == 3


def test_notes_of_others_say_nothing(
    victim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of notes that others may write to, or a link in its place, is not believed."""
    path = hdf5(tmp_path / "p", external_storage, victim)
    scratch = tmp_path / "scratch"
    found = path.stat()
    facts = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    note = f"{selfcontained._RULES}-" + "-".join(f"{number:x}" for number in facts)
    mine = scratch / f"checked-{os.geteuid()}"
    for mode in (0o777, 0o770):
        shutil.rmtree(scratch, ignore_errors=True)
        (mine / note).mkdir(parents=True)
        mine.chmod(mode)
        with pytest.raises(ProductFormatError):
            refuse_references(path, name="p", scratch=scratch)
    shutil.rmtree(scratch)
    scratch.mkdir()
    (tmp_path / "theirs" / note).mkdir(parents=True)
    mine.symlink_to(tmp_path / "theirs")
    with pytest.raises(ProductFormatError):
        refuse_references(path, name="p", scratch=scratch)
    mine.unlink()
    (mine / note).mkdir(parents=True)
    mine.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: found.st_uid + 1)
    with pytest.raises(ProductFormatError):
        refuse_references(path, name="p", scratch=scratch)


def test_a_folder_that_cannot_be_written_is_no_hindrance(victim: Path, tmp_path: Path) -> None:
    """Nothing is noted there; the file is looked at all the same."""
    good = hdf5(tmp_path / "good", None, victim)
    bad = hdf5(tmp_path / "bad", external_link, victim)
    (tmp_path / "scratch").write_text("a file where the folder should be")

    refuse_references(good, name="p", scratch=tmp_path / "scratch")
    with pytest.raises(ProductFormatError, match="external link"):
        refuse_references(bad, name="p", scratch=tmp_path / "scratch")


def test_what_cannot_be_followed_is_refused(victim: Path, tmp_path: Path) -> None:
    """A file that lies about its structure is not taken for harmless."""
    path = hdf5(tmp_path / "p", None, victim, where="/g", beside=20, libver="latest")
    body = path.read_bytes()
    for signature in (b"OHDR", b"FRHP", b"BTHD", b"FHDB"):
        at = body.rindex(signature) if signature == b"OHDR" else body.index(signature)
        if signature == b"FHDB":
            continue  # blocks of a heap are found by their place alone
        path.write_bytes(body[:at] + b"XXXX" + body[at + 4 :])
        with pytest.raises(CorruptFileError):
            look(path)
        with pytest.raises(ProductFormatError, match="cannot be told"):
            refuse_references(path, name="p", scratch=tmp_path / "scratch")


def test_an_hdf5_file_in_disguise(victim: Path, tmp_path: Path) -> None:
    """The signature may stand behind the beginning of another format, and libraries look there."""
    path = hdf5(tmp_path / "p", external_storage, victim, block=2048)
    for head in (b"CDF\x01" + bytes(28), b"PK\x03\x04", b"GRIB", b"<VRTDataset>", b"{}"):
        body = path.read_bytes()
        (tmp_path / "q").write_bytes(head + body[len(head) :])
        found = look(tmp_path / "q")
        assert found is not None
        assert "external storage" in found.kind


@pytest.mark.slow
def test_real_products_lead_nowhere(shared_data: Path) -> None:
    """None of the real files is refused; the damaged ones are another matter."""
    looked = 0
    for path in sorted(shared_data.rglob("*")):
        if path.is_file() and "damaged" not in path.parts:
            assert look(path) is None, path
            looked += 1
    assert looked > 700
