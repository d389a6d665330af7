"""One step of a measurement, in a process of its own, so that peaks are its own; prints a line of JSON.

    python -m benches.worker prepare FOLDER VMS         a prepared fleet in FOLDER
    python -m benches.worker call NAME WARM... GIVEN... seconds, peak and verdict of a call
    python -m benches.worker check NAME GIVEN...        verdict on the files a whole process left
    python -m benches.worker layers NAME WARM... GIVEN...  where the time of a call goes
    python -m benches.worker profile NAME WARM... GIVEN...  where that of a kernel goes

WARM and GIVEN are each the words of a `Given`.
"""

import json
import resource
import shutil
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benches.campaign import DOMAIN_COUNT, REGIONS, SET_SIZE, Given
from benches.opponents import OPPONENTS, Opponent

LEAST_S = 0.2
"""A call shorter than this is repeated until so much time has passed, and the median of a round counts."""


def prepare(folder: Path, vms: int) -> Path:
    """The fleet of `benches.campaign`, prepared, in the new folder *folder*."""
    from fleetsim.fleet import generate
    from fleetsim.fleet import prepare as prepare_fleet

    generated = folder.with_name(folder.name + "-generated")
    generate(generated, vms, REGIONS, set_size=SET_SIZE, update_domains=DOMAIN_COUNT)
    prepare_fleet(generated, folder)
    shutil.rmtree(generated)
    return folder


def call(opponent: Opponent, warm: Given, given: Given) -> dict[str, Any]:
    """Measure a `call`: once over the fleet *warm*, untimed, then over *given*."""
    home = opponent.load()
    home(warm)()
    task = home(given)
    seconds: list[float] = []
    cpu_seconds: list[float] = []
    result = None
    until_s = time.perf_counter() + LEAST_S
    while not seconds or time.perf_counter() < until_s:
        if isinstance(result, Path):
            shutil.rmtree(result.parent)
        result = None  # what it holds is free again before the next is made
        started_s, cpu_started_s = time.perf_counter(), time.process_time()
        result = task()
        seconds.append(time.perf_counter() - started_s)
        cpu_seconds.append(time.process_time() - cpu_started_s)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # before the check, which takes more
    verdict = judge(opponent, given, result)
    return {
        "seconds": statistics.median(seconds),
        "cpu_seconds": statistics.median(cpu_seconds),
        "peak_mib": peak_mib,
        **verdict,
    }


def layers(opponent: Opponent, warm: Given, given: Given) -> dict[str, Any]:
    """Where the time of a `call` goes."""
    from benches.layers import told

    home = opponent.load()
    return told(home(given), home(warm))


def profile(opponent: Opponent, warm: Given, given: Given) -> dict[str, Any]:
    """Where the time of kernels goes."""
    from benches.layers import profiled

    home = opponent.load()
    return {"shares": profiled(home(given), home(warm))}


def judge(opponent: Opponent, given: Given, result: Any) -> dict[str, Any]:
    """The verdict on what a task returned, as plain values; none where there is nothing to check."""
    from benches.checks import check_files, check_impacts, check_run, vms_of_rows

    if result is None or not opponent.has_answer:
        return {}
    if opponent.is_verified:
        return asdict(check_run(result))
    vm_of_row = vms_of_rows(given.prepared) if opponent.is_reader else None
    if isinstance(result, Path):
        return asdict(check_files(given.vms, result, is_random=given.is_random, vm_of_row=vm_of_row))
    return asdict(check_impacts(given.vms, *result, is_random=given.is_random, vm_of_row=vm_of_row))


def main(arguments: list[str]) -> None:
    """The command above."""
    step, *words = arguments
    if step == "prepare":
        print(json.dumps({"prepared": str(prepare(Path(words[0]), int(words[1])))}))
        return
    opponent = next(each for each in OPPONENTS if each.name == words[0])
    half = len(words) // 2
    measures = {"call": call, "layers": layers, "profile": profile}
    if measure := measures.get(step):
        print(json.dumps(measure(opponent, Given.parse(words[1 : half + 1]), Given.parse(words[half + 1 :]))))
    else:
        given = Given.parse(words[1:])
        print(json.dumps(judge(opponent, given, given.folder / "out")))


if __name__ == "__main__":
    main(sys.argv[1:])
