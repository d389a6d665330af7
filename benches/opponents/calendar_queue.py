"""A calendar queue in C, compiled on the spot and called by ctypes."""

import ctypes
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from benches.campaign import (
    FREEZE_MS,
    GAP_MS,
    MU,
    SIGMA,
    Given,
)
from benches.opponents import compiler

Impacts = tuple[np.ndarray, np.ndarray]
_SOURCE = Path(__file__).with_name("calendar_queue.c")
_FAILURES = {1: "no memory", 2: "a length beyond a year of the calendar"}


@cache
def _library() -> ctypes.CDLL:
    """calendar_queue.c, compiled for this machine."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "calendar_queue.so"
        command = [str(compiler()), "-O3", "-march=native", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-lm"]
        subprocess.run(command, check=True)
        loaded = ctypes.CDLL(str(library))  # stays mapped when the file is gone
    array = np.ctypeslib.ndpointer
    loaded.run.argtypes = [ctypes.c_int64] * 3 + [ctypes.c_double] * 2 + [array(np.int64), array(np.uint32)]
    return loaded


def calendar_queue(given: Given) -> Callable[[], Impacts]:
    """The C source beside this module, by ctypes."""
    run = _library().run
    sigma = SIGMA if given.is_random else -1.0

    def task() -> Impacts:
        start_ms, duration_ms = np.empty(given.vms, np.int64), np.empty(given.vms, np.uint32)
        status = run(given.vms, FREEZE_MS, GAP_MS, MU, sigma, start_ms, duration_ms)
        if status:
            raise RuntimeError(_FAILURES[status])
        return start_ms, duration_ms

    return task
