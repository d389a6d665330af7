"""Sweeps: one scenario under many settings of its keys, each case a run with replicas in a folder of its own.

Cases have the seed of the scenario, so a VM draws the same in all of them (common random numbers): what differs between
two cases is what was asked, not chance. Their figures are one Parquet data set, by `case` and `replica`.
"""

import contextlib
import itertools
import json
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl
import tomli_w

from fleetsim import __version__
from fleetsim.blocks import check_plans, resolve_over
from fleetsim.cluster import Cluster, check_asked, connected, shared
from fleetsim.errors import InputError, RunError, nearest, nearest_path
from fleetsim.fleet.prepared import PreparedFleet
from fleetsim.progress import Progress
from fleetsim.regions import Relation, load_relation
from fleetsim.replicas import check_draws
from fleetsim.responses import CASES, MANIFEST, Objective, Sweep, asked_in_words
from fleetsim.room import check_disk
from fleetsim.runfolder import HALF_WRITTEN
from fleetsim.runner import disk_bytes, prepared_for, run
from fleetsim.scenario import load_scenario
from fleetsim.tables import folder_above, parquet_bytes, write_atomic

ASKED = "sweep.toml"
CASES_UNASKED_MAX = 200
"""Cases of a sweep that is made without being asked whether all of them are meant."""
CASES_MAX = 10_000
_LEAN = ("outputs.events=false", "outputs.outcomes=false")
_KEYS = ("scenario", "replicas", "until", "override", "grid", "case")


@dataclass(frozen=True, slots=True)
class Case:
    """One setting of the swept keys: their values as TOML writes them."""

    number: int
    values: Mapping[str, str]

    @property
    def overrides(self) -> tuple[str, ...]:
        return tuple(f"{key}={value}" for key, value in self.values.items())

    @property
    def name(self) -> str:
        return asked_in_words({key: _bare(value) for key, value in self.values.items()}, list(self.values))


@dataclass(frozen=True, slots=True)
class Asked:
    """What a sweep file asks for."""

    text: str = field(repr=False)
    scenario: Any
    replicas: int
    until: str | None
    overrides: tuple[str, ...]
    cases: tuple[Case, ...]
    """None where they are too many."""
    count: int


def sweep(
    fleet: Any,
    asked: str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    pairs: str | Path | None = None,
    hosts: Any = None,
    threads: int | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    best: str | None = None,
    yes: bool = False,
    on: str | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Run every case of the sweep *asked* over *fleet*, into the new folder *out*.

    fleet      as for `run`
    asked      TOML file or text, or the same as a mapping: `scenario` (a file beside it, or a table), `replicas`,
               `until`, `[override]` of all cases, `[grid]` of keys and the values each takes, `[[case]]` of keys
    overrides  `KEY=VALUE` each, of all cases; what is swept goes before them
    resume     go on with an unfinished sweep of the same file
    best       which case is meant, as `min length_ms where paused_ms_p99 <= 10s`: `best_case` of what is returned
    yes        make as many cases as there are; without it more than CASES_UNASKED_MAX are refused
    on         as for `run`: a case a worker, or one case after the other on all where they are fewer than its CPUs

    Cases keep neither events nor outcomes, unless `[override]` says so. Raises `InputError` before anything is written
    where the input is unusable, `RunError` where writing fails: finished cases stay.
    """
    out = Path(out)
    most = CASES_MAX if yes else CASES_UNASKED_MAX
    plan = _read(asked, most)
    plan = replace(plan, overrides=(*plan.overrides, *overrides))
    check_draws(plan.replicas, plan.until)
    if plan.count > most:
        hint = "" if yes or plan.count > CASES_MAX else "; --yes makes them all"
        raise InputError(f"sweep: must have at most {most:,} cases, got {plan.count:,}{hint}")
    if threads is not None and threads < 1:
        raise InputError(f"threads: must be at least 1, got {threads}")
    check_asked(on)
    _check_absent(out, plan.text, resume=resume)
    relation = load_relation(Path(pairs) if pairs is not None else None)
    with (
        prepared_for(shared(fleet) if on else fleet, out, relation, pairs, hosts, progress, resume=resume) as prepared,
        contextlib.ExitStack() as until_over,
    ):
        campaigns, needed = _check_cases(plan, prepared, relation, threads)
        if not resume:
            check_disk(out, needed, "fewer cases or replicas take less, and so do cases without events")
        if best is not None:
            Objective.parse(best, campaigns)
        cluster = until_over.enter_context(connected(on, threads))
        vm_count = prepared.vm_count * plan.replicas
        try:
            _start(out, plan)
            cases = _Cases(prepared.path, plan, out, pairs, threads, on)
            if cluster is not None and len(plan.cases) >= cluster.cpu_count:
                _on_workers(cases, cluster, vm_count, progress)
            else:
                for case in plan.cases:
                    cases(case, progress and _part_of(progress, case, len(plan.cases), vm_count))
            made = _finish(out, plan, prepared)
            return made if best is None else made.with_best(best)
        except OSError as error:
            raise RunError(f"{out}: could not be written: {error.strerror or error}; finished cases stay") from error


@dataclass(frozen=True, slots=True)
class _Cases:
    """What makes a case of a sweep, in whatever process."""

    prepared_path: Path
    plan: Asked
    out: Path
    pairs: str | Path | None
    threads: int | None
    on: str | None = None

    def __call__(self, case: Case, progress: Progress | None = None) -> None:
        folder = self.out / _folder(case)
        run(
            self.prepared_path,
            self.plan.scenario,
            folder,
            pairs=self.pairs,
            threads=self.threads,
            overrides=[*_LEAN, *self.plan.overrides, *case.overrides],
            resume=folder.exists(),
            replicas=self.plan.replicas,
            until=self.plan.until,
            on=self.on,
            progress=progress,
        )


def _on_workers(cases: _Cases, cluster: Cluster, vm_count: int, progress: Progress | None) -> None:
    """Make each case, over *vm_count* VMs in all its replicas, on one worker of *cluster*."""
    plan = cases.plan
    paths = shared(cases.out), shared(cases.pairs)
    asked = replace(plan, scenario=shared(plan.scenario))
    with cluster.workers(_Cases, shared(cases.prepared_path), asked, *paths, 1) as submit:
        answers = {submit(case): case for case in plan.cases}
        for done_count, answer in enumerate(as_completed(answers), 1):
            answer.result()
            if progress is not None:
                said = f"{done_count:,} of {len(plan.cases):,} cases: {answers[answer].name}"
                progress("sweep", vm_count * done_count, vm_count * len(plan.cases), said)


def case_count(asked: str | Path | Mapping[str, Any]) -> int:
    """How many cases a sweep has."""
    return _read(asked, 0).count


def _read(asked: str | Path | Mapping[str, Any], most: int) -> Asked:
    """The sweep of a file, of TOML text or of a mapping; raise `InputError` with every problem found.

    Of more than *most* cases only the count is told.
    """
    folder, name = Path(), "sweep"
    if isinstance(asked, Mapping):
        document, text = dict(asked), tomli_w.dumps(asked)
    else:
        text, path = str(asked), None
        if isinstance(asked, Path) or not ("\n" in text or "=" in text):
            path = Path(asked)
            if not path.is_file():
                found = "a folder" if path.is_dir() else f"nothing there{nearest_path(path)}"
                raise InputError(f"{path}: must be a file, got {found}")
            folder, name = path.parent, str(path)
        try:
            text = path.read_text("utf-8") if path is not None else text
            document = tomllib.loads(text)
        except ValueError as error:
            raise InputError(f"{name}: must be TOML in UTF-8: {error}") from error
    problems = [f"{name}: {key}: is no key of a sweep{nearest(key, _KEYS)}" for key in document if key not in _KEYS]
    scenario = document.get("scenario")
    if isinstance(scenario, str) and scenario:
        scenario = folder / scenario
    elif not isinstance(scenario, Mapping):
        problems.append(f"{name}: scenario: must be a file, or a table [scenario], got {_found(document, 'scenario')}")
    replicas, until = document.get("replicas", 1), document.get("until")
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        problems.append(f"{name}: replicas: must be a whole number, got {_found(document, 'replicas')}")
    if until is not None and not isinstance(until, str):
        problems.append(f"{name}: until: must be as 'length_ms 1%', got {_found(document, 'until')}")
    tables = {key: document.get(key, {}) for key in ("override", "grid")}
    for key, table in tables.items():
        if not isinstance(table, Mapping):
            problems.append(f"{name}: {key}: must be a table of keys of the scenario, got {_found(document, key)}")
    listed = document.get("case", [{}])
    if not (isinstance(listed, list) and listed and all(isinstance(each, Mapping) for each in listed)):
        problems.append(
            f"{name}: case: must be tables [[case]] of keys of the scenario, got {_found(document, 'case')}"
        )
    if problems:
        raise InputError(problems)
    grid = _keyed(f"{name}: grid", tables["grid"], problems)
    of_list = [_keyed(f"{name}: case", each, problems) for each in listed]
    override = _keyed(f"{name}: override", tables["override"], problems)
    for key, value in grid.items():
        if not isinstance(value, list) or not value:
            problems.append(f"{name}: grid.{key}: must be a list of the values it takes, got {_found(grid, key)}")
        if any(key in each for each in of_list):
            problems.append(f"{name}: {key}: must be in [grid] or in every [[case]], got it in both")
        if key in override:
            problems.append(f"{name}: {key}: must be in [grid] or in [override], got it in both")
    if problems:
        raise InputError(problems)
    count = len(of_list) * math.prod(len(values) for values in grid.values())
    if count > most:
        return Asked(text, scenario, replicas, until, (), (), count)
    combined = itertools.product(of_list, *([(key, value) for value in values] for key, values in grid.items()))
    cases = [listed_keys | dict(of_grid) for listed_keys, *of_grid in combined]
    return Asked(
        text,
        scenario,
        replicas,
        until,
        tuple(f"{key}={_spelt(value)}" for key, value in override.items()),
        tuple(Case(number, {key: _spelt(value) for key, value in case.items()}) for number, case in enumerate(cases)),
        count,
    )


def _leaves(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The keys of *table* as overrides spell them, `campaign.NAME.length`, and their values.

    A key may be quoted with its dots or not, which TOML reads as tables in one another. A table is a value where it is
    a profile of lengths, or has nothing in it; of any other its keys are set one by one.
    """
    for key, value in table.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping) and value and not _PROFILES & value.keys():
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value


_PROFILES = {"p50", "min", "quantiles"}
"""Keys of which a profile of lengths has one."""


def _keyed(where: str, table: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """The keys of *table*, each of which must stand there once, and none below another."""
    found: dict[str, Any] = {}
    for key, value in _leaves(table):
        if key in found or any(
            f"{other}.".startswith(f"{key}.") or f"{key}.".startswith(f"{other}.") for other in found
        ):
            problems.append(f"{where}.{key}: must be said once, got it twice")
        found[key] = value
    return found


def _found(document: Mapping[str, Any], key: str) -> str:
    return json.dumps(document[key], default=str) if key in document else "nothing"


def _spelt(value: Any) -> str:
    """*value* as TOML has it."""
    text = tomli_w.dumps({"value": [value]}, multiline_strings=False).removeprefix("value = [").strip()
    return " ".join(text.removesuffix("]").strip().removesuffix(",").split()).replace(", ]", " ]")


def _bare(text: str) -> str:
    """A value as people say it: a string without its quotes."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def _folder(case: Case) -> str:
    return f"case={case.number:05}"


def _check_absent(out: Path, text: str, *, resume: bool) -> None:
    """Raise `InputError` where *out* holds something a sweep would overwrite."""
    folder_above(out)
    if not out.exists() or (out.is_dir() and all(path.match(HALF_WRITTEN) for path in out.iterdir())):
        return
    path = out / ASKED
    if not path.is_file():
        raise InputError(f"{out}: must be a new folder for the sweep, found {'a file' if out.is_file() else 'another'}")
    if not resume:
        what = (
            "a finished sweep; give another -o"
            if (out / MANIFEST).exists()
            else "an unfinished sweep; --resume goes on with it"
        )
        raise InputError(f"{out}: must be a new folder, found {what}")
    if path.read_text("utf-8") != text:
        raise InputError(f"{out}: --resume goes on with the same sweep only, and {path} differs from what is asked")


def _check_cases(
    plan: Asked, prepared: PreparedFleet, relation: Relation, threads: int | None
) -> tuple[list[str], int]:
    """Resolve every case, so that nothing is computed if one of them cannot be; each problem is said once.

    Returns the names of the campaigns, and the bytes that all cases keep.
    """
    problems: dict[str, None] = {}
    campaigns: dict[str, None] = {}
    needed = 0
    for case in plan.cases:
        try:
            loaded = load_scenario(plan.scenario, (*_LEAN, *plan.overrides, *case.overrides))
            needed += disk_bytes(prepared, resolve_over(prepared, loaded, relation, threads), plan.replicas)
            check_plans(prepared, loaded)
            campaigns |= dict.fromkeys(campaign.name for campaign in loaded.campaigns)
        except InputError as error:
            problems |= dict.fromkeys(error.problems)
    if problems:
        raise InputError(each.replace("--override ", "sweep: ") for each in problems)
    return list(campaigns), needed


def _start(out: Path, plan: Asked) -> None:
    """Write what the sweep starts from."""
    out.mkdir(parents=True, exist_ok=True)
    for stray in out.glob(HALF_WRITTEN):
        stray.unlink()
    write_atomic(out / ASKED, plan.text.encode())
    keys = dict.fromkeys(key for case in plan.cases for key in case.values)
    rows = {key: [_bare(case.values[key]) if key in case.values else None for case in plan.cases] for key in keys}
    frame = pl.DataFrame(
        {"case": [case.number for case in plan.cases], **rows},
        schema={"case": pl.UInt32, **dict.fromkeys(keys, pl.String)},
    )
    write_atomic(out / CASES, parquet_bytes(frame.to_arrow()))


def _finish(out: Path, plan: Asked, prepared: PreparedFleet) -> Sweep:
    """Write the manifest of the sweep, last of all."""
    manifests = [json.loads((out / _folder(case) / "manifest.json").read_text("utf-8")) for case in plan.cases]
    manifest = {
        "fleetsim_version": __version__,
        "fleet_digest": prepared.fleet_digest,
        "vm_count": prepared.vm_count,
        "cases": [
            {
                "case": case.number,
                "set": {key: _bare(value) for key, value in case.values.items()},
                "replicas": told["replicas"],
                "run_digest": told["run_digest"],
            }
            for case, told in zip(plan.cases, manifests, strict=True)
        ],
    }
    write_atomic(out / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
    return Sweep.open(out)


def _part_of(progress: Progress, case: Case, count: int, vm_count: int) -> Progress:
    """*progress* of the whole sweep of *count* cases, each over *vm_count* VMs in all its replicas, by that of one."""

    def report(step: str, done_count: int, total_count: int, sentence: str = "", /) -> None:
        if step == "replicas":
            said = f"case {case.number + 1:,} of {count:,}: {case.name}, {sentence}" if sentence else ""
            share = case.number + done_count / max(1, total_count)
            progress("sweep", round(share * vm_count), count * vm_count, said)

    return report
