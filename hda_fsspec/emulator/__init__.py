"""A local service that speaks the whole protocol of WEkEO's Harmonized Data Access.

It serves real files over real HTTP on a loopback port, with delays, quotas, licences, expiring
tokens and scripted faults, and keeps a log on which tests can assert. It imports nothing of this
package but its values and errors, so that it cannot share their misunderstandings.

>>> from hda_fsspec.emulator import Catalogue, DatasetEntry, Emulator, ProductEntry
>>> product = ProductEntry("a.nc", b"CDF...", "2024-05-01T00:00:00Z", "2024-05-01T23:59:59Z")
>>> with Emulator(Catalogue([DatasetEntry("EO:X:DAT:Y", [product])])) as emulator:
...     sorted(emulator.environment)
['HDA_PASSWORD', 'HDA_URL', 'HDA_USER']
"""

from __future__ import annotations

from hda_fsspec.emulator.catalogue import Catalogue
from hda_fsspec.emulator.dataset_entries import DatasetEntry, ProductEntry
from hda_fsspec.emulator.emulator import Emulator
from hda_fsspec.emulator.faults import Fault
from hda_fsspec.emulator.jobs.ecmwf import EcmwfSubset, ecmwf_subset
from hda_fsspec.emulator.jobs.marine import MarineSubset, marine_subset
from hda_fsspec.emulator.loaders import dated_product
from hda_fsspec.emulator.messages import RequestLog, RequestRecord
from hda_fsspec.emulator.profiles import PROFILES, interval, nominal_times
from hda_fsspec.emulator.samples import write_samples
from hda_fsspec.emulator.schemas import multiple_choice

__all__ = [
    "PROFILES",
    "Catalogue",
    "DatasetEntry",
    "EcmwfSubset",
    "Emulator",
    "Fault",
    "MarineSubset",
    "ProductEntry",
    "RequestLog",
    "RequestRecord",
    "dated_product",
    "ecmwf_subset",
    "interval",
    "marine_subset",
    "multiple_choice",
    "nominal_times",
    "write_samples",
]
