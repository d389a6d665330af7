"""What each rule costs: a finished run again, with one rule a tenth looser, under the same draws."""

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from fleetsim import figures
from fleetsim.errors import InputError
from fleetsim.figures import RunFiles, duration
from fleetsim.fleet.preparing import prepare
from fleetsim.progress import Progress
from fleetsim.runner import run as run_again
from fleetsim.schema import PREPARED
from fleetsim.storage import Place, Url

if TYPE_CHECKING:
    from rich.console import Console

_DOMAINS_MIN = 3
"""Of sets with fewer domains none is taken away: one that is left promises nothing."""


@dataclass(frozen=True, slots=True)
class Saving:
    """One campaign with one rule looser. `change` says how; `length_ms` is from its first start to its last end.

    `updated_count` are the VMs hit. Where a horizon leaves others than before without room, lengths do not compare:
    `saved_ms` is None.
    """

    campaign: str
    rule: str
    change: str
    length_ms: int
    saved_ms: int | None
    updated_count: int


@dataclass(frozen=True, slots=True)
class Looser:
    """What each rule would save, by campaign in file order, the most first."""

    run: Path
    length_ms: Mapping[str, int]
    updated_count: Mapping[str, int]
    savings: tuple[Saving, ...]

    def to_dict(self) -> dict[str, Any]:
        """The savings as plain values, for JSON."""
        before = {"length_ms": dict(self.length_ms), "updated_count": dict(self.updated_count)}
        return {**before, "savings": [asdict(saving) for saving in self.savings]}

    def render(self, console: "Console") -> None:
        """Print the savings, a rule a row."""
        from rich.table import Table
        from rich.text import Text

        console.print(Text("\nwith one rule looser, all else and all draws the same", style="bold"))
        if not self.savings:
            console.print(
                "  no campaign has a gap, a spread, a cap, a pair, a window, or sets of three domains to loosen"
            )
            return
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
        for name in ("  campaign", "rule", "change"):
            table.add_column(name, overflow="fold")
        for name in ("length", "saved"):
            table.add_column(name, justify="right", no_wrap=True)
        for saving in self.savings:
            if saving.saved_ms is None:
                more = saving.updated_count - self.updated_count[saving.campaign]
                saved = f"{abs(more):,} VMs {'more' if more > 0 else 'fewer'}"
            else:
                sign = "-" if saving.saved_ms < 0 else ""
                saved = f"{sign}{duration(abs(saving.saved_ms))}" if saving.saved_ms else "nothing"
            told = [Text(each) for each in (f"  {saving.campaign}", saving.rule, saving.change)]
            table.add_row(*told, duration(saving.length_ms), saved)
        console.print(table)
        if any((saving.saved_ms or 0) < 0 for saving in self.savings):
            why = "a looser rule may cost time: units then meet others, in another order, and wait for those"
            console.print(Text(f"  {why}", style="dim"))
        if any(saving.saved_ms is None for saving in self.savings):
            why = "where the horizon leaves room for more or fewer VMs, that is told instead of the time saved"
            console.print(Text(f"  {why}", style="dim"))


def looser(run: str | Path | Url, *, progress: Progress | None = None) -> Looser:
    """Run the finished *run* again for each campaign and rule, that rule a tenth looser; nothing of it is kept.

    gap    `update_domain_gap` a tenth shorter
    spread  `spread` a tenth shorter
    cap    each cap of a campaign a tenth higher
    pair   `pair_lag` a tenth shorter; and without pairs at all, as excluding one another has no tenth
    window  the window for customers a tenth shorter, unless they have a plan of their own; that of the platform a tenth
            longer where it left somebody overdue, else a tenth shorter, as its stage takes its region for all of it
    domains  sets of n update (or fault) domains have a tenth fewer, at least one: of the last the VMs join the first

    Needs the scenario as it was given, so a run of this version. Raises `InputError` where there is none.
    """
    files = RunFiles.open(run)
    if "overrides" not in files.manifest:
        raise InputError(f"{files.path}: must be a run of this version, which keeps its overrides; run it again")
    before = _lengths(files)
    scenario = (files.path / "scenario.toml").read_text("utf-8")
    kept = [
        f"campaign.{each['name']}.self_service.requests={(files.path / f'requests-c{place:03}.csv').resolve()}"
        for place, each in enumerate(files.campaigns)
        if "requests" in each.get("self_service", {})
    ]
    savings = []
    with tempfile.TemporaryDirectory(prefix="fleetsim-looser-") as folder:
        pairs, inventory = files.path / "pairs.csv", _inventory(files)
        prepared = prepare(files.path / "fleet", Path(folder) / "as-it-was", pairs, **inventory, progress=progress).path
        fewer: Place | None = None
        for place, (campaign, rule, change, overrides) in enumerate(_changes(files)):
            fleet = prepared
            if rule == "domains":
                if fewer is None:
                    fewer = prepare(
                        _with_fewer_domains(files, Path(folder) / "fewer.parquet"),
                        Path(folder) / "fewer",
                        pairs,
                        **inventory,
                        progress=progress,
                    ).path
                fleet = fewer
            out = Path(folder) / f"run-{place}"
            quiet = ["outputs.events=false", "outputs.outcomes=false"]
            asked = [*files.manifest["overrides"], *kept, *overrides, *quiet]
            run_again(
                fleet,
                scenario,
                out,
                pairs=pairs,
                overrides=asked,
                replica=files.manifest.get("replica", 0),
                progress=progress,
            )
            took_ms, count = _lengths(RunFiles.open(out))[campaign]
            was_ms, was_count = before[campaign]
            saved_ms = was_ms - took_ms if count == was_count else None
            savings.append(Saving(campaign, rule, change, took_ms, saved_ms, count))
    order = list(before)
    # Those that update more go first, those that update fewer last.
    savings.sort(
        key=lambda saving: (
            order.index(saving.campaign),
            before[saving.campaign][1] - saving.updated_count,
            -(saving.saved_ms or 0),
        )
    )
    lengths_ms, counts = ({name: found[place] for name, found in before.items()} for place in (0, 1))
    return Looser(files.path, lengths_ms, counts, tuple(savings))


def _lengths(files: RunFiles) -> dict[str, tuple[int, int]]:
    """Of each campaign its length, ms, and the VMs hit."""
    rows = figures.campaigns(files, figures.stages(files)).select("campaign", "length_ms", "vm_hit_count")
    return {name: (length_ms or 0, hit_count or 0) for name, length_ms, hit_count in rows.iter_rows()}


def _changes(files: RunFiles) -> Iterator[tuple[str, str, str, list[str]]]:
    """(campaign, rule, change in words, overrides) of each rule that can be looser."""
    has_domains = {
        walk_by: walk_by in files.fleet_schema and _has_many_domains(files, walk_by)
        for walk_by in ("update_domain", "fault_domain")
    }
    # Who is overdue though the window opened had no room in it.
    is_crowded = (pl.col("overdue_count") > 0) & pl.col("scheduled_start_at").is_not_null()
    crowded = set(files.scan("stages").filter(is_crowded).select("campaign").collect().to_series())
    for campaign in files.campaigns:
        name = campaign["name"]
        key = f"campaign.{name}"
        if gap_ms := int(campaign["update_domain_gap_ms"]):
            yield name, "gap", *_resized(key, "update_domain_gap", gap_ms, 9)
        if spread_ms := int(campaign["spread_ms"]):
            yield name, "spread", *_resized(key, "spread", spread_ms, 9)
        if caps := campaign.get("caps"):
            higher = [_higher(cap) for cap in caps]
            if told := ", ".join(told for _, told in higher if told):
                yield name, "cap", told, [f"{key}.caps=[{', '.join(cap for cap, _ in higher)}]"]
        if name in files.excluding and any(edge <= set(campaign["regions"]) for edge in files.edges):
            if lag_ms := int(campaign["pair_lag_ms"]):
                yield name, "pair", *_resized(key, "pair_lag", lag_ms, 9)
            yield name, "pair", "paired regions may be at work together", [f"{key}.pair_exclusion=reboots"]
        if "scheduled" in campaign:
            customers_ms = int(campaign["self_service"]["length_ms"])
            if customers_ms and "requests" not in campaign["self_service"]:
                yield name, "window", *_resized(key, "self_service.length", customers_ms, 9)
            tenths = 11 if name in crowded else 9
            yield name, "window", *_resized(key, "scheduled.length", int(campaign["scheduled"]["length_ms"]), tenths)
        if has_domains[campaign["walk_by"]]:
            yield name, "domains", "a tenth fewer domains a set, at least one", []


def _resized(campaign: str, key: str, was_ms: int, tenths: int) -> tuple[str, list[str]]:
    """A span of *campaign* as that many *tenths* of what it was: in words, and as overrides."""
    is_ms = was_ms * tenths // 10
    return f"{key} {duration(was_ms)} -> {duration(is_ms)}", [f"{campaign}.{key}={is_ms}ms"]


def _higher(cap: Mapping[str, Any]) -> tuple[str, str]:
    """*cap* a tenth higher: as TOML, and in words, of which there are none where it is all already."""
    ((key, most),) = ((key, value) for key, value in cap.items() if key != "per")
    raised = math.ceil(Fraction(str(most)) * 11 / 10)
    spelt = str(raised)
    if key.endswith("_ratio"):  # to nine decimals, as scenarios have it
        raised = min(10**9, math.floor(Fraction(str(most)) * 11 * 10**8))
        spelt = f"{raised // 10**9}.{raised % 10**9:09}".rstrip("0").removesuffix(".")
    is_all = key.endswith("_ratio") and most == 1
    told = "" if is_all else f"{key} of a {cap['per']} {most} -> {spelt}"
    return f"{{ per = '{cap['per']}', {key} = {spelt} }}", told


def _inventory(files: RunFiles) -> dict[str, Any]:
    """What `prepare` was told of hosts."""
    if "takes_vcpus" not in files.fleet_schema:
        return {}
    hosts = pl.read_parquet(sorted((files.path / "hosts").rglob("*.parquet")), hive_partitioning=False)
    takes = pl.scan_parquet(files.fleet_paths, hive_partitioning=False).select(
        ((pl.col("takes_vcpus") == 1) & (pl.col("takes_memory_gib") == 0)).all()
    )
    return {"hosts": hosts, "slots": takes.collect().item()}


def _has_many_domains(files: RunFiles, walk_by: str) -> bool:
    if "set" not in files.fleet_schema:
        return False
    counts = [
        pl.scan_parquet(path, hive_partitioning=False)
        .drop_nulls("set")
        .group_by("region", "set")
        .agg(pl.col(walk_by).n_unique())
        for path in files.fleet_paths
    ]
    return any((count[walk_by] >= _DOMAINS_MIN).any() for count in pl.collect_all(counts))


def _with_fewer_domains(files: RunFiles, out: Path) -> Path:
    """The fleet of *files* with domains of its sets a tenth fewer, as a file."""
    paths: Sequence[Path] = files.fleet_paths
    fewer = []
    for name in ("update_domain", "fault_domain"):
        if name in files.fleet_schema:
            of_set = ("region", "set")
            count = pl.col(name).n_unique().over(of_set).cast(pl.Int64)
            kept = count - pl.max_horizontal(count // 10, 1)
            place = pl.col(name).rank("dense").over(of_set).cast(pl.Int64) - 1
            fewer.append(pl.when(count >= _DOMAINS_MIN).then(place % kept).otherwise(name).alias(name))
    made = PREPARED.names()
    frame = pl.concat([pl.scan_parquet(path, hive_partitioning=False) for path in paths])
    frame.drop(made, strict=False).with_columns(fewer).collect().write_parquet(out)
    return out
