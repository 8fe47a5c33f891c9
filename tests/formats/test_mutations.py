"""Whatever happened to a file, its check ends soon and in its own error."""

from __future__ import annotations

import contextlib
import random
import runpy
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from checkout import TESTS
from hypothesis import given, settings
from hypothesis import strategies as st
from random_inputs import examples
from rows import for_each

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.formats.detect import check_complete

if TYPE_CHECKING:
    import sample_files
else:  # pytest imports tests without their folder on the path
    sample_files = SimpleNamespace(**runpy.run_path(str(TESTS.joinpath("sample_files.py"))))


_MOST_SECONDS = 1.0
#: Most of what steers a check stands in the first bytes, and many of those are small.
_TELLING = (0, 1, 2, 4, 8, 0x7F, 0x80, 0xFE, 0xFF)


def _mutation(content: bytes, chance: random.Random) -> bytes:
    """Return a file some bytes of which are others, and some of which were cut out or put in."""
    changed = bytearray(content)
    places = [chance.randint(0, len(content)) for _ in range(chance.randint(0, 6))]
    places += [chance.randint(0, 64) for _ in range(chance.randint(0, 3))]
    for place in places:
        is_telling = chance.random() < 0.5
        value = chance.choice(_TELLING) if is_telling else chance.randint(0, 255)
        changed[min(place, len(changed) - 1)] = value
    cut = chance.randint(0, len(content))
    count = chance.choice([0, 0, 1, 4, 8, 100, len(content)])
    inserts = (b"", chance.randbytes(chance.randint(0, 16)), b"\xff" * 8)
    changed[cut : cut + count] = chance.choice(inserts)
    return bytes(changed)


@pytest.mark.slow
@for_each("key", sample_files.SAMPLES)
def test_mutated_file_passes_or_is_refused(key: str, tmp_path: Path) -> None:
    """Whatever happened to a file, the check ends soon and raises nothing but its own error."""
    path = tmp_path / "product"
    chance = random.Random(key)
    for number in range(examples(40)):
        path.write_bytes(_mutation(sample_files.SAMPLES[key].content, chance))
        begun = time.thread_time()
        try:
            check_complete(path, deep=True)
        except ProductFormatError:
            pass
        except BaseException as err:
            err.add_note(f"by mutation {number}, which is in {path}")
            raise
        assert time.thread_time() - begun < _MOST_SECONDS, number


@pytest.mark.slow
@settings(derandomize=True, database=None, max_examples=4 * settings().max_examples)
@given(head=st.sampled_from(list(sample_files.SAMPLES.values())), tail=st.binary(max_size=200))
def test_noise_after_a_signature_never_breaks_the_check(
    tmp_path_factory: pytest.TempPathFactory, head: sample_files.Sample, tail: bytes
) -> None:
    """A right signature with noise behind it passes or is refused, and nothing else."""
    path = tmp_path_factory.getbasetemp() / "noise"
    path.write_bytes(head.content[:8] + tail)
    with contextlib.suppress(ProductFormatError):
        check_complete(path, deep=True)
