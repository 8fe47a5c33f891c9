"""Which refusals are about size, by the words that services use."""

from __future__ import annotations

from rows import for_each

from hda_fsspec.subsets.refusals import is_too_large, limit_in


@for_each(
    "text",
    [
        "cost limits exceeded",
        "403 Client Error: cost limits exceeded",
        "Your request is too large, please reduce your selection.",
        "the request you have submitted is not valid. Request too large.",
        "Requesting 975024 items, limit is 120000.",
        "Cost 64512 over 60000 limit",
        "Your selection is too big",
    ],
)
def test_a_refusal_for_size_is_recognised(text: str) -> None:
    """By its own words, old and new ones."""
    assert is_too_large(text)


@for_each(
    "text",
    [
        "",
        "Number of queued requests using the API is limited to 200",
        "Maximum number of daily requests reached",
        "Rate limit exceeded. Please wait 60 seconds.",
        "required licences not accepted; please visit the page to manage the licences",
        "MARS returned no data, please check your selection.",
        "MARS has returned an error, please check your selection.",
        "None of the data you have requested is available yet, please revise the period requested.",
        "413 Request Entity Too Large",
        "Your cost limit is fine",
    ],
)
def test_other_refusals_are_not_about_size(text: str) -> None:
    """Limits of jobs and requests, licences, and data that are not there."""
    assert not is_too_large(text)


def test_a_limit_is_read_from_a_refusal() -> None:
    """Where it is told."""
    assert limit_in("Requesting 975024 items, limit is 120000.") == 120_000
    assert limit_in("Cost 64512 over 60000 limit") == 60_000
    assert limit_in("Your request is too large, please reduce your selection.") is None
