"""Event queues in C, and SimGrid in C++, compiled on the spot and called by ctypes."""

import ctypes
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from benches.campaign import FREEZE_MS, GAP_MS, MU, SIGMA, Given
from benches.opponents import compiler

Impacts = tuple[np.ndarray, np.ndarray]
_HERE = Path(__file__).parent
_FAILURES = {1: "no memory", 2: "a length further ahead than the queue goes"}


@cache
def _library(source: str, *options: str) -> ctypes.CDLL:
    """A source beside this module, compiled for this machine; it has the function `run` of c_campaign.c."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "campaign.so"
        command = [str(compiler()) if source.endswith(".c") else "g++", "-O3", "-march=native", "-shared", "-fPIC"]
        subprocess.run([*command, "-o", str(library), str(_HERE / source), *options], check=True)
        loaded = ctypes.CDLL(str(library))  # stays mapped when the file is gone
    array = np.ctypeslib.ndpointer
    loaded.run.argtypes = [ctypes.c_int64] * 3 + [ctypes.c_double] * 2 + [array(np.int64), array(np.uint32)]
    return loaded


def calendar_queue(given: Given) -> Callable[[], Impacts]:
    """A list of events for each ms of a year of 35 min, and a bit for each that has some."""
    return _campaign(given, "c_campaign.c", '-DQUEUE="c_calendar_queue.h"', "-lm")


def binary_heap(given: Given) -> Callable[[], Impacts]:
    """The queue that most simulators have, without the simulator."""
    return _campaign(given, "c_campaign.c", '-DQUEUE="c_binary_heap.h"', "-lm")


def simgrid(given: Given) -> Callable[[], Impacts]:
    """An actor a set."""
    return _campaign(given, "simgrid_sets.cpp", "-std=c++17", "-lsimgrid")


def _campaign(given: Given, *source: str) -> Callable[[], Impacts]:
    run = _library(*source).run
    sigma = SIGMA if given.is_random else -1.0

    def task() -> Impacts:
        start_ms, duration_ms = np.empty(given.vms, np.int64), np.empty(given.vms, np.uint32)
        status = run(given.vms, FREEZE_MS, GAP_MS, MU, sigma, start_ms, duration_ms)
        if status:
            raise RuntimeError(_FAILURES[status])
        return start_ms, duration_ms

    return task
