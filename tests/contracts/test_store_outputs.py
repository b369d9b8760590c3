"""What attempts write, beside the ledger: the same in memory and in MongoDB."""

from typing import Any

from stores import RETENTION, MongoBench, slot_at

from cronexec.domain.transcript import HEAD_BYTES, Piece, output_of
from cronexec.ports import Growth, Store

RUN = "backup#k/2"
AT = slot_at()


def growth(at: int, *texts: str, written: int | None = None, **fields: Any) -> Growth:
    pieces, place = [], at
    for text in texts:
        pieces.append(Piece(at=place, data=text.encode()))
        place += len(text.encode())
    given: dict[str, Any] = {"run_id": RUN, "attempt": 1} | fields
    return Growth(pieces=pieces, written=place if written is None else written, **given)


async def shown(store: Store, since: int = 0, attempt: int = 1) -> str:
    found = await store.outputs.read(RUN, attempt, since=since)
    assert found is not None
    return b"".join(piece.data for piece in found.pieces).decode()


async def test_of_an_attempt_that_wrote_nothing_nothing_is_kept(store: Store) -> None:
    await store.terms.prepare()
    await store.outputs.grow([])
    assert await store.outputs.read(RUN, 1) is None


async def test_output_grows_and_is_read_from_a_position_on(store: Store) -> None:
    await store.outputs.grow([growth(0, "one\n")])
    await store.outputs.grow([growth(4, "twö\n", "three\n")])
    assert await shown(store) == "one\ntwö\nthree\n"
    assert await shown(store, since=9) == "three\n"
    assert await shown(store, since=11) == "ree\n"
    assert await shown(store, since=15) == ""
    found = await store.outputs.read(RUN, 1)
    assert found is not None
    assert (found.written, found.ended) == (15, False)


async def test_a_growth_that_is_repeated_and_longer_by_then_is_written_once(store: Store) -> None:
    await store.outputs.grow([growth(0, "one\n")])
    await store.outputs.grow([growth(4, "two\n")])
    await store.outputs.grow([growth(4, "two\nthree\n", ended=True)])
    assert await shown(store) == "one\ntwo\nthree\n"
    found = await store.outputs.read(RUN, 1)
    assert found is not None
    assert found.ended


async def test_attempts_and_runs_have_outputs_of_their_own(store: Store) -> None:
    other = growth(0, "other", run_id="backup#k", attempt=2)
    await store.outputs.grow([growth(0, "first"), growth(0, "second", attempt=2), other])
    assert await shown(store) == "first"
    assert await shown(store, attempt=2) == "second"
    found = await store.outputs.read("backup#k", 2)
    assert found is not None
    assert output_of(found).text == "other"


async def test_between_head_and_tail_what_is_too_old_is_kept_no_more(store: Store) -> None:
    head, middle, tail = "h" * HEAD_BYTES, "m" * 1000, "t" * 1000
    await store.outputs.grow([growth(0, head)])
    await store.outputs.grow([growth(HEAD_BYTES, middle)])
    await store.outputs.grow([growth(HEAD_BYTES + 1000, tail, kept_from=HEAD_BYTES + 1500)])
    found = await store.outputs.read(RUN, 1)
    assert found is not None
    output = output_of(found)
    assert (output.head, output.dropped, output.tail) == (head, 1000, tail)


async def test_bytes_that_are_no_text_are_kept_as_they_are(store: Store) -> None:
    piece = Piece(at=0, data=b"\xff\x00\xfe")
    await store.outputs.grow([Growth(run_id=RUN, attempt=1, pieces=[piece], written=3)])
    found = await store.outputs.read(RUN, 1)
    assert found is not None
    assert found.pieces == [piece]


async def test_an_output_expires_with_the_ledger(mongo: MongoBench) -> None:
    instance = mongo.instance()
    await instance.store.terms.prepare()
    await instance.store.outputs.grow([growth(0, "one\n")])
    kept = await instance._collections.outputs.find_one({"_id": f"{RUN}/1"})
    assert kept is not None
    assert abs((kept["expire_at"] - instance.clock.now() - RETENTION).total_seconds()) < 60
    indexes = await instance._collections.outputs.index_information()
    assert indexes["retention"]["expireAfterSeconds"] == 0
