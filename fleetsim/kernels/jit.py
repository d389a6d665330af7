"""The one place that imports numba: compiles every kernel with the same options and a cache that cannot go stale.

Numba's disk cache watches only the file a kernel is written in; a changed callee or enumeration elsewhere would
silently run old machine code. So the cache folder is named after a digest of all sources a kernel can see. No
fastmath: equal runs must be equal bytes.
"""

import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np

_PACKAGE = Path(__file__).parent.parent
_SEEN_BY_KERNELS = (_PACKAGE / "schema.py", *sorted((_PACKAGE / "kernels").glob("*.py")))


def _sources_digest() -> str:
    digest = hashlib.sha256(numba.__version__.encode())
    for path in _SEEN_BY_KERNELS:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def cache_dir() -> Path | None:
    """Folder of compiled kernels; None, with a warning, where none can be written.

    FLEETSIM_CACHE_DIR, else the user's cache folder (XDG_CACHE_HOME or ~/.cache), each extended by the digest.
    """
    chosen = os.environ.get("FLEETSIM_CACHE_DIR")
    root = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "fleetsim"
    folder = root.expanduser() / _sources_digest()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        warnings.warn(
            f"kernels are compiled anew in every process, since {folder} cannot be written ({error.strerror});"
            " set FLEETSIM_CACHE_DIR to a folder that can",
            stacklevel=2,
        )
        return None


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile *function* on its first call, with the options every kernel of fleetsim shares."""
    return _compile(function)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile *function* into each kernel that calls it: for the few lines of a draw, so that loops vectorise."""
    return _compile(function, inline="always")


def _compile(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    folder = cache_dir()
    settings: Any = numba.config  # it makes its names when it is imported; type checkers see none
    others_cache_dir = settings.CACHE_DIR
    if folder is not None:
        settings.CACHE_DIR = str(folder)  # read by njit when it decorates; a global of all libraries
    try:
        compiled: Callable[..., Any] = numba.njit(
            cache=folder is not None, fastmath=False, nogil=True, error_model="numpy", **options
        )(function)
        return compiled
    finally:
        settings.CACHE_DIR = others_cache_dir


@inlined
def rows_of(offsets, owner):
    """The rows that *offsets* int64[N+1] gives to *owner*, as unsigned numbers.

    An index that might be negative is tested at each access, since it would count from the end: in a loop over the few
    rows of a set, that and what it keeps the compiler from take most of the time. One from zero on is known not to be;
    one whose bounds are read from an array has to say so.
    """
    return range(np.uint64(offsets[owner]), np.uint64(offsets[owner + 1]))


def trailing_zeros(word: Any) -> int:
    """Zeros below the lowest one of *word*, a uint64 that is not 0: one instruction where it is compiled."""
    value = int(word)
    return (value & -value).bit_length() - 1


@numba.extending.intrinsic
def _trailing_zeros(_context, word):
    def generate(context, builder, _signature, arguments):
        return builder.cttz(arguments[0], context.get_constant(numba.types.boolean, False))

    return numba.types.int64(word), generate


@numba.extending.overload(trailing_zeros)
def _compiled_trailing_zeros(_word):
    return lambda _word: _trailing_zeros(_word)  # noqa: PLW0108 - an overload gives a function of Python
