"""Orders of hosts that a user writes: a compiled function from what a host carries to a priority, by name.

A policy is asked once for each host that a stage may hit; the host with the least priority is tried first, ties in an
order that is drawn. Its parameters say what it is told: `vm_count`, `claim_count` (sets it has VMs of), `domain` (the
least domain of these, -1 for none), and of any column of numbers `COLUMN_sum` and `COLUMN_max` over its VMs.
"""

import hashlib
import inspect
import itertools
import re
import runpy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fleetsim.errors import InputError

COUNTS = ("vm_count", "claim_count", "domain")
"""What a policy can be told of every fleet, int64 each."""
FOLDS = ("sum", "max")
"""How a column is folded over the VMs of a host; nulls are left out, and a host without a value has 0."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Policy:
    """A registered policy. `parameters` are the names it is called with.

    sha256  hex digest of its source, of the values it takes from around it, and of the functions it calls
    """

    name: str
    parameters: tuple[str, ...]
    sha256: str
    function: Callable[..., Any]

    def columns(self) -> dict[str, tuple[str, str]]:
        """The fleet columns it asks for: parameter -> column and one of FOLDS."""
        asked = {}
        for parameter in self.parameters:
            column, _, fold = parameter.rpartition("_")
            if parameter not in COUNTS and fold in FOLDS:
                asked[parameter] = (column, fold)
        return asked

    def priorities(self, told: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.int64]:
        """The priority of each host, int64[H], from arrays [H] of what it asks for."""
        rows = list(zip(*(told[name].tolist() for name in self.parameters), strict=True))

        def asked() -> npt.NDArray[np.int64]:
            return np.fromiter(itertools.starmap(self.function, rows), np.int64, len(rows))

        try:
            found, again = asked(), asked()
        except Exception as error:
            raise InputError(f"policy '{self.name}': must not fail, got {type(error).__name__}: {error}") from error
        if not np.array_equal(found, again):
            raise InputError(f"policy '{self.name}': must give a host the same number again, got another")
        return found


_registered: dict[str, Policy] = {}


def policy(function: _Function) -> _Function:
    """Register the function, compiled with `numba.njit`, as `host_order = "policy:NAME"` by its own name.

    It must return an int64. Raises `InputError` where it is not compiled, returns anything else, has no source, or no
    parameters, or ones with defaults. A later function of the same name takes its place.
    """
    plain = getattr(function, "py_func", None)
    name = getattr(plain or function, "__name__", "policy")
    if plain is None or not hasattr(function, "nopython_signatures"):
        raise InputError(f"policy '{name}': must be compiled with numba.njit, got {type(function).__name__}")
    asked = inspect.signature(plain).parameters
    parameters = tuple(asked)
    if not parameters:
        raise InputError(f"policy '{name}': must be told something of a host, such as vm_count, got no parameters")
    for parameter in asked.values():
        if parameter.kind != parameter.POSITIONAL_OR_KEYWORD or parameter.default is not parameter.empty:
            raise InputError(f"policy '{name}': must have plain parameters without defaults, got '{parameter}'")
    for kind in (0, 0.0):  # a column may be of integers or of floats
        sample = [0 if parameter in COUNTS else kind for parameter in parameters]
        try:
            returned = function(*sample)
        except Exception as error:
            told = _cause(error)
            raise InputError(f"policy '{name}': must take numbers and not fail, got {told}") from error
        if isinstance(returned, bool) or not isinstance(returned, int):
            raise InputError(f"policy '{name}': must return a whole number, an int64, got {type(returned).__name__}")
    try:
        text = "\n".join(_text(plain, set()))
    except OSError as error:
        raise InputError(f"policy '{name}': its source must be in a file, for the digest of the run") from error
    _registered[name] = Policy(name, parameters, hashlib.sha256(text.encode()).hexdigest(), function)
    return function


def _cause(error: Exception) -> str:
    """What Numba says is wrong: it stands below what Numba tells of its own stages."""
    # Where colorama is installed Numba tells it in colours.
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    own = ("Failed in", "During:", "File ", "This error", "No implementation")
    return next((line for line in lines if not line.startswith(own)), type(error).__name__)


def _text(function: Callable[..., Any], met: set[str]) -> Iterator[str]:
    """The source of *function* and, by name, the values and functions from outside that it uses."""
    yield inspect.getsource(function)
    outside = inspect.getclosurevars(function)
    for name, value in sorted({**outside.globals, **outside.nonlocals}.items()):
        plain = getattr(value, "py_func", value)
        if inspect.isfunction(plain) and name not in met:
            met.add(name)
            yield from _text(plain, met)
        elif isinstance(value, np.ndarray):
            yield f"{name} = {value.dtype} {value.shape} {value.tobytes().hex()}"
        elif not inspect.ismodule(value) and not callable(value):
            yield f"{name} = {value!r}"


def registered() -> dict[str, Policy]:
    """The policies by name."""
    return dict(_registered)


def take_over(others: dict[str, Policy]) -> None:
    """Register the policies *others* that another process has registered, and no more."""
    _registered.clear()
    _registered.update(others)


def register_file(path: Path) -> None:
    """Run the Python file *path*, which registers its policies. Raises `InputError` where it fails or has none."""
    before = dict(_registered)
    try:
        runpy.run_path(str(path))
    except InputError as error:
        raise InputError([f"{path}: {problem}" for problem in error.problems]) from error
    except Exception as error:
        raise InputError(f"{path}: must be a Python file with policies, got {type(error).__name__}: {error}") from error
    if _registered == before:
        raise InputError(f"{path}: must mark a function with fleetsim.policy, got none")
