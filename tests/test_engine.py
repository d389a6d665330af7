"""The engine against the oracle, event for event, and against itself under changes that must not matter.

Every run made here is also put before the verifier.
"""

import datetime as dt
import itertools
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fleetsim
from fleetsim.fleet import order
from fleetsim.runner import Run
from tests import oracle
from tests.oracle import Campaign, Cap, Event, Host, Outcome, Quorum, SelfService, StageSpan, Vm, Windows
from tests.strategies import (
    BAKES,
    FEATURES,
    LENGTHS,
    PLAN,
    SPANS,
    STARTS,
    TIMINGS,
    TYPES,
    UNRELATED_REGION,
    Request,
    Scene,
    constant,
    requests,
    scenes,
    uniform,
)

# `deep` takes thousands of examples, each of them a run or two with their verdicts.
pytestmark = pytest.mark.timeout(7200)

# Where there is a file system in memory, the fsyncs of hundreds of runs cost nothing.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None

fewer = settings(max_examples=max(1, settings.default.max_examples // 4))
"""For properties that take two runs an example."""

HUNTS = {
    "plain": (),
    "lifetimes": ("lifetimes",),
    "waves": ("lifetimes", "waves", "no_impact"),
    "horizon": ("lifetimes", "horizon", "waves", "sizes"),
    "selection": ("where", "sizes", "families", "cannot_freeze"),
    "selection and lifetimes": ("lifetimes", "sizes", "families", "cannot_freeze", "horizon", "quorum"),
    "walks": ("lifetimes", "fault_domains", "clusters"),
    "outages": ("lifetimes", "quorum"),
    "presets": ("azure_2024", "reboots", "sizes"),
    "caps": ("caps",),
    "caps and lifetimes": ("caps", "lifetimes", "horizon", "fault_domains", "clusters"),
    "hosts": ("hosts",),
    "hosts and caps": ("hosts", "caps"),
    "hosts and selection": ("hosts", "where", "sizes", "families", "fault_domains", "cannot_freeze"),
    "hosts and outages": ("hosts", "waves", "horizon", "quorum"),
    "scale_sets": ("scale_set", "fault_domains"),
    "windows": ("windows",),
    "windows and lifetimes": ("windows", "lifetimes", "horizon", "reboots"),
    "windows and waves": ("windows", "waves", "lifetimes", "azure_2024"),
    "tries": ("windows", "tries"),
    "tries and lifetimes": ("windows", "tries", "lifetimes", "families", "customers"),
    "tries and outages": ("windows", "tries", "quorum", "applications", "clusters", "waves"),
    "customers": ("windows", "customers"),
    "customers beside": ("windows", "customers", "beside"),
    "customers beside caps": ("windows", "customers", "beside", "caps", "horizon"),
    "customers beside and lifetimes": ("windows", "customers", "beside", "lifetimes", "horizon"),
    "customers and lifetimes": ("windows", "customers", "lifetimes", "clusters", "horizon"),
    "hosts and lifetimes": ("hosts", "lifetimes", "horizon", "caps"),
    "windows and caps": ("windows", "caps", "customers", "lifetimes"),
    "windows and hosts": ("windows", "hosts", "caps", "lifetimes", "horizon"),
    "zones": ("windows", "zones", "azure_2024", "customers", "lifetimes", "clusters"),
    "room": ("windows", "hosts", "customers", "room"),
    "room and lifetimes": ("windows", "hosts", "customers", "room", "lifetimes", "clusters"),
    "room and caps": ("windows", "hosts", "customers", "room", "caps", "tries", "zones", "azure_2024"),
    "zones and hosts": ("windows", "zones", "hosts", "caps", "lifetimes"),
    "everything": tuple(feature for feature in FEATURES if feature not in ("scale_set", "hosts")),
    "everything on hosts": tuple(feature for feature in FEATURES if feature != "scale_set"),
}
"""What examples are drawn for; most of what a feature breaks, it breaks alone."""

WINDOW_COLUMNS = ("notice_at", "self_service_start_at", "self_service_end_at", "scheduled_start_at", "scheduled_end_at")
VM_COLUMNS = ("set_kind", "cluster", "zone", "rack", "host", "size", "application")
VM_COLUMNS += ("subscription", "temp_disk_gib", "dynamic_ip", "vcpus", "memory_gib")
HOUR_MS = 3_600_000
SPAN_MS_MAX = 3650 * 86_400_000


@dataclass(frozen=True)
class Findings:
    """A finished run as the oracle would tell it, rows in a stable order."""

    digest: str
    vms: list[Vm]
    events: list[Event]
    outcomes: list[Outcome]
    stages: list[StageSpan]
    no_guarantee: set[tuple[str, oracle.Identity, str]]
    summary: dict[tuple[str, int, str, str], float]
    bins: dict[tuple[str, int, str, str], dict[int, float]]
    steps: list[tuple]

    def events_of(self, vms: Sequence[Vm]) -> list[Event]:
        kept = {vm.vm for vm in vms}
        return [event for event in self.events if event.vm in kept]


def by_vm(rows):
    return sorted(rows, key=lambda row: (row.campaign, oracle.rank(row.vm), row.iteration, getattr(row, "start_ms", 0)))


def by_region(stages):
    return sorted(stages, key=lambda stage: (stage.campaign, stage.iteration, stage.region))


@contextmanager
def run_of(scene: Scene, toml: str | None = None, **asked) -> Iterator[Run]:
    """A verified run of *scene* in a folder of its own."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        run = fleetsim.run(
            scene.table(),
            toml or scene.toml(),
            Path(folder) / "run",
            **{"pairs": scene.write_pairs(Path(folder)), "threads": 1, "hosts": scene.inventory()} | asked,
        )
        verdict = fleetsim.verify(run.path)
        assert verdict.ok, [rule for rule in verdict.to_dict()["rules"] if rule["status"] == "broken"]
        yield run


def found(scene: Scene, **asked) -> Findings:
    with run_of(scene, **asked) as run:
        return read(run, scene)


def read(run: Run, scene: Scene) -> Findings:
    """What is in the bare files of *run*."""
    fleet = parts_of(run.path / "fleet").sort("vm_row")
    assert fleet["vm_row"].to_list() == list(range(len(scene.vms)))
    vms = [vm_of(scene, row) for row in fleet.iter_rows(named=True)]
    hosts = {row["host_row"]: row["host"] for row in parts_of(run.path / "hosts").iter_rows(named=True)}
    events = [
        Event(
            campaign=row["campaign"],
            vm=vms[row["vm_row"]].vm,
            start_ms=ms_since(scene, row["start_at"]),
            duration_ms=row["duration_ms"],
            phase=row["phase"],
            kind=row["kind"],
            result=row["result"],
            iteration=row["iteration"],
            effects=row["effects"],
            host_to=hosts[row["host_to"]] if row["phase"] == "self_service" and is_elsewhere(row) else None,
        )
        for row in parts_of(run.path / "events").iter_rows(named=True)
    ]
    outcomes = [
        Outcome(vm=vms[row["vm_row"]].vm, **{key: value for key, value in row.items() if key != "vm_row"})
        for row in parts_of(run.path / "outcomes").iter_rows(named=True)
    ]
    no_guarantee = pl.read_parquet(run.path / "no_guarantee.parquet")
    return Findings(
        digest=run.digest,
        vms=vms,
        events=by_vm(events),
        outcomes=by_vm(outcomes),
        stages=stages_of(run, scene),
        no_guarantee=set(no_guarantee.select("region", "set", "reason").cast({"region": pl.String}).iter_rows()),
        summary=summary_of(run),
        bins=bins_of(run),
        steps=steps_of(run, scene),
    )


def is_elsewhere(row: dict[str, object]) -> bool:
    return row.get("host_to") != row.get("host_from")


def steps_of(run: Run, scene: Scene) -> list[tuple]:
    """Rows of `steps` as the oracle would tell them, each with its stage; none where the run wrote none."""
    found = []
    for path in sorted((run.path / "steps").rglob("*.parquet")):
        region = path.parent.name.removeprefix("region=")
        for row in pl.read_parquet(path, hive_partitioning=False).iter_rows(named=True):
            told = [row[name] for name in ("duration_ms", "domain", "waited_for", "waited_row", "waited_ms")]
            found.append(
                (row["campaign"], row["iteration"], region, row["unit_row"], ms_since(scene, row["start_at"]), *told)
            )
    return found


def vm_of(scene: Scene, row: dict[str, object]) -> Vm:
    """A row of the prepared fleet as the oracle would have it."""
    return Vm(
        row["vm"],
        row["region"],
        row.get("set"),
        row.get("update_domain"),
        row.get("fault_domain"),
        ms_since(scene, row.get("created")),
        ms_since(scene, row.get("deleted")),
        **{name: row.get(name) for name in VM_COLUMNS},
        attributes={name: row[name] for name in TYPES if name in row},
    )


def summary_of(run: Run) -> dict[tuple[str, int, str, str], float]:
    """(campaign, iteration, region, figure) -> value, of the figures that are one value a stage or campaign."""
    return {
        (row["campaign"], row["iteration"], row["region"], row["figure"]): row["value"]
        for row in pl.read_parquet(run.path / "summary.parquet").iter_rows(named=True)
        if row["bin_start_ms"] is None
    }


def bins_of(run: Run) -> dict[tuple[str, int, str, str], dict[int, float]]:
    """(campaign, iteration, region, figure) -> lower bound of the bin -> value, of the other figures."""
    bins = defaultdict(dict)
    for row in pl.read_parquet(run.path / "summary.parquet").iter_rows(named=True):
        if row["bin_start_ms"] is not None:
            of = (row["campaign"], row["iteration"], row["region"], row["figure"])
            bins[of][row["bin_start_ms"]] = row["value"]
    return dict(bins)


def stages_of(run: Run, scene: Scene) -> list[StageSpan]:
    """The stages, and of `summary` what says when each was asked for and when its region was taken and free."""
    summary = summary_of(run)
    spans = []
    for row in pl.read_parquet(run.path / "stages.parquet").iter_rows(named=True):
        of = (row["campaign"], row["iteration"], row["region"])
        spans.append(
            StageSpan(
                row["campaign"],
                row["region"],
                asked_ms=summary[*of, "asked_ms"],
                start_ms=summary.get((*of, "start_ms")),
                first_start_ms=ms_since(scene, row["first_start_at"]),
                last_end_ms=ms_since(scene, row["last_end_at"]),
                free_ms=summary.get((*of, "free_ms")),
                counts={
                    key.removesuffix("_count"): row[key] for key in row if key.endswith("_count") and row[key] != 0
                },
                wave=row["wave"],
                iteration=row["iteration"],
                windows=None
                if row["notice_at"] is None
                else tuple(ms_since(scene, row[name]) for name in WINDOW_COLUMNS),
            )
        )
        for figure, told in (("first_start_ms", spans[-1].first_start_ms), ("end_ms", spans[-1].last_end_ms)):
            assert summary.get((*of, figure)) == told
    return by_region(spans)


def parts_of(folder: Path) -> pl.DataFrame:
    paths = sorted(folder.glob("region=*/part-*.parquet"))
    return pl.concat([pl.read_parquet(path, hive_partitioning=False) for path in paths]) if paths else pl.DataFrame()


def ms_since(scene: Scene, instant) -> int | None:
    """Whole ms since scenario.start; None for none."""
    if instant is None:
        return None
    span = instant - scene.start
    return span.days * 86_400_000 + span.seconds * 1_000 + span.microseconds // 1_000


def assert_equals_the_oracle(scene: Scene, run: Findings) -> None:
    log = scene.log()
    # The first VM they differ in, as pytest would compare whole logs for minutes and with all memory.
    for found_of, expected_of in ((run.events, by_vm(log.events)), (run.outcomes, by_vm(log.outcomes))):
        assert next(((f, e) for f, e in itertools.zip_longest(found_of, expected_of) if f != e), None) is None
    assert run.stages == by_region(log.stages)
    assert run.no_guarantee == log.no_guarantee
    expected = {(*of, figure): float(value) for of, figures in log.figures.items() for figure, value in figures.items()}
    if "application" in scene.columns:
        expected |= {(name, 1, "*", figure): value for (name, figure), value in log.campaign_figures.items()}
    assert {of: run.summary.get(of) for of in expected} == expected
    assert_bins(scene, log, run)
    assert_steps(scene, log, run)
    assert_last_walks(scene, log, run)


def assert_bins(scene: Scene, log: oracle.Log, run: Findings) -> None:
    """Starts and time lost by the hour, and lengths as they were felt, in bins at most 1/64 wide."""
    region_of = {vm.vm: vm.region for vm in scene.vms}
    hourly, lengths, felt = defaultdict(Counter), defaultdict(list), defaultdict(list)
    for event in [event for event in log.events if event.duration_ms]:
        felt[event.campaign, event.iteration, event.vm].append(event)
    for (campaign, iteration, vm), tries in felt.items():  # tries of a VM follow one another: one impact
        of, hour_ms = (campaign, iteration, region_of[vm]), min(event.start_ms for event in tries) // HOUR_MS * HOUR_MS
        lost_ms = sum(event.duration_ms for event in tries)
        hourly[*of, "hourly_start_count"][hour_ms] += 1
        hourly[*of, "hourly_unavailable_ms"][hour_ms] += lost_ms
        lengths[*of, "paused_ms_histogram" if tries[0].kind == "freeze" else "down_ms_histogram"].append(lost_ms)
    assert run.bins.keys() == hourly.keys() | lengths.keys()
    assert {of: run.bins[of] for of in hourly} == hourly
    for of, durations_ms in lengths.items():
        counted = Counter(max(start_ms for start_ms in run.bins[of] if start_ms <= ms) for ms in durations_ms)
        assert counted == run.bins[of]
        assert all(min(ms - start_ms for start_ms in counted if start_ms <= ms) * 64 <= ms for ms in durations_ms)


def unit_row(step: oracle.Step, row_of: dict[oracle.Identity, int]) -> int:
    return min(row_of[vm.vm] for vm in step.vms)


def assert_steps(scene: Scene, log: oracle.Log, run: Findings) -> None:
    """Where units can wait for one another `steps` has each of them, and whose end let it start."""
    row_of = {vm.vm: row for row, vm in enumerate(run.vms)}
    waiting = may_wait(scene)
    expected = [
        (
            *step.stage,
            unit_row(step, row_of),
            step.start_ms,
            step.end_ms - step.start_ms,
            None if step.vms[0].set is None or step.vms[0].host is not None else step.domain.number,
            step.waited_for,
            min((unit_row(other, row_of) for other in step.waited), default=None),
            step.start_ms - step.earliest_ms,
        )
        for step in log.steps
        if (step.campaign, step.region) in waiting
    ]
    assert sorted(run.steps, key=repr) == sorted(expected, key=repr)


def may_wait(scene: Scene) -> set[tuple[str, str]]:
    """Stages (campaign, region) whose units can wait for one another: for caps, hosts, or other zones."""
    on_hosts, zoned = ({vm.region for vm in scene.vms if getattr(vm, of) is not None} for of in ("host", "zone"))
    capped = {request.meant.name for request in scene.requests if request.meant.caps}
    in_turn = {request.meant.name for request in scene.requests if request.meant.one_zone_at_a_time}
    return {
        (request.meant.name, region)
        for request in scene.requests
        for region in {vm.region for vm in scene.vms}
        if request.meant.name in capped or region in on_hosts or (request.meant.name in in_turn and region in zoned)
    }


def chain_of(
    steps: Sequence[oracle.Step], walk: oracle.Walk, stage: StageSpan, row_of: dict[oracle.Identity, int]
) -> dict[str, int]:
    """What the steps that led to the end of *walk*, one letting the next start, spent their time with."""
    last = max((step for step in steps if set(step.vms) <= set(walk.vms)), key=lambda step: step.end_ms)
    chain = [last]
    while chain[-1].waited:
        chain.append(min(chain[-1].waited, key=lambda step: unit_row(step, row_of)))
    first = chain[-1]
    found = {"domain_count": len(chain), "spread_ms": first.earliest_ms - stage.start_ms, "gap_ms": 0, "work_ms": 0}
    found["cap_ms"] = first.start_ms - first.earliest_ms
    for step, before in itertools.pairwise(chain):
        held_ms = before.end_ms - before.start_ms
        found["cap_ms" if step.waited_for == "cap" else "work_ms"] += held_ms
        found["gap_ms"] += step.start_ms - before.end_ms
    found["work_ms"] += last.end_ms - last.start_ms
    return found


def assert_last_walks(scene: Scene, log: oracle.Log, run: Findings) -> None:
    """What `summary` says of the walk that ended last is right; of several, the first in the fleet counts."""
    row_of = {vm.vm: row for row, vm in enumerate(run.vms)}
    waiting, steps_of = may_wait(scene), defaultdict(list)
    for step in log.steps:
        steps_of[step.stage].append(step)
    for stage in log.stages:
        of = (stage.campaign, stage.iteration, stage.region)
        walks = [walk for walk in log.walks if walk.stage == of]
        figures = ("vm_row", "domain_count", "spread_ms", "gap_ms", "work_ms", "cap_ms")
        found = {figure: run.summary.get((*of, f"last_{figure}")) for figure in figures}
        if not walks:
            assert found == dict.fromkeys(figures)
            continue
        first_row, walk = min(
            ((min(row_of[vm.vm] for vm in walk.vms), walk) for walk in walks),
            key=lambda row_walk: (-row_walk[1].end_ms, row_walk[0]),
        )
        if (stage.campaign, stage.region) in waiting:
            assert found == {"vm_row": first_row, **chain_of(steps_of[of], walk, stage, row_of)}
            continue
        assert found == {
            "vm_row": first_row,
            "domain_count": walk.unit_count,
            "spread_ms": walk.wait_ms,
            "gap_ms": walk.gap_ms,
            "work_ms": walk.held_ms,
            "cap_ms": walk.end_ms - stage.start_ms - walk.wait_ms - walk.gap_ms - walk.held_ms,
        }


def asked(name: str, **meant) -> Request:
    """A campaign of 30 s that says what is *meant* in the words of a scenario."""
    keys = {"name": f'"{name}"'}
    for key, value in meant.items():
        if key == "where":
            keys[key] = f"{{ {', '.join(f'{column} = {json.dumps(values)}' for column, values in value.items())} }}"
        elif key == "caps":
            of = {True: "hosts", False: "vms"}
            spelt = [f"{{ per = '{cap.per}', {of[cap.counts_hosts]}_count = {cap.most} }}" for cap in value]
            keys[key] = f"[{', '.join(spelt)}]"
        else:
            keys[key.removesuffix("_ms")] = f'"{value}ms"' if key.endswith("_ms") else json.dumps(value)
    return Request(keys, Campaign(name, constant(30_000), **meant))


def unfrozen(name: str, *sizes: str, **meant) -> Request:
    """A campaign over a fleet of which *sizes* cannot keep their memory."""
    request = asked(name, **meant)
    return replace(request, meant=replace(request.meant, cannot_freeze=frozenset(sizes)))


def rebooting(name: str, *sizes: str, length_ms: int = 1_500_000, request: Request | None = None, **meant) -> Request:
    """A campaign that reboots *sizes*, which cannot keep their memory, for *length_ms*; as *request*, where given."""
    request = request or asked(name, **meant)
    keys = {"cannot_freeze": '"reboot"', "reboot_length": f'"{length_ms}ms"'}
    more = {"cannot_freeze": frozenset(sizes), "reboot_lengths": constant(length_ms)}
    return Request(request.keys | keys, replace(request.meant, **more))


def of_family(name: str, family: str, sizes: tuple[str, ...], **meant) -> Request:
    """A campaign of 10 s, of 30 s for *sizes*, which are those of *family*."""
    request = asked(name, **meant)
    length = f'{{ min = "10s", max = "10s", by_family = {{ {family} = "30s" }} }}'
    lengths = {"lengths": constant(10_000), "family_lengths": dict.fromkeys(sizes, constant(30_000))}
    return Request(request.keys | {"length": length}, replace(request.meant, **lengths))


def rebooted(name: str, scheduled_ms: int, lead_ms: int = 0, request: Request | None = None, **meant) -> Request:
    """A campaign that reboots in a window of *scheduled_ms*, *lead_ms* after its notice; as *request*, where given."""
    request = request or asked(name, **meant)
    keys = {"kind": '"reboot"', "notice": f'"{lead_ms}ms"', "self_service": '{ length = "0s" }'}
    keys["scheduled"] = f'{{ gap = "0s", length = "{scheduled_ms}ms" }}'
    keys |= {key: '"0s"' for key in ("update_domain_gap",) if key not in request.keys}
    windows = Windows(lead_ms, 0, 0, scheduled_ms)
    return Request({"length": '"30s"'} | request.keys | keys, replace(request.meant, kind="reboot", windows=windows))


def tried(request: Request, failure: str, retry_timeout_ms: int) -> Request:
    """The same where the platform's tries fail, and are made again."""
    said = f', failure_ratio = {failure}, retry_timeout = "{retry_timeout_ms}ms" }}'
    keys = request.keys | {"scheduled": request.keys["scheduled"].removesuffix(" }") + said}
    return Request(keys, replace(request.meant, try_failure=failure, retry_timeout_ms=retry_timeout_ms))


def redeployed(request: Request) -> Request:
    """The same where VMs start anew on other hosts."""
    return Request(request.keys | {"kind": '"redeploy"'}, replace(request.meant, kind="redeploy"))


def served(
    window_ms: int,
    timing: str | int = "uniform",
    request: Request | None = None,
    scheduled_ms: int = 20 * HOUR_MS,
    **customers,
) -> Request:
    """A reboot that customers start in a window of *window_ms*, right before the other; an int: all that long after.

    Each decides for one VM and there is room for all, unless *customers* say otherwise.
    """
    asked_for = {"uptake": "1.0", "by": "vm", "spare": "1.0"} | customers
    keys = {"length": f'"{window_ms}ms"', "timing": json.dumps(timing)}
    table = timing
    if isinstance(timing, int):
        keys["timing"], table = f'{{ min = "{timing}ms", max = "{timing}ms" }}', constant(timing)
    elif timing in TIMINGS:
        keys["timing"], table = timing, TIMINGS[timing]()
    for key, value in asked_for.items():
        if key in ("uptake", "failure", "spare"):
            keys[f"{key}_ratio"] = value
        else:
            keys[key.removesuffix("_ms")] = f'"{value}ms"' if key.endswith("_ms") else json.dumps(value)
    of_windows = rebooted("a", scheduled_ms, request=request)
    spelt = f"{{ {', '.join(f'{key} = {value}' for key, value in keys.items())} }}"
    windows = Windows(0, window_ms, 0, scheduled_ms)
    meant = replace(of_windows.meant, windows=windows, self_service=SelfService(timing=table, **asked_for))
    return Request(of_windows.keys | {"self_service": spelt}, meant)


def capped(request: Request, per: str, vms_count: int) -> Request:
    """The same under a cap."""
    keys = request.keys | {"caps": f'[{{ per = "{per}", vms_count = {vms_count} }}]'}
    return Request(keys, replace(request.meant, caps=(Cap(per, vms_count),)))


def in_turn(request: Request) -> Request:
    """The same zone by zone."""
    return Request(request.keys | {"one_zone_at_a_time": "true"}, replace(request.meant, one_zone_at_a_time=True))


def planned(request: Request, *plan: tuple[oracle.Identity, int]) -> Request:
    """The same with customers who follow a *plan*, from the opening of their first window on."""
    keys = request.keys["self_service"].strip("{} ").split(", ")
    keys = [key for key in keys if key.split(" ")[0] not in ("uptake_ratio", "by", "timing")]
    later = tuple((vm, request.meant.start_ms + 1 + ms) for vm, ms in plan)
    spelt = f"{{ {', '.join([*keys, f'requests = {json.dumps(PLAN)}'])} }}"
    asks = replace(request.meant.self_service, uptake="0", requests=later)
    moved = {"start": f'"{request.meant.start_ms + 1}ms"', "self_service": spelt}
    meant = replace(request.meant, start_ms=request.meant.start_ms + 1, self_service=asks)
    return Request(request.keys | moved, meant)


def scene_of(vms: tuple[Vm, ...], requests: tuple[Request, ...], **more) -> Scene:
    """A scene of *vms* with the columns that they need."""
    columns = [fate for fate in ("created", "deleted") if any(getattr(vm, f"{fate}_ms") is not None for vm in vms)]
    columns += [
        name
        for name in ("application", "size", "cluster", "zone", "host", "subscription", "vcpus", "memory_gib")
        if any(getattr(vm, name) is not None for vm in vms)
    ]
    return Scene(vms, requests, seed=0, start=STARTS[0], columns=tuple(columns), **more)


AMERICAN = ("eastus", "westus", "westus3")
"""The first is paired with the two others, who are strangers to each other."""

HOSTS = (Vm(1, "italynorth", "s", 0, host="a"), Vm(2, "italynorth", "s", 1, host="b"), Vm(3, "italynorth", host="b"))

CROWD = (
    *(Vm(vm, "italynorth", "s", vm % 3) for vm in (9, 2, 7, 4)),
    *(Vm(vm, "italynorth", "r", vm % 2) for vm in (1, 8, 3)),
    *(Vm(vm, "italynorth") for vm in (6, 5, 10)),
)
"""Ten, whose ids are in another order than their rows."""
DAY_MS = 24 * HOUR_MS

SECOND_MS = 1_000
FOUR = (
    Vm(0, "italynorth", "s", 0),
    Vm(1, "italynorth", "s", 1),
    Vm(2, "italynorth"),
    Vm(3, "italynorth"),
)


def beside(*plan: tuple[int, int], name: str = "m", window_s: int = 1_000, scheduled_s: int = 1_000) -> Request:
    """Customers who ask by a *plan*, VM and second, for moves of 30 s; all of it from the first millisecond on."""
    request = served(window_s * SECOND_MS, "uniform", asked(name), scheduled_s * SECOND_MS, recycle_ms=0)
    return planned(request, *((vm, second * SECOND_MS) for vm, second in plan))


def frozen(name: str, start_s: int, **meant) -> Request:
    """A freeze of 30 s whose domains go in sequence, 5 s apart; asked for at a second from the first millisecond on."""
    told = {"update_domain_order": "sequential", "update_domain_gap_ms": 5_000, "start_ms": start_s * SECOND_MS + 1}
    return asked(name, **told | meant)


def short(name: str, start_s: int, **meant) -> Request:
    """The same of 1 ms: what it takes, it waits."""
    request = frozen(name, start_s, **meant)
    return Request(request.keys | {"length": '"1ms"'}, replace(request.meant, lengths=constant(1)))


def before_all(name: str, **meant) -> Request:
    """A reboot in a window of 10 s that nobody fits into, its customers' moves of 30 s outlasting it."""
    return planned(served(10_000, "uniform", asked(name, iterations_max=1, **meant), 10_000, recycle_ms=0), (2, 5_000))


BESIDE = {
    # At 20 s the freeze waits for two of four; nobody is moved from then on until it has done with them.
    "moves that a freeze waits for": (
        FOUR,
        (
            beside(*((0, 10), (2, 15), (3, 20), (3, 49), (3, 50), (1, 40), (1, 104), (1, 105))),
            frozen("f", 20, spread_ms=1),
        ),
    ),
    "moves that a freeze need not wait for": (FOUR, (beside((0, 10), (2, 40)), frozen("f", 40))),
    "moves that end when a spread does": (FOUR, (beside((2, 10), (0, 12)), frozen("f", 20, spread_ms=60_000))),
    "moves that deletions end": (
        (
            replace(FOUR[0], deleted_ms=30_001),
            FOUR[1],
            replace(FOUR[2], deleted_ms=35_001),
            Vm(4, "italynorth", "t", 0, deleted_ms=40_001),
            Vm(5, "italynorth", "t", 1),
            Vm(6, "italynorth", "u", 0, deleted_ms=40_002),
            Vm(7, "italynorth", "u", 1),
        ),
        (beside((0, 10), (2, 12), (4, 10), (6, 10)), frozen("f", 20)),
    ),
    "customers of two campaigns at once": (
        FOUR,
        (
            beside((0, 10), (1, 39), (1, 40), (2, 9)),
            beside((0, 10), (1, 10), (0, 40), (2, 39), (2, 40), name="n", window_s=3_000),
        ),
    ),
    # What came of the first is known when the second's window opens, and bars the third's.
    "customers of three campaigns, one after the other": (
        FOUR,
        (
            beside((0, 980), (1, 10)),
            beside((0, 1_009), (0, 1_010), (1, 2_985), name="n", window_s=3_000),
            beside((1, 3_010), (1, 3_015), (0, 1_012), (0, 4_000), name="o", window_s=5_000),
        ),
    ),
    "a reboot that waits for moves": (
        FOUR,
        (
            beside(*((0, 90), (2, 95), (3, 99), (1, 151), (1, 152))),
            rebooted("r", 60_000, 100_000, asked("r", start_ms=1, update_domain_order="sequential", iterations_max=1)),
        ),
    ),
    "a reboot that opens with its notice": (
        FOUR,
        (
            beside((0, 90), (2, 95), (3, 99), (1, 100)),
            rebooted("r", 90_000, 0, asked("r", start_ms=100_001, update_domain_order="sequential")),
        ),
    ),
    # The second domain is seen to be overdue when its turn comes, or when the window closes.
    **{
        f"an overdue VM is moved, {gap_ms} ms between domains": (
            FOUR[:2],
            (
                beside(*((1, second) for second in (129, 130, 139, 140))),
                rebooted(
                    "r",
                    40_000,
                    100_000,
                    asked("r", start_ms=start_ms, update_domain_order="sequential", update_domain_gap_ms=gap_ms),
                ),
            ),
        )
        for gap_ms, start_ms in ((0, 1), (1, 0), (0, 0), (10_000, 1))
    },
    # One single is too late for the window when its move is over, and may be moved again then; one is gone by then.
    "singles that moves make overdue": (
        (FOUR[2], replace(FOUR[3], deleted_ms=127_001)),
        (
            beside((2, 99), (3, 98)),
            beside((2, 128), (2, 129), (2, 130), name="n", window_s=3_000),
            rebooted("r", 55_000, 100_000, asked("r", start_ms=1, iterations_max=1)),
        ),
    ),
    "a move that bars a window from a freeze": (
        FOUR[2:],
        (before_all("m"), frozen("f", 11), rebooted("r", 40_000, 64_999, asked("r", start_ms=0))),
    ),
    "a move that just lets a freeze in": (
        FOUR[2:],
        (before_all("m"), frozen("f", 11), rebooted("r", 40_000, 65_001, asked("r", start_ms=0))),
    ),
    "a window after a freeze that waits": (
        FOUR[2:],
        (before_all("m"), frozen("f", 11), rebooted("r", 40_000, 20_000, asked("r", start_ms=22_000))),
    ),
    "room under a cap for who does not wait": (
        (*FOUR, Vm(4, "italynorth", "t", 1), Vm(5, "italynorth", "t", 0)),
        (
            beside((0, 5), (2, 5), (4, 9), (5, 9), (1, 7)),
            frozen("f", 10, caps=(Cap("region", 1),)),
        ),
    ),
    "a turn under a cap that waits for a move": (
        (*FOUR, Vm(4, "italynorth", "t", 1), Vm(5, "italynorth", "t", 0)),
        (beside((1, 9), (4, 8), (2, 9)), short("f", 10, caps=(Cap("region", 2),))),
    ),
    # Who waits for a move keeps what comes after it, and who has failed is not asked for again.
    "a plan beside waves": (
        (*FOUR, Vm(8, "polandcentral"), Vm(9, "polandcentral")),
        (
            beside((0, 10), (8, 40), (9, 45), (3, 20)),
            frozen("f", 20, waves=(("italynorth",), ("polandcentral",)), bake_ms=1_000),
        ),
    ),
    "customers who ask again while a freeze is at work": (
        CROWD,
        (
            served(6 * DAY_MS, 1_000, asked("m"), spare="0.5"),
            asked("f", start_ms=10_000, update_domain_gap_ms=10 * HOUR_MS, update_domain_order="sequential"),
        ),
    ),
    # Two of four have a slot at once; a day later the others ask again, just as for one of them another does.
    **{
        f"customers who ask again {place} others": (
            FOUR,
            [
                beside((3, 15), (2, 86_400), name="n", window_s=3 * 86_400),
                served(2 * DAY_MS, 1, asked("m"), spare="0.5", recycle_ms=0),
            ][::step],
        )
        for place, step in (("after", 1), ("before", -1))
    },
    "customers who come back beside a freeze": (
        CROWD,
        (
            served(
                HOUR_MS, 1, asked("m", reschedule_delay_ms=1), failure="0.5", scheduled_ms=HOUR_MS, recycle_ms=DAY_MS
            ),
            asked("f", start_ms=2 * HOUR_MS + 20_001, update_domain_gap_ms=1_000, update_domain_order="sequential"),
        ),
    ),
}
"""Campaigns that customers meet; the fleet and who asks for what."""


def lodged(*plan: tuple[int, int], window_s: int = 1_000, recycle_s: int = 0, **served_as) -> Request:
    """A reboot with customers who ask by a *plan*, VM and second, for moves of 30 s to other hosts."""
    keys = {"scheduled_ms": 1_000 * SECOND_MS, "recycle_ms": recycle_s * SECOND_MS} | served_as
    request = served(window_s * SECOND_MS, "uniform", **{"request": asked("m")} | keys)
    return planned(request, *((vm, second * SECOND_MS) for vm, second in plan))


def on_host(host: str, *ids: int, set_id: str | None = None, **more) -> tuple[Vm, ...]:
    """VMs of one vCPU on a host, those of a set in domains by their ids."""
    domain = {} if set_id is None else {"set": set_id}
    return tuple(
        Vm(vm, "italynorth", host=host, **domain, **({"update_domain": vm % 5} if set_id else {}), **more) for vm in ids
    )


def holding(host: str, vcpus: float | None, *, is_spare: bool = False, **more) -> Host:
    return Host(host, "italynorth", vcpus=vcpus, is_spare=is_spare, **more)


def spare(host: str, vcpus: float | None = 1, **more) -> Host:
    return holding(host, vcpus, is_spare=True, **more)


# From 1 ms on customers may ask, for 1,000 s; then come 1,000 s for the platform. A move takes 30 s.
LODGED = {
    "the first spare host by its id that has room": (
        on_host("m", 1, 2, 3, 4),
        (lodged((1, 10), (2, 20), (3, 30), (4, 40)),),
        (holding("m", 4), spare("z"), spare("b", 2), spare("é", 0.5), spare("a", 0.5)),
    ),
    "who asks at one instant goes by its id": (
        on_host("m", 9, 10, 2),
        (lodged((9, 10), (10, 10), (2, 10)),),
        (holding("m", 3), spare("a"), spare("b")),
    ),
    "memory is full, and vCPUs are not": (
        on_host("m", 1, 2, memory_gib=0.6),
        (lodged((1, 10), (2, 20)),),
        (holding("m", 2, memory_gib=2), spare("a", 2, memory_gib=1), spare("b", 2, memory_gib=1.2)),
    ),
    "tenths of a vCPU that just fit": (
        tuple(replace(vm, vcpus=0.1) for vm in on_host("m", *range(4))),
        (lodged(*((vm, 10 + vm) for vm in range(4))),),
        (holding("m", 4), spare("a", 0.3)),
    ),
    # VM 1 leaves its host at 40 s; updated that is at 100 s, when 2 may come, and not yet 3. So is 2's at 200 s.
    "a host is emptied, updated and gone to": (
        (*on_host("x", 1), *on_host("y", 2), *on_host("z", 3)),
        (lodged((1, 10), (2, 100), (3, 99), (3, 190), (3, 189), recycle_s=60),),
        (holding("x", 1), holding("y", 1), holding("z", 1), spare("a")),
    ),
    "a host that is emptied in two steps": (
        (*on_host("x", 1, 2), *on_host("y", 3)),
        (lodged((1, 10), (2, 50), (3, 79), (3, 80)),),
        (holding("x", 2), holding("y", 1), spare("a", 2)),
    ),
    "a host that a deletion empties after a move": (
        (*on_host("x", 1), *on_host("x", 2, deleted_ms=60_001), *on_host("y", 3)),
        (lodged((1, 10), (3, 59), (3, 60)),),
        (holding("x", 2), holding("y", 1), spare("a", 1)),
    ),
    "a host that deletions alone empty": (
        (*on_host("x", 1, 2, deleted_ms=10_001), *on_host("y", 3)),
        (lodged((3, 60)),),
        (holding("x", 2), holding("y", 1)),
    ),
    "a host to which somebody is still to come": (
        (*on_host("x", 1), *on_host("x", 2, created_ms=500_000, deleted_ms=600_000), *on_host("y", 3)),
        (lodged((1, 10), (3, 60), (3, 599), (3, 600)),),
        (holding("x", 2), holding("y", 1), spare("a", 1)),
    ),
    # At 20 s both its places are given back: that of its host, which it has not emptied by a move, and the spare one.
    "who is deleted during a move gives back two places": (
        (*on_host("x", 1, deleted_ms=20_001), *on_host("y", 2, 3)),
        (lodged((1, 10), (2, 19), (2, 20), (3, 100)),),
        (holding("x", 1), holding("y", 2), spare("a", 1)),
    ),
    "who is deleted as its move ends has emptied its host": (
        (*on_host("x", 1, deleted_ms=40_001), *on_host("y", 2, 3)),
        (lodged((1, 10), (2, 39), (2, 40), (3, 40)),),
        (holding("x", 1), holding("y", 2), spare("a", 1)),
    ),
    "who is deleted later leaves the host it went to": (
        (*on_host("x", 1, deleted_ms=300_001), *on_host("x", 4), *on_host("y", 2, 3)),
        (lodged((1, 10), (2, 299), (2, 300)),),
        (holding("x", 2), holding("y", 2), spare("a", 1)),
    ),
    "hosts of other clusters stand in for nobody": (
        (*on_host("x", 1, cluster="b"), *on_host("y", 2, cluster="a"), *on_host("z", 3)),
        (lodged((1, 10), (2, 10), (3, 10)),),
        (
            holding("x", 1, cluster="b"),
            holding("y", 1, cluster="a"),
            holding("z", 1),
            spare("s", 3, cluster="a"),
            spare("t", 3),
        ),
    ),
    "hosts that are given up are not gone to": (
        (*on_host("x", 1), *on_host("y", 2)),
        (redeployed(lodged((1, 10), (2, 100))),),
        (holding("x", 1), holding("y", 1), spare("a")),
    ),
    # The host of 1, who was moved in vain, is left out, whoever comes there; that of 4 is not.
    "a skipped VM has its host left out": (
        (
            *on_host("x", 1, 2, set_id="s"),
            *on_host("x", 3, created_ms=1_200_000),
            *on_host("x", 6, deleted_ms=900_000),
            *on_host("x", 7, deleted_ms=1_500_000),
            *on_host("x", 8, deleted_ms=1_000_001),  # as the window opens
            *on_host("y", 4, 5, set_id="s"),
        ),
        (lodged((1, 10), failure="1.0"),),
        (holding("x", 6), holding("y", 2), spare("a")),
    ),
    "who comes to a host left out before it would have been updated": (
        (*on_host("x", 1), *on_host("x", 2, created_ms=1_000_002), *on_host("y", 3)),
        (lodged((1, 10), failure="1.0", request=asked("m", spread_ms=500_000)),),
        (holding("x", 2), holding("y", 1), spare("a")),
    ),
    # Its move would end at 80 s; at 60 s it has gone, as the last from its host.
    "a host that is emptied by who is deleted during its move": (
        (*on_host("x", 1), *on_host("x", 2, deleted_ms=60_001), *on_host("y", 3)),
        (lodged((1, 10), (2, 50), (3, 60)),),
        (holding("x", 2), holding("y", 1), spare("z", 2)),
    ),
    "a redeploy that is tried in vain": (
        (*on_host("x", 1, 2), *on_host("y", 3)),
        (tried(redeployed(lodged((1, 10))), "0.5", 60_000),),
        (holding("x", 2), holding("y", 1), spare("a")),
    ),
    # And neither is it where failures may be tried again.
    "nobody is skipped who may try again": (
        on_host("x", 1, 2),
        (lodged((1, 10), failure="1.0", retries=True),),
        (holding("x", 2), spare("a")),
    ),
    # Who still moves when the window opens is waited for by its host, on which it is not hit.
    "a host waits for who still moves from it": (
        (*on_host("x", 1, 2, set_id="s"), *on_host("y", 3, 4, set_id="s"), *on_host("z", 5)),
        (lodged((1, 999), (5, 985)),),
        (holding("x", 2), holding("y", 2), holding("z", 1), spare("a", 2)),
    ),
    # Moved beside who fails, it goes on moving; nobody is left out with it.
    "who moves from a host that is left out": (
        (*on_host("x", *range(8), 9), *on_host("y", 8)),
        (lodged(*((vm, 990) for vm in range(8)), failure="0.5"),),
        (holding("x", 9), holding("y", 1), spare("a", 8)),
    ),
    # Two are overdue; in the second iteration the spare place is taken, and the emptied host is there, for one.
    "a second iteration finds places taken, and hosts emptied": (
        (*on_host("x", 1), *on_host("y", 2), *on_host("z", 3)),
        (
            lodged(
                (1, 10), (2, 20), (3, 2_010), (2, 2_020), (2, 2_040),
                scheduled_ms=1_000, request=asked("m", reschedule_delay_ms=999_000),
            ),
        ),
        (holding("x", 1), holding("y", 1), holding("z", 1), spare("a", 1)),
    ),
}  # fmt: skip


CASES = {
    **{case: scene_of(vms, requests, hosts=hosts) for case, (vms, requests, hosts) in LODGED.items()},
    **{case: scene_of(*scene) for case, scene in BESIDE.items()},
    "a move under way at the horizon": scene_of(FOUR[2:], (before_all("m"), frozen("f", 11)), horizon_ms=65_001),
    "a move under way at the horizon of a short freeze": scene_of(
        FOUR[2:], (before_all("m"), short("f", 11, update_domain_gap_ms=0)), horizon_ms=35_002
    ),
    "a move beyond the horizon of a short freeze": scene_of(
        FOUR[2:], (before_all("m"), short("f", 11, update_domain_gap_ms=0)), horizon_ms=35_001
    ),
    "a move beyond the horizon": scene_of(FOUR[2:], (before_all("m"), frozen("f", 11)), horizon_ms=65_000),
    # A slot comes back in the instant in which those who were refused ask again; two are refused to the end.
    "customers who ask at once for two slots": scene_of(
        CROWD, (served(6 * DAY_MS, 1_000, spare="0.2", recycle_ms=DAY_MS - 30_000),)
    ),
    "customers who would ask again when their window closes": scene_of(CROWD, (served(DAY_MS + 1, 1, spare="0.1"),)),
    # The others ask first in the instant in which those of the first are refused again.
    "customers who ask again beside others who ask first": scene_of(
        tuple(Vm(vm, "italynorth") for vm in range(40)),
        (served(DAY_MS + 2, '{ quantiles = [[0.5, "1ms"], [1.0, "10d"]] }', spare="0.2", recycle_ms=0),),
    ),
    "customers whose slots come back in another order than taken": scene_of(
        tuple(Vm(vm, "italynorth") for vm in range(60)),
        (
            served(
                20_000,
                request=Request(
                    asked("a").keys | {"length": '{ min = "1s", max = "9s" }'},
                    replace(asked("a").meant, lengths=uniform(1_000, 9_000)),
                ),
                spare="0.2",
                recycle_ms=0,
            ),
        ),
    ),
    "customers who fail and try again": scene_of(CROWD, (served(5 * DAY_MS, 1, failure="0.6", retries=True),)),
    "customers who fail and take no room by that": scene_of(
        CROWD, (served(5 * DAY_MS, 1, failure="0.6", retries=False, spare="0.3", recycle_ms=DAY_MS),)
    ),
    "customers whose moves go on when the window opens": scene_of(
        (*CROWD, Vm(11, "italynorth", "q", 0), Vm(12, "italynorth", "q", 1)),
        (served(HOUR_MS, HOUR_MS - 10_000, uptake="0.5"),),
    ),
    "customers whose moves end when the window opens": scene_of(
        CROWD, (served(HOUR_MS, HOUR_MS - 30_000, uptake="0.5"),)
    ),
    "customers who come and go as they ask": scene_of(
        (
            *(Vm(vm, "italynorth", "s", vm % 2, deleted_ms=ms) for vm, ms in enumerate((9_999, 10_000, 10_001))),
            *(Vm(vm, "italynorth", "r", vm % 2, deleted_ms=ms) for vm, ms in enumerate((39_999, 40_000, 40_001), 3)),
            *(Vm(vm, "italynorth", created_ms=ms) for vm, ms in enumerate((9_999, 10_000, 10_001), 6)),
        ),
        (served(HOUR_MS, 10_000),),
    ),
    # Of each two, one goes between the end of the window and that of the move that their unit waits for.
    "customers whose moves outlast the other window": scene_of(
        tuple(Vm(vm, "italynorth", f"s{vm // 2}", 0, deleted_ms=(None, HOUR_MS + 20_000)[vm % 2]) for vm in range(24)),
        (served(HOUR_MS, HOUR_MS - 5_000, scheduled_ms=15_000, uptake="0.5"),),
    ),
    "customers of some of all": scene_of(
        CROWD, (served(HOUR_MS, 1, asked("a", where={"vm": (10, 8, 6, 5)}), spare="0.2"),)
    ),
    "customers of the last minute": scene_of(CROWD, (served(DAY_MS, "last_minute"),)),
    "customers at work over a week": scene_of(
        tuple(Vm(vm, region) for vm, region in enumerate(("australiaeast", "italynorth") * 20)),
        (served(7 * DAY_MS, "working_hours"),),
    ),
    "customers with subscriptions": scene_of(
        tuple(replace(vm, subscription=("me", "you", "they", None)[vm.vm % 4]) for vm in CROWD),
        (served(HOUR_MS, uptake="0.5", by="subscription"),),
    ),
    "customers in clusters": scene_of(
        tuple(replace(vm, cluster=("x", "y", None)[vm.vm % 3]) for vm in CROWD), (served(HOUR_MS, 1, spare="0.3"),)
    ),
    # In time to the millisecond, and just not; a domain that fits with all its tries, and one that just does not.
    **{
        f"tries of 30 s until {timeout_ms} ms in {scheduled_ms} ms": scene_of(
            CROWD, (tried(rebooted("a", scheduled_ms), "1.0", timeout_ms),)
        )
        for timeout_ms, scheduled_ms in ((29_999, HOUR_MS), (30_000, HOUR_MS), (60_000, 180_000), (60_000, 179_999))
    },
    "tries of lengths of their own": scene_of(
        CROWD,
        (
            tried(
                rebooted(
                    "a",
                    HOUR_MS,
                    request=Request(
                        asked("a").keys | {"length": '{ min = "1s", max = "9s" }'},
                        replace(asked("a").meant, lengths=uniform(1_000, 9_000)),
                    ),
                ),
                "0.7",
                20_000,
            ),
        ),
    ),
    # The second try would begin at 30 s, the third, and last, at 60 s.
    "VMs that go while they are tried": scene_of(
        tuple(
            Vm(vm, "italynorth", f"s{vm // 3}", vm % 2, deleted_ms=ms)
            for vm, ms in enumerate((1, 29_999, 30_000, 30_001, 59_999, 60_000, 60_001, 89_999, 90_000, 90_001))
        ),
        (tried(rebooted("a", HOUR_MS), "1.0", 60_000),),
    ),
    "VMs that are moved in vain": scene_of(
        tuple(Vm(vm, "italynorth", "s", vm % 3, deleted_ms=(None, 45_000)[vm == 3]) for vm in range(9)),
        (redeployed(tried(rebooted("a", HOUR_MS), "0.6", 30_000)),),
    ),
    "tries along fault domains": scene_of(
        CROWD, (tried(rebooted("a", HOUR_MS, request=asked("a", walk_by="fault_domain")), "0.6", 30_000),)
    ),
    "tries beside customers": scene_of(
        CROWD, (tried(served(HOUR_MS, uptake="0.5", failure="0.5", retries=True), "0.5", 30_000),)
    ),
    "tries of families": scene_of(
        tuple(replace(vm, size=("Standard_D2_v2", "Standard_D2s_v3")[vm.vm % 2]) for vm in CROWD),
        (tried(rebooted("a", HOUR_MS, request=of_family("a", "Dv2", ("Standard_D2_v2",))), "0.6", 25_000),),
    ),
    "a thousand tries": scene_of(
        (Vm(1, "italynorth", "s", 0), Vm(2, "italynorth", "s", 1)),
        (
            tried(
                rebooted(
                    "a",
                    HOUR_MS,
                    request=Request(
                        asked("a").keys | {"length": '"1ms"'}, replace(asked("a").meant, lengths=constant(1))
                    ),
                ),
                "1.0",
                7_200_000,
            ),
        ),
    ),
    # Each attempt fails, and asks again a schedule later: whoever is left remains after the third, or the only one.
    "customers who fail in each iteration": scene_of(
        CROWD, (served(HOUR_MS, 1, asked("a", reschedule_delay_ms=1), failure="1.0", uptake="0.5"),)
    ),
    "customers who are not scheduled anew": scene_of(
        CROWD, (served(HOUR_MS, 1, asked("a", iterations_max=1), failure="1.0"),)
    ),
    # One asks in vain and not again, one twice, one too early and one too late; one asks in each iteration.
    "customers with a plan": scene_of(
        CROWD,
        (
            planned(
                served(3 * DAY_MS, spare="0.1", recycle_ms=DAY_MS, scheduled_ms=30_000),
                *((9, 0), (2, 1), (7, 1), (7, DAY_MS + 30_000), (4, -1), (1, 3 * DAY_MS), (8, 3 * DAY_MS - 1)),
                *((5, ms) for ms in (2 * DAY_MS, 17 * DAY_MS + 30_000, 18 * DAY_MS + 30_000)),
            ),
        ),
    ),
    # What the first iteration takes comes back in the second, and for the third.
    "slots that stay taken over iterations": scene_of(
        CROWD,
        (
            served(
                HOUR_MS,
                1,
                asked("a", iterations_max=3, reschedule_delay_ms=HOUR_MS),
                scheduled_ms=30_000,
                spare="0.2",
                recycle_ms=3 * HOUR_MS,
            ),
        ),
    ),
    "slots that come back as the next iteration asks": scene_of(
        CROWD,
        (
            served(
                HOUR_MS,
                1,
                asked("a", iterations_max=2, reschedule_delay_ms=HOUR_MS),
                scheduled_ms=30_000,
                spare="0.2",
                recycle_ms=2 * HOUR_MS,
            ),
        ),
    ),
    # One domain fits into each window; who goes in between is not waited for, and the order is drawn anew.
    "a set that takes four iterations": scene_of(
        tuple(Vm(vm, "italynorth", "s", vm, deleted_ms=(None, 45_000)[vm == 3]) for vm in range(6)),
        (rebooted("a", 30_000, 5_000, asked("a", iterations_max=4, reschedule_delay_ms=10_000)),),
    ),
    "iterations that nobody is left for": scene_of(
        tuple(Vm(vm, "italynorth", "s", vm, deleted_ms=40_000) for vm in range(3)),
        (rebooted("a", 30_000, 5_000, asked("a", reschedule_delay_ms=20_000)),),
    ),
    # The second wave goes while the first comes back, and a pair keeps their windows apart.
    "waves that do not wait for who comes back": scene_of(
        tuple(Vm(i, region, region, i // 3) for i, region in enumerate(AMERICAN * 2)),
        (
            rebooted(
                "a",
                30_000,
                request=asked(
                    "a",
                    waves=(("westus",), ("*",)),
                    pair_order=("westus",),
                    reschedule_delay_ms=0,
                    pair_lag_ms=1_000,
                ),
            ),
        ),
    ),
    "iterations that meet the horizon": scene_of(
        tuple(Vm(vm, "italynorth", "s", vm) for vm in range(3)),
        (rebooted("a", 30_000, 5_000, asked("a", iterations_max=9, reschedule_delay_ms=10_000)),),
        horizon_ms=79_999,
    ),
    "a campaign in between, that comes back as another waits": scene_of(
        tuple(Vm(vm, "italynorth", "s", vm) for vm in range(3)),
        (
            rebooted("a", 30_000, 0, asked("a", reschedule_delay_ms=0)),
            asked("b", start_ms=1),
            rebooted("c", 40_000, 0, asked("c", start_ms=2, reschedule_delay_ms=5_000)),
        ),
    ),
    # Whom the second could hit is gone when its region is free: it is over at once, and who comes later is updated, be
    # it on a host that is left alone.
    "nobody left on hosts, and one to come": scene_of(
        (
            Vm(1, "italynorth", host="a", size="Standard_D2s_v3", deleted_ms=5),
            Vm(2, "italynorth", host="b", size="Standard_M64s"),
            Vm(3, "italynorth", host="b", size="Standard_D2s_v3", created_ms=40_000),
            Vm(4, "italynorth", host="c", size="Standard_D2s_v3"),
        ),
        (
            unfrozen("a", "Standard_M64s", where={"vm": (4,)}),
            unfrozen("b", "Standard_M64s", where={"vm": (1, 2)}),
        ),
    ),
    # One at a time, each for 30 s: who has waited for the cap is overdue when the window closes.
    "a cap and a window that three of five fit": scene_of(
        tuple(Vm(i, "italynorth", f"s{i}", i) for i in range(5)),
        (capped(rebooted("a", 90_000), "region", 1),),
    ),
    # Each waits for the other set's; domain 1 of one of them would end after the window when its turn comes.
    "a domain that has waited for a cap has no room, nor any after it": scene_of(
        tuple(Vm(i, "italynorth", f"s{i % 2}", i // 2) for i in range(6)),
        (capped(rebooted("a", 119_999, update_domain_order="sequential"), "region", 1),),
    ),
    # Host b has no room once a is through: 3 is there by then, 4 not yet; c has, for it waits for nobody.
    "hosts that have no room in their window, and who comes to them": scene_of(
        (
            Vm(1, "italynorth", "s", 0, host="a"),
            Vm(2, "italynorth", "s", 1, host="b"),
            Vm(3, "italynorth", "s", 1, host="b", created_ms=29_999),
            Vm(4, "italynorth", host="b", created_ms=70_000),
            Vm(5, "italynorth", host="b", created_ms=20_000, deleted_ms=30_000),
            Vm(6, "italynorth", host="c", created_ms=50_000),
            Vm(7, "italynorth", host="c", deleted_ms=0),
            Vm(8, "italynorth", host="d"),
        ),
        (rebooted("a", 59_999, request=asked("a", iterations_max=2, reschedule_delay_ms=1)),),
    ),
    "a host passes another that has no room": scene_of(
        tuple(
            Vm(i, "italynorth", "s", i % 2, host=host, size=size)
            for i, (host, size) in enumerate(
                (("a", "Standard_D2_v2"), ("b", "Standard_D2_v2"), ("c", "Standard_D2s_v3"), ("d", "Standard_D2_v2"))
            )
        ),
        (rebooted("a", 29_999, request=of_family("a", "Dsv3", ("Standard_D2s_v3",))),),
    ),
    # Of each set somebody moves until 5 s after the opening: its unit waits and takes no room under the cap meanwhile.
    "moves that go on under a cap": scene_of(
        (*CROWD, *(Vm(i, "italynorth", "t", i % 3) for i in range(20, 26))),
        (capped(served(HOUR_MS, HOUR_MS - 25_000, uptake="0.5"), "region", 2),),
    ),
    "moves that go on under a cap when the window closes": scene_of(
        CROWD, (capped(served(HOUR_MS, HOUR_MS - 5_000, scheduled_ms=55_000, uptake="0.5"), "region", 3),)
    ),
    # The first VM of its unit is the one that moves: what is told of the unit is told of the next.
    "the first of a domain moves as the window opens": scene_of(
        tuple(Vm(i, "italynorth", "s", i // 2) for i in range(4)),
        (capped(planned(served(HOUR_MS, scheduled_ms=4 * DAY_MS, spare="0.5"), (0, HOUR_MS - 10_000)), "region", 2),),
    ),
    # Who comes to a host that has been tried in vain comes back with the others there; one is tried again later.
    "who comes to a host that has failed": scene_of(
        (
            *(Vm(i, "italynorth", "s", i % 3, host=f"h{i % 3}") for i in range(6)),
            *(Vm(6 + i, "italynorth", host=f"h{i}", created_ms=10 * HOUR_MS) for i in range(3)),
            *(Vm(9 + i, "italynorth", host=f"h{i}", created_ms=HOUR_MS, deleted_ms=11 * HOUR_MS) for i in range(3)),
        ),
        (
            tried(
                rebooted("a", 12 * HOUR_MS, request=asked("a", iterations_max=3, reschedule_delay_ms=HOUR_MS)), "0.7", 0
            ),
        ),
    ),
    # None of them is in a set: they start with their zone.
    "singles on hosts, zone by zone": scene_of(
        tuple(Vm(i, "italynorth", host=f"h{i}", zone=str(i)) for i in range(3)), (in_turn(rebooted("a", HOUR_MS)),)
    ),
    # Zones by bytes, those without one first; sets in several; who is gone in between costs no time.
    "zones that take turns": scene_of(
        (
            *(Vm(i, "italynorth", f"s{i % 2}", i % 3, zone=("2", "10", None)[i // 6]) for i in range(18)),
            *(Vm(20 + i, "italynorth", zone=zone) for i, zone in enumerate(("10", "2", "é", None))),
            *(Vm(30 + i, "italynorth", "t", i, zone="10", deleted_ms=95_000) for i in range(3)),
            Vm(40, "polandcentral"),
        ),
        (in_turn(rebooted("a", 10 * HOUR_MS, request=asked("a", spread_ms=10_000, update_domain_gap_ms=5_000))),),
    ),
    "zones that take turns, the largest domain first, until the window closes": scene_of(
        tuple(Vm(i, "italynorth", "s", i // 4 % 3, zone=str(i % 2)) for i in range(20)),
        (in_turn(rebooted("a", 100_000, request=asked("a", update_domain_order="largest_first", iterations_max=2))),),
    ),
    # The first zone is through with no unit that ends: its only VM is gone.
    "zones of which nobody is left in one": scene_of(
        (
            Vm(1, "italynorth", "s", 0, zone="a", deleted_ms=HOUR_MS + 10),
            Vm(2, "italynorth", "s", 0, zone="b"),
            Vm(3, "italynorth", zone="c"),
            Vm(4, "italynorth", "s", 0, zone="a", deleted_ms=HOUR_MS + 10),
        ),
        (in_turn(rebooted("a", HOUR_MS, HOUR_MS, asked("a", spread_ms=1_000))),),
    ),
    "zones of hosts that take turns": scene_of(
        tuple(
            Vm(i, "italynorth", f"s{i % 2}", i // 4 % 2, host=f"h{i // 2}", zone=("b", "a")[i // 8]) for i in range(16)
        ),
        (in_turn(capped(rebooted("a", HOUR_MS), "region", 3)),),
    ),
    "a window that a set just fits, and a single of its length": scene_of(
        (*(Vm(i, "italynorth", "s", i) for i in range(2)), Vm(9, "italynorth")), (rebooted("a", 60_000),)
    ),
    "a window too short for the second domain, and one too short for anybody": scene_of(
        (*(Vm(i, "italynorth", "s", i) for i in range(3)), Vm(9, "polandcentral")),
        (
            rebooted("a", 59_999, regions=("italynorth",)),
            rebooted("b", 29_999, 100_000, regions=("polandcentral",)),
        ),
    ),
    # The same under a cap that all of them fit under.
    "no room for a domain under a cap, and so for none after it": scene_of(
        tuple(
            Vm(i, "italynorth", "s", i, size=size)
            for i, size in enumerate(("Standard_D2_v2", "Standard_D2s_v3", "Standard_D2_v2"))
        ),
        (
            capped(
                rebooted(
                    "a", 30_000, request=of_family("a", "Dsv3", ("Standard_D2s_v3",), update_domain_order="sequential")
                ),
                "region",
                3,
            ),
        ),
    ),
    # Domain 1 would take 30 s and has no room; domain 2 would have, but does not pass it.
    "no room for a domain, and so for none after it": scene_of(
        tuple(
            Vm(i, "italynorth", "s", i, size=size)
            for i, size in enumerate(("Standard_D2_v2", "Standard_D2s_v3", "Standard_D2_v2"))
        ),
        (
            rebooted(
                "a", 30_000, request=of_family("a", "Dsv3", ("Standard_D2s_v3",), update_domain_order="sequential")
            ),
        ),
    ),
    # Domain 1 is seen to have no room at 30 s; so 3 and 4 are overdue then, whatever becomes of them.
    "deleted after there was no room": scene_of(
        (
            Vm(1, "italynorth", "s", 0),
            Vm(2, "italynorth", "s", 1, deleted_ms=30_001),
            Vm(3, "italynorth", "s", 1),
            Vm(4, "italynorth", "s", 2, deleted_ms=31_000),
            Vm(5, "italynorth", "s", 2, deleted_ms=30_000),
        ),
        (rebooted("a", 50_000, update_domain_order="sequential"),),
    ),
    # The gap outlasts the window: who is deleted before that closes is deleted, who is later is overdue.
    "deleted while the window closes": scene_of(
        (Vm(1, "italynorth", "s", 0), *(Vm(i, "italynorth", "s", 1, deleted_ms=29_997 + i) for i in (2, 3, 4))),
        (rebooted("a", 30_000, update_domain_gap_ms=10_000, update_domain_order="sequential"),),
    ),
    "windows of a pair, with a lag, and of a stranger": scene_of(
        tuple(Vm(i, region) for i, region in enumerate(AMERICAN)),
        (rebooted("a", 40_000, 5_000, pair_lag_ms=1_000), rebooted("b", 40_000, 50_000, pair_lag_ms=7)),
    ),
    # At 10 s it would meet the window that opens at 39,999 ms: it waits until that is over.
    "a freeze that would meet a window": scene_of(
        (Vm(1, "italynorth"),), (rebooted("a", 40_000, 39_999), asked("b", start_ms=10_000))
    ),
    "a freeze that just fits before a window": scene_of(
        (Vm(1, "italynorth"),), (rebooted("a", 40_000, 40_000), asked("b", start_ms=10_000))
    ),
    # When its VM goes, `b` could end before the window; it is looked at when `c`, asked for just then, has ended.
    "a freeze is looked at when something has ended": scene_of(
        (
            Vm(1, "italynorth", size="Standard_D2s_v3", deleted_ms=10_001),
            Vm(2, "italynorth", size="Standard_D2_v2"),
        ),
        (
            rebooted("a", 40_000, 35_000, where={"vm": (2,)}),
            of_family("b", "Dsv3", ("Standard_D2s_v3",), start_ms=10_000, where={"vm": (1, 2)}),
            of_family("c", "Dsv3", ("Standard_D2s_v3",), start_ms=10_001, where={"vm": (2,)}),
        ),
    ),
    "a window opens with its notice, and keeps a freeze out": scene_of(
        (Vm(1, "italynorth"), Vm(2, "italynorth", created_ms=40_000)), (rebooted("a", 40_000), asked("b"))
    ),
    "a window that would end after the horizon": scene_of(
        (Vm(1, "italynorth"), Vm(2, "polandcentral")),
        (
            rebooted("a", 40_000, regions=("italynorth",)),
            rebooted("c", 40_000, regions=("italynorth",)),
            rebooted("b", 40_000, 39_999, regions=("polandcentral",)),
        ),
        horizon_ms=79_999,
    ),
    # Nothing starves, and nothing waits in a circle: who waits holds nothing.
    "hosts that wait in a circle": scene_of(
        tuple(
            Vm(f"{host}{set_}{domain}", "italynorth", set_, domain, host=host)
            for host, carried in {
                "a": (("s", 0), ("t", 1)),
                "b": (("t", 0), ("u", 1)),
                "c": (("u", 0), ("s", 1)),
            }.items()
            for set_, domain in carried
        ),
        (
            asked("a", update_domain_gap_ms=20_000),
            asked("b", caps=(Cap("region", 1, counts_hosts=True),)),
            asked("c", spread_ms=1_000),
        ),
    ),
    "one set of 20 domains over all hosts, and all of it on one more": scene_of(
        tuple(Vm(i, "italynorth", "s", i % 20, host=f"h{i}" if i < 40 else "all") for i in range(60)),
        (
            asked("a"),
            asked("b", host_order="random", update_domain_gap_ms=1),
            asked("c", host_order="most_vms_first", caps=(Cap("region", 2),)),
        ),
    ),
    "one host for everything": scene_of(
        tuple(Vm(i, "italynorth", i % 4 if i < 20 else None, i % 5 if i < 20 else None, host="h") for i in range(24)),
        (asked("a"), asked("b", caps=(Cap("region", 1), Cap("region", 1, counts_hosts=True)), update_domain_gap_ms=5)),
    ),
    # Host c has lost its VM when it is tried at 10 s, but its turn is to come; so another may still come to it.
    "nobody on a host before its turn, and one to come": scene_of(
        (
            Vm(1, "italynorth", "s", 0, host="a"),
            Vm(2, "italynorth", "s", 0, host="b"),
            Vm(3, "italynorth", "s", 1, host="c", deleted_ms=10_000),
            Vm(4, "italynorth", "s", 1, host="c", created_ms=20_000),
        ),
        (asked("a", caps=(Cap("region", 1, counts_hosts=True),)),),
    ),
    # At 30 s hosts a and c may start, but for the VM that came to a: it claims a set of c's.
    "who comes while its host waits claims for it": scene_of(
        (
            Vm(1, "italynorth", "s", 0, host="a"),
            Vm(2, "italynorth", "t", 1, host="a", created_ms=10_000),
            *(Vm(i, "italynorth", "s", 1, host="b") for i in (3, 4)),
            Vm(5, "italynorth", "u", 1, host="c"),
            Vm(6, "italynorth", "t", 0, host="c"),
            *(Vm(i, "italynorth", "u", 0, host="d") for i in (7, 8, 9)),
        ),
        (asked("a", host_order="most_vms_first"),),
    ),
    "every host has a domain of every set": scene_of(
        tuple(
            Vm(10 * host + set_, "italynorth", set_, (host + set_) % 5, host=host)
            for host in range(5)
            for set_ in range(5)
        ),
        (asked("a"), asked("b", host_order="fewest_claims_first", update_domain_gap_ms=30_000, spread_ms=60_000)),
    ),
    # The third comes while its host waits for the gap, and claims for it a set that nobody of the host was in.
    "who comes while its host waits is hit with it": scene_of(
        (*HOSTS, Vm(4, "italynorth", "t", 0, host="a", created_ms=40_000), Vm(5, "italynorth", "t", 1, host="b")),
        (asked("a", update_domain_gap_ms=20_000),),
    ),
    "who comes when its host is done is not": scene_of(
        (*HOSTS, Vm(4, "italynorth", "s", 0, host="a", created_ms=100_000), Vm(5, "italynorth", host="c")),
        (asked("a", update_domain_gap_ms=20_000),),
    ),
    "who comes while its host waits, and cannot be frozen, is left alone": scene_of(
        (
            Vm(1, "italynorth", "s", 0, host="a"),
            Vm(2, "italynorth", "s", 1, host="b"),
            Vm(3, "italynorth", host="b", size="Standard_M64s", created_ms=20_000),
            Vm(4, "italynorth", host="a", size="Standard_M64s", created_ms=20_000),
        ),
        (unfrozen("a", "Standard_M64s", update_domain_gap_ms=20_000),),
    ),
    "a host with two domains of a set is alone on it": scene_of(
        (*HOSTS, Vm(4, "italynorth", "s", 2, host="b"), Vm(5, "italynorth", "s", 1, host="c")), (asked("a"),)
    ),
    # Of the second set, one of the two that sit together is gone when the region starts: it has its guarantee.
    "sets that share a host, and one that did": scene_of(
        (
            Vm(1, "italynorth", "s", 0, host="a"),
            Vm(2, "italynorth", "s", 1, host="a"),
            Vm(3, "italynorth", "t", 0, host="b", deleted_ms=1),
            Vm(4, "italynorth", "t", 1, host="b"),
            Vm(5, "italynorth", "t", 0, host="c"),
        ),
        (asked("a", start_ms=1),),
    ),
    "a host that hits more than a cap of VMs, and one that counts as one": scene_of(
        (*HOSTS, Vm(4, "italynorth", host="c"), Vm(5, "italynorth", host="c")),
        (asked("a", caps=(Cap("region", 1),)), asked("b", caps=(Cap("region", 1, counts_hosts=True),))),
    ),
    # The set is two units long: too long for the horizon. Its wave is over at once, and the next one's stage, of the
    # first campaign, goes before that of the second.
    "no room, and the next wave at the same instant": scene_of(
        (Vm(1, "italynorth", "s", 0), Vm(2, "italynorth", "s", 1), Vm(3, "polandcentral")),
        (asked("a", waves=(("italynorth",), ("polandcentral",))), asked("b")),
        horizon_ms=40_000,
    ),
    # At 30 s all three could start. westus has lost its VM and is free at once; so eastus is next, not westus3.
    "a stage free at once lets the next in order start": scene_of(
        (*(Vm(i, region) for i, region in enumerate(AMERICAN)), Vm(3, "westus", deleted_ms=10), Vm(4, "westus3")),
        (
            asked("a", where={"vm": (1, 4)}),
            asked("b", where={"vm": (0, 2, 3)}, start_ms=1, pair_order=("westus", "eastus", "westus3")),
        ),
    ),
    # The same, and with the westus stage the wave is over: eastus is released within that instant.
    "a stage free at once releases the next wave": scene_of(
        (*(Vm(i, region) for i, region in enumerate(AMERICAN)), Vm(3, "westus", deleted_ms=10), Vm(4, "westus3")),
        (
            asked("a", where={"vm": (1, 4)}),
            asked("b", where={"vm": (0, 3)}, start_ms=1, waves=(("westus",), ("eastus",))),
            asked("c", where={"vm": (2,)}, start_ms=30_000),
        ),
    ),
    # Released at once, westeurope goes first, and finds no room; only then northeurope keeps it out. So VM 3 is overdue
    # though it is gone when northeurope's lag is over.
    "no room for the first of a wave, whose pair then starts": scene_of(
        (
            *(Vm(i, "westeurope", "s", i) for i in range(3)),
            Vm(3, "westeurope", deleted_ms=60_000),
            Vm(4, "northeurope"),
            *(Vm(i, "italynorth", "t", i) for i in (5, 6)),
        ),
        (asked("a", waves=(("italynorth",), ("*",)), pair_lag_ms=86_400_000, pair_order="most_vms_first"),),
        horizon_ms=30_000,
    ),
    # italynorth has only who comes later; westeurope finds no room, which releases its pair within the instant.
    "no room for a wave, which releases the pair": scene_of(
        (
            Vm(1, "italynorth", created_ms=10),
            *(Vm(i, "westeurope", "s", i) for i in (2, 3)),
            Vm(4, "northeurope"),
        ),
        (asked("b", waves=(("italynorth",), ("westeurope",), ("*",))),),
        horizon_ms=59_999,
    ),
    # Nothing of "b" gets in between what the waves of "a" try at the start: westeurope has no room for "a", before
    # "b" takes it.
    "waves of two campaigns at one instant": scene_of(
        (*(Vm(i, "westeurope", "s", i) for i in range(3)), Vm(3, "westeurope"), Vm(4, "italynorth")),
        (
            asked("a", where={"vm": (0, 1, 2, 4)}, waves=(("spaincentral",), ("westeurope",), ("*",))),
            asked("b", where={"vm": (3,)}, waves=(("spaincentral",), ("westeurope",), ("*",))),
        ),
        horizon_ms=60_000,
    ),
    "gone in the instant in which its domain would start": scene_of(
        (Vm(1, "italynorth", "s", 0), Vm(2, "italynorth", "s", 1, deleted_ms=30_000), Vm(3, "italynorth", "s", 2)),
        (asked("a", update_domain_order="sequential"),),
    ),
    # When the lag is over northeurope has nobody left, and so needs no time; but the horizon has passed.
    "nobody is left after the horizon": scene_of(
        (
            *(Vm(i, "northeurope", "s", 0, deleted_ms=1) for i in (1, 2)),
            Vm(3, "westeurope"),
            Vm(4, "northeurope", created_ms=10, deleted_ms=20),
            Vm(5, "northeurope", created_ms=10, size="Standard_M64s"),
        ),
        (
            unfrozen("a", "Standard_M64s"),
            unfrozen("b", "Standard_M64s", waves=(("northeurope",), ("*",)), pair_lag_ms=1),
        ),
        horizon_ms=30_000,
    ),
    # Each set has lost one of two VMs at 10 s: then whichever of them waits needs room for one, and there is that.
    # On hosts of one domain each these start in turn, the large ones when the cap is free; those of two do not.
    "sets that go in turn beside others that do not, under one cap": scene_of(
        tuple(
            vm
            for pair in range(8)
            for vm in (
                *on_host(f"a{pair}", *range(100 * pair, 100 * pair + 20, 5), set_id=f"s{pair}"),
                *on_host(f"b{pair}", 100 * pair + 1, set_id=f"s{pair}"),
                *on_host(f"c{pair}", 100 * pair + 50, 100 * pair + 51, set_id=f"t{pair}"),
                *on_host(f"d{pair}", 100 * pair + 52, 100 * pair + 53, set_id=f"t{pair}"),
            )
        ),
        (asked("a", caps=(Cap("region", 5),), update_domain_gap_ms=1_000),),
    ),
    "room for what is left": scene_of(
        tuple(
            Vm(2 * i + j, "italynorth", name, 0, deleted_ms=10_000 if j else None)
            for i, name in enumerate("xy")
            for j in (0, 1)
        ),
        (asked("a", caps=(Cap("region", 3),)),),
    ),
    # While the first domain of one of them waits for room its second loses a VM, and would have room.
    "no room before its turn": scene_of(
        tuple(
            Vm(5 * i + j, "italynorth", name, int(j > 2), deleted_ms=10_000 if j == 4 else None)
            for i, name in enumerate("xy")
            for j in range(5)
        ),
        (asked("a", update_domain_order="sequential", caps=(Cap("region", 4),)),),
    ),
    # What follows waits for the longer of the two.
    "a wave of a short stage and a long one": scene_of(
        (
            Vm(1, "italynorth"),
            *(Vm(2 + i, "spaincentral", "s", i) for i in range(3)),
            Vm(5, "polandcentral"),
        ),
        (asked("a", waves=(("italynorth", "spaincentral"), ("*",)), bake_ms=1_000),),
    ),
    # Only the second VM of the set stands where the others do.
    "a cap met by second VMs alone": scene_of(
        (
            *(Vm(i, "italynorth", "s", 0, zone=zone) for i, zone in enumerate("ab")),
            *(Vm(2 + i, "italynorth", zone="b") for i in range(3)),
        ),
        (asked("a", caps=(Cap("zone", 1),)),),
    ),
    "room for two at one instant": scene_of(
        tuple(Vm(i, "italynorth") for i in range(7)), (asked("a", caps=(Cap("region", 2),)),)
    ),
    # The set that waits has lost the VM that takes 30 s.
    "held under a cap for who is left": scene_of(
        tuple(
            Vm(2 * i + j, "italynorth", name, 0, deleted_ms=5_000 if j else None, size=size)
            for i, name in enumerate("xy")
            for j, size in enumerate(("Standard_D2_v2", "Standard_D2s_v3"))
        ),
        (of_family("a", "Dsv3", ("Standard_D2s_v3",), caps=(Cap("region", 1),)),),
    ),
    "a spread that the horizon cuts off": scene_of(
        (Vm(1, "italynorth"),), (asked("a", spread_ms=SPAN_MS_MAX),), horizon_ms=HOUR_MS
    ),
    # Pair groups that wait for each other in one campaign are independent in the other.
    "waves of one campaign couple the regions of another": scene_of(
        (Vm(1, "northeurope"), Vm(2, "westeurope"), Vm(3, "italynorth")),
        (asked("a"), asked("b", waves=(("italynorth",), ("northeurope", "westeurope")))),
    ),
    "a campaign that selects nobody": scene_of(
        (Vm(1, "italynorth", application="shop"),),
        (asked("a", where={"region": ("polandcentral",)}), asked("b")),
        quorum=Quorum("application", "majority"),
    ),
    # The second domain would start at 90 s; its VM goes at 60 s, and that is when the next campaign may start.
    "the last domain is lost in the gap": scene_of(
        (Vm(1, "italynorth", "s", 0), Vm(2, "italynorth", "s", 1, deleted_ms=60_000)),
        (asked("a", update_domain_order="sequential", update_domain_gap_ms=60_000), asked("b")),
    ),
    "all are lost before the spread lets them start": scene_of(
        (Vm(1, "italynorth", deleted_ms=1), Vm(2, "italynorth", deleted_ms=1), Vm(3, "polandcentral")),
        (asked("a", spread_ms=3_600_000), asked("b")),
    ),
    "created and deleted in the instant of the start": scene_of(
        (
            *(Vm(i, "italynorth", created_ms=at_ms) for i, at_ms in enumerate((6, 7, 8))),
            *(Vm(i, "italynorth", deleted_ms=at_ms) for i, at_ms in enumerate((6, 7, 8), 3)),
        ),
        (asked("a", start_ms=7),),
    ),
    # Judged when its wave is released, it has nobody to hit, and northeurope need not wait for the lag.
    "a wave whose VM is gone when it is released": scene_of(
        (Vm(1, "italynorth"), Vm(2, "westeurope", deleted_ms=10), Vm(3, "northeurope")),
        (
            asked("a", regions=("italynorth", "westeurope"), waves=(("italynorth",), ("*",)), pair_lag_ms=100_000),
            asked("b", regions=("northeurope",), start_ms=40_000),
        ),
    ),
    # Two in northeurope, but only one of them selected: it goes first.
    "pairs are ordered by those selected": scene_of(
        (*(Vm(i, "northeurope") for i in range(3)), *(Vm(i, "westeurope") for i in (3, 4))),
        (asked("a", where={"vm": (0, 3, 4)}),),
    ),
    "no room for who is not there yet, and could not be frozen": scene_of(
        (
            Vm(1, "italynorth", "s", 0, size="Standard_D2s_v3"),
            Vm(2, "italynorth", "s", 1, size="Standard_D2s_v3"),
            Vm(3, "italynorth", size="Standard_M64s", created_ms=10),
        ),
        (unfrozen("a", "Standard_M64s"),),
        horizon_ms=40_000,
    ),
    # Set b is in two clusters, c in one and in none, even where only VMs of one are hit: both walk alone.
    "sets in step in several clusters": scene_of(
        (
            *(Vm(i, "italynorth", "a", i, cluster="x") for i in range(3)),
            *(Vm(i, "italynorth", "b", i % 2, cluster=cluster) for i, cluster in enumerate(("y", "x", "x"), 3)),
            *(Vm(i, "italynorth", "c", i % 2, cluster=cluster) for i, cluster in enumerate(("x", None, "x"), 6)),
            *(Vm(i, "italynorth", "d", i, cluster="x") for i in range(9, 12)),
            Vm(12, "italynorth", cluster="x"),
        ),
        (asked("a", sets_in_step=True, where={"vm": (0, 1, 2, 4, 5, 6, 8, 9, 12)}),),
    ),
    # The set is out while the two of domain 0 are, of which one is paused for 30 s and the other down for 40.
    "who cannot be frozen reboots": scene_of(
        (
            Vm(1, "italynorth", "s", 0, size="Standard_M64s"),
            Vm(2, "italynorth", "s", 0, size="Standard_D2s_v3"),
            Vm(3, "italynorth", "s", 1, size=None),
            Vm(4, "italynorth", size="Standard_M64s"),
            Vm(5, "italynorth", size="Standard_M64s", deleted_ms=39_999),
            Vm(6, "italynorth", size="Standard_M64s", deleted_ms=40_000),
            Vm(7, "italynorth", size="Standard_M64s", created_ms=1),
            Vm(8, "polandcentral", size="Standard_M64s"),
            Vm(9, "westeurope", size="Standard_D2s_v3"),
        ),
        (rebooting("a", "Standard_M64s", length_ms=40_000), unfrozen("b", "Standard_M64s", start_ms=1)),
    ),
    # Whatever its family's pause is; and a unit is as long as the longest of both.
    "who cannot be frozen reboots, whatever its family": scene_of(
        tuple(Vm(i, "italynorth", "s", i // 2, size=("Standard_M64s", "Standard_D2s_v3")[i % 2]) for i in range(4)),
        (
            rebooting("a", "Standard_M64s", length_ms=9_000, request=of_family("a", "M", ("Standard_M64s",))),
            rebooting("b", "Standard_M64s", length_ms=60_000, request=of_family("b", "Dsv3", ("Standard_D2s_v3",))),
        ),
    ),
    # Hosts a and b share a set: b waits until the one of a that reboots is back, not only the one that was frozen.
    "a host with who reboots beside who is frozen": scene_of(
        (
            Vm(1, "italynorth", "s", 0, host="a", size="Standard_D2s_v3"),
            Vm(2, "italynorth", host="a", size="Standard_M64s"),
            Vm(3, "italynorth", "s", 1, host="b", size="Standard_D2s_v3"),
            Vm(4, "italynorth", host="b", size="Standard_M64s", created_ms=20_000),
            Vm(5, "italynorth", host="b", size="Standard_M64s", deleted_ms=41_000),
        ),
        (rebooting("a", "Standard_M64s", length_ms=40_000), rebooting("b", "Standard_M64s", length_ms=1)),
    ),
    # Were all of it paused it would be over in ten minutes, however many domains there are, and so before the window.
    "a freeze whose reboot would meet a window": scene_of(
        (Vm(1, "italynorth", size="Standard_M64s"),),
        (
            rebooted("a", 40_000, 700_000),
            rebooting("b", "Standard_M64s", length_ms=1_000_000, request=asked("b", start_ms=10_000)),
        ),
    ),
    "a quorum of more VMs than there are": scene_of(
        (Vm(1, "italynorth", "s", 0), Vm(2, "italynorth", "s", 1)), (asked("a"),), quorum=Quorum("set", 3)
    ),
    # From 10 s on, while the first domain is out, there are fewer than make one.
    "a quorum of more VMs than are left": scene_of(
        tuple(Vm(i, "italynorth", "s", i, deleted_ms=10_000 if i == 2 else None) for i in range(3)),
        (asked("a", update_domain_order="sequential"),),
        quorum=Quorum("set", 3),
    ),
    "a quorum of a third of four": scene_of(
        tuple(Vm(i, "italynorth", "s", i // 3) for i in range(4)), (asked("a"),), quorum=Quorum("set", 0.34)
    ),
    "a set that grows while it is out": scene_of(
        (
            Vm(1, "italynorth", "s", 0),
            Vm(2, "italynorth", "s", 0),
            Vm(3, "italynorth", "s", 0, created_ms=10_000, deleted_ms=25_000),
        ),
        (asked("a"),),
        quorum=Quorum("set", "majority"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_engine_equals_the_oracle_where_drawing_seldom_gets(case: str):
    assert_equals_the_oracle(CASES[case], found(CASES[case]))


def test_tries_are_told_apart_in_every_part_of_a_region(monkeypatch):
    monkeypatch.setattr(order, "PART_ROWS", 4)
    scene = CASES["tries beside customers"]

    assert_equals_the_oracle(scene, found(scene))


@pytest.mark.parametrize("case", ["moves that a freeze waits for", "customers who ask again while a freeze is at work"])
def test_parts_of_a_region_meet_its_customers_together(case: str):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "PART_ROWS", 1)
        run = found(CASES[case], threads=2)

    assert_equals_the_oracle(CASES[case], run)


@given(scenes(features=()))
def test_the_engine_equals_the_oracle_event_for_event(scene: Scene):
    assert_equals_the_oracle(scene, found(scene))


@pytest.mark.parametrize("hunt", HUNTS)
@fewer
@given(data=st.data())
def test_the_engine_equals_the_oracle_in_every_feature(data, hunt: str):
    scene = data.draw(scenes(features=HUNTS[hunt]))

    assert_equals_the_oracle(scene, found(scene))


@pytest.mark.parametrize("hunt", ["plain", "walks", "hosts and caps", "tries and lifetimes", "everything"])
@fewer
@given(data=st.data())
def test_blocks_of_a_region_equal_the_oracle_too(data, hunt: str):
    scene = data.draw(scenes(features=HUNTS[hunt]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "PART_ROWS", 4)  # sets of more than that make a part of their own
        run = found(scene, threads=2)

    assert_equals_the_oracle(scene, run)


def test_reboots_in_several_blocks_of_a_region_equal_the_oracle_too():
    # Without caps each part of the fleet is a block, with them one block is written part by part.
    sizes = ("Standard_M64s", "Standard_D2s_v3", "Standard_D2s_v3")
    vms = tuple(Vm(i, "italynorth", f"s{i // 4}", i % 4, size=sizes[i % 3]) for i in range(16))
    capped = asked("b", caps=(Cap("region", 3),))
    scene = scene_of(vms, (rebooting("a", "Standard_M64s"), rebooting("b", "Standard_M64s", request=capped)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "PART_ROWS", 4)
        run = found(scene, threads=2)

    assert_equals_the_oracle(scene, run)


@fewer
@given(scenes())
def test_the_fleet_of_a_run_has_its_domains_filled_in(scene: Scene):
    run = found(scene)

    filled_in = [replace(vm, set_cluster=None) for vm in oracle.as_prepared(scene.vms)]  # which is in no file
    assert sorted(run.vms, key=lambda vm: oracle.rank(vm.vm)) == sorted(filled_in, key=lambda vm: oracle.rank(vm.vm))


@fewer
@given(scenes())
def test_switched_off_outputs_leave_the_stages_as_they_are(scene: Scene):
    silent = scene.toml() + "\n[outputs]\nevents = false\noutcomes = false\n"
    with run_of(scene, silent) as run:
        assert not (run.path / "events").exists()
        assert not (run.path / "outcomes").exists()
        assert stages_of(run, scene) == by_region(scene.log().stages)


@fewer
@given(scenes(), st.data())
def test_the_order_of_rows_does_not_matter(scene: Scene, data):
    shuffled = replace(scene, vms=tuple(data.draw(st.permutations(scene.vms))))

    assert found(shuffled).digest == found(scene).digest


@fewer
@given(scenes())
def test_the_number_of_threads_does_not_matter(scene: Scene):
    assert found(scene, threads=2).digest == found(scene, threads=1).digest


@fewer
@given(
    # Whoever shares a host, a cap or a window with it may be another's fate.
    scenes(
        regions=("italynorth",),
        campaign_count_max=1,
        without=("lifetimes", "horizon", "clusters", "caps", "hosts", "windows"),
    ),
    st.data(),
)
def test_a_vm_less_leaves_the_draws_of_the_others_alone(scene: Scene, data):
    assume(len(scene.vms) > 1)
    gone = data.draw(st.sampled_from(scene.vms))
    rest = tuple(vm for vm in scene.vms if vm != gone)
    assume(can_resolve(scene, rest))
    before, after = found(scene), found(replace(scene, vms=rest))

    # In its own set the others keep their lengths; they may move up, or, by default, to another domain.
    assert {event.vm: event.duration_ms for event in after.events} == {
        event.vm: event.duration_ms for event in before.events if event.vm != gone.vm
    }
    elsewhere = [vm for vm in rest if vm.set is None or vm.set != gone.set]
    assert after.events_of(elsewhere) == before.events_of(elsewhere)


@fewer
@given(scenes(without=("where", "hosts")), st.data())
def test_vms_that_nobody_selects_change_nothing_for_others(scene: Scene, data):
    everybody = json.dumps([vm.vm for vm in scene.vms], ensure_ascii=False)
    asked = [replace(each, keys=each.keys | {"where": f"{{ vm = {everybody} }}"}) for each in scene.requests]
    name = "more-{}".format if isinstance(scene.vms[0].vm, str) else (1000).__add__
    hosts = [vm for vm in scene.vms if vm.set is not None and has_own_domains(vm)] or [Vm(0, scene.vms[0].region)]
    strangers = [replace(data.draw(st.sampled_from(hosts)), vm=name(0)), replace(scene.vms[0], vm=name(1), set=None)]
    strangers[1] = replace(strangers[1], update_domain=None, fault_domain=None)
    alone = replace(scene, requests=tuple(asked))
    before, after = found(alone), found(replace(alone, vms=(*scene.vms, *strangers)))

    assert after.events == before.events
    assert after.outcomes == before.outcomes
    assert after.stages == before.stages


# Room and caps are shares of all VMs whatever their dates, and any VM may be the one that has a zone.
@fewer
@given(scenes(without=("caps", "customers", "zones")), st.data())
def test_a_vm_gone_before_all_starts_changes_nothing_for_others(scene: Scene, data):
    # Counts of VMs order the stages whatever their dates: so by name.
    by_name = [replace(request, keys=request.keys | {"pair_order": '"name"'}) for request in scene.requests]
    start_ms = min(request.meant.start_ms for request in scene.requests)
    gone = data.draw(st.sampled_from([vm for vm in scene.vms if has_own_domains(vm)] or [scene.vms[0]]))
    assume(has_own_domains(gone))
    late = replace(gone, created_ms=None, deleted_ms=start_ms - data.draw(st.sampled_from([0, 1])))
    columns = tuple(dict.fromkeys((*scene.columns, "created", "deleted")))
    rest = tuple(vm for vm in scene.vms if vm != gone)
    assume(rest and can_resolve(scene, rest))
    without = replace(scene, vms=rest, requests=tuple(by_name), columns=columns)
    after, before = found(without), found(replace(without, vms=(*rest, late)))

    assert after.events == before.events
    assert after.outcomes == [outcome for outcome in before.outcomes if outcome.vm != gone.vm]
    assert all(outcome.outcome == "deleted" for outcome in before.outcomes if outcome.vm == gone.vm)


@fewer
@given(scenes())
def test_all_dates_and_the_start_later_by_a_span_change_nothing_else(scene: Scene):
    before, after = found(scene), found(replace(scene, start=scene.start + dt.timedelta(days=40, milliseconds=7)))

    assert after.events == before.events
    assert after.outcomes == before.outcomes
    assert after.stages == before.stages


@fewer
@given(scenes())
def test_selecting_everybody_is_not_selecting(scene: Scene):
    everybody = f"{{ region = {json.dumps(sorted({vm.region for vm in scene.vms}))} }}"
    asked = [replace(each, keys={"where": everybody} | each.keys) for each in scene.requests]

    assert_same_but_for_the_digest(found(scene), found(replace(scene, requests=tuple(asked))))


@fewer
@given(scenes(without=("waves",)))
def test_one_wave_of_everything_is_no_wave(scene: Scene):
    everywhere = '["*"]'
    asked = [
        replace(each, keys=each.keys | {"waves": f"[{each.keys.get('regions', everywhere)}]"})
        for each in scene.requests
    ]

    assert_same_but_for_the_digest(found(scene), found(replace(scene, requests=tuple(asked))))


@fewer
@given(scenes(without=("clusters", "scale_set", "hosts")))
def test_sets_in_step_alone_in_their_clusters_walk_as_ever(scene: Scene):
    # Sets are words here, and each is the only one of a cluster of its name: so both draw alike.
    vms = tuple(vm if vm.set is None else replace(vm, set=f"set {vm.set}", cluster=f"set {vm.set}") for vm in scene.vms)
    apart = replace(scene, vms=vms, columns=(*scene.columns, "cluster"))
    asked = [replace(each, keys=each.keys | {"sets_in_step": "true"}) for each in scene.requests]

    assert_same_but_for_the_digest(found(apart), found(replace(apart, requests=tuple(asked))))


@fewer
@given(scenes(features=("sizes", "lifetimes")))
def test_a_family_with_the_length_of_all_changes_nothing(scene: Scene):
    assume(any(vm.size is not None for vm in scene.vms))
    asked = []
    for each in scene.requests:
        length = each.keys.get("length", '"30s"')
        table = f"{{ min = {length}, max = {length}" if length[0] == '"' else length.removesuffix(" }")
        families = f"by_family = {{ Dsv3 = {length}, M = {length} }}"
        asked.append(replace(each, keys=each.keys | {"length": f"{table}, {families} }}"}))

    assert_same_but_for_the_digest(found(scene), found(replace(scene, requests=tuple(asked))))


@fewer
@given(scenes(without=("horizon",)))
def test_a_horizon_that_never_comes_changes_nothing(scene: Scene):
    assume(all(stage.free_ms is None or stage.free_ms <= SPAN_MS_MAX for stage in scene.log().stages))

    assert_same_but_for_the_digest(found(scene), found(replace(scene, horizon_ms=SPAN_MS_MAX)))


@fewer
@given(scenes(without=("waves",)))
def test_a_region_more_without_a_pair_changes_nothing_for_others(scene: Scene):
    assume(not any(cap.counts_hosts for request in scene.requests for cap in request.meant.caps))  # it has no hosts
    before, after = found(scene), found(with_unrelated_region(scene))

    assert after.events_of(scene.vms) == before.events
    assert [stage for stage in after.stages if stage.region != UNRELATED_REGION] == before.stages


@fewer
@given(scenes(campaign_count_max=2, without=("waves", "horizon")), st.data())
def test_a_campaign_more_in_an_unrelated_region_leaves_others_alone(scene: Scene, data):
    wider = with_unrelated_region(scene)
    elsewhere = data.draw(requests("inserted", [UNRELATED_REGION], ["names"], vms=wider.vms))
    place = data.draw(st.sampled_from(range(len(scene.requests) + 1)))
    inserted = replace(wider, requests=(*scene.requests[:place], elsewhere, *scene.requests[place:]))
    before, after = found(wider), found(inserted)

    assert after.events_of(scene.vms) == before.events_of(scene.vms)
    assert any(event.campaign == "inserted" for event in after.events)


@fewer
@given(scenes(without=("families", "horizon", "windows")), st.sampled_from([2, 7, 1000]))
def test_all_spans_longer_by_a_factor_make_all_instants_later_by_it(scene: Scene, factor: int):
    assume(all(abs(ms) * factor < SPAN_MS_MAX for vm in scene.vms for ms in (vm.created_ms, vm.deleted_ms) if ms))
    plain, scaled = (
        replace(
            scene,
            vms=tuple(
                replace(
                    vm,
                    created_ms=vm.created_ms and vm.created_ms * times,
                    deleted_ms=vm.deleted_ms and vm.deleted_ms * times,
                )
                for vm in scene.vms
            ),
            requests=tuple(in_proportion(request, times) for request in scene.requests),
        )
        for times in (1, factor)
    )
    before, after = found(plain), found(scaled)

    assert after.events == [
        replace(event, start_ms=event.start_ms * factor, duration_ms=event.duration_ms * factor)
        for event in before.events
    ]
    assert [outcome.outcome for outcome in after.outcomes] == [outcome.outcome for outcome in before.outcomes]


def assert_same_but_for_the_digest(one: Findings, other: Findings) -> None:
    assert replace(one, digest="") == replace(other, digest="")


def has_own_domains(vm: Vm) -> bool:
    """Whether the domains of its set do not hang on who else is in it."""
    return vm.set is None or None not in (vm.update_domain, vm.fault_domain)


def can_resolve(scene: Scene, rest: Sequence[Vm]) -> bool:
    """Whether *scene* over *rest* is sound input: what it names is still there."""
    families = [request.keys["length"] for request in scene.requests if "by_family" in request.keys.get("length", "")]
    return not families or any(vm.size is not None for vm in rest)


def with_unrelated_region(scene: Scene) -> Scene:
    """*scene* with a set and a single in a region nothing is paired with."""
    name = "more-{}".format if isinstance(scene.vms[0].vm, str) else (1000).__add__
    has_domains = any(vm.update_domain is not None for vm in scene.vms)
    has_word_sets = any(isinstance(vm.set, str) for vm in scene.vms)
    more = [Vm(name(0), UNRELATED_REGION)]
    if scene.has_set_column:
        set_id = "more" if has_word_sets else 1000
        more += [Vm(name(i), UNRELATED_REGION, set_id, i if has_domains else None) for i in (1, 2)]
    return replace(scene, vms=(*scene.vms, *more))


def in_proportion(request: Request, factor: int) -> Request:
    """*request* at constant length and without spread, all its spans longer by *factor*."""
    spans = {key: SPANS[key][span.strip('"')] for key, span in request.keys.items() if key in SPANS} | {"spread": 0}
    if "bake" in request.keys:
        spans["bake"] = BAKES[request.keys["bake"].strip('"')]
    if request.meant.reboot_lengths is not None:
        spans["reboot_length"] = request.meant.reboot_lengths[0]
    longer = {key: f'"{ms * factor}ms"' for key, ms in spans.items()}
    length_ms = LENGTHS[request.keys.get("length", '"30s"')]()[0]
    return replace(request, keys=request.keys | longer | {"length": f'"{length_ms * factor}ms"'})
