"""Prediction of the index of a stack: what is asked for, what is refused, and what is known."""

from __future__ import annotations

from typing import Any

import cftime
import numpy as np
import pytest
from costs import cpu_seconds
from rows import for_each

from hda_fsspec.records import parse_time
from hda_fsspec.timeindex.catalogue_times import (
    SeenProduct,
    TimeEncoding,
    UnpredictableError,
    predict,
)
from hda_fsspec.timeindex.overlaps import overlapping

Array = np.ndarray[Any, Any]
MILLISECOND = np.timedelta64(1, "ms")
DAY = np.timedelta64(1, "D")
HOUR = np.timedelta64(1, "h")


def _days(count: int, first: str = "2024-01-01") -> tuple[Array, Array]:
    starts = np.datetime64(first, "us") + np.arange(count) * DAY
    return starts, starts + DAY - MILLISECOND


def _months(count: int, first: str = "2024-01") -> tuple[Array, Array]:
    months = np.datetime64(first, "M") + np.arange(count).astype("m8[M]")
    after = months + np.timedelta64(1, "M")
    return months.astype("M8[us]"), after.astype("M8[us]") - MILLISECOND


EXACT = TimeEncoding()
WHOLE_DAYS = TimeEncoding("days since 1950-01-01", None, np.dtype("i4"))


def _known(truth: Array, *pieces: int, encoding: TimeEncoding = EXACT) -> list[SeenProduct]:
    return [SeenProduct(piece, np.atleast_1d(truth[piece]), None, encoding) for piece in pieces]


def test_one_product_tells_regular_days() -> None:
    """Where start, end and fraction say the same, one header is enough."""
    starts, ends = _days(30)
    noon = starts.astype("M8[ns]") + 12 * HOUR

    prediction = predict(starts, ends, _known(noon, 7))

    assert prediction.ask == ()
    assert prediction.lengths.tolist() == [1] * 30
    np.testing.assert_array_equal(prediction.values, noon)


def test_middle_of_months_needs_a_second_product() -> None:
    """A month of another length is asked for, and tells the middle from the 16th."""
    starts, ends = _months(12)
    middle = (starts + (ends + MILLISECOND - starts) // 2).astype("M8[ns]")

    first = predict(starts, ends, _known(middle, 0))
    second = predict(starts, ends, _known(middle, 0, *first.ask))

    assert first.values is None
    assert len(first.rules) > 1
    assert (ends - starts)[first.ask[0]] != (ends - starts)[0]
    np.testing.assert_array_equal(second.values, middle)


@for_each("offset", [0 * DAY, 14 * DAY, 15 * DAY + 12 * HOUR])
def test_fixed_day_of_the_month(offset: np.timedelta64) -> None:
    """Monthly products that stand at a fixed day, and not in the middle, are told as well."""
    starts, ends = _months(24)
    truth = (starts + offset).astype("M8[ns]")
    prediction = predict(starts, ends, _known(truth, 0, 1))

    np.testing.assert_array_equal(prediction.values, truth)


def test_whole_days_in_the_file_are_rounded_as_its_writer_did() -> None:
    """The middle of a month, cut to whole days, is told although no fraction fits exactly."""
    starts, ends = _months(36)
    middle = (starts + (ends + MILLISECOND - starts) // 2).astype("M8[D]").astype("M8[ns]")
    seen = [0]
    while (p := predict(starts, ends, _known(middle, *seen, encoding=WHOLE_DAYS))).ask:
        seen += p.ask

    assert len(seen) <= 3
    np.testing.assert_array_equal(p.values, middle)


def test_a_coarse_encoding_of_one_file_is_not_taken_for_all() -> None:
    """Files with units of their own, as xarray writes them, may say noon in whole days since noon.

    The first product stands at 00:00 and the second at 12:00, which is no reason to round the
    second to midnight.
    """
    starts = np.datetime64("2010-01-01", "us") + np.arange(6) * 12 * HOUR
    truth = starts.astype("M8[ns]")

    def known(piece: int) -> SeenProduct:
        encoding = TimeEncoding(f"days since {starts[piece]}", None, np.dtype("i8"))
        return SeenProduct(piece, truth[piece : piece + 1], None, encoding)

    seen = [0]
    while (p := predict(starts, starts, list(map(known, seen)))).ask:
        seen += p.ask

    np.testing.assert_array_equal(p.values, truth)


def test_steps_in_a_product() -> None:
    """Each step keeps its distance from the start of its product."""
    starts, ends = _days(40)
    truth = starts.astype("M8[ns]")[:, None] + np.arange(24) * HOUR

    prediction = predict(starts, ends, _known(truth, 3))

    np.testing.assert_array_equal(prediction.values, truth.ravel())
    assert prediction.lengths.tolist() == [24] * 40


def test_known_products_keep_their_own_times() -> None:
    """What was read is not replaced by what was predicted, not even within a millisecond."""
    starts, ends = _days(5)
    truth = starts.astype("M8[ns]")
    truth[3] += np.timedelta64(400, "us")

    prediction = predict(starts, ends, _known(truth, 0, 3))

    np.testing.assert_array_equal(prediction.values, truth)


def test_an_outlier_refutes_all_rules() -> None:
    """A product that breaks the pattern is no reason to bend it."""
    starts, ends = _days(9)
    truth = starts.astype("M8[ns]")
    truth[4] += HOUR

    with pytest.raises(UnpredictableError, match="no rule fits the 3 headers"):
        predict(starts, ends, _known(truth, 0, 1, 4))


def test_products_of_different_length_need_all_headers() -> None:
    """Two lengths among those seen leave the others unknown; all seen need no rule."""
    starts, ends = _months(3)
    truth = [np.arange(s, e, DAY).astype("M8[ns]") for s, e in zip(starts, ends, strict=True)]
    known = [SeenProduct(piece, values) for piece, values in enumerate(truth)]

    with pytest.raises(UnpredictableError, match=r"different numbers of values \(29 and 31\)"):
        predict(starts, ends, known[:2])
    whole = predict(starts, ends, known)

    np.testing.assert_array_equal(whole.values, np.concatenate(truth))
    assert whole.lengths.tolist() == [31, 29, 31]


def test_months_of_daily_steps_ask_before_they_take_one_length() -> None:
    """Intervals of other length make the number of steps doubtful, so one of them is seen."""
    starts, ends = _months(12)
    january = np.arange(starts[0], ends[0], DAY).astype("M8[ns]")

    prediction = predict(starts, ends, [SeenProduct(0, january)])

    assert prediction.ask == (1,)


def test_three_headers_are_the_most() -> None:
    """When the headers to ask for are used up, rules that still disagree are an error."""
    starts, ends = _months(12)
    truth = starts.astype("M8[ns]") + 15 * DAY + 12 * HOUR

    open_still = predict(starts, ends, _known(truth, 0, 2, 4), asked=0)
    with pytest.raises(UnpredictableError, match=r"offset from the start.*differ by up to"):
        predict(starts, ends, _known(truth, 0, 2, 4))

    assert open_still.ask


def test_an_interval_of_several_products_is_looked_into() -> None:
    """A catalogue that shows only the month of daily products is refused, and not believed."""
    truth, _ = _days(31)
    starts, ends = (np.repeat(each, 31) for each in _months(1))

    first = predict(starts, ends, _known(truth, 0))
    with pytest.raises(UnpredictableError, match="the same interval for products of different"):
        predict(starts, ends, _known(truth, 0, *first.ask))


def test_two_versions_of_a_product_are_told_from_that() -> None:
    """Two products of one interval and one time are decided, for the caller to refuse."""
    starts, ends = (np.insert(each, 3, each[3]) for each in _days(6))
    truth = starts.astype("M8[ns]")
    seen = [3]
    while (p := predict(starts, ends, _known(truth, *seen))).ask:
        seen += p.ask

    assert seen == [3, 4]
    assert p.values is not None
    assert overlapping(p.values, p.lengths) == [(3, 4)]


def test_times_missing_from_the_catalogue() -> None:
    """A product without interval can be placed only by its own header."""
    starts, ends = _days(6)
    truth = starts.astype("M8[ns]") + HOUR
    ends[2] = np.datetime64("NaT", "us")

    with pytest.raises(UnpredictableError, match="1 of them have no start or no end"):
        predict(starts, ends, _known(truth, 0))
    with pytest.raises(UnpredictableError, match="no start or no end"):
        predict(starts, ends, _known(truth, 2))
    prediction = predict(starts, ends, _known(truth, 0, 2))

    np.testing.assert_array_equal(prediction.values, truth)


def test_nothing_seen_is_a_mistake_of_the_caller() -> None:
    """Without any header there is nothing to predict from."""
    with pytest.raises(ValueError, match="At least one"):
        predict(*_days(3), [])


def test_missing_values_in_an_index_are_refused() -> None:
    """A product whose own time is missing tells no rule."""
    with pytest.raises(UnpredictableError, match="missing values"):
        predict(*_days(3), [SeenProduct(0, np.array(["NaT"], "M8[ns]"))])


@for_each("unit", ["s", "ms", "us", "ns"])
def test_values_are_of_the_kind_the_files_decode_to(unit: str) -> None:
    """The unit of the times is that of the products seen, and the nearest value is taken."""
    starts, ends = _days(4)
    truth = starts.astype(f"M8[{unit}]")

    prediction = predict(starts, ends, _known(truth, 0))

    assert prediction.values is not None
    assert prediction.values.dtype == truth.dtype
    np.testing.assert_array_equal(prediction.values, truth)


def test_times_that_do_not_fit_are_refused() -> None:
    """A year beyond nanoseconds raises, and does not wrap around to 1677."""
    starts, ends = _days(3)
    known = _known(starts.astype("M8[ns]"), 0)
    starts[2], ends[2] = np.datetime64("2400-01-01"), np.datetime64("2400-01-01T23:59:59.999")

    with pytest.raises(UnpredictableError, match=r"datetime64\[ns\]"):
        predict(starts, ends, known)


def test_speed_of_ten_thousand_products() -> None:
    """Predicting costs less than reading the times of the products from a listing."""
    starts, ends = _days(10_000, "1990-01-01")
    known = _known(starts.astype("M8[ns]"), 0)
    told = [f"{day}T00:00:00.000Z" for day in starts.astype("M8[D]").astype(str)]

    predicting = cpu_seconds(lambda: predict(starts, ends, known))
    reading = cpu_seconds(lambda: [parse_time(text) for text in 2 * told])

    assert predicting < reading


def _calendar_days(calendar: str, year: int, month: int, count: int) -> Array:
    first = cftime.datetime(year, month, 1, calendar=calendar)
    units = "days since 1970-01-01"
    days = cftime.date2num(first, units, calendar=calendar) + np.arange(count)
    return np.asarray(cftime.num2date(days, units, calendar=calendar))


def test_months_of_thirty_days() -> None:
    """In a calendar of 360 days all months are as long, though the catalogue's are not."""
    starts, ends = _months(6)
    truth = np.array([cftime.Datetime360Day(2024, month, 16) for month in range(1, 7)])

    prediction = predict(starts, ends, _known(truth, 0))

    np.testing.assert_array_equal(prediction.values, truth)
    assert prediction.values is not None
    assert type(prediction.values[0]) is cftime.Datetime360Day


def test_days_that_a_calendar_lacks_are_refused() -> None:
    """The 31st of January cannot be a date of 360-day products, so nothing follows from it."""
    starts, ends = _days(40)
    truth = _calendar_days("360_day", 2024, 1, 40)

    with pytest.raises(UnpredictableError):
        predict(starts, ends, _known(truth, 0, 31))


def test_days_without_leap_days() -> None:
    """A catalogue that leaves out 29 February fits a calendar that has none."""
    starts, ends = _days(60)
    keep = (starts < np.datetime64("2024-02-29")) | (starts >= np.datetime64("2024-03-01"))
    truth = _calendar_days("noleap", 2024, 1, 59)

    prediction = predict(starts[keep], ends[keep], _known(truth, 0))

    np.testing.assert_array_equal(prediction.values, truth)


def test_calendars_do_not_mix() -> None:
    """Products of two calendars have no common index."""
    known = [
        SeenProduct(0, np.array([cftime.DatetimeNoLeap(2024, 1, 1)])),
        SeenProduct(1, np.array([cftime.Datetime360Day(2024, 1, 2)])),
    ]

    with pytest.raises(UnpredictableError, match="different kinds"):
        predict(*_days(3), known)


def test_steps_that_are_evenly_spaced() -> None:
    """Steps of a run that the catalogue shows a day each: three products tell by how much."""
    starts, ends = _days(9)
    steps = (np.arange(9) * 6).astype("m8[h]").astype("m8[ns]")
    seen = [0, 8]
    while (p := predict(starts, ends, _known(steps, *seen))).ask:
        seen += p.ask

    assert seen == [0, 8, 4]
    assert p.rules == ("evenly spaced",)
    np.testing.assert_array_equal(p.values, steps)


@for_each("odd", [1, 4, 8])
def test_steps_that_are_nearly_evenly_spaced(odd: int) -> None:
    """One of three that is a second off refutes it."""
    starts, ends = _days(9)
    steps = (np.arange(9) * 6).astype("m8[h]").astype("m8[ns]")
    steps[odd] += np.timedelta64(1, "s")

    with pytest.raises(UnpredictableError, match="no rule fits the 3 headers"):
        predict(starts, ends, _known(steps, *sorted({0, 4, odd, 8})[-3:]))


def test_steps_that_divide_to_no_whole_microsecond() -> None:
    """A spacing that times cannot have is none."""
    starts = np.datetime64("2024-01-01", "us") + np.array([0, 1, 3, 7]) * DAY
    steps = np.array([0, 1, 3, 7]) * np.timedelta64(1, "us")
    starts[1] += np.timedelta64(1, "us")

    with pytest.raises(UnpredictableError, match="no rule fits"):
        predict(starts, starts + DAY, _known(steps.astype("m8[ns]"), 0, 2, 3))


def test_products_without_a_step_tell_nothing() -> None:
    """Another one is looked at, and the lengths of those that were seen are kept."""
    starts, ends = _days(5)
    noon = starts.astype("M8[ns]") + 12 * HOUR
    empty = SeenProduct(0, noon[:0])

    first = predict(starts, ends, [empty])
    second = predict(starts, ends, [empty, *_known(noon, *first.ask)])

    assert first.ask == (1,)
    assert second.lengths.tolist() == [0, 1, 1, 1, 1]
    np.testing.assert_array_equal(second.values, noon[1:])
    with pytest.raises(UnpredictableError, match="3 products that were read have no step"):
        predict(starts, ends, [SeenProduct(piece, noon[:0]) for piece in (0, 1, 2)])


@pytest.mark.parametrize("parity", [0, 1])
def test_halves_that_are_rounded_to_even(parity: int) -> None:
    """Which halves are rounded up follows from the numbers that a file stores."""
    starts, ends = _months(24)
    epoch = np.datetime64("1950-01-01", "D") + np.timedelta64(parity, "D")
    halves = (ends + MILLISECOND - starts) // 2 + (starts - epoch.astype("M8[us]"))
    days = np.round(halves / DAY).astype("m8[D]")
    truth = (epoch + days).astype("M8[ns]")
    encoding = TimeEncoding(f"days since {epoch}", None, np.dtype("i4"))
    seen = [0]
    while (p := predict(starts, ends, _known(truth, *seen, encoding=encoding))).ask:
        seen += p.ask

    assert len(seen) <= 3
    np.testing.assert_array_equal(p.values, truth)
