"""The engine against the oracle, event for event, and against itself under changes that must not matter.

Every run made here is also put before the verifier.
"""

import tempfile
from collections import defaultdict
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
from tests.oracle import Event, Outcome, StageSpan, Vm
from tests.strategies import LENGTHS, SPANS, UNRELATED_REGION, Request, Scene, requests, scenes

# `deep` takes thousands of examples, each of them a run or two with their verdicts.
pytestmark = pytest.mark.timeout(7200)

# Where there is a file system in memory, the fsyncs of hundreds of runs cost nothing.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None

fewer = settings(max_examples=max(1, settings.default.max_examples // 4))
"""For properties that take two runs an example."""


@dataclass(frozen=True)
class Findings:
    """A finished run as the oracle would tell it, rows in a stable order."""

    digest: str
    vms: list[Vm]
    events: list[Event]
    outcomes: list[Outcome]
    stages: list[StageSpan]
    no_guarantee: set[tuple[str, oracle.Identity, str]]

    def events_of(self, vms: Sequence[Vm]) -> list[Event]:
        kept = {vm.vm for vm in vms}
        return [event for event in self.events if event.vm in kept]


def by_vm(rows):
    return sorted(rows, key=lambda row: (row.campaign, oracle.rank(row.vm)))


def by_region(stages):
    return sorted(stages, key=lambda stage: (stage.campaign, stage.region))


@contextmanager
def run_of(scene: Scene, toml: str | None = None, **asked) -> Iterator[Run]:
    """A verified run of *scene* in a folder of its own."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        run = fleetsim.run(
            scene.table(),
            toml or scene.toml(),
            Path(folder) / "run",
            **{"pairs": scene.write_pairs(Path(folder)), "threads": 1} | asked,
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
    vms = [
        Vm(row["vm"], row["region"], row.get("set"), row.get("update_domain")) for row in fleet.iter_rows(named=True)
    ]
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
    )


def summary_of(run: Run) -> dict[tuple[str, str, str], float]:
    """(campaign, region, figure) -> value, of the figures that are one value a stage."""
    return {
        (row["campaign"], row["region"], row["figure"]): row["value"]
        for row in pl.read_parquet(run.path / "summary.parquet").iter_rows(named=True)
        if row["bin_start_ms"] is None
    }


def stages_of(run: Run, scene: Scene) -> list[StageSpan]:
    """The stages, and of `summary` what says when each was asked for and when its region was taken."""
    summary = summary_of(run)
    return by_region(
        StageSpan(
            campaign=row["campaign"],
            region=row["region"],
            asked_ms=summary[row["campaign"], row["region"], "asked_ms"],
            start_ms=summary[row["campaign"], row["region"], "start_ms"],
            first_start_ms=ms_since(scene, row["first_start_at"]),
            last_end_ms=ms_since(scene, row["last_end_at"]),
            updated_count=row["updated_count"],
            iteration=row["iteration"],
        )
        for row in pl.read_parquet(run.path / "stages.parquet").iter_rows(named=True)
    )


def parts_of(folder: Path) -> pl.DataFrame:
    paths = sorted(folder.glob("region=*/part-*.parquet"))
    return pl.concat([pl.read_parquet(path, hive_partitioning=False) for path in paths])


def ms_since(scene: Scene, instant) -> int:
    """Whole ms since scenario.start."""
    span = instant - scene.start
    return span.days * 86_400_000 + span.seconds * 1_000 + span.microseconds // 1_000


@given(scenes())
def test_the_engine_equals_the_oracle_event_for_event(scene: Scene):
    run, expected = found(scene), scene.log()

    assert run.events == by_vm(expected.events)
    assert run.outcomes == by_vm(expected.outcomes)
    assert run.stages == by_region(expected.stages)


@fewer
@given(scenes())
def test_blocks_of_a_region_equal_the_oracle_too(scene: Scene):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "PART_ROWS", 4)  # sets of more than that make a part of their own
        run = found(scene, threads=2)
    expected = scene.log()

    assert run.events == by_vm(expected.events)
    assert run.outcomes == by_vm(expected.outcomes)
    assert run.stages == by_region(expected.stages)


@fewer
@given(scenes())
def test_the_fleet_of_a_run_has_its_domains_filled_in(scene: Scene):
    run = found(scene)

    assert sorted(run.vms, key=lambda vm: oracle.rank(vm.vm)) == sorted(
        oracle.with_domains(scene.vms), key=lambda vm: oracle.rank(vm.vm)
    )
    worked_on = {stage.region for stage in run.stages}
    assert run.no_guarantee == {row for row in oracle.no_guarantee(scene.vms) if row[0] in worked_on}


@fewer
@given(scenes())
def test_the_summary_takes_apart_the_walk_that_ended_last(scene: Scene):
    with run_of(scene) as run:
        summary, vms = summary_of(run), read(run, scene).vms
    log = scene.log()
    asked = {request.meant.name: request.meant for request in scene.requests}
    happened = {(event.campaign, event.vm): event for event in log.events}
    for stage in log.stages:
        gap_ms, work_ms = asked[stage.campaign].update_domain_gap_ms, asked[stage.campaign].work_ms
        walks = defaultdict(list)
        for vm_row, vm in enumerate(vms):
            if vm.region == stage.region:
                walks[("set", vm.set) if vm.set is not None else ("single", vm.vm)].append((vm_row, vm))
        spans = []
        for walk in walks.values():
            events = [happened[stage.campaign, vm.vm] for _, vm in walk]
            end_ms = max(event.start_ms + max(event.duration_ms, work_ms) for event in events)
            spans.append((end_ms, -walk[0][0], min(event.start_ms for event in events), walk))
        # Of several that end last together, the first in the fleet.
        end_ms, _, first_start_ms, walk = max(spans, key=lambda span: span[:2])
        domain_count = len({vm.update_domain for _, vm in walk})
        gaps_ms = (domain_count - 1) * gap_ms
        expected = {
            "last_vm_row": walk[0][0],
            "last_domain_count": domain_count,
            "last_spread_ms": first_start_ms - stage.start_ms,
            "last_gap_ms": gaps_ms,
            "last_work_ms": end_ms - first_start_ms - gaps_ms,
        }
        assert {figure: summary[stage.campaign, stage.region, figure] for figure in expected} == expected


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
@given(scenes(regions=("italynorth",), campaign_count_max=1), st.data())
def test_a_vm_less_leaves_the_draws_of_the_others_alone(scene: Scene, data):
    assume(len(scene.vms) > 1)
    gone = data.draw(st.sampled_from(scene.vms))
    rest = tuple(vm for vm in scene.vms if vm != gone)
    before, after = found(scene), found(replace(scene, vms=rest))

    # In its own set the others keep their lengths; they may move up, or, by default, to another domain.
    assert {event.vm: event.duration_ms for event in after.events} == {
        event.vm: event.duration_ms for event in before.events if event.vm != gone.vm
    }
    elsewhere = [vm for vm in rest if vm.set is None or vm.set != gone.set]
    assert after.events_of(elsewhere) == before.events_of(elsewhere)


@fewer
@given(scenes())
def test_a_region_more_without_a_pair_changes_nothing_for_others(scene: Scene):
    before, after = found(scene), found(with_unrelated_region(scene))

    assert after.events_of(scene.vms) == before.events
    assert [stage for stage in after.stages if stage.region != UNRELATED_REGION] == before.stages


@fewer
@given(scenes(campaign_count_max=2), st.data())
def test_a_campaign_more_in_an_unrelated_region_leaves_others_alone(scene: Scene, data):
    wider = with_unrelated_region(scene)
    elsewhere = data.draw(requests("inserted", [UNRELATED_REGION], ["names"]))
    place = data.draw(st.sampled_from(range(len(scene.requests) + 1)))
    inserted = replace(wider, requests=(*scene.requests[:place], elsewhere, *scene.requests[place:]))
    before, after = found(wider), found(inserted)

    assert after.events_of(scene.vms) == before.events_of(scene.vms)
    assert any(event.campaign == "inserted" for event in after.events)


@fewer
@given(scenes(), st.sampled_from([2, 7, 1000]))
def test_all_spans_longer_by_a_factor_make_all_instants_later_by_it(scene: Scene, factor: int):
    plain, scaled = (
        replace(scene, requests=tuple(in_proportion(request, times) for request in scene.requests))
        for times in (1, factor)
    )
    before, after = found(plain), found(scaled)

    assert after.events == [
        replace(event, start_ms=event.start_ms * factor, duration_ms=event.duration_ms * factor)
        for event in before.events
    ]


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
    spans = {key: SPANS[key][span.strip('"')] for key, span in request.keys.items() if key in SPANS}
    longer = {key: f'"{ms * factor}ms"' for key, ms in (spans | {"spread": 0}).items()}
    length_ms = LENGTHS[request.keys.get("length", '"30s"')]()[0]
    return replace(request, keys=request.keys | longer | {"length": f'"{length_ms * factor}ms"'})
