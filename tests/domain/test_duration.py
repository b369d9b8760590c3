from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cronexec.domain.duration import format_duration, parse_duration

WRITTEN = [
    ("15m", timedelta(minutes=15)),
    ("1h30m", timedelta(hours=1, minutes=30)),
    ("10s", timedelta(seconds=10)),
    ("500ms", timedelta(milliseconds=500)),
    ("2d", timedelta(days=2)),
    ("1d2h3m4s5ms", timedelta(days=1, hours=2, minutes=3, seconds=4, milliseconds=5)),
    ("0s", timedelta(0)),
]


@pytest.mark.parametrize(("text", "length"), WRITTEN)
def test_a_length_is_read_and_written_the_same(text: str, length: timedelta) -> None:
    assert parse_duration(text) == length
    assert format_duration(length) == text


@pytest.mark.parametrize(
    ("value", "canonical"),
    [
        (90, "1m30s"),
        (0.25, "250ms"),
        ("90", "1m30s"),
        (" 1.5h ", "1h30m"),
        ("90m", "1h30m"),
        (86_400, "1d"),
        (0, "0s"),
    ],
)
def test_a_number_is_seconds_and_units_are_normalised(value: Any, canonical: str) -> None:
    assert format_duration(parse_duration(value)) == canonical


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "m",
        "5x",
        "-5m",
        "5m5m",
        "30m1h",
        "1h 30m",
        "1:30",
        "5M",
        "²s",
        -1,
        True,
        None,
        [],
        float("nan"),
        float("inf"),
    ],
)
def test_anything_else_is_refused_with_what_is_accepted(value: Any) -> None:
    with pytest.raises(ValueError, match='as in "15m", "1h30m" or "500ms", or a number of seconds'):
        parse_duration(value)


@pytest.mark.parametrize(
    ("value", "said"), [("0.5ms", "finer than a millisecond"), ("9" * 20 + "d", "longer than")]
)
def test_what_cannot_be_counted_is_refused(value: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_duration(value)


@given(st.integers(0, 10**12))
@settings(max_examples=100, derandomize=True, deadline=None)
def test_every_length_in_milliseconds_survives_writing_and_reading(milliseconds: int) -> None:
    length = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(length)) == length


def test_a_negative_length_is_written_with_its_sign() -> None:
    assert format_duration(timedelta(seconds=-90)) == "-1m30s"
