"""What the oracles of schedules share: windows around changes of the clocks, expressions, local matches."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim
from hypothesis import assume
from hypothesis import strategies as st

# Windows that begin and end at noon UTC, well away from every change of offset.
WINDOWS = {
    "spring Amsterdam": ("Europe/Amsterdam", "2026-03-27", "2026-03-31"),
    "autumn Amsterdam": ("Europe/Amsterdam", "2026-10-23", "2026-10-27"),
    "ordinary Amsterdam": ("Europe/Amsterdam", "2026-06-01", "2026-06-08"),
    "spring New York": ("America/New_York", "2026-03-06", "2026-03-10"),
    "autumn New York": ("America/New_York", "2026-10-30", "2026-11-03"),
    "autumn Casablanca, in February": ("Africa/Casablanca", "2026-02-13", "2026-02-17"),
    "spring Casablanca": ("Africa/Casablanca", "2026-03-20", "2026-03-24"),
    "half-hour spring Lord Howe": ("Australia/Lord_Howe", "2026-10-02", "2026-10-06"),
    "half-hour autumn Lord Howe": ("Australia/Lord_Howe", "2026-04-03", "2026-04-07"),
    "midnight spring Cairo": ("Africa/Cairo", "2026-04-22", "2026-04-26"),
    "midnight autumn Cairo": ("Africa/Cairo", "2026-10-28", "2026-11-01"),
    "midnight spring Sao Paulo": ("America/Sao_Paulo", "2018-11-02", "2018-11-06"),
    "midnight autumn Sao Paulo": ("America/Sao_Paulo", "2018-02-16", "2018-02-20"),
    "no change Kolkata": ("Asia/Kolkata", "2026-02-26", "2026-03-03"),
    "skipped day Apia": ("Pacific/Apia", "2011-12-28", "2012-01-02"),
    "UTC": ("UTC", "2024-02-27", "2024-03-03"),
}


def has_fixed_hour(cron: str) -> bool:
    return not set("*/") & set(cron.split()[-4])


def bounds(window: str) -> tuple[str, datetime, datetime]:
    timezone, after, until = WINDOWS[window]
    noon = timedelta(hours=12)
    return (
        timezone,
        datetime.fromisoformat(after).replace(tzinfo=UTC) + noon,
        datetime.fromisoformat(until).replace(tzinfo=UTC) + noon,
    )


def local_matches(cron: str, after: datetime, until: datetime) -> Iterator[datetime]:
    start = after.replace(tzinfo=None) - timedelta(days=2)
    end = until.replace(tzinfo=None) + timedelta(days=2)
    return takewhile(lambda local: local <= end, CronSim(cron, start))


def first_occurrence(local: datetime, zone: ZoneInfo) -> datetime:
    while local.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None) != local:
        local += timedelta(minutes=1)
    return local.replace(tzinfo=zone, fold=0).astimezone(UTC)


def numbers(low: int, high: int) -> st.SearchStrategy[str]:
    single = st.integers(low, high).map(str)
    pairs = st.lists(st.integers(low, high), min_size=2, max_size=2, unique=True).map(sorted)
    span = pairs.map(lambda pair: f"{pair[0]}-{pair[1]}")
    step = st.tuples(st.one_of(span, st.just("*")), st.integers(1, high)).map(
        lambda pair: f"{pair[0]}/{pair[1]}"
    )
    start = st.tuples(single, st.integers(1, high)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    listed = st.lists(st.one_of(single, span), min_size=2, max_size=3).map(",".join)
    return st.one_of(st.just("*"), single, span, step, start, listed)


MINUTES = st.one_of(st.sampled_from(["0", "30", "0,30", "*/15", "59", "*/7"]), numbers(0, 59))
HOURS = st.one_of(st.sampled_from(["*", "2", "0", "1-3", "*/2", "0,1,2,3", "23"]), numbers(0, 23))
DAYS = st.one_of(st.just("*"), st.just("*"), st.just("L"), numbers(1, 31))
MONTHS = st.one_of(st.just("*"), st.just("*"), st.just("jan-jun,OCT-dec"), numbers(1, 12))
WEEKDAYS = st.one_of(
    st.just("*"),
    st.just("*"),
    st.sampled_from(["sun", "MON-FRI", "0", "7", "5-7", "0#1", "sun#5"]),
    numbers(0, 6),
)


@st.composite
def expressions(draw: st.DrawFn) -> str:
    cron = " ".join(draw(st.tuples(MINUTES, HOURS, DAYS, MONTHS, WEEKDAYS)))
    day, _, weekday = cron.split()[2:]
    assume("#" not in weekday or day.startswith("*"))
    assume("/" not in weekday or weekday.startswith("*"))
    return cron
