"""The emulator as tests and users hold it: start, stop, script faults, look at what happened."""

from __future__ import annotations

import dataclasses
import functools
import secrets
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hda_fsspec.emulator.catalogue import Catalogue
from hda_fsspec.emulator.faults import Fault, FaultScript
from hda_fsspec.emulator.identity import name_of
from hda_fsspec.emulator.messages import Request, RequestLog, RequestRecord, error_answer
from hda_fsspec.emulator.options import EmulatorOptions
from hda_fsspec.emulator.process_lock import ProcessLock
from hda_fsspec.emulator.random_faults import RandomFaults
from hda_fsspec.emulator.routes import Routes
from hda_fsspec.emulator.server import Exchange, Server, Traffic
from hda_fsspec.errors import ConfigurationError

# Looks like a real one, so that tests which search for leaked secrets cannot find it by chance.
_PASSWORD = "vK7-qT2x_Lm94ZpR"  # noqa: S105 - it opens nothing but the emulator


class Emulator:
    """A local HDA service on a loopback port.

    Parameters
    ----------
    catalogue : Catalogue
        What it offers.
    user, password : str
        The one account it has.
    **options
        The fields of :class:`hda_fsspec.emulator.options.EmulatorOptions`.

    Attributes
    ----------
    log : RequestLog
        Every request so far, a sequence of ``RequestRecord``.

    Examples
    --------
    >>> from hda_fsspec.emulator import Catalogue, Emulator
    >>> with Emulator(Catalogue()) as emulator:
    ...     emulator.url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        user: str = "user",
        password: str = _PASSWORD,
        **options: Any,
    ) -> None:
        self.catalogue = catalogue
        self.user = user
        self.password = password
        self.options = EmulatorOptions.of(options)
        self.log = RequestLog()
        self._broker = Routes(catalogue, self.options, user, password)
        self._faults = FaultScript()
        self._random_faults = RandomFaults(
            self.options.fault_rate, self.options.fault_seed, self.options.fault_kinds
        )
        self._server: Server | None = None
        self._port = self.options.port
        self._traffic = Traffic()
        self._lock = ProcessLock()

    def __repr__(self) -> str:
        return f"<Emulator at port {self._port}, {'up' if self._server else 'down'}>"

    def start(self) -> Self:
        """Serve from a background thread. After a stop it comes back at the same port."""
        with self._lock:
            if self._server is None:
                server = Server(self._port, self._respond)
                server.traffic = self._traffic
                self._port = server.server_address[1]
                self._broker.delivery.home = f"{self._port}{self._home}"
                server.start()
                self._server = server
        return self

    def stop(self) -> None:
        """Close every socket and end every thread; orders and tokens are kept."""
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @functools.cached_property
    def _home(self) -> str:
        """The path below which this service lies, and no other one that ever has its port."""
        replay = self._broker.replay
        return f"/{name_of(self.catalogue)}{'' if replay is None else f'-{replay.digest[:16]}'}"

    def _respond(self, request: Request) -> Exchange:
        if not request.path.startswith(f"{self._home}/"):
            answer = error_answer(404, f"The emulator at this port is {self.url}")
            return Exchange(answer, RequestRecord.of(request, answer.status), log=self.log.append)
        request = dataclasses.replace(request, path=request.path.removeprefix(self._home))
        product_id = self._broker.product_of(request)
        faults = self._faults.take(request, product_id) or self._random_faults.draw(
            request, product_id, self._broker.delivery.length_of(request)
        )
        answer = self._broker.answer(request, faults)
        record = RequestRecord.of(request, answer.status, tuple(fault.kind for fault in faults))
        wait = next((fault.seconds or 3600.0 for fault in faults if fault.kind == "hang"), 0.0)
        if not self.options.latency_paths or request.api.startswith(self.options.latency_paths):
            wait += self.options.latency_seconds
        return Exchange(answer, record, wait, self.log.append)

    @property
    def url(self) -> str:
        """The base URL of the broker, as ``HDA_URL`` has it.

        It names what is offered: an emulator that is started again over the same files has the same
        address, given the same port, and one over other files has another.
        """
        if not self._port:
            msg = "The emulator has no address yet: start it first, or use it as a context manager."
            raise ConfigurationError(msg)
        return f"http://127.0.0.1:{self._port}{self._home}/hda-broker/"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead a client here."""
        # Not HDA_ENDPOINT_URL: this name leads the official client here, too.
        return {"HDA_URL": self.url, "HDA_USER": self.user, "HDA_PASSWORD": self.password}

    @property
    def storage_options(self) -> dict[str, Any]:
        """The settings that lead a filesystem or xarray's engine here."""
        return {"endpoint_url": self.url, "user": self.user, "password": self.password}

    def fault(self, fault: Fault) -> None:
        """Script a fault; faults are met in the order in which they were scripted."""
        self._faults.add(fault)

    def clear_faults(self) -> None:
        """Forget the faults that have not struck yet."""
        self._faults.clear()

    def count(self, method: str, path: str) -> int:
        """Return the number of requests with this method and a path that starts so.

        Paths are relative to ``api/v1/`` (``dataaccess/search``), or to the broker (``gettoken``).
        """
        return sum(
            record.method == method and record.api.startswith(path)
            for record in self.log.snapshot()
        )

    @property
    def chance_faults(self) -> dict[str, int]:
        """The number of answers spoilt by chance, by kind (see ``fault_rate``)."""
        return dict(self._random_faults.drawn)

    def clear_log(self) -> None:
        """Forget the requests so far, not the counters."""
        self.log.clear()

    @property
    def orders(self) -> int:
        """The number of products that were ordered for the first time."""
        return self._broker.delivery.orders.new

    @property
    def order_posts(self) -> int:
        """The number of orders placed, repeated and refused ones included."""
        return self._broker.delivery.orders.posts

    def hold_orders(self, count: int) -> None:
        """Let no order that is placed from now on be ready before ``count`` are in preparation.

        Then all of them are, and later ones are as quick as ever; 0 lets them go at once. So a test
        can ask whether a client has so many orders under way at one time, or what it does while it
        waits, however slow the machine is.
        """
        self._broker.delivery.orders.hold(count)

    @property
    def max_in_preparation(self) -> int:
        """The most orders that were in preparation at one time."""
        return self._broker.delivery.orders.max_in_preparation

    @property
    def downloads(self) -> int:
        """The number of GETs of files that ran to the last byte of the file."""
        return self._traffic.downloads

    @property
    def bytes_sent(self) -> int:
        """Bytes of files sent."""
        return self._traffic.bytes_sent

    @property
    def max_connections(self) -> int:
        """The most sockets that were open at one time, idle ones included."""
        return self._traffic.max_connections

    @property
    def max_requests(self) -> int:
        """The most requests that were under way at one time, from their head to their last byte."""
        return self._traffic.max_requests

    @property
    def logins(self) -> int:
        """The number of logins with user and password that succeeded."""
        return self._broker.accounts.logins

    @property
    def tokens_issued(self) -> list[str]:
        """Every access and refresh token ever issued."""
        return list(self._broker.accounts.tokens.issued)

    def expire_tokens(self, *, refresh: bool = False) -> None:
        """Let all access tokens expire at once; with ``refresh`` refresh tokens, too."""
        self._broker.accounts.tokens.expire(refresh=refresh)

    def forget_orders(self) -> None:
        """Let all download ids become unknown."""
        self._broker.delivery.orders.forget()

    def republish(
        self, dataset_id: str, product_id: str, content: bytes | Path, **changes: Any
    ) -> None:
        """Replace a product's bytes, and other fields of its ``ProductEntry``."""
        self.catalogue.replace(dataset_id, product_id, source=content, **changes)


def random_password() -> str:
    """Return a password for an emulator that others on the machine can reach."""
    return secrets.token_urlsafe(12)
