"""Progress as shell commands tell it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cronexec.domain.progress_line import INT64, parse_progress, progress_line


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("2 5 matches", (2, 5, "matches")),
        ("2 5 matches of 10", (2, 5, "matches of 10")),
        ("2 matches", (2, None, "matches")),
        ("2 - 5 matches", (2, None, "5 matches")),
        ("2", (2, None, "")),
        ("0.5 1", (0.5, 1, "")),
        ("  2   5  matches ", (2, 5, "matches")),
        ("-1 5", (-1, 5, "")),
        ("1 nan", (1, None, "nan")),
        (f"1 2 {'x' * 2000}", (1, 2, "x" * 1000)),
    ],
)
def test_a_line_tells_done_total_and_message(line: str, told: tuple[float, float | None, str]) -> None:
    assert parse_progress(line) == told


@pytest.mark.parametrize("line", ["", " ", "matches 2", "nan", "inf 5", str(INT64), "1e999"])
def test_a_line_that_does_not_begin_with_a_number_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"expected DONE \[TOTAL\] \[MESSAGE\]"):
        parse_progress(line)


@given(
    st.integers(-INT64, INT64 - 1) | st.floats(allow_nan=False, allow_infinity=False),
    st.none() | st.integers(0, 1000) | st.floats(0, 1000),
    st.text(max_size=400),
)
def test_what_is_written_is_read(done: float, total: float | None, message: str) -> None:
    line = progress_line(done, total, message)
    assert line.count("\n") == 1
    assert parse_progress(line) == (done, total, " ".join(message.split()))
