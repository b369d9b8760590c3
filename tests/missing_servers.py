"""What a test does for which a server is missing: it is skipped, and fails under CI."""

import os
from typing import NoReturn

import pytest

from cronexec.dev.errors import MissingServerError


def do_without(missing: MissingServerError) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(str(missing))
    pytest.skip(str(missing))
