"""What is fuzzed: each target takes any bytes, and raises only where a promise is broken.

A target turns bytes into what the network, a disk or a user might send, and lets through the
errors that its reader documents. Whatever else comes out is a finding, and so is a target that
takes long or much memory.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import io
import json
import pickle
import shlex
import tempfile
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hda_fsspec.cache.folder import Folder, dump_json
from hda_fsspec.cache.product_entries import RECORD_NAME, read_entry, safe_name
from hda_fsspec.cache.product_lengths import KnownSizes
from hda_fsspec.catalogue.json_codecs import pack_products, unpack_products
from hda_fsspec.cli import terminal
from hda_fsspec.emulator.messages import Request
from hda_fsspec.emulator.replay import Replay
from hda_fsspec.errors import (
    ConfigurationError,
    HDAError,
    LocationError,
    ProductFormatError,
    QueryError,
)
from hda_fsspec.fetching import transfer
from hda_fsspec.fetching.quota import ServiceQuota
from hda_fsspec.filenames import alike, is_plain, plain_name
from hda_fsspec.formats.detect import check_complete, extension, sniff
from hda_fsspec.formats.file_reader import CorruptFileError, FileBytes
from hda_fsspec.formats.hdf5frames import Frame, take_frame
from hda_fsspec.formats.hdf5values import find_arrays
from hda_fsspec.formats.references import find_reference
from hda_fsspec.network import responses
from hda_fsspec.network.api import Broker
from hda_fsspec.network.redaction import Secrets
from hda_fsspec.network.redirects import RedirectError, is_same_origin, next_address
from hda_fsspec.network.redirects import shown as redirect_shown
from hda_fsspec.network.responses import ResponseHead
from hda_fsspec.network.secret_placeholders import NoPlaceError, Places, UnknownPlaceError
from hda_fsspec.paths.locations import Location
from hda_fsspec.paths.quoting import shell_word
from hda_fsspec.printable import LONGEST_TEXT, printable, python_text
from hda_fsspec.reading.archives import list_members
from hda_fsspec.reading.unpacking import unpack
from hda_fsspec.records import Product, is_name
from hda_fsspec.schema.schema import Schema
from hda_fsspec.settings.rcfile import read_rc, write_rc
from hda_fsspec.stack.kept_header import load

from .neighbours import plant_and_use
from .services import TOKEN, Answering, wire_server
from .show import is_shown, show

CORPUS = Path(__file__).parent / "corpus"

_DATASET = "EO:TEST:DAT:FUZZ"
_QUERIES: tuple[Mapping[str, tuple[str, ...]], ...] = (
    {},
    {"startdate": ("2024-05-01",), "enddate": ("2024-05-02",), "bbox": ("-6", "43", "-1", "46")},
    {"variable": ("a", "b"), "cloudCover": ("10",), "year": ("2024",), "productType": ("x",)},
)
_MOST_UNPACKED_BYTES = 1 << 24
_ARRAYS = ("time", "x")


class Broken(Exception):
    """A promise that does not hold."""


def expect(holds: object, what: str) -> None:
    """Raise unless a promise holds."""
    if not holds:
        raise Broken(what)


@contextlib.contextmanager
def tells(*kinds: type[Exception]) -> Iterator[None]:
    """Let errors of some kinds through, if what they say can be shown."""
    try:
        yield
    except kinds as err:
        notes = getattr(err, "__notes__", [])
        for line in "\n".join([str(err), *notes]).split("\n"):
            expect(line.isprintable(), "an error says what does not show")
            expect(len(line) <= LONGEST_TEXT, "an error is overlong")


def shown(data: bytes) -> None:
    """Show any text in each way that there is: printable, bounded, and plain where it was."""
    given = data.decode("utf-8", "surrogateescape")
    if data[:1] == b"\xff":  # halves of pairs in all places
        given = data[1 : len(data) - (len(data) + 1) % 2].decode("utf-16-le", "surrogatepass")
    text = printable(given)
    expect(text.isprintable() and len(text) <= LONGEST_TEXT, "it does not show")
    expect(printable(text) == text, "what is shown is shown in another way")
    expect(ast.literal_eval(python_text(given)) == given, "Python reads another text")
    expect(not is_name(given) or given.encode(), "a name cannot be encoded")
    expect(pickle.loads(pickle.dumps(HDAError(given))).args == HDAError(given).args, "it travels")
    product = Product("EO:X", given)
    expect(str(product).isprintable(), "a product does not show")
    record = product.to_json()
    expect(json.loads(dump_json(record)) == json.loads(json.dumps(record)), "it is kept as another")
    with tells(LocationError):
        words = shlex.split(shell_word(given))
        expect(
            [Location.parse(w).dataset for w in words] == [given or None], "a shell reads another"
        )
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        terminal.echo(given)
        terminal.echo_table([(given, given)])
        terminal.echo_json({given: given})
    lines = out.getvalue().split("\n")
    expect(all(line.isprintable() for line in lines) and len(lines) == 6, "it does not print")
    expect(json.loads("\n".join(lines[2:])) == {given: given}, "JSON loses something")


def location(data: bytes) -> None:
    """Read a path: a LocationError, or a location that is written and read back as itself."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        found = Location.parse(text)
    except LocationError:
        return
    expect(Location.parse(str(found)) == found, "a location is read back as another one")
    expect(pickle.loads(pickle.dumps(found)) == found, "a pickled location is another one")
    expect(repr(found) and hash(found) is not None, "a location has no repr or hash")
    expect(found.path.isprintable(), "a path holds what does not show")
    if found.pattern is not None:
        found.matches("sst_20240501.nc")


def request(data: bytes) -> None:
    """Read what WEkEO's page shows as "API request": a LocationError, or a location."""
    with contextlib.suppress(LocationError):
        found = Location.from_request("{" + data.decode("utf-8", "replace").lstrip().lstrip("{"))
        expect(Location.parse(str(found)) == found, "a request becomes another location")


def queryable(data: bytes) -> None:
    """Read a schema and put queries to it: BrokerError and QueryError."""
    value = _json(data)
    if not isinstance(value, Mapping):
        return
    with tells(HDAError):
        schema = Schema.from_queryable(_DATASET, value)
        keys = schema.keys
        asked = [*_QUERIES, dict.fromkeys(keys[:20], ("1",)), {keys[0] if keys else "x": ("",)}]
        expect(schema.name_keys is not None, "no names")
        for query in asked:
            with tells(QueryError):
                json.dumps(schema.request(query), allow_nan=False)
            with tells(QueryError):
                schema.interval(query)


def views(data: bytes) -> None:
    """Show a feature, an entry and a schema: well-formed HTML, and text that can be shown."""
    value = _json(data)
    if isinstance(value, Mapping):
        expect(is_shown(show(value)), "a view shows what does not show")


def broker(data: bytes) -> None:
    """Read any JSON as each answer that the service gives: typed errors, and records."""
    value = _json(data)

    def asks() -> Iterator[Callable[[Broker], Any]]:
        yield lambda broker: broker.search(_DATASET, {})
        yield lambda broker: broker.datasets()
        yield lambda broker: broker.dataset(_DATASET)
        yield lambda broker: broker.queryable(_DATASET)
        yield lambda broker: broker.terms()
        yield lambda broker: broker.accepted_terms()
        yield lambda broker: broker.order(Product(_DATASET, "a"))
        yield lambda broker: broker.status("5")

    for ask in asks():
        with tells(HDAError):
            _keep(ask(_broker_that_answers(value)))


def _broker_that_answers(value: Any) -> Broker:
    session: Any = Answering(value)
    return Broker(lambda: session, max_products=1000, workers=2)


def _keep(found: Any) -> None:
    """Do with records what the package does: hash, pickle, pack, compare dates, write JSON."""
    if not isinstance(found, list):
        return
    products = [each for each in found if isinstance(each, Product)]
    for product in products:
        hash(product)
        product.overlaps(product.end, product.start)
        expect(safe_name(product.product_id, ""), "no name is left")
        expect(str(product).isprintable(), "a product does not show")
        dump_json(product.to_json())
    Location(_DATASET).paths_of(product.product_id for product in products)
    packed = json.loads(json.dumps(pack_products(products), allow_nan=False))
    expect(unpack_products(packed) == products, "products are kept as other ones")


def headers(data: bytes) -> None:
    """Read one text as each header of an answer: values, never an error, and safe names."""
    text = data.decode("latin-1")
    for name in ("X-Quota-Reset", "X-Quota-Limit", "X-Quota-Remaining", "Retry-After"):
        given = {name: text}
        responses.quota_state(given)
        seconds = responses.retry_after(given, 1.7e9)
        expect(seconds is None or seconds >= 0, "a wait is negative")
    parts = {"Content-Range": text, "Content-Length": text, "ETag": text, "Last-Modified": text}
    for status in (200, 202, 206, 416):
        for held, first in ((0, 0), (400, 400), (400, 0)):
            facts = {"total": 400} if held else {}
            transfer.plan(ResponseHead(status, parts), held=held, first_byte=first, facts=facts)
    delivered = responses.delivered_name({"Content-Disposition": text})
    for name in (delivered or "", text):
        safe = safe_name(name, name)
        expect(safe == Path(safe).name and safe not in {"", ".", ".."}, "a name leads elsewhere")
        is_clean = not any(unicodedata.category(c).startswith("C") for c in safe)
        expect(is_clean and len(safe.encode()) <= 255, "a name is no file name")
        expect(safe_name(safe, "") == safe, "a safe name is not safe")
    responses.redact(text, ["secret", text[:8] or "x"])


def body(data: bytes) -> None:
    """Read any body of an error: a short line."""
    with contextlib.suppress(ValueError, RecursionError):
        responses.read_json(data)
    for status in (401, 404, 429, 500):
        problem = responses.parse_problem(status, data)
        expect(len(problem.text) <= 300 and "\n" not in problem.text, "a problem is told at length")


def redirects(data: bytes) -> None:
    """Read any text as the address where an answer leads: refused, or one that may be gone to."""
    text = data.decode("latin-1")
    expect(len(redirect_shown(text)) <= 102, "an address is told at length")
    for address, is_file in (("https://a.invalid/b/c", True), ("http://a.invalid:80/", False)):
        for status in (300, 302, 308):
            with contextlib.suppress(RedirectError):
                target, is_elsewhere = next_address(
                    address, status, text, hops=0, method="GET", is_file=is_file
                )
                expect(target.startswith(("http://", "https://")), "no address of the web")
                expect(target.isascii() and target.isprintable(), "an address of odd characters")
                expect(address[:5] != "https" or target[:5] == "https", "encryption ended")
                expect(is_elsewhere is not is_same_origin(address, target), "a stranger is trusted")
                expect(is_file or not is_elsewhere, "JSON is asked for elsewhere")


def echoes(data: bytes) -> None:
    """Read JSON that quotes a token anywhere: what is kept or shown of it does not."""
    text = data.decode("utf-8", "replace").replace("TOKEN", TOKEN)
    value = _json(text.encode())
    secrets = Secrets(text[-9:-2] or None, (TOKEN,), TOKEN)
    kept: list[Any] = []
    with contextlib.suppress(HDAError):
        found = Product.from_feature(_DATASET, value, show=secrets.shown)
        kept.append(secrets.product(found))
        expect(secrets.revealed(kept[0].location) == found.location, "a locator is sent otherwise")
        expect(kept[0].version == found.version, "a version became another one")
        expect(secrets.product(kept[0]) == kept[0], "what can be kept cannot be kept")
    _send_back(text, password=text[:12], user=text[12:16])
    with contextlib.suppress(HDAError):
        kept.append(secrets.schema(_DATASET, value) if isinstance(value, Mapping) else {})
    shown_of_all = secrets.shown(value)
    expect(len(shown_of_all) <= 300, "a value is told at length")
    for form in (json.dumps([_fields_of(each) for each in kept]), shown_of_all):
        expect(TOKEN not in form, "a token is left")


def _send_back(text: str, *, password: str, user: str) -> None:
    """Keep a text with places for secrets, and fill them."""
    places = Places(
        password=password, user=user, tokens=(TOKEN, password[:9]), access=TOKEN, shortest=8
    )
    with contextlib.suppress(UnknownPlaceError):
        places.filled(text)
    with contextlib.suppress(NoPlaceError):
        written = places.written(text, with_password=True)
        expect(places.filled(written) == text, "a text is sent otherwise")
        expect(TOKEN not in written, "a token is kept")
        expect(len(password) < 8 or password not in written, "a password is kept")


def _fields_of(value: Any) -> Any:
    return value.to_json() if isinstance(value, Product) else value


def wire(data: bytes) -> None:
    """Send any bytes as the whole of an answer, head and all: a value, or a typed error."""
    server = wire_server()
    server.data = data
    with contextlib.suppress(HDAError):
        server.session.json("GET", "datasets", most_retries=0)
    with (
        contextlib.suppress(HDAError),
        server.session.stream("dataaccess/download/5", headers={}) as (head, pieces),
    ):
        transfer.plan(head, held=0, first_byte=0, facts={})
        expect(sum(map(len, pieces)) <= len(data), "a body is longer than all that was sent")


def notes(data: bytes) -> None:
    """Read any bytes as each of the files that the cache keeps: known, or not known."""
    value = _json(data)
    unpack_products(value)
    ServiceQuota.from_json(value)
    facts = transfer.believed(value if isinstance(value, Mapping) else {})
    for held in (0, 5, 1 << 20):
        first_byte = transfer.range_start(held, facts)
        for answer in (ResponseHead(200, {}), ResponseHead(206, {"Content-Range": "bytes 5-9/10"})):
            transfer.plan(answer, held=held, first_byte=first_byte, facts=facts)
    name = facts.get("name")
    expect(safe_name(name or "", "x"), "no name")
    mark = value.get("mark") if isinstance(value, Mapping) else ""
    load(data, mark if isinstance(mark, str) else "")
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "key" / "version"
        place.mkdir(parents=True)
        (place / RECORD_NAME).write_bytes(data)
        found = read_entry(Folder(Path(scratch)), place)
        expect(found is None or found.path.parent == place, "a record leads elsewhere")
        lengths = KnownSizes(Path(scratch))
        lengths.record(Product(_DATASET, "a", size=5), 5)
        (kept,) = [path for path in Path(scratch).rglob("*") if _is_of_lengths(path)]
        kept.write_bytes(data)
        again = KnownSizes(Path(scratch))
        length = again.length_of(Product(_DATASET, "a", size=5))
        expect(length is None or length >= 0, "a length is negative")
        (known,) = again.sizes_of([Product(_DATASET, "b", size=6)])
        expect(known in {None, 6}, "a length is told of what was never seen")


def _is_of_lengths(path: Path) -> bool:
    return path.is_file() and "lengths" in path.parts


def rc(data: bytes) -> None:
    """Read any bytes as an rc file, and write a password into it, or refuse to."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rc"
        path.write_bytes(data)
        path.chmod(0o600)
        with contextlib.suppress(ConfigurationError):
            found = read_rc(path)
            expect(set(found) <= {"user", "password"}, "more was read than user and password")
            write_rc(path, {"user": "me", "password": "p:w"})
            expect(read_rc(path) == {"user": "me", "password": "p:w"}, "it reads differently")
            expect(path.stat().st_mode & 0o777 == 0o600, "others can read it")


def recording(data: bytes) -> None:
    """Replay any bytes as a recording: a ConfigurationError, or answers that can be sent."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording"
        path.write_bytes(data)
        with tells(ConfigurationError):
            replay = Replay(path)
            for method, where, sent in (
                ("GET", "terms", b""),
                ("POST", "dataaccess/search", b"{}"),
            ):
                answer = replay.answer(Request(method, f"/hda-broker/api/v1/{where}", {}, {}, sent))
                expect(100 <= answer.status <= 599 or not answer.status, "no status")
                heads = "".join(f"{name}: {value}" for name, value in answer.headers.items())
                expect(
                    not set(heads) & set("\r\n\0") and heads.encode("latin-1") is not None, "odd"
                )


def neighbours(data: bytes) -> None:
    """Plant links, FIFOs and such in a cache, and use it."""
    plant_and_use(data)


def formats(data: bytes) -> None:
    """Check any file, and unpack it: complete, or a ProductFormatError."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "product"
        path.write_bytes(data)
        expect(extension(sniff(path), "a") is not None, "no suffix")
        expect(sniff(data) is not None, "no format")
        with contextlib.suppress(ProductFormatError):
            check_complete(path, deep=True)
        with contextlib.suppress(ProductFormatError):
            for member in list_members(path)[:5]:
                if (member.size or 0) <= _MOST_UNPACKED_BYTES:
                    with contextlib.suppress(ProductFormatError):
                        unpacked = unpack(path, member, Path(scratch) / "scratch")
                        expect(unpacked.is_relative_to(scratch), "a member leads elsewhere")


def frames(data: bytes) -> None:
    """Compare any file with known ones: of another frame, or its arrays lie where a walk leads."""
    file = FileBytes(io.BytesIO(data))
    own = take_frame(file, _ARRAYS, {"history": "made on day 01"})
    for frame in (own, *_known_frames()):
        contents = None if frame is None else frame.look(file)
        if contents is not None:
            expect(contents.arrays == find_arrays(file, contents.arrays), "values lie elsewhere")
            expect(all(map(len, contents.texts.values())), "a text has no bytes")


@functools.cache
def _known_frames() -> list[Frame]:
    files = [FileBytes(io.BytesIO(data)) for data in Target(frames).corpus()]
    taken = [take_frame(file, _ARRAYS, {"history": "made on day 01"}) for file in files]
    return [frame for frame in taken if frame is not None]


def references(data: bytes) -> None:
    """Look for what leads out of any file: a reference, none, or a CorruptFileError."""
    with tempfile.TemporaryFile() as stream:
        stream.write(data)
        with contextlib.suppress(CorruptFileError):
            found = find_reference(FileBytes(stream))
            expect(found is None or all(isinstance(each, str) for each in found), "no words")


def names(data: bytes) -> None:
    """Name files after any text: a path that is read back, and names that mean nothing."""
    text = data.decode("utf-8", "surrogateescape")
    made = plain_name(text)
    expect(is_plain(made) and plain_name(made) == made, "a plain name is not plain")
    expect(alike(alike(text)) == alike(text), "what is alike differs")
    safe = safe_name(text, "fallback")
    expect(safe_name(safe, "") == safe, "a safe name is not safe")
    with contextlib.suppress(LocationError):
        found = Location(_DATASET, product=text)
        expect(Location.parse(found.path) == found, "an id is read back as another one")
        name = found.name
        expect(len(name.encode()) > 255 or is_plain(name), "the name of a copy means something")


def _json(data: bytes) -> Any:
    """Read JSON as a session does; None for what it refuses."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


@dataclasses.dataclass(frozen=True)
class Target:
    """Something that is fuzzed.

    Attributes
    ----------
    run : callable
        Raises where a promise is broken.
    is_json : bool
        Whether it reads JSON, so that mutations keep to the grammar most of the time.
    """

    run: Callable[[bytes], None]
    is_json: bool = False

    @property
    def name(self) -> str:
        """The name of the target, and of its folder in the corpus."""
        return self.run.__name__

    def corpus(self) -> list[bytes]:
        """Return the inputs that are kept: good ones, and one for each past finding."""
        files = sorted((CORPUS / self.name).glob("*"))
        return [path.read_bytes() for path in files]


TARGETS = {
    target.name: target
    for target in (
        Target(shown),
        Target(location),
        Target(request, is_json=True),
        Target(queryable, is_json=True),
        Target(views, is_json=True),
        Target(broker, is_json=True),
        Target(headers),
        Target(redirects),
        Target(echoes, is_json=True),
        Target(wire),
        Target(body, is_json=True),
        Target(notes, is_json=True),
        Target(rc),
        Target(recording, is_json=True),
        Target(neighbours),
        Target(formats),
        Target(frames),
        Target(references),
        Target(names),
    )
}
