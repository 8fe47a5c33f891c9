"""Whatever happened to a file, its check ends soon and in its own error."""

from __future__ import annotations

import contextlib
import runpy
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from checkout import TESTS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hda_fsspec.errors import ProductFormatError
from hda_fsspec.formats.detect import check_complete

if TYPE_CHECKING:
    import sample_files
else:  # pytest imports tests without their folder on the path
    sample_files = SimpleNamespace(**runpy.run_path(str(TESTS.joinpath("sample_files.py"))))


each_sample = pytest.mark.parametrize(
    "sample", sample_files.SAMPLES.values(), ids=sample_files.SAMPLES.keys()
)


def _mutations(content: bytes) -> st.SearchStrategy[bytes]:
    places = st.integers(0, len(content))
    flips = st.lists(st.tuples(places, st.integers(0, 255)), max_size=6)
    # Most of what steers a check stands in the first bytes.
    heads = st.lists(st.tuples(st.integers(0, 64), st.integers(0, 255)), max_size=3)

    def apply(flips: list[tuple[int, int]], cut: tuple[int, int], insert: bytes) -> bytes:
        changed = bytearray(content)
        for place, value in flips:
            changed[min(place, len(changed) - 1)] = value
        changed[cut[0] : cut[0] + cut[1]] = insert
        return bytes(changed)

    cuts = st.tuples(places, st.sampled_from([0, 0, 1, 4, 8, 100, len(content)]))
    inserts = st.one_of(st.just(b""), st.binary(max_size=16), st.just(b"\xff" * 8))
    return st.builds(lambda f, h, c, i: apply(f + h, c, i), flips, heads, cuts, inserts)


@pytest.mark.slow
@each_sample
def test_mutated_file_passes_or_is_refused(
    sample: sample_files.Sample, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever happened to a file, the check ends soon and raises nothing but its own error."""
    path = tmp_path_factory.mktemp("mutated") / "product"

    @settings(
        derandomize=True,
        database=None,
        max_examples=settings().max_examples * 2 // 3,
        deadline=1000,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(content=_mutations(sample.content))
    def run(content: bytes) -> None:
        path.write_bytes(content)
        with contextlib.suppress(ProductFormatError):
            check_complete(path, deep=True)

    run()


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
