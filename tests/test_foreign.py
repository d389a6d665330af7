"""Logs of any origin: a sound one is kept whatever its form, a faulty one is broken, an unreadable one is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from click.testing import CliRunner

import fleetsim
from fleetsim.cli import cli
from fleetsim.errors import InputError
from fleetsim.fleet import prepare
from fleetsim.verifier import Verdict

SCENARIO = """
name = "december"
start = 2026-12-01T22:00:00Z
seed = 1

[[campaign]]
name = "hypervisor"
regions = ["Europe"]
length = { min = "6s", max = "9s" }
update_domain_gap = "10min"
spread = "2h"

[[campaign]]
name = "agent"
start = "10s"
length = "10s"
pair_lag = "1h"
"""
ONE_CAMPAIGN = SCENARIO.partition('\n\n[[campaign]]\nname = "agent"')[0]
KEPT = "fleet R2 R4 R6 R26 R27 R28 R29 R30 R31 R32 R33 R34 R35 R36 R39 R40 R42 R44 R45 R48 R49 R53 R54 R55 R57 R70 R77"
NOT_TOLD = "files R1 R3 R5 R7 R8 R12 R13 R15 R17 R21 R22 R24 R25 R38 R41 R43 R50 R51 R74 R76 R78"


def fleet(ids: type = str) -> pl.DataFrame:
    """Two paired regions: in each two sets of four VMs in given domains, and a single."""
    rows = [
        {"region": region, "set": f"{region}-{place}", "update_domain": domain}
        for region in ("westeurope", "northeurope")
        for place in range(2)
        for domain in (0, 0, 1, 2)
    ]
    rows += [{"region": region, "set": None, "update_domain": None} for region in ("westeurope", "northeurope")]
    vms = [f"vm-{row:02}" if ids is str else 7 * row for row in range(len(rows))]
    return pl.DataFrame(rows).with_columns(vm=pl.Series(vms))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return fleetsim.run(fleet(), SCENARIO, tmp_path / "run", threads=1).path


def log_of(run: Path) -> pl.DataFrame:
    """What another simulator would have logged of *run*, in any order."""
    events = fleetsim.read_events(run).select("campaign", "vm", "start_at", "duration_ms").collect()
    return events.with_columns(pl.col("campaign").cast(pl.String)).sample(fraction=1, shuffle=True, seed=5)


def as_text(log: pl.DataFrame) -> pl.DataFrame:
    return log.with_columns(pl.col("start_at").dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"))


def statuses(verdict: Verdict, status: str) -> list[str]:
    return [rule.rule for rule in verdict.rules if rule.status == status]


FORMS: dict[str, Callable[[pl.DataFrame, Path], Any]] = {
    "CSV": lambda log, folder: as_text(log).write_csv(folder / "log.csv") or folder / "log.csv",
    "Parquet": lambda log, folder: log.write_parquet(folder / "log.parquet") or folder / "log.parquet",
    "Arrow": lambda log, folder: log.write_ipc(folder / "log.arrow") or str(folder / "log.arrow"),
    "Polars": lambda log, folder: log,
    "pyarrow": lambda log, folder: log.to_arrow(),
    "pandas": lambda log, folder: log.to_pandas(),
    "DuckDB": lambda log, folder: duckdb.sql("SELECT * FROM log").to_arrow_table(),
    "local time": lambda log, folder: log.with_columns(pl.col("start_at").dt.convert_time_zone("Asia/Tokyo")),
    "microseconds": lambda log, folder: log.with_columns(pl.col("start_at").dt.cast_time_unit("us")),
    "no zone": lambda log, folder: log.with_columns(pl.col("start_at").dt.replace_time_zone(None)),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_sound_log_is_kept_in_any_form(tmp_path: Path, run: Path, form: str) -> None:
    verdict = fleetsim.verify_events(FORMS[form](log_of(run), tmp_path), fleet(), SCENARIO)

    assert statuses(verdict, "broken") == []
    assert " ".join(statuses(verdict, "kept")) == KEPT
    assert " ".join(statuses(verdict, "not checked")) == NOT_TOLD
    reasons = {rule.rule: rule.reason for rule in verdict.rules}
    assert reasons["R5"] == "a log tells no outcomes"
    assert reasons["R41"] == "the log has no column 'effects'"
    assert next(rule.row_count for rule in verdict.rules if rule.rule == "R6") == 36


def test_whole_numbers_as_vms_are_known_in_text_too(tmp_path: Path) -> None:
    done = fleetsim.run(fleet(int), SCENARIO, tmp_path / "run", threads=1)
    as_text(log_of(done.path)).write_csv(tmp_path / "log.csv")

    assert fleetsim.verify_events(tmp_path / "log.csv", fleet(int), SCENARIO).ok


def test_rows_of_a_prepared_fleet_may_stand_for_vms(tmp_path: Path, run: Path) -> None:
    prepare(fleet(), tmp_path / "prepared")
    events = fleetsim.read_events(run).select("campaign", "vm_row", "start_at", "duration_ms", "kind").collect()

    assert fleetsim.verify_events(events, tmp_path / "prepared", SCENARIO).ok
    with pytest.raises(InputError, match="column 'vm_row' needs a prepared fleet, got another"):
        fleetsim.verify_events(events, fleet(), SCENARIO)


def test_a_run_that_keeps_no_events_may_still_be_logged(run: Path) -> None:
    scenario = SCENARIO.replace("[[campaign]]", "[outputs]\nevents = false\n\n[[campaign]]", 1)

    assert fleetsim.verify_events(log_of(run), fleet(), scenario).ok


def test_one_campaign_need_not_be_named(tmp_path: Path) -> None:
    done = fleetsim.run(fleet(), ONE_CAMPAIGN, tmp_path / "run", threads=1)

    assert fleetsim.verify_events(log_of(done.path).drop("campaign"), fleet(), ONE_CAMPAIGN).ok


def of_campaign(name: str) -> pl.Expr:
    return pl.col("campaign") == name


def later(where: pl.Expr, ms: int) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Impacts *where* start *ms* later."""
    shifted = pl.col("start_at") + pl.duration(milliseconds=ms, time_unit="ms")
    return lambda log: log.with_columns(start_at=pl.when(where).then(shifted).otherwise("start_at"))


def all_at(where: pl.Expr, start_at: pl.Expr) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Impacts *where* all start at one instant."""
    return lambda log: log.with_columns(start_at=pl.when(where).then(start_at).otherwise("start_at"))


def first_of(where: pl.Expr) -> pl.Expr:
    return pl.col("start_at").filter(where).min()


AGENT, HYPERVISOR = of_campaign("agent"), of_campaign("hypervisor")
IN_SET = pl.col("vm").is_in(["vm-00", "vm-01", "vm-02", "vm-03"])
IN_WEST = pl.col("vm").is_in([f"vm-{row:02}" for row in (*range(8), 16)])
LAST = HYPERVISOR & IN_SET & (pl.col("start_at") == pl.col("start_at").filter(HYPERVISOR & IN_SET).max())
BEFORE = pl.lit("2026-12-01T21:00:00Z").str.to_datetime(time_unit="ms", time_zone="UTC")
LONGER = pl.when(AGENT).then(10_001).otherwise("duration_ms")
FAULTS: dict[str, tuple[str, Callable[[pl.DataFrame], pl.DataFrame]]] = {
    "left out": ("R29", lambda log: log.filter(~(AGENT & (pl.col("vm") == "vm-05")))),
    "a region left out": ("R29", lambda log: log.filter(~(AGENT & (pl.col("vm") < "vm-08")))),
    "twice": ("R6", lambda log: pl.concat([log, later(pl.lit(value=True), 20_000)(log.head(1))])),
    "too long": ("R42", lambda log: log.with_columns(duration_ms=LONGER)),
    "gap too long": ("R40", later(LAST, 5_000)),
    "gap too short": ("R28", later(LAST, -5_000)),
    "all at once": ("R34", all_at(AGENT & IN_SET, first_of(AGENT & IN_SET))),
    "both regions": ("R49", all_at(AGENT, first_of(AGENT))),
    "too early": ("R4", all_at(AGENT, BEFORE)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_a_log_is_found(run: Path, name: str) -> None:
    rule, fault = FAULTS[name]

    verdict = fleetsim.verify_events(fault(log_of(run)), fleet(), SCENARIO)

    assert rule in statuses(verdict, "broken")
    assert not verdict.ok


ON_HOSTS = ONE_CAMPAIGN.replace('spread = "2h"', 'caps = [{ per = "region", hosts_count = 2 }]')


def on_hosts() -> pl.DataFrame:
    """The fleet with every other VM on the next of eight hosts, in each of which there are several domains."""
    return fleet().with_columns(host=pl.col("region") + "-" + (pl.int_range(pl.len()) % 4).cast(pl.String))


HOST = pl.col("vm").is_in(["vm-00", "vm-04", "vm-16"])  # of westeurope
HOSTED_FAULTS: dict[str, tuple[str, Callable[[pl.DataFrame], pl.DataFrame]]] = {
    "a VM left out": ("R44", lambda log: log.filter(pl.col("vm") != "vm-04")),
    "a host left out": ("R44", lambda log: log.filter(~HOST)),
    "a region left out": ("R44", lambda log: log.filter(pl.col("vm") >= "vm-08", pl.col("vm") != "vm-16")),
    "a VM on its own": ("R55", later(pl.col("vm") == "vm-04", 1)),
    "all hosts at once": ("R57", all_at(IN_WEST, first_of(IN_WEST))),
    "more hosts than the cap": ("R70", all_at(IN_WEST, first_of(IN_WEST))),
    "before the gap is over": ("R28", later(pl.col("start_at") == pl.col("start_at").filter(IN_WEST).max(), -600_000)),
}


@pytest.mark.parametrize("name", HOSTED_FAULTS)
def test_a_fault_in_a_log_of_hosts_is_found(tmp_path: Path, name: str) -> None:
    rule, fault = HOSTED_FAULTS[name]
    log = log_of(fleetsim.run(on_hosts(), ON_HOSTS, tmp_path / "run", threads=1).path)

    assert fleetsim.verify_events(log, on_hosts(), ON_HOSTS).ok
    assert rule in statuses(fleetsim.verify_events(fault(log), on_hosts(), ON_HOSTS), "broken")


def test_effects_and_words_are_checked_where_a_log_has_them(run: Path) -> None:
    log = log_of(run).with_columns(effects=pl.lit(17), kind=pl.lit("reboot"))

    verdict = fleetsim.verify_events(log, fleet(), SCENARIO)

    assert set(statuses(verdict, "broken")) == {"R4", "R41"}
    assert "R43" in statuses(verdict, "kept")


@pytest.mark.parametrize("has_kind", [True, False])
def test_who_cannot_be_frozen_reboots_where_no_log_tells_the_kind(tmp_path: Path, has_kind: bool) -> None:
    sizes = ["Standard_M64s", "Standard_D2s_v3", None] * 6
    vms = fleet().with_columns(size=pl.Series(sizes))
    freeze = f"{ONE_CAMPAIGN}\ncannot_freeze = 'reboot'"
    done = fleetsim.run(vms, freeze, tmp_path / "run", threads=1)
    log = fleetsim.read_events(done.path).select("vm", "start_at", "duration_ms", "kind").collect()
    told = log if has_kind else log.drop("kind")

    assert log["kind"].cast(pl.String).value_counts().sort("count").rows() == [("reboot", 6), ("freeze", 12)]
    assert statuses(fleetsim.verify_events(told, vms, freeze), "broken") == []
    # Told as freezes they are of the wrong kind; and where such VMs are to be left alone they are hit.
    assert statuses(fleetsim.verify_events(told.with_columns(kind=pl.lit("freeze")), vms, freeze), "broken") == ["R45"]
    assert "R45" in statuses(fleetsim.verify_events(told, vms, ONE_CAMPAIGN), "broken")


def test_scenario_with_lives_and_a_horizon(tmp_path: Path) -> None:
    """VMs that come and go, and regions that are overdue, are no faults of a log that says nothing of them."""
    start = pl.lit("2026-12-01T22:00:00Z").str.to_datetime(time_unit="ms", time_zone="UTC")
    lives = fleet().with_columns(
        deleted=pl.when(pl.col("vm") == "vm-02").then(start + pl.duration(minutes=5)),
        created=pl.when(pl.col("vm") == "vm-09").then(start + pl.duration(days=9)),
    )
    scenario = ONE_CAMPAIGN.replace("seed = 1", 'seed = 1\nhorizon = "3h"')
    done = fleetsim.run(lives, scenario, tmp_path / "run", threads=1)
    log = log_of(done.path)

    assert 0 < len(log) < 18
    assert fleetsim.verify_events(log, lives, scenario).ok


def changed(**columns: pl.Expr) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda log: log.with_columns(**columns)


def renamed(column: str, old: str, new: str | None) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return changed(**{column: pl.col(column).replace({old: new})})


ZONED = "column 'start_at' must be an instant with a zone, in whole milliseconds, got "
WHOLE = "column 'duration_ms' must be a whole number from 0 to 4,233,600,000, got "
UNKNOWN = r"must be a campaign of the scenario \(hypervisor, agent\), got 'agents' in row .* and 13 more; did you mean"
MICROSECOND = pl.duration(microseconds=1)
REFUSED: dict[str, tuple[Callable[[pl.DataFrame], Any], str]] = {
    "no vm": (lambda log: log.drop("vm"), "must have a column 'vm', or 'vm_row', got campaign, start_at, duration_ms"),
    "other name": (lambda log: log.rename({"start_at": "Start_At"}), "; rename 'Start_At' to 'start_at'"),
    "no campaign": (lambda log: log.drop("campaign"), "must have a column 'campaign', for the scenario has several"),
    "unknown VM": (
        renamed("vm", "vm-00", "vm-0"),
        "must be a VM of the fleet, got 'vm-0' in row .*; did you mean 'vm-",
    ),
    "empty VM": (renamed("vm", "vm-00", None), "column 'vm' must be a VM of the fleet, got nothing in row"),
    "unknown campaign": (renamed("campaign", "agent", "agents"), UNKNOWN),
    "no instant": (changed(start_at=pl.lit("tomorrow")), f"{ZONED}'tomorrow' in row 1"),
    "no zone": (lambda log: as_text(log).with_columns(pl.col("start_at").str.strip_suffix("Z")), f"{ZONED}'2026-12-0"),
    "finer": (changed(start_at=pl.col("start_at").dt.cast_time_unit("us") + MICROSECOND), f"{ZONED}'2026-12-0"),
    "a number": (changed(start_at=pl.lit(5)), f"{ZONED}'5' in row 1"),
    "no length": (changed(duration_ms=pl.lit(None, pl.Int64)), f"{WHOLE}nothing in row 1"),
    "half a length": (changed(duration_ms=pl.lit(7.5)), f"{WHOLE}'7.5' in row 1"),
    "negative": (changed(duration_ms=pl.lit(-1)), f"{WHOLE}'-1' in row 1"),
    "unknown kind": (changed(kind=pl.lit("frieze")), "column 'kind' must be one of no_impact, freeze"),
    "effects": (changed(effects=pl.lit(32)), "column 'effects' must be a whole number from 0 to 31"),
    "no table": (lambda log: 5, "events: must be a path or an Arrow table .*, got builtins.int"),
    "lazy": (lambda log: log.lazy(), r"got polars.LazyFrame; collect\(\) it first"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_log_that_cannot_be_read_is_refused(run: Path, name: str) -> None:
    change, problem = REFUSED[name]

    with pytest.raises(InputError, match=problem):
        fleetsim.verify_events(change(log_of(run)), fleet(), SCENARIO)


def test_all_problems_of_a_log_are_told_at_once(run: Path) -> None:
    log = log_of(run).with_columns(vm=pl.lit("x"), duration_ms=pl.lit(-1))

    with pytest.raises(InputError) as caught:
        fleetsim.verify_events(log, fleet(), SCENARIO)

    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("none.csv", None, "must be a log, got nothing there"),
        ("log.txt", b"vm,start_at\n", "got a file that is none of them"),
        ("log.parquet", b"PAR1 and no more", "must be a readable log, got"),
    ],
)
def test_a_file_that_is_no_log_is_refused(tmp_path: Path, name: str, content: bytes | None, problem: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(InputError, match=problem):
        fleetsim.verify_events(tmp_path / name, fleet(), SCENARIO)


def test_pairs_of_ones_own(tmp_path: Path) -> None:
    """Without a pair the regions overlap, which is no fault; with the built-in pairs it is one."""
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("region,paired_region\nwesteurope,\nnortheurope,\n")
    scenario = ONE_CAMPAIGN.replace('regions = ["Europe"]\n', "")
    done = fleetsim.run(fleet(), scenario, tmp_path / "run", pairs=pairs, threads=1)

    assert fleetsim.verify_events(log_of(done.path), fleet(), scenario, pairs).ok
    assert statuses(fleetsim.verify_events(log_of(done.path), fleet(), scenario), "broken") == ["R49"]


def test_command(tmp_path: Path, run: Path) -> None:
    as_text(log_of(run)).write_csv(tmp_path / "log.csv")
    fleet().write_csv(tmp_path / "fleet.csv")
    (tmp_path / "scenario.toml").write_text(SCENARIO)
    log, inputs = str(tmp_path / "log.csv"), ["--fleet", str(tmp_path / "fleet.csv"), "--scenario"]

    def call(*arguments: str) -> Any:
        return CliRunner().invoke(cli, ["verify", *arguments])

    done = call("--events", log, *inputs, str(tmp_path / "scenario.toml"), "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["run"], told["ok"]) == (log, True)

    assert "give either RUN or --events" in call().output
    assert "give either RUN or --events" in call(str(run), "--events", log).output
    assert "--fleet goes with --events" in call(str(run), *inputs[:2]).output
    assert "--events needs --fleet and --scenario" in call("--events", log).output


def test_a_column_view_of_arrow_is_read(run: Path) -> None:
    """Words may be dictionaries, strings large or views."""
    table = log_of(run).to_arrow()
    words = table.set_column(0, "campaign", table["campaign"].cast(pa.string()).dictionary_encode())

    assert fleetsim.verify_events(words, fleet(), SCENARIO).ok
