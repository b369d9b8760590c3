"""Params on the command line: `-p league=8`, read by the types that the job's document gives them.

Where it gives none a value is JSON, or else text. What the types do not allow is for the holder to refuse;
here it is only settled whether `8` is a number or a text.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from cronexec.cli.job_found import find_job
from cronexec.cli.session import Session
from cronexec.domain.job import JobDocument
from cronexec.domain.params import ParamsSchema, json_or_text

Function = TypeVar("Function", bound=Callable[..., Any])


def params_options(function: Function) -> Function:
    """Add `--param` and `--params`, which the command gets as `pairs` and `params`."""
    options = (
        click.option(
            "--param",
            "-p",
            "pairs",
            multiple=True,
            metavar="KEY=VALUE",
            callback=_split,
            help="One parameter, read by its type in the job's params_schema; else as JSON, or as text.",
        ),
        click.option("--params", metavar="JSON", callback=_read_object, help="Parameters, as an object."),
    )
    for option in reversed(options):
        function = option(function)
    return function


async def read_params(
    session: Session, name: str, pairs: Sequence[tuple[str, str]], params: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Return the params that were given for the job; None where there are none."""
    if not pairs:
        return None if params is None else dict(params)
    job, _ = await find_job(session, name)
    return dict(params or {}) | {key: _typed(job.document, key, text) for key, text in pairs}


def param_lines(schema: ParamsSchema | None) -> list[tuple[str, str]]:
    """Return what the params of a job may be, each as a line for people."""
    return [] if schema is None else [(f"param {name}", what) for name, what in schema.describe()]


def _typed(document: JobDocument, key: str, text: str) -> Any:
    if document.params_schema is None:
        return json_or_text(text)
    try:
        return document.params_schema.read_text(key, text)
    except ValueError as error:
        raise click.BadParameter(f"{key}: {error}", param_hint="--param") from None


def _split(_ctx: click.Context, _parameter: click.Parameter, pairs: Sequence[str]) -> list[tuple[str, str]]:
    found = []
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"expected KEY=VALUE, got {pair!r}")
        found.append((name, value))
    return found


def _read_object(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        given = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"no JSON: {error}") from None
    if not isinstance(given, dict):
        raise click.BadParameter('expected an object, as in {"league": 8}')
    return given
