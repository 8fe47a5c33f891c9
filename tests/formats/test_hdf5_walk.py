"""HDF5 as no producer writes it: odd sizes, shared structures, damage, and what hides behind it."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from rows import for_each

from hda_fsspec.formats import hdf5storage
from hda_fsspec.formats.file_reader import CorruptFileError, FileBytes, Reference
from hda_fsspec.formats.references import find_reference
from hda_fsspec.reading.opening import OpenOptions, open_local

VICTIM = "/etc/passwd"
UNDEFINED = (1 << 64) - 1


def look(path: Path) -> Reference | None:
    """Return what leads out of a file."""
    with path.open("rb") as stream:
        return find_reference(FileBytes(stream))


def is_refused(path: Path) -> bool:
    """Whether something is found, or the file cannot be followed."""
    try:
        return look(path) is not None
    except CorruptFileError:
        return True


def external(group: Any, name: str) -> Any:
    """Make a variable whose values lie in another file."""
    return group.create_dataset(name, shape=(8,), dtype="u1", external=[(VICTIM, 0, 8)])


def add_reference(holder: Any, name: str, to: Any, how: str) -> None:
    """Refer to an object by an attribute: by itself, or in a list of its own length."""
    if how == "list":
        kind = h5py.vlen_dtype(h5py.ref_dtype)
        values = np.empty(1, dtype=kind)
        values[0] = np.array([to.ref], dtype=h5py.ref_dtype)
        holder.attrs.create(name, values, dtype=kind)
    else:
        holder.attrs[name] = to.ref


def spoil_fill_value(path: Path, address: int) -> None:
    """Make the fill value of an object, which no reader needs, a link that cannot be read."""
    body = bytearray(path.read_bytes())
    if body[address : address + 4] == b"OHDR":
        flags = body[address + 5]
        position = address + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        position += 1 << (flags & 3)
        head, kind_at, size_at = (6 if flags & 4 else 4), 0, 1
    else:
        position, head, kind_at, size_at = address + 16, 8, 0, 2
    while body[position + kind_at] != 5:
        position += head + int.from_bytes(body[position + size_at :][:2], "little")
    size = int.from_bytes(body[position + size_at :][:2], "little")
    body[position + kind_at] = 6
    body[position + head : position + head + size] = bytes([1, 8, 2]).ljust(size, b"\0")[:size]
    path.write_bytes(body)


@for_each("libver", ["earliest", "latest"])
@for_each("how", ["one", "list"])
@for_each("where", ["/", "/a/b"])
def test_a_reference_forgives_nothing_that_a_link_leads_to(
    libver: str, how: str, where: str, tmp_path: Path
) -> None:
    """However a damaged object is also referred to, its link is enough to refuse the file."""
    for is_referrer_first in (True, False):
        path = tmp_path / "p"
        with h5py.File(path, "w", libver=libver) as file:
            group = file.require_group(where)
            first, last = ("aa", "zz") if is_referrer_first else ("zz", "aa")
            hidden = external(group, last)
            add_reference(file, "to", hidden, how)
            add_reference(file.create_group(first), "to", hidden, how)
            address = h5py.h5o.get_info(hidden.id).addr
        spoil_fill_value(path, address)

        with pytest.raises(CorruptFileError, match=r"type 2|cut short"):
            look(path)


@for_each("how", ["one", "list"])
@for_each("is_group", [False, True])
def test_what_only_a_reference_leads_to_may_be_damaged(
    how: str, is_group: bool, tmp_path: Path
) -> None:
    """Damage ahead hides nothing: what else the object says is looked at."""
    for is_hostile in (True, False):
        path = tmp_path / "p"
        with h5py.File(path, "w", libver="latest") as file:
            group = file.create_group("without_a_name") if is_group else file
            name = "v" if is_group else "without_a_name"
            if is_hostile:
                hidden = external(group, name)
            else:
                hidden = group.create_dataset(name, data=np.arange(8, dtype="u1"))
            address = h5py.h5o.get_info(hidden.id).addr
            add_reference(file, "to", group if is_group else hidden, how)
        spoil_fill_value(path, address)
        body = bytearray(path.read_bytes())
        at = body.index(b"without_a_name")
        assert body[at - 7] == 6
        body[at - 7] = 0  # the message that links it becomes one of no meaning
        path.write_bytes(body)

        found = look(path)

        assert (found is not None) is is_hostile
        if found is not None:
            assert found.target == VICTIM


def test_work_without_end_is_not_forgiven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind more references than are followed nothing can be told."""
    path = tmp_path / "p"
    with h5py.File(path, "w", libver="latest") as file:
        group = file.create_group("without_a_name")
        group.attrs.create("many", np.array([file.ref] * 3000, dtype=h5py.ref_dtype))
        file.attrs["to"] = group.ref
    body = bytearray(path.read_bytes())
    body[body.index(b"without_a_name") - 7] = 0
    path.write_bytes(body)
    assert look(path) is None
    monkeypatch.setattr(hdf5storage, "_MOST_STEPS", 2000)

    with pytest.raises(CorruptFileError, match="more work"):
        look(path)


def sized(path: Path, width: int, lengths: int, fill: Callable[[Any], object]) -> Path:
    """Write a file of the former kind whose addresses and lengths have so many bytes."""
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_sizes(width, lengths)
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_EARLIEST, h5py.h5f.LIBVER_LATEST)
    opened = h5py.h5f.create(str(path).encode(), h5py.h5f.ACC_TRUNC, fcpl=creation, fapl=access)
    with h5py.File(opened) as file:
        fill(file)
    return path


@pytest.mark.slow
@for_each(
    ("width", "lengths", "where"),
    [
        *((2, 4, "/a/b"), (2, 8, "/"), (4, 4, "/"), (4, 8, "/a/b")),
        *((8, 4, "/a/b"), (8, 8, "/"), (8, 8, "/a/b")),
    ],
)
def test_addresses_and_lengths_of_any_width(
    width: int, lengths: int, where: str, tmp_path: Path
) -> None:
    """A harmless file of such sizes opens; what leads out of another is found."""

    def harmless(file: Any) -> None:
        group = file.require_group(where)
        group["v"] = np.arange(8, dtype="u1")
        for number in range(20):
            group[f"beside_{number}"] = number
        for number in range(12):
            file.create_group(f"group_{number}").attrs["text"] = "words"
        add_reference(file, "to", group["v"], "list")

    def hostile(file: Any) -> None:
        harmless(file)
        external(file.require_group(where), "w")

    def linked(file: Any) -> None:
        harmless(file)
        file.require_group(where)["w"] = h5py.ExternalLink(VICTIM, "/v")

    path = sized(tmp_path / "plain", width, lengths, harmless)
    assert look(path) is None
    options = OpenOptions.make(
        group=where, product_engine="h5netcdf", product_engine_kwargs={"phony_dims": "sort"}
    )
    with open_local(path, options, name="p", scratch=tmp_path / "scratch") as ds:
        assert ds["v"].values.tolist() == list(range(8))
    for fill in (hostile, linked):
        found = look(sized(tmp_path / "p", width, lengths, fill))
        assert found is not None
        assert found.inside == f"{where.rstrip('/')}/w"
        assert found.target.startswith(VICTIM)


@for_each("lengths", [2, 4, 8])
def test_objects_of_a_global_heap_of_any_width(lengths: int, tmp_path: Path) -> None:
    """Lists of references are found whatever stands before them, free space included."""

    def fill(file: Any) -> None:
        harmless = file.create_dataset("harmless", data=np.arange(2))
        hidden = external(file, "without_a_name")
        for name, to in (("a", harmless), ("b", harmless), ("c", hidden)):
            add_reference(file, name, to, "list")

    path = sized(tmp_path / "p", 8, lengths, fill)
    body = bytearray(path.read_bytes())
    at = body.index(b"GCOL") + 8 + lengths + -lengths % 8
    body[at : at + 2] = bytes(2)  # the first object is free now, with its head
    free = int.from_bytes(body[at + 8 : at + 8 + lengths], "little")
    free += -free % 8 + 8 + lengths + -lengths % 8
    body[at + 8 : at + 8 + lengths] = free.to_bytes(lengths, "little")
    entry = body.index(b"without_a_name")
    names = bytes(body[body.rindex(b"HEAP", 0, entry) :])
    start = struct.unpack_from("<Q", names, 8 + 2 * lengths)[0]
    offset = (entry - start).to_bytes(lengths, "little")
    node = body.index(b"SNOD")
    entries = [node + 8 + number * (lengths + 32) for number in range(2)]
    (hidden,) = [place for place in entries if body[place : place + lengths] == offset]
    body[hidden + lengths : hidden + lengths + 8] = b"\xff" * 8  # it is linked no more
    path.write_bytes(body)

    found = look(path)

    assert found == Reference("external storage of values", "/@c", VICTIM)


def indexes(body: bytes) -> list[int]:
    """Return where messages name heaps: the address of each, followed by those of its trees."""
    places, start = [], body.find(b"FRHP")
    while start >= 0:
        places.append(body.index(struct.pack("<Q", start)))
        start = body.find(b"FRHP", start + 4)
    return places


@pytest.mark.parametrize("is_second_hostile", [False, True])
def test_trees_that_several_heaps_share(is_second_hostile: bool, tmp_path: Path) -> None:
    """What a tree finds is looked at in each heap that it is used with."""
    path = tmp_path / "p"
    with h5py.File(path, "w", libver="latest", track_order=True) as file:
        for name, is_hostile in (("a", not is_second_hostile), ("b", is_second_hostile)):
            group = file.create_group(name, track_order=True)
            for number in range(12):
                link = h5py.ExternalLink(VICTIM, "/v") if number == 5 else None
                # Links of equal length, so that their places in both heaps are equal.
                same = h5py.SoftLink("/" + "t" * (len(VICTIM) + 4))
                group[f"n{number:02}"] = link if link and is_hostile else same
    body = bytearray(path.read_bytes())
    heaps = indexes(bytes(body))
    assert len(heaps) == 2
    victims = [body.count(VICTIM.encode())]
    assert victims == [1]
    first, second = heaps
    for taker, giver in ((first, second), (second, first)):
        mixed = bytearray(body)
        mixed[taker + 8 : taker + 24] = body[giver + 8 : giver + 24]
        path.write_bytes(mixed)

        found = look(path)

        assert found is not None
        assert found.target.startswith(VICTIM)


def test_an_index_of_links_that_is_one_of_attributes_too(tmp_path: Path) -> None:
    """What was read as attributes is read again where it is named as links."""
    path = tmp_path / "p"
    with h5py.File(path, "w", libver="latest") as file:
        for number in range(12):
            file[f"n{number:02}"] = h5py.ExternalLink(VICTIM, "/v")
            file.attrs[f"a{number:02}"] = number
    body = bytearray(path.read_bytes())
    places = indexes(bytes(body))
    assert len(places) == 2
    for taker, giver in (places, places[::-1]):
        mixed = bytearray(body)
        mixed[taker : taker + 16] = body[giver : giver + 16]
        path.write_bytes(mixed)
        assert is_refused(path)


def test_a_node_of_a_tree_that_is_told_to_be_shorter_too(tmp_path: Path) -> None:
    """A node that two others lead to is read as long as each of them says."""
    path = tmp_path / "p"
    with h5py.File(path, "w", libver="latest") as file:
        for number in range(300):
            file[f"n{number:03}"] = h5py.SoftLink("/x")
        file["out"] = h5py.ExternalLink(VICTIM, "/v")
    body = path.read_bytes()
    node = body.index(b"BTIN")
    header = body.index(b"BTHD")
    count = int.from_bytes(body[header + 24 : header + 26], "little")
    pointers = node + 6 + 11 * count
    assert count >= 3
    told = 0
    # The last child becomes the same one as another, of a single record; then so does the first.
    for replaced, shared in itertools.product((0, count), range(1, count)):
        at, of = (pointers + 9 * number for number in (replaced, shared))
        mixed = bytearray(body)
        mixed[at : at + 9] = body[of : of + 8] + b"\1"
        path.write_bytes(mixed)
        leaf = struct.unpack_from("<Q", body, at)[0]
        told += is_refused(path)
        assert body[leaf : leaf + 4] == b"BTLF"
    lost = {number for number in (0, count) if is_lost_with(path, body, pointers + 9 * number)}
    assert told == (2 - len(lost)) * (count - 1)
    assert len(lost) <= 1


def is_lost_with(path: Path, body: bytes, pointer: int) -> bool:
    """Whether the link out is found no more once a child of a tree has no records."""
    mixed = bytearray(body)
    mixed[pointer + 8] = 0
    path.write_bytes(mixed)
    return look(path) is None


def message(kind: int, body: bytes) -> bytes:
    """Write a message of a header of the present kind."""
    return struct.pack("<BHB", kind, len(body), 0) + body


def synthetic(messages: bytes, rest: bytes) -> bytes:
    """Write a file of one group, with further bytes from byte 512 on."""
    head = b"\x89HDF\r\n\x1a\n\2\x08\x08\0"
    head += struct.pack("<4QI", 0, UNDEFINED, 512 + len(rest), 48, 0)
    header = b"OHDR\2\0" + bytes([len(messages)]) + messages + bytes(4)
    return (head + header).ljust(512, b"\0") + rest


@for_each("order", [1, -1])
@for_each("is_hostile", [False, True])
def test_a_header_that_goes_on_twice_in_one_place(
    order: int, is_hostile: bool, tmp_path: Path
) -> None:
    """A part of a header is read as long as each mention of it says."""
    nothing = message(0, bytes(8))
    name = b"v"
    target = b"\0" + VICTIM.encode() + b"\0/v\0"
    link = bytes([1, 8, 64, len(name)]) + name + struct.pack("<H", len(target)) + target
    more = b"OCHK" + nothing + (message(6, link) if is_hostile else b"") + bytes(4)
    lengths = [8 + len(nothing), len(more)][::order]
    parts = b"".join(message(0x10, struct.pack("<2Q", 512, length)) for length in lengths)
    path = tmp_path / "p"
    path.write_bytes(synthetic(parts, more))

    assert (look(path) is not None) is is_hostile


def test_headers_that_are_cut_short_anywhere(tmp_path: Path) -> None:
    """Whatever is left of a file is refused, or holds no more: nothing else is raised."""
    path = tmp_path / "p"
    body = synthetic(message(0, bytes(8)), b"")
    for length in range(len(body)):
        path.write_bytes(body[:length])
        try:
            found = look(path)
        except CorruptFileError:
            continue
        assert found is None
