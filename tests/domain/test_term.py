"""Terms: how far the schedule is behind, and how long a term may be believed."""

from datetime import timedelta

import pytest
from sample_jobs import NOON, at

from cronexec.domain.term import Lease, TermRecord

LEASE = Lease(length=timedelta(seconds=10), renewed_at=100.0)


def test_the_lag_is_what_the_watermark_is_behind_the_databases_clock() -> None:
    record = TermRecord(
        epoch=3,
        seq=7,
        watermark=NOON,
        revision=1,
        holder_id=None,
        holder_name=None,
        datacenter=None,
        since_at=None,
        read_at=at("12:00:01.250"),
    )
    assert record.lag == timedelta(seconds=1.25)


@pytest.mark.parametrize(
    ("monotonic", "holds"), [(100.0, True), (109.999, True), (110.0, False), (500.0, False)]
)
def test_a_lease_holds_for_its_length_and_not_at_its_end(monotonic: float, holds: bool) -> None:
    assert LEASE.holds(monotonic) is holds


def test_a_lease_counts_from_the_start_of_the_last_acknowledged_write() -> None:
    renewed = LEASE.renewed(started_at=105.0)
    assert renewed.holds(114.9)
    assert not renewed.holds(115.0)


def test_an_acknowledgement_that_comes_out_of_order_shortens_no_lease() -> None:
    assert LEASE.renewed(started_at=105.0).renewed(started_at=103.0) == LEASE.renewed(started_at=105.0)
