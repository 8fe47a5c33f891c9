"""Orders and files: from ``POST dataaccess/download`` to the bytes.

It knows orders, quota and files; it has never heard of searches or logins.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from hda_fsspec.emulator.catalogue import Catalogue
from hda_fsspec.emulator.dataset_entries import DatasetEntry, ProductEntry
from hda_fsspec.emulator.faults import Fault
from hda_fsspec.emulator.jobs.job import JobFailedError, SubsetDataset
from hda_fsspec.emulator.messages import Answer, Request, error_answer, invalid_answer, json_answer
from hda_fsspec.emulator.options import EmulatorOptions
from hda_fsspec.emulator.permanent_faults import WITHOUT_LOCATORS
from hda_fsspec.emulator.process_lock import ProcessLock
from hda_fsspec.emulator.state import Order, PlacedOrders, RemainingQuota
from hda_fsspec.emulator.transfers import Served, answer_file

_DOWNLOAD = "dataaccess/download/"
_FILES = "/files/"

# What a scripted refusal of an order claims, on an emulator without quota.
_SCRIPTED_LIMIT = 100

Faults = Mapping[str, Fault]


class Delivery:
    """The orders of an emulated service, and the files behind them."""

    def __init__(self, catalogue: Catalogue, options: EmulatorOptions) -> None:
        self._catalogue = catalogue
        self._options = options
        self._lock = ProcessLock()
        self._fetches: Counter[str] = Counter()
        # Port and path of the service, set as soon as it knows where it is.
        self.home = ""
        self.orders = PlacedOrders(
            polls=options.polls,
            preparation_seconds=options.preparation_seconds,
            quota=options.quota,
            window_seconds=options.quota_window_seconds,
            seed=options.seed,
        )

    def product_of(self, request: Request) -> str | None:
        """Return the id of the product whose order or file is asked for, None if none is."""
        order = self._order_of(request)
        return None if order is None else order.product_id

    def length_of(self, request: Request) -> int | None:
        """Return the length in bytes of the file that is asked for, None if none is."""
        order = self._order_of(request)
        if order is None:
            return None
        # What cannot be made or read has no length: that is for the answer to tell.
        with contextlib.suppress(JobFailedError, OSError):
            if order.job is not None:
                return order.job.content.length if order.is_ready else None
            product = self._catalogue.product(order.dataset_id, order.product_id)
            return None if product is None else product.content.length
        return None

    def _order_of(self, request: Request) -> Order | None:
        if request.path.startswith(_FILES):
            download_id = request.path.removeprefix(_FILES).partition("/")[0]
        elif request.api == "dataaccess/downloads":
            download_id = request.query.get("download_id", "")
        else:
            download_id = request.api.removeprefix(_DOWNLOAD)
        return self.orders.get(download_id)

    def order(self, dataset: DatasetEntry, body: Mapping[str, Any], faults: Faults) -> Answer:
        """Answer an order."""
        tells_locators = WITHOUT_LOCATORS.isdisjoint(self._options.odd)
        for key in ("product_id", "location") if tells_locators else ("product_id",):
            if not isinstance(body.get(key), str):
                return invalid_answer(key, "field required", "value_error.missing")
        product = dataset.ordered(body["product_id"], body.get("location"))
        if product is None or body.get("location", product.locator) != product.locator:
            return error_answer(404, f"Product {body['product_id']} not found at this location")
        if "quota" in faults:
            reset_at = time.time() + (faults["quota"].seconds or 1.0)
            return self._refusal(RemainingQuota(_SCRIPTED_LIMIT, 0, reset_at))
        try:
            order = self._place(dataset, product)
        except JobFailedError as err:
            return error_answer(err.status or 400, err.detail, err.title or None)
        if order is None:
            return self._refusal(self.orders.quota())
        if "order-failed" in faults:
            order.failure = str(faults["order-failed"].body or "The product could not be prepared")
        return json_answer({"download_id": order.download_id})

    def _place(self, dataset: DatasetEntry, product: ProductEntry) -> Order | None:
        """Place an order; raises JobFailedError for a job that is refused at once."""
        key = (dataset.dataset_id, product.product_id, product.locator)
        if not isinstance(dataset, SubsetDataset):
            return self.orders.place(*key)
        scale = self._options.job_time_scale
        try:
            job = dataset.start_at(product.locator)
        except JobFailedError as err:
            if err.told_by == "order":
                raise
            seconds = dataset.seconds_per_job * scale
            return self.orders.place(*key, seconds=seconds, failure=err.message)
        keeps = dataset.results == "kept"
        return self.orders.place(*key, seconds=job.seconds * scale, job=job, keeps=keeps)

    def _refusal(self, quota: RemainingQuota | None) -> Answer:
        detail: dict[str, Any] = {
            "status_code": 429,
            "title": "Too Many Requests",
            "detail": "Order quota exceeded",
        }
        if self._options.quota_nested:
            detail["title"] = "Task Error"
            return error_answer(500, json.dumps(detail), "Task Error")
        return json_answer(detail, 429).with_headers(self._quota_headers(quota))

    def quota_headers(self) -> dict[str, str]:
        """Return the quota headers of any answer."""
        return self._quota_headers(self.orders.quota())

    def _quota_headers(self, quota: RemainingQuota | None) -> dict[str, str]:
        if quota is None or not self._options.quota_headers:
            return {}
        factor = 1000 if self._options.quota_reset_unit == "ms" else 1
        return {
            "X-Quota-Limit": str(quota.limit),
            "X-Quota-Remaining": str(quota.remaining),
            # Rounded up: at that time the order must be possible.
            "X-Quota-Reset": str(int(quota.reset_at * factor) + 1),
        }

    def status(self, request: Request, download_id: str, faults: Faults) -> Answer:
        """Answer HEAD of an order: 202 while it is prepared, then as GET without a body."""
        if not self._options.head_supported:
            return error_answer(405, "Method Not Allowed")
        return self._unready(download_id) or self._file(request, download_id, faults)

    def download(self, request: Request, download_id: str, faults: Faults) -> Answer:
        """Answer GET of an order: its file, or a redirect to it."""
        unready = self._unready(download_id)
        if unready is not None:
            return unready
        base = self._options.redirect_downloads_to
        if base is None:
            return self._file(request, download_id, faults)
        if "://" not in base:
            base = f"http://{base}:{self.home}"
        return Answer(302, {"Location": f"{base.rstrip('/')}{_FILES}{download_id}/file"})

    def signed_file(self, request: Request, faults: Faults) -> Answer:
        """Answer a file where downloads are redirected to, which needs no token."""
        download_id = request.path.removeprefix(_FILES).partition("/")[0]
        if request.method not in ("GET", "HEAD"):
            return error_answer(405, "Method Not Allowed")
        return self._unready(download_id) or self._file(request, download_id, faults)

    def list_status(self, request: Request, _: str, _faults: Faults) -> Answer:
        """Answer the other way to ask for the status of an order."""
        download_id = request.query.get("download_id", "")
        order = self.orders.get(download_id)
        return json_answer({"features": [] if order is None else [self._state(order)]})

    def _state(self, order: Order) -> dict[str, Any]:
        is_ready = self.orders.poll(order)
        ended = "Done" if order.failure is None else "Error"
        started = datetime.fromtimestamp(order.started_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "_id": order.download_id,
            "status": ended if is_ready else "Running",
            "message": order.failure if is_ready else None,
            "started_at": started,
            "dataset_id": order.dataset_id,
        }

    def _unready(self, download_id: str) -> Answer | None:
        """Return the answer for an order that has no file (yet), None if it has one."""
        order = self.orders.get(download_id)
        if order is None:
            return error_answer(404, f"Download {download_id} not found")
        if not self.orders.poll(order):
            return json_answer({"download_id": download_id, "message": "being prepared"}, 202)
        if order.failure is not None:
            return error_answer(500, order.failure, "Task Error")
        return None

    def _served(self, order: Order) -> Served | None:
        if order.job is not None:
            return Served(order.job.content, order.job.name)
        # What the catalogue offers now, not when it was ordered: upstream may have replaced it.
        product = self._catalogue.product(order.dataset_id, order.product_id)
        return None if product is None else Served(product.content, product.name)

    def _file(self, request: Request, download_id: str, faults: Faults) -> Answer:
        order = self.orders.get(download_id)
        served = None if order is None else self._served(order)
        if order is None or served is None:
            return error_answer(404, f"Download {download_id} not found")
        with self._lock:
            number = self._fetches[order.product_id]
            self._fetches[order.product_id] += request.method == "GET"
        return answer_file(request, served, self._options, faults, number=number)
