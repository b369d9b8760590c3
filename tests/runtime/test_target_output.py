import os
import time
import traceback
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cronexec.domain.template import TemplateError, check_template, render
from cronexec.targets.output import BoundedOutput, RedactingSink
from cronexec.targets.secrets import SecretError, Secrets, length_begun, redact

VALUES = {"slot": "2026-11-20T03:00:00Z", "attempt": 2, "params": {"league": 7, "teams": ["a", {"b": None}]}}


def test_short_output_is_kept_as_it_is() -> None:
    sink = BoundedOutput(head_bytes=4, tail_bytes=4)
    sink.write("äb")
    sink.write(b"cde")
    assert (sink.output().text, sink.output().dropped) == ("äbcde", 0)


@given(st.lists(st.binary(max_size=30), max_size=20), st.integers(0, 20), st.integers(1, 20))
def test_head_and_tail_are_the_ends_of_what_was_written(chunks: list[bytes], head: int, tail: int) -> None:
    sink = BoundedOutput(head_bytes=head, tail_bytes=tail)
    for chunk in chunks:
        sink.write(bytes(byte % 128 for byte in chunk))
    written = bytes(byte % 128 for byte in b"".join(chunks)).decode()
    output = sink.output()
    if len(written) <= head + tail:
        assert (output.head + output.tail, output.dropped) == (written, 0)
    else:
        expected = (written[:head], written[-tail:], len(written) - head - tail)
        assert (output.head, output.tail, output.dropped) == expected


def test_a_character_cut_at_the_gap_is_dropped_whole() -> None:
    sink = BoundedOutput(head_bytes=4, tail_bytes=4)
    sink.write("aaa€bbbbb€bbb")
    output = sink.output()
    assert (output.head, output.tail) == ("aaa", "bbb")
    assert output.dropped == len("aaa€bbbbb€bbb".encode()) - 6


def test_bytes_that_are_no_text_are_replaced() -> None:
    sink = BoundedOutput()
    sink.write(b"\xff\xfe ok")
    assert sink.output().head == "\ufffd\ufffd ok"


@given(st.lists(st.integers(0, 40), max_size=6), st.integers(1, 12))
def test_a_secret_is_not_shown_wherever_chunks_and_head_are_cut(cuts: list[int], head: int) -> None:
    text = "begin hunter2-hunter2 hunt hunter hunter2\nend"
    sink = BoundedOutput(head_bytes=head, tail_bytes=12)
    redacting = RedactingSink(sink, {"hunter2"})
    edges = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    for start, end in pairwise(edges):
        redacting.write(text[start:end])
    redacting.close()
    shown = "begin ***-*** hunt hunter ***\nend"
    output = sink.output()
    assert output.head == shown[:head]
    assert output.tail == shown[-12:]


@pytest.mark.parametrize("cut", range(1, 13))
def test_the_end_of_a_longer_secret_that_begins_with_another_is_not_shown(cut: int) -> None:
    sink = BoundedOutput()
    redacting = RedactingSink(sink, {"hunter2", "hunter2000"})
    for part in ("ahunter2000b"[:cut], "ahunter2000b"[cut:]):
        redacting.write(part)
    redacting.close()
    assert sink.output().text == "a***b"


def test_what_could_have_become_a_secret_is_shown_at_the_end() -> None:
    sink = BoundedOutput()
    redacting = RedactingSink(sink, {"hunter2", "hunter2000"})
    redacting.write("hunter hunter20")
    assert sink.output().text == "hunter "
    redacting.close()
    assert sink.output().text == "hunter ***0"


def test_of_what_is_cut_off_no_beginning_of_a_secret_is_shown() -> None:
    sink = BoundedOutput()
    redacting = RedactingSink(sink, {"hunter2", "hunter2000"})
    redacting.write("hunter hunter20")
    redacting.cut()
    redacting.close()
    assert sink.output().text == "hunter ***"


@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=6), max_size=3))
def test_the_beginning_of_a_secret_is_the_longest_end_that_begins_one(text: str, secrets: list[str]) -> None:
    ends = [text[at:] for at in range(len(text) + 1)]
    expected = max(
        len(end) for end in ends if not end or any(each != end and each.startswith(end) for each in secrets)
    )
    assert length_begun(text, secrets) == expected


@given(st.text("ab", max_size=12), st.text("ab", min_size=1, max_size=6), st.integers(0, 20))
def test_a_text_that_is_cut_shows_nothing_of_a_secret_that_all_of_it_has(
    before: str, secret: str, length: int
) -> None:
    text = f"-{before}-{secret}"
    cut = redact(text[:length], {secret}, is_cut=length < len(text))
    assert redact(text, {secret}).startswith(cut.removesuffix("***"))


def test_a_long_secret_costs_little_to_look_for() -> None:
    secret = "".join(chr(33 + (7 * number * number + number // 90) % 90) for number in range(60_000))
    redacting = RedactingSink(BoundedOutput(), {secret})
    chunk = ("some lines that have nothing to do with it\n" * 2000).encode()[: 64 * 1024]
    before = time.thread_time()
    for _ in range(10):
        redacting.write(chunk)
    each = (time.thread_time() - before) / 10
    assert each < 0.02, "seconds for 64 KiB; about 0.001 on an idle machine"


@given(st.lists(st.integers(1, 3000), max_size=30))
def test_an_excerpt_is_all_of_little_and_the_ends_of_much(lengths: list[int]) -> None:
    sink = BoundedOutput()
    text = ""
    for number, length in enumerate(lengths):
        text += chr(97 + number % 26) * length
        sink.write(chr(97 + number % 26) * length)
    excerpt = sink.excerpt()
    if len(text) <= 4096:
        assert (excerpt.text, excerpt.dropped) == (text, 0)
    else:
        assert (excerpt.head, excerpt.tail) == (text[:1024], text[-3072:])
        assert excerpt.dropped == len(text) - 4096


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 20), st.integers(1, 20))
def test_a_transcript_from_a_position_on_has_what_is_kept_from_there_on(
    length: int, since: int, head: int, tail: int
) -> None:
    sink = BoundedOutput(head_bytes=head, tail_bytes=tail)
    data = bytes(range(length))
    sink.write(data[: length // 2])
    sink.write(data[length // 2 :])
    kept = {place for place in range(length) if place < head or place >= length - tail}
    found = sink.transcript(since)
    assert found.written == length
    shown = {piece.at + place: value for piece in found.pieces for place, value in enumerate(piece.data)}
    assert shown == {place: data[place] for place in sorted(kept) if place >= since}


def test_a_secret_is_found_in_json_and_in_urls() -> None:
    sink = BoundedOutput()
    redacting = RedactingSink(sink, {'a"b/c'})
    redacting.write(r'{"x": "a\"b/c"} ?x=a%22b%2Fc a"b/c')
    redacting.close()
    assert sink.output().text == '{"x": "***"} ?x=*** ***'


@pytest.mark.parametrize(
    ("template", "rendered"),
    [
        ("{{ params.league }}", 7),
        ("{{params.teams}}", ["a", {"b": None}]),
        ("{{ params.teams.0 }}", "a"),
        ("league {{ params.league }} at {{ slot }}", "league 7 at 2026-11-20T03:00:00Z"),
        ("x{{ params.teams }}", 'x["a", {"b": null}]'),
        ({"{{ slot }}": ["{{ attempt }}", 1, None]}, {"{{ slot }}": [2, 1, None]}),
        ('{{ "{{" }} .Names }}', "{{ .Names }}"),
        ("no placeholder }}", "no placeholder }}"),
    ],
)
def test_placeholders_become_values(template: object, rendered: object) -> None:
    assert render(template, VALUES) == rendered


@pytest.mark.parametrize("name", ["slto", "params.legue", "params.teams.9", "slot.__class__", "1 + 1", ""])
def test_an_unknown_placeholder_is_named_with_the_known_ones(name: str) -> None:
    with pytest.raises(TemplateError) as raised:
        render(f"x {{{{ {name} }}}}", VALUES)
    known = "known are: slot, attempt, params.league, params.teams"
    assert str(raised.value) == f"the placeholder {{{{ {name} }}}} is not known; {known}"


def test_what_is_put_in_is_not_looked_at_again() -> None:
    assert render("x {{ params.a }}", {"params": {"a": "{{ slot }}"}}) == "x {{ slot }}"


def test_a_document_is_checked_for_names_without_its_params() -> None:
    body = {"a": ["{{ params.any }}", "{{ slto }}"], "b": "{{ slot }} {{ 1 + 1 }}"}
    assert [problem.field for problem in check_template(body, "target.body")] == [
        "target.body.a[1]",
        "target.body.b",
    ]


def test_secrets_come_from_a_variable_or_else_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "FILE").write_text("from file\n\n")
    (tmp_path / "BOTH").write_text("from file")
    secrets = Secrets({"CRONEXEC_SECRET_BOTH": "from variable", "OTHER": "no"}, tmp_path)
    value, used = secrets.resolve({"a": ["${secret:FILE}!", "${secret:BOTH}"], "b": 1, "c": "${OTHER}"})
    assert value == {"a": ["from file\n!", "from variable"], "b": 1, "c": "${OTHER}"}
    assert used == {"from file\n", "from variable"}


@pytest.mark.parametrize("name", ["../FILE", "/etc/passwd", "a.b", "", "A B"])
def test_a_secrets_name_is_no_path(name: str, tmp_path: Path) -> None:
    (tmp_path / "FILE").write_text("x")
    with pytest.raises(SecretError, match="letters, digits and underscores only"):
        Secrets({}, tmp_path / "sub").resolve(f"${{secret:{name}}}")


@pytest.mark.parametrize("where", ["file", "variable"])
def test_a_secret_that_is_no_text_is_said_to_be_none_and_not_shown(where: str, tmp_path: Path) -> None:
    (tmp_path / "KEY").write_bytes(b"caf\xe9")
    environ = {"CRONEXEC_SECRET_KEY": os.fsdecode(b"caf\xe9")} if where == "variable" else {}
    with pytest.raises(SecretError) as raised:
        Secrets(environ, tmp_path).resolve("${secret:KEY}")
    assert str(raised.value) == "the secret KEY is no UTF-8 text"
    assert "caf" not in "".join(traceback.format_exception(raised.value))


def test_a_missing_secret_is_named_with_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(SecretError) as raised:
        Secrets({}, tmp_path).resolve("${secret:NONE}")
    where = f"CRONEXEC_SECRET_NONE is not set, and {tmp_path} has no file NONE"
    assert str(raised.value) == f"the secret NONE is missing on this instance: {where}"
