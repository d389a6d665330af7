"""Runs beside each other: what was asked for in each, what came out, and what became of the same VMs.

The figures are those of `reporting`; differences are the other run's value less that of the first one, the base. Where
both runs are over the same fleet, VMs are paired (`figures.pairing`).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from fleetsim import figures, schema
from fleetsim.errors import InputError
from fleetsim.figures import FIGURES, Paired, RunFiles, duration
from fleetsim.figures.runs import scanned
from fleetsim.progress import Progress
from fleetsim.reporting import Block, Grid, Groups, Items, Report, Sheet, Sparks, report, spelt
from fleetsim.scenario import difference
from fleetsim.schema import FIRST_ITERATION
from fleetsim.storage import Url, local

__all__ = ["Comparison", "compare"]

NAME_WIDTH_MAX = 18
"""Cells that a run's name takes at most."""
REGIONS_SHOWN = 8
ROWS_SHOWN = 15
DIFFERENCES_SHOWN = 12
INSTANTS = ("first_start_ms", "last_end_ms")
"""Figures of which one is no multiple of another."""
SUMS = (
    *(name for name, figure in FIGURES.items() if figure.unit not in ("ms", "ratio")),
    *("set_out_ms", "application_out_ms", "quorum_lost_ms"),
)
"""Figures that grow with the VMs in scope: where these are not as many, neither run is better for less."""
HARMS = tuple(
    name
    for name in SUMS
    if FIGURES[name].is_less_better and name not in (*figures.OUTCOME_COUNTS, "remaining_count", "no_guarantee_count")
)
"""Those of SUMS that grow with the VMs hit: who leaves more of them without the update does not do less harm."""
NEAR = 0.005
"""What differs by no more than this share of the base's is as good as equal; of an instant, of the base's time from
first start to last end."""
NEAR_TOLD = f"{NEAR * 100:g} %"
ONE_DRAW = "one draw each is compared: what is due to chance is not told apart"


def compare(
    *runs: str | Path | Url,
    by: Sequence[str | Sequence[str]] = (),
    only: Sequence[str] | Mapping[str, str | Sequence[str]] = (),
    timeouts: Sequence[str] = (),
    progress: Progress | None = None,
) -> "Comparison":
    """Set the finished run folders *runs* beside each other: each of them against the first, the base.

    Campaigns are matched by name; if no name is shared and both runs have one campaign, these are. VMs are paired
    where the fleets are the same. *by*, *only* and *timeouts* are those of `fleetsim.report`, for every run.

    Raise `InputError` for fewer than two runs, a folder given twice, runs without a campaign in common, and as
    `fleetsim.report` does.
    """
    if len(runs) < 2:
        raise InputError(f"compare: must have two runs at least, got {len(runs)}")
    paths = [local(each) for each in runs]
    files = [RunFiles.open(path) for path in paths]
    places: dict[Path, Path] = {}
    for path in paths:
        if (known := places.setdefault(path.resolve(), path)) is not path:
            raise InputError(f"{path}: must be another run than {known}, got the same folder twice")
    matches = [_matched(files[0], each) for each in files[1:]]
    reports = [report(path, by=by, only=only, timeouts=timeouts, progress=progress) for path in paths]
    names = _names(paths)
    base = reports[0]
    return Comparison(
        names=tuple(names),
        reports=tuple(reports),
        others=tuple(
            _other(name, base, each, matched, progress)
            for name, each, matched in zip(names[1:], reports[1:], matches, strict=True)
        ),
    )


def _matched(base: RunFiles, other: RunFiles) -> dict[str, str]:
    """Campaign of *base* -> the one of *other* it is compared with; raise `InputError` where there is none."""
    ours, theirs = ([each["name"] for each in files.campaigns] for files in (base, other))
    if shared := [name for name in ours if name in theirs]:
        return {name: name for name in shared}
    if len(ours) == len(theirs) == 1:
        return {ours[0]: theirs[0]}
    raise InputError(
        f"{other.path}: must share a campaign's name with {base.path}, or both have one campaign alone, got"
        f" {', '.join(theirs)} beside {', '.join(ours)}: which of them to compare is not told"
    )


def _names(paths: Sequence[Path]) -> list[str]:
    """What each of *paths* is called: the last folders of it, as many as tell it apart, shortened where it is long."""
    parts = [path.resolve().parts for path in paths]
    found = []
    for own in parts:
        others = [other for other in parts if other != own]
        count = next(
            (count for count in range(1, len(own)) if all(other[-count:] != own[-count:] for other in others)), len(own)
        )
        found.append("/".join(own[-count:]))
    if max(map(len, found)) <= NAME_WIDTH_MAX:
        return found
    # What all begin with tells nothing; what is still too long keeps both its ends.
    shared = _shared_start(found)
    shortened = [f"..{name[shared:]}" if shared > 2 else name for name in found]
    half = (NAME_WIDTH_MAX - 2) // 2
    shortened = [
        name if len(name) <= NAME_WIDTH_MAX else f"{name[:half].removesuffix('.')}..{name[-half:]}"
        for name in shortened
    ]
    if len(set(shortened)) == len(shortened):
        return shortened
    return [f"{number}: {name[-(NAME_WIDTH_MAX - 4) :]}" for number, name in enumerate(found, start=1)]


def _shared_start(names: Sequence[str]) -> int:
    """How many characters all *names* begin with, up to a word's end."""
    count = len(min(names, key=len)) - 1
    while count and (len({name[:count] for name in names}) > 1 or names[0][count - 1].isalnum()):
        count -= 1
    return count


def _other(name: str, base: Report, other: Report, matched: dict[str, str], progress: Progress | None) -> "Other":
    is_same_fleet = base.files.manifest["fleet_digest"] == other.files.manifest["fleet_digest"]
    are_same_vms = is_same_fleet or _are_same_vms(base.files, other.files)
    texts = [(each.files.path / "resolved.toml").read_text("utf-8") for each in (base, other)]
    told = difference(texts[0], texts[1], matched, has_draws=False)
    watched = replace(base.files, progress=progress)
    pairs = {
        campaign: figures.paired(watched, other.files, campaign_base, campaign) if are_same_vms else None
        for campaign_base, campaign in matched.items()
    }
    return Other(
        name=name,
        base=base,
        report=other,
        campaigns={campaign: campaign_base for campaign_base, campaign in matched.items()},
        is_same_fleet=is_same_fleet,
        are_same_vms=are_same_vms,
        # That the fleet is another one is told by itself, in words; a name is no key that changes anything.
        scenario_differences=tuple(each for each in told if not each.startswith(("fleet: ", "name: "))),
        pairs=pairs,
    )


def _are_same_vms(base: RunFiles, other: RunFiles) -> bool:
    """Whether each `vm_row` is the same VM, in the same set and region, though other columns differ, as `host`."""
    if base.manifest["counts"]["vms"] != other.manifest["counts"]["vms"]:
        return False
    names = [name for name in ("vm", "set", "region") if name in base.fleet_schema]
    if names != [name for name in ("vm", "set", "region") if name in other.fleet_schema]:
        return False
    ours, theirs = ({str(path.relative_to(each.path)): path for path in each.fleet_paths} for each in (base, other))
    if ours.keys() != theirs.keys():
        return False
    for place, path in ours.items():
        one, two = (
            scanned(each).select("vm_row", pl.col(names).cast(pl.String)).collect() for each in (path, theirs[place])
        )
        if not one.equals(two):
            return False
    return True


@dataclass(frozen=True)
class Other:
    """One run against the base.

    `campaigns` maps a campaign's name here to that in the base. `are_same_vms` where each `vm_row` is the same VM in
    the same set and region, though its other columns may differ. `pairs` has for each campaign what became of the same
    VMs, or None: they are not the same, or one of the runs kept neither outcomes nor events.
    """

    name: str
    base: Report
    report: Report
    campaigns: dict[str, str]
    is_same_fleet: bool
    are_same_vms: bool
    scenario_differences: tuple[str, ...]
    pairs: dict[str, Paired | None]

    @cached_property
    def frame(self) -> pl.DataFrame:
        """Every figure of both that is of a shared campaign, or of all: rows of `schema.COMPARISON` but for names.

        Besides, `is_near`: it differs, but is as good as equal.
        """
        keys = ["figure", "unit", "grain", "key"]
        own = self.report.frame.filter(_first(pl.col("key")).is_in([*map(_encoded, self.campaigns), "*"]))
        renamed = {_encoded(before): _encoded(after) for after, before in self.campaigns.items()}
        before = (
            self.base.frame.with_columns(first=_first(pl.col("key")))
            .filter(pl.col("first").is_in([*renamed, "*"]))
            .with_columns(
                key=pl.col("first").replace(renamed) + pl.col("key").str.slice(pl.col("first").str.len_chars())
            )
            .drop("first")
        )
        both = own.join(
            before.rename({"value": "base_value"}), on=keys, how="full", coalesce=True, maintain_order="left_right"
        )
        change = pl.col("value") - pl.col("base_value")
        is_instant = pl.col("figure").is_in(INSTANTS)
        less = [name for name, figure in FIGURES.items() if figure.is_less_better]
        base_start, base_end = (pl.col("base_value").filter(pl.col("figure") == name).first() for name in INSTANTS)
        spans = both.filter(is_instant).group_by("grain", "key").agg(span_ms=base_end - base_start)
        both = _with_unlike(both.join(spans, on=["grain", "key"], how="left", maintain_order="left"))
        of = pl.when(is_instant).then("span_ms").otherwise("base_value")
        is_near = ((change != 0) & (change.abs() <= NEAR * of)).fill_null(value=False)
        is_like = ~(pl.col("figure").is_in(SUMS) & pl.col("is_of_others"))
        is_like &= ~(pl.col("figure").is_in(HARMS) & pl.col("is_of_others_hit"))
        return both.select(
            *keys,
            "base_value",
            "value",
            difference=change,
            ratio=pl.when(~is_instant & (pl.col("base_value") > 0)).then(pl.col("value") / pl.col("base_value")),
            better=pl.when(pl.col("figure").is_in(less) & is_like & (change != 0) & ~is_near)
            .then(pl.when(change < 0).then(pl.lit("run")).otherwise(pl.lit("base"))),
            is_near=is_near,
        )  # fmt: skip

    def has_iterations(self, campaign: str) -> bool:
        """Whether *campaign* has more than one iteration in either: of figures of a VM its last one counts."""
        sides = ((self.base, self.campaigns[campaign]), (self.report, campaign))
        return any((made.stage_rows.filter(campaign=name)["iteration"] > FIRST_ITERATION).any() for made, name in sides)

    def figures_of(self, campaign: str) -> pl.DataFrame:
        """The figures of the whole *campaign*, in the order of reports."""
        rows = self.frame.filter(grain="campaign", key=_encoded(campaign)).drop("grain", "key")
        return rows.filter(pl.col("value").is_not_null() | pl.col("base_value").is_not_null()).sort(
            pl.col("figure").replace_strict({name: place for place, name in enumerate(FIGURES)})
        )

    def shares_of(self, campaign: str) -> pl.DataFrame:
        """What *campaign* is told beside: pauses over lengths, waits by cause, service levels that are missed."""
        key = pl.col("key")
        is_own = key.str.starts_with(f"{_encoded(campaign)}/") & pl.col("grain").is_in(["pause", "cause", "sla"])
        return self.frame.filter(is_own).with_columns(of=key.str.slice(len(_encoded(campaign)) + 1))

    def regions_of(self, campaign: str) -> pl.DataFrame:
        """When each region is at work: `region`, `start_ms_base`, `start_ms`, `end_ms_base`, `end_ms`, differences.

        Since each scenario's start, the iterations of a region as one; those that move most first.
        """
        sides = []
        for made, name, suffix in (
            (self.base, self.campaigns[campaign], "_base"),
            (self.report, campaign, ""),
        ):
            rows = made.stage_rows.filter(pl.col("campaign") == name).group_by("region")
            first, last = pl.col("first_start_ms").min(), pl.col("last_end_ms").max()
            sides.append(rows.agg(first.alias(f"start_ms{suffix}"), last.alias(f"end_ms{suffix}")))
        joined = sides[0].join(sides[1], on="region", how="full", coalesce=True)
        return (
            joined.with_columns(
                start_difference_ms=pl.col("start_ms") - pl.col("start_ms_base"),
                end_difference_ms=pl.col("end_ms") - pl.col("end_ms_base"),
            )
            .drop_nulls(["start_ms_base", "start_ms"])
            .sort(pl.col("end_difference_ms").abs(), "region", descending=[True, False])
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        return {
            "run": self.name,
            "is_same_fleet": self.is_same_fleet,
            "are_same_vms": self.are_same_vms,
            "is_same_seed": self.base.files.manifest["seed"] == self.report.files.manifest["seed"],
            "scenario_differences": list(self.scenario_differences),
            "campaigns_only_in_base": self._unmatched(self.base, self.campaigns.values()),
            "campaigns_only_in_run": self._unmatched(self.report, self.campaigns),
            "campaigns": [self._campaign_dict(name) for name in self.campaigns],
        }

    @staticmethod
    def _unmatched(made: Report, matched: Any) -> list[str]:
        known = list(matched)
        return [each["name"] for each in made.files.campaigns if each["name"] not in known]

    def _campaign_dict(self, name: str) -> dict[str, Any]:
        both = self.pairs[name]
        return {
            "campaign": name,
            "campaign_base": self.campaigns[name],
            "figures": {row["figure"]: _change(row) for row in self.figures_of(name).to_dicts()},
            **{
                grain: {
                    of: {row["figure"]: _change(row) for row in rows.to_dicts()}
                    for (of,), rows in self.shares_of(name).filter(grain=grain).group_by("of", maintain_order=True)
                }
                for grain in ("pause", "cause", "sla")
            },
            "by": [
                {
                    "columns": list(groups.columns),
                    "rows": [
                        {"key": list(key), "figures": {row["figure"]: _change(row) for row in rows.to_dicts()}}
                        for key, rows in self._groups_of(name, groups)
                    ],
                }
                for groups in self.report.groups
            ],
            "regions": self.regions_of(name).to_dicts(),
            "paired": None if both is None else _paired_dict(both),
        }

    def _groups_of(self, campaign: str, groups: Groups) -> Iterator[tuple[tuple[str | None, ...], pl.DataFrame]]:
        """The rows of each group of *campaign*, largest first."""
        start = f"{_encoded(campaign)}/"
        own = self.frame.filter(pl.col("grain") == groups.grain, pl.col("key").str.starts_with(start))
        for (key,), rows in own.group_by("key", maintain_order=True):
            yield tuple(map(_decoded, str(key).removeprefix(start).split("/"))), rows

    # The page

    def blocks(self, base_name: str) -> Iterator[tuple[str, Block]]:
        """What a page tells of this run against the base, which is called *base_name*: subject and block.

        Subjects: `asked`, `figures`, `paired`, `regions`, `hours`, `groups`.
        """
        yield "asked", self._asked(base_name)
        for name in self.campaigns:
            title = name if self.campaigns[name] == name else f"{name} ({self.campaigns[name]} in {base_name})"
            yield from (("figures", block) for block in self._figures(name, title, base_name))
            yield from (("paired", block) for block in self._paired(name, title, base_name))
            yield from (("regions", block) for block in self._regions(name, title, base_name))
            yield from (("hours", block) for block in self._hours(name, title, base_name))
            yield from (("groups", block) for block in self._groups(name, base_name))

    def _asked(self, base_name: str) -> Block:
        base, other = self.base.header(), self.report.header()
        told = self.scenario_differences
        items = [("scenario", each) for each in told[:DIFFERENCES_SHOWN]]
        if len(told) > DIFFERENCES_SHOWN:
            items.append(("scenario", f"... {len(told) - DIFFERENCES_SHOWN:,} more keys, in --json"))
        items = items or [("scenario", "the same in every key")]
        if self.are_same_vms:
            paired = any(each is not None for each in self.pairs.values())
            how = "paired by VM" if paired else "no pairing by VM: a run kept neither outcomes nor events"
            which = "the same" if self.is_same_fleet else "the same VMs in the same sets, other columns differ"
            items.append(("fleet", f"{which}, {_counted(base['vm_count'], 'VM')}: {how}"))
        else:
            sizes = f"{_counted(base['vm_count'], 'VM')} and {_counted(other['vm_count'], 'VM')}"
            items.append(("fleet", f"different fleets, {sizes}: no pairing by VM"))
        if base["seed"] == other["seed"] and base["replica"] != other["replica"]:
            drawn = f"{base['seed']} in both, but replicas {base['replica']} and {other['replica']}"
            items.append(("seed", f"{drawn}: draws differ too; {ONE_DRAW}"))
        elif base["seed"] != other["seed"]:
            items.append(("seed", f"{base['seed']} and {other['seed']}: draws differ too; {ONE_DRAW}"))
        elif not self.is_same_fleet:
            items.append(("seed", f"{base['seed']} in both; {ONE_DRAW}"))
        elif any(name != before for name, before in self.campaigns.items()):
            # Draws are addressed by the campaign's name besides the seed.
            items.append(("seed", f"{base['seed']} in both, but campaigns of other names draw anew; {ONE_DRAW}"))
        else:
            items.append(("seed", f"{base['seed']} in both: a VM draws the same numbers in both; {ONE_DRAW}"))
        if self.report.files.only:
            asked = " and ".join(f"{key}={' or '.join(values)}" for key, values in self.report.files.only.items())
            whole = ", ".join(self.report.of_whole)
            items.append(("only", f"VMs with {asked}; of whole campaigns stay {whole}"))
        for name, lacks in (
            (base_name, self._unmatched(self.base, self.campaigns.values())),
            (self.name, self._unmatched(self.report, self.campaigns)),
        ):
            if lacks:
                items.append(("campaign", f"only in {name}, and not compared: {', '.join(lacks)}"))
        return Items(f"{self.name} against {base_name}: what is asked for", items)

    def _figures(self, name: str, title: str, base_name: str) -> Iterator[Block]:
        """What is better, what is worse, what else differs, and what is equal."""
        rows = self.figures_of(name)
        shares = self.shares_of(name)
        labels = [*rows["figure"], *(_share_title(row) for row in shares.to_dicts())]
        told = pl.concat([rows, shares.select(rows.columns)]).with_columns(label=pl.Series(labels, dtype=pl.String))
        is_changed = pl.col("value").ne_missing(pl.col("base_value"))
        is_news = is_changed & ~pl.col("is_near")
        lines = [(row["better"], self._line(row["label"], row)) for row in told.filter(is_news).to_dicts()]
        equal = rows.filter(~is_changed, pl.col("value") != 0)
        notes = []
        if len(equal):
            same = ", ".join(f"{row['figure']} {spelt(row['figure'], row['value'])}" for row in equal.to_dicts())
            notes.append(f"equal: {same}")
        if len(near := told.filter("is_near")):
            differ = "; ".join(f"{row['label']} {signed(row['figure'], row['difference'])}" for row in near.to_dicts())
            notes.append(f"as good as equal, {NEAR_TOLD} apart at most: {differ}")
        unlike = set(rows.filter(is_changed)["figure"])
        if "vm_count" in unlike:
            notes.append("The VMs in scope are not the same number: of counts and sums, less is not better here.")
        elif unlike & {"vm_hit_count", "remaining_count"}:
            notes.append("The VMs hit, or left without the update, are not the same number: of what adds up over VMs"
                         " hit, less is not better here.")  # fmt: skip
        if self.has_iterations(name) and any(figure.startswith("down_ms") for figure in rows["figure"]):
            notes.append(
                "down_ms is of the last iteration that a VM is in scope of; by VM, below, all of them are summed."
            )
        if self.base.approximate or self.report.approximate:
            notes.append("~ from the engine's histogram, 1/64 too low at most: a run kept no outcomes and no events")
        if not lines:
            than = f" by more than {NEAR_TOLD}" if len(near) else ""
            yield Items(f"{title}: no figure differs{than}", [("", each) for each in notes])
            return
        words = {"run": f"better in {self.name}", "base": f"worse in {self.name}", None: "what else differs"}
        kinds = [kind for kind in words if any(better == kind for better, _ in lines)]
        for kind in kinds:
            yield Grid(
                f"{title}: {words[kind]}",
                ["", base_name, self.name, "difference", "ratio"],
                [line for better, line in lines if better == kind],
                notes=notes if kind == kinds[-1] else (),
                are_keys_sentences=True,
            )

    def _line(self, label: str, row: dict[str, Any]) -> list[str]:
        name = row["figure"]
        is_about = [name in each.approximate for each in (self.base, self.report)]
        return [
            label,
            spelt(name, row["base_value"], is_about=is_about[0]),
            spelt(name, row["value"], is_about=is_about[1]),
            signed(name, row["difference"]),
            "-" if row["ratio"] is None else times(row["ratio"]),
        ]

    def _paired(self, name: str, title: str, base_name: str) -> Iterator[Block]:
        both = self.pairs[name]
        if both is None:
            return
        alone = {base_name: both.hit_only_base_count, self.name: both.hit_only_other_count}
        hit = [f"{_counted(both.hit_both_count, 'VM')} in both"]
        hit += [f"{count:,} in {run} alone" for run, count in alone.items() if count]
        items = [("hit", ", ".join(hit))]
        scope = {base_name: both.only_base_count, self.name: both.only_other_count}
        if any(scope.values()):
            only = ", ".join(f"{count:,} of {run} alone" for run, count in scope.items() if count)
            items.append(("in scope", f"{_counted(both.vm_count, 'VM')} of both, {only}"))
        if both.difference_ms_p50 is not None:
            counts = {"longer": both.longer_count, "shorter": both.shorter_count, "equal": both.equal_count}
            told = ", ".join(f"{word} for {count:,}" for word, count in counts.items() if count)
            summed = ", all its iterations summed" if self.has_iterations(name) else ""
            items.append(("time out", f"of a VM hit in both{summed}, in {self.name}: {told}"))
            if both.equal_count < both.hit_both_count:
                items.append(("", self._spread(both)))
        if both.over_both_count is not None:
            ends = {base_name: both.over_only_base_count, self.name: both.over_only_other_count}
            over = [f"{both.over_both_count:,} in both", *(f"{count:,} in {run} alone" for run, count in ends.items())]
            items.append(("tolerance", f"VMs paused longer than they stand: {', '.join(over)}"))
            if len(both.vms_over):
                first = ", ".join(f"{row['vm']} ({duration(row['other_ms'])})" for row in both.vms_over.to_dicts())
                rest = (both.over_only_other_count or 0) - len(both.vms_over)
                items.append(("", f"now too long: {first}{f' and {rest:,} more' if rest else ''}"))
        if both.outcome_changed_count is not None:
            word = _counted(both.outcome_changed_count, "VM") if both.outcome_changed_count else "no VM"
            items.append(("outcome", f"another one for {word}"))
        yield Items(f"{title}: the same VMs in both", items)
        if both.outcome_changed_count and both.outcomes is not None:
            yield self._outcomes(both.outcomes, title, base_name)
        for what, rows in (("VMs", both.vms), ("sets", both.sets)):
            if not len(rows):
                continue
            word = what.removesuffix("s").lower() if what == "sets" else "VM"
            yield Grid(
                f"{title}: {what} whose time out changes most{', summed over their VMs' if what == 'sets' else ''}",
                [word, "region", base_name, self.name, "difference"],
                [
                    [
                        *(str(row[word.lower()]), str(row["region"])),
                        *(duration(row["base_ms"]), duration(row["other_ms"]), signed_span(row["difference_ms"])),
                    ]
                    for row in rows.to_dicts()
                ],
                key_count=2,
            )

    @staticmethod
    def _spread(both: Paired) -> str:
        p50, p95, least, most = map(
            change_of,
            (both.difference_ms_p50, both.difference_ms_p95, both.difference_ms_min, both.difference_ms_max),
        )
        return f"by VM: p50 {p50}, p95 {p95}, from {least} to {most}"

    def _outcomes(self, outcomes: pl.DataFrame, title: str, base_name: str) -> Block:
        """Outcomes in the base down, in the other across."""
        words = [word for word in schema.words(schema.Outcome)
                 if word in set(outcomes["outcome_base"]) | set(outcomes["outcome"])]  # fmt: skip
        counts = {(before, after): count for before, after, count in outcomes.rows()}
        across = [word for word in words if any((before, word) in counts for before in words)]
        return Grid(
            f"{title}: how the same VMs end; {base_name} down, {self.name} across",
            ["", *across],
            [
                [word, *(f"{counts.get((word, after), 0):,}" for after in across)]
                for word in words
                if any((word, after) in counts for after in across)
            ],
        )

    def _regions(self, name: str, title: str, base_name: str) -> Iterator[Block]:
        rows = self.regions_of(name)
        moved = rows.filter((pl.col("end_difference_ms") != 0) | (pl.col("start_difference_ms") != 0))
        if moved.is_empty():
            return
        later, earlier = (int((moved["end_difference_ms"] * sign > 0).sum()) for sign in (1, -1))
        more = len(moved) - REGIONS_SHOWN
        yield Grid(
            f"{title}: of {_counted(len(rows), 'region')}, {later:,} end later and {earlier:,} earlier",
            ["region", f"end in {base_name}", f"in {self.name}", "end", "start"],
            [
                [
                    *(row["region"], duration(row["end_ms_base"]), duration(row["end_ms"])),
                    *(signed_span(row["end_difference_ms"]), signed_span(row["start_difference_ms"])),
                ]
                for row in moved.head(REGIONS_SHOWN).to_dicts()
            ],
            notes=[f"... {more:,} more"] if more > 0 else [],
        )

    def _hours(self, name: str, title: str, base_name: str) -> Iterator[Block]:
        """When impacts start in both, where that differs."""
        sides = [(base_name, self.base, self.campaigns[name]), (self.name, self.report, name)]
        rows = [
            (run, tuple(made.hour_rows.filter(campaign=campaign).select("hour", "hourly_start_count").rows()))
            for run, made, campaign in sides
        ]
        if rows[0][1] != rows[1][1]:
            yield Sparks(title, tuple(rows))

    def _groups(self, name: str, base_name: str) -> Iterator[Block]:
        """One table a grouping: the time out of a VM at p99, and all of it summed."""
        for groups in self.report.groups:
            lines = []
            for key, rows in self._groups_of(name, groups):
                told = {row["figure"]: row for row in rows.to_dicts()}
                p99 = next((told[each] for each in ("paused_ms_p99", "down_ms_p99")
                            if told.get(each, {}).get("value") is not None), None)  # fmt: skip
                lost = told["unavailable_ms"]
                lines.append(
                    ["-" if each is None else each for each in key]
                    + [spelt("vm_count", told["vm_count"]["value"])]
                    + (["-"] * 2 if p99 is None else [spelt(p99["figure"], p99["value"]),
                                                      signed(p99["figure"], p99["difference"])])
                    + [spelt("unavailable_ms", lost["value"]), signed("unavailable_ms", lost["difference"])]
                )  # fmt: skip
            if not lines:
                continue
            more = len(lines) - ROWS_SHOWN
            yield Grid(
                f"{name} by {', '.join(groups.columns)}: {self.name}, and its difference from {base_name}",
                [*groups.columns, "VMs", "out p99", "diff.", "out, summed", "diff."],
                lines[:ROWS_SHOWN],
                key_count=len(groups.columns),
                notes=[f"... {more:,} more"] if more > 0 else [],
            )


@dataclass(frozen=True)
class Comparison(Sheet):
    """Runs beside each other: the first of `reports` is the base, `others` are each against it."""

    names: tuple[str, ...]
    reports: tuple[Report, ...]
    others: tuple[Other, ...]

    @cached_property
    def frame(self) -> pl.DataFrame:
        """Every figure that both have, one row a run compared, figure, grain and key."""
        rows = [each.frame.with_columns(run=pl.lit(each.name), base=pl.lit(self.names[0])) for each in self.others]
        return pl.concat(rows).select(schema.COMPARISON.names())

    def to_dict(self) -> dict[str, Any]:
        """The comparison as one JSON object: the runs, then each against the base, campaign by campaign."""
        return {
            "base": self.names[0],
            "runs": [
                {"name": name, "path": str(each.files.path)} | each.header()
                for name, each in zip(self.names, self.reports, strict=True)
            ],
            "units": {figure.name: figure.unit for figure in FIGURES.values()},
            "note": ONE_DRAW,
            "others": [each.to_dict() for each in self.others],
        }

    def blocks(self) -> Iterator[tuple[str, "Other | None", Block]]:
        """What a page tells, in order: a subject, the run it is of (None: all), and a block."""
        yield "runs", None, self._runs()
        yield "short", None, self._in_short()
        if len(self.others) > 1:
            yield from (("overview", None, block) for block in self._overview())
        for other in self.others:
            yield from ((subject, other, block) for subject, block in other.blocks(self.names[0]))

    def _page(self) -> Iterator[Block]:
        return (block for _, _, block in self.blocks())

    def _parquet(self) -> tuple[schema.Table, dict[str, str]]:
        return schema.COMPARISON, {
            "fleetsim.runs": json.dumps(
                {name: each.files.manifest["run_digest"] for name, each in zip(self.names, self.reports, strict=True)}
            ),
        }

    def _runs(self) -> Block:
        items = []
        for name, each in zip(self.names, self.reports, strict=True):
            header = each.header()
            told = f"{header['scenario']}, {_counted(header['vm_count'], 'VM')}, seed {header['seed']}"
            items.append((name, f"{told}, digest {header['run_digest'][:12]}"))
        count = "two runs" if len(items) == 2 else f"{len(items)} runs"
        return Items(f"{count}, the first is what the other{'s are' if len(items) > 2 else ' is'} compared with", items)

    def _in_short(self) -> Block:
        """A line a run and campaign: how long, how hard, how much in all, against the base."""
        items = []
        for other in self.others:
            for name in other.campaigns:
                rows = {row["figure"]: row for row in other.figures_of(name).to_dicts()}
                told = [_in_words(word, rows[figure]) for figure, word in _HEADLINES.items() if figure in rows]
                campaign = f"{name}: " if len(other.campaigns) > 1 else ""
                nothing = "the same"
                if any(row["difference"] for row in rows.values()):
                    is_near = any(rows[figure]["is_near"] for figure in _HEADLINES if figure in rows)
                    nothing = f"as long, on as many, as hard{f', {NEAR_TOLD} apart at most' if is_near else ''}"
                items.append((other.name, f"{campaign}{', '.join(filter(None, told)) or nothing}"))
        return Items(f"in short, against {self.names[0]}", items)

    def _overview(self) -> Iterator[Block]:
        """The figures of all runs side by side, where they differ, and a campaign is in all of them."""
        for name in dict.fromkeys(name for other in self.others for name in other.campaigns):
            if not all(name in other.campaigns for other in self.others):
                continue
            found: dict[str, list[str]] = {}
            for other in self.others:
                for row in other.figures_of(name).to_dicts():
                    figure = row["figure"]
                    found.setdefault(figure, [spelt(figure, row["base_value"])]).append(spelt(figure, row["value"]))
            rows = [[figure, *values] for figure, values in found.items()
                    if len(values) == len(self.names) and len(set(values)) > 1]  # fmt: skip
            if rows:
                yield Grid(f"{name}: all runs", ["", *self.names], rows)


# Spelling


_HEADLINES = {
    "length_ms": "length",
    "vm_hit_count": "hit",
    "paused_ms_p99": "paused p99",
    "down_ms_p99": "down p99",
    "unavailable_ms": "unavailable",
    "over_tolerance_count": "over tolerance",
    "remaining_count": "not updated",
    "set_down_ratio_max": "of a set out at once",
}


def _in_words(word: str, row: dict[str, Any]) -> str:
    """`length +36 h 4 min (17.7 times)`; nothing where they are as good as equal, or one of them has none."""
    if not row["difference"] or row["is_near"]:
        return ""
    many = "" if row["ratio"] is None else f" ({times(row['ratio'])} times)"
    return f"{word} {signed(row['figure'], row['difference'])}{many}"


def signed(name: str, value: float | None) -> str:
    """A difference of the figure *name* as people read it, its sign and its unit with it."""
    if value is None:
        return "-"
    if not value:
        return "none"
    sign = "+" if value > 0 else "-"
    unit = FIGURES[name].unit
    word = (
        "" if unit in ("ms", "VM-ms", "ratio", "count") else f" {unit.removesuffix('s') if abs(value) == 1 else unit}"
    )
    told = spelt(name, abs(value)) if unit != "ratio" or abs(value) >= 0.0005 else f"{abs(value):.1g}"
    return f"{sign}{told}{word}"


def times(ratio: float) -> str:
    """*ratio* to three figures: `17.7`, `0.0210`."""
    return f"{ratio:,.0f}" if ratio >= 99.95 or not ratio else f"{ratio:#.3g}"


def signed_span(value_ms: float | None) -> str:
    """A difference in ms as people read it, its sign with it."""
    if value_ms is None:
        return "-"
    return "none" if not value_ms else f"{'+' if value_ms > 0 else '-'}{duration(abs(value_ms))}"


def change_of(value_ms: float | None) -> str:
    """`signed_span` within a sentence: of VMs out as long in both it says so."""
    return "no change" if value_ms == 0 else signed_span(value_ms)


def _share_title(row: dict[str, Any]) -> str:
    match row["grain"]:
        case "pause":
            length = row["of"].removesuffix("ms") if row["of"].endswith("ms") else row["of"].removesuffix("s")
            return f"paused over {length} {row['of'].removeprefix(length)}"
        case "cause":
            return f"waited_ms, {row['of']}"
        case _:
            line = int(row["figure"].split("_")[1]) / 100
            return f"{'VM' if row['of'] == 'vm' else row['of']}s below {line:g} %"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _change(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("base_value", "value", "difference", "ratio", "better")}


def _paired_dict(both: Paired) -> dict[str, Any]:
    values = {name: getattr(both, name) for name in Paired.__dataclass_fields__}
    return {name: each.to_dicts() if isinstance(each, pl.DataFrame) else each for name, each in values.items()}


def _encoded(name: str) -> str:
    """*name* as the first part of a key of reports."""
    return name.replace("%", "%25").replace("/", "%2F")


def _decoded(part: str) -> str | None:
    return None if part == "%00" else part.replace("%2F", "/").replace("%25", "%")


def _with_unlike(both: pl.DataFrame) -> pl.DataFrame:
    """*both* with `is_of_others` and `is_of_others_hit`: a row is of VMs in scope, or hit, that are not as many."""
    is_unlike = pl.col("value").ne_missing(pl.col("base_value"))
    first = _first(pl.col("key"))
    for name, counts in (("is_of_others", ["vm_count"]), ("is_of_others_hit", ["vm_hit_count", "remaining_count"])):
        found = both.filter(pl.col("figure").is_in(counts), is_unlike).select("grain", "key").unique()
        both = both.join(found.with_columns(pl.lit(value=True).alias(name)), on=["grain", "key"], how="left",
                         maintain_order="left")  # fmt: skip
        campaigns = found.filter(grain="campaign")["key"]
        is_of_campaign = first.is_in(campaigns.implode()) | ((first == "*") & bool(len(campaigns)))
        # Service levels have no counts of their own. As many in scope may be others where the whole is not as many; who
        # is hit of a group is known.
        reaches = is_of_campaign if name == "is_of_others" else is_of_campaign & (pl.col("grain") == "sla")
        both = both.with_columns(pl.col(name).fill_null(value=False) | reaches)
    return both


def _first(key: pl.Expr) -> pl.Expr:
    return key.str.split("/").list.first()
