"""Functions of the application: whether they can be handlers, and how another process finds them.

Another process finds a function as its own code would: it imports the module and looks up the name. So what
has no such name (a lambda, a function within a function, a method of an object) cannot run there. Decorators
may stand above ours: what the name means is unwrapped (`functools.wraps`) until it is the function that was
registered. A script that is the application (`python app.py`) is read again under another name than
`__main__`, as `multiprocessing` does.
"""

import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from cronexec.errors import CronexecError, SettingsError
from cronexec.targets.handler_run import Run

Function = Callable[[Run], Any]

MAIN = "__main__"
MAIN_ELSEWHERE = "__cronexec_main__"
_DEEPEST = 50


class UnreachableFunctionError(CronexecError):
    """Another process cannot find a function; the message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """Where a function is found. `path`: of a script. `depth`: how often to unwrap what is found."""

    module: str
    qualname: str
    path: str | None = None
    depth: int = 0


def is_asynchronous(function: Callable[..., Any]) -> bool:
    of_object = getattr(type(function), "__call__", None)  # noqa: B004  its kind is the question, not whether it is there
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(of_object)


def taking_run(name: str, function: Callable[..., Any]) -> Function:
    """Return `function` as one that takes a run. Raises SettingsError when it wants something else."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in functions have none
        return function
    for given in ((None,), ()):
        try:
            signature.bind(*given)
        except TypeError:
            continue
        return function if given else lambda _: function()
    raise SettingsError(f"the handler {name} has to take one argument, the run; it takes {signature}")


def check_reachable(function: Callable[..., Any]) -> None:
    """Refuse what can be seen while its module is still being imported. Raises UnreachableFunctionError."""
    qualname = getattr(function, "__qualname__", None)
    if qualname is None or getattr(function, "__module__", None) is None:
        raise UnreachableFunctionError(f"a {type(function).__name__} has no name to import it by")
    if "<lambda>" in qualname:
        raise UnreachableFunctionError("a lambda has no name to import it by: make it a function of a module")
    if "<locals>" in qualname:
        within = qualname.partition(".<locals>")[0]
        raise UnreachableFunctionError(
            f"it is defined within {within}, where no import reaches: move it to the module"
        )


def refer_to(function: Callable[..., Any]) -> Reference:
    """Return where another process finds `function`. Raises UnreachableFunctionError."""
    check_reachable(function)
    module, path = _importable(function.__module__)
    reference = Reference(module=module, qualname=function.__qualname__, path=path)
    found = _look_up(sys.modules.get(function.__module__), reference)
    for depth in range(_DEEPEST):
        if found == function:
            return Reference(module=module, qualname=reference.qualname, path=path, depth=depth)
        if not hasattr(found, "__wrapped__"):
            break
        found = found.__wrapped__
    raise UnreachableFunctionError(
        f"{module}.{reference.qualname} is another object by now: give each function a name of its own"
    )


def resolve(reference: Reference) -> Callable[..., Any]:
    """Import the function. Raises UnreachableFunctionError, and whatever its module raises."""
    if reference.path is None:
        module = import_module(reference.module)
    else:
        module = sys.modules.get(MAIN_ELSEWHERE) or _read_script(reference.path)
    found = _look_up(module, reference)
    for _ in range(reference.depth):
        found = found.__wrapped__
    function: Callable[..., Any] = found
    return function


def _importable(module: str) -> tuple[str, str | None]:
    """Return a module's name for an import, or the path of a script that is no module."""
    if module != MAIN:
        return module, None
    main = sys.modules[MAIN]
    spec = getattr(main, "__spec__", None)
    if spec is not None:  # python -m
        return str(spec.name), None
    path = getattr(main, "__file__", None)
    if path is None:
        raise UnreachableFunctionError("it is defined in an interactive session: move it to a module")
    return MAIN, path


def _look_up(module: Any, reference: Reference) -> Any:
    found = module
    for name in reference.qualname.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise UnreachableFunctionError(
                f"the module {reference.module} has no {reference.qualname} when it is imported"
            ) from None
    return found


def _read_script(path: str) -> Any:
    """Import the application's script again, without being its main program."""
    spec = importlib.util.spec_from_file_location(MAIN_ELSEWHERE, path)
    if spec is None or spec.loader is None:
        raise UnreachableFunctionError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[MAIN] = sys.modules[MAIN_ELSEWHERE] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[MAIN_ELSEWHERE]
        raise
    return module
