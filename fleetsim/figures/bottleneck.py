"""Why a campaign takes so long: the chain of stages that bounds it, and what each waited for."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from fleetsim.figures.declared import CAUSES, duration
from fleetsim.figures.runs import RunFiles, scanned
from fleetsim.figures.steps import Hop, Hosts, chain_of_units
from fleetsim.figures.timeline import Bound
from fleetsim.schema import FIRST_ITERATION


@dataclass(frozen=True, slots=True)
class Link:
    """One stage of the chain that bounds a campaign's length: what released it, and what then took its time.

    `after` is the (campaign, region) whose end released the stage, None where none did, and `cause` one of CAUSES;
    `waited_ms` counts from when it was asked for, of a later wave from the campaign's start. Its region is free
    again from `free_ms` on: later than its last end where units waited for VMs that were deleted. Spread, work, gap
    and waits for room under caps are those of the set or single that ended last or, where units can wait for those of
    others, of `units`: who led, one letting the next start, to the last end. They sum up to the stage.
    """

    campaign: str
    iteration: int
    region: str
    wave: int
    after: tuple[str, str] | None
    cause: str | None
    asked_ms: int
    start_ms: int
    end_ms: int
    free_ms: int
    waited_ms: int
    pair_lag_ms: int
    bake_ms: int
    spread_ms: int
    work_ms: int
    gap_ms: int
    cap_ms: int
    set: int | str | None
    vm: int | str | None
    cluster: str | None  # of the set, whose sets walk in step
    domain_count: int
    units: tuple[Hop, ...] = ()
    lead_ms: int | None = None  # from the notice to the opening of the scheduled window, where it has windows

    def sentence(self, campaign: str) -> str:
        """The link in words, in a chain of *campaign*: instants since scenario start, so that links add up."""
        subject = self.region if self.campaign == campaign else f"{self.campaign} in {self.region}"
        terms = [
            (self.spread_ms, "spread" if self.lead_ms is None else "waiting for its place in the window"),
            (self.work_ms, "work"),
            (self.gap_ms, "gap"),
            (self.cap_ms, "waiting for room under caps"),
        ]
        spent = [f"{duration(value_ms)} of {word}" for value_ms, word in terms if value_ms] or ["nothing"]
        listed = spent[0] if len(spent) == 1 else f"{', '.join(spent[:-1])} and {spent[-1]}"
        domains = f"{self.domain_count} domain{'s' if self.domain_count != 1 else ''}"
        walker = f"set {self.set}" if self.cluster is None else f"the sets of cluster {self.cluster}"
        what = f"single {self.vm}" if self.set is None else f"{walker} ({domains})"
        if self.units:
            kind = "hosts" if self.units[-1].host is not None else "units"
            last = self.units[-1].name
            what = f"{len(self.units):,} {kind} one after the other, {last} the last" if len(self.units) > 1 else last
        waiting_ms = self.free_ms - self.end_ms
        until = "its last unit, left without VMs, was done" if self.lead_ms is None else "its scheduled window was over"
        emptied = f", then {duration(waiting_ms)} until {until}" if waiting_ms else ""
        done = f"{listed} in {what}" if self.domain_count else "nobody was hit"
        return f"{subject} from {duration(self.start_ms)}, {self._cause()}: {done}{emptied}"

    def _cause(self) -> str:
        if self.cause == "window":
            again = "announced anew for whoever was left, " if self.iteration > FIRST_ITERATION else ""
            return f"{again}after its notice and the window for customers"
        if self.cause is None:
            if self.waited_ms:
                return f"{duration(self.waited_ms)} after it was asked for, for no stage of this run"
            return "as asked"
        if self.cause == "wave":
            former = f" with {self.after[1]}" if self.after else ""
            bake = f" and {duration(self.bake_ms)} of bake" if self.bake_ms else ""
            announced = ", its notice and the window for customers" if self.lead_ms else ""
            return f"after the wave before it ended{former}{bake}{announced}"
        assert self.after is not None, "a stage waits for a stage"
        campaign, region = self.after
        waited_for = [f"{region} (pair)"] if region != self.region else []
        waited_for += [f"campaign {campaign}"] if campaign != self.campaign else []
        lag = f" and {duration(self.pair_lag_ms)} of pair lag" if self.pair_lag_ms else ""
        return f"after {' of '.join(waited_for) or 'its earlier iteration'}{lag}"


@dataclass(frozen=True, slots=True)
class _Release:
    """What let a stage start when it did: one of CAUSES, the stage that ended if it is known, lag or bake after it."""

    cause: str | None = None
    by: dict[str, Any] | None = None
    after_ms: int = 0


def chain(files: RunFiles, stage_rows: pl.DataFrame, campaign: str) -> list[Link]:
    """The stages that led, one releasing the next, to the last end of *campaign*, in order of time.

    Found backwards from the stage that ended last: a stage that did not start when asked started when a region,
    its own or a paired one, was free again, plus lag; its own, as its `bottleneck`, where both fit. One that
    did was released by its wave: by the stage of a former wave that was free last, plus bake.
    """
    rows = _at_work(stage_rows)
    own = [row for row in rows if row["campaign"] == campaign and row["end_ms"] is not None]
    stage = max(own, key=lambda row: (row["end_ms"], row["region"]), default=None)
    links: list[Link] = []
    while stage is not None:
        release = _released(files, rows, stage)
        if stage["end_ms"] is None:  # a window that hit nobody: of its time there is nothing more to tell
            parts = (f"last_{name}" for name in ("spread_ms", "work_ms", "gap_ms", "domain_count"))
            stage = {**stage, "end_ms": stage["start_ms"], **dict.fromkeys(parts, 0)}
        vm, its_set, cluster = _last_of(files, stage)
        units = chain_of_units(files, stage)
        if units and units[-1].host is not None:  # whoever of it comes first in the fleet
            vm = its_set = cluster = None
        asked_ms = _campaign_start_ms(files, stage) if release.cause == "wave" else stage["asked_ms"]
        links.append(
            Link(
                campaign=stage["campaign"],
                iteration=stage["iteration"],
                region=stage["region"],
                wave=stage["wave"],
                after=(release.by["campaign"], release.by["region"]) if release.by else None,
                cause=release.cause,
                asked_ms=stage["asked_ms"],
                start_ms=stage["start_ms"],
                end_ms=stage["end_ms"],
                free_ms=stage["free_ms"],
                waited_ms=stage["start_ms"] - asked_ms,
                pair_lag_ms=release.after_ms if release.cause == "pair" else 0,
                bake_ms=release.after_ms if release.cause == "wave" else 0,
                spread_ms=stage["last_spread_ms"],
                work_ms=stage["last_work_ms"],
                gap_ms=stage["last_gap_ms"],
                cap_ms=stage.get("last_cap_ms") or 0,
                set=its_set,
                vm=vm if its_set is None else None,
                cluster=cluster,
                domain_count=stage["last_domain_count"],
                units=units,
                lead_ms=_lead_ms(files, stage),
            )
        )
        stage = release.by
    return links[::-1]


def explained(
    links: list[Link], best: Bound | None, length_ms: int, campaign: dict[str, Any], hosts: Hosts | None
) -> list[str]:
    """What the chain of *campaign* says, in a paragraph: where its time went, what is possible, what would help.

    Shares are of all the time on the chain, waits between stages included; what stages of other campaigns take is
    theirs.
    """
    told: dict[str, int] = {}
    for link in links:
        spent = {"spread": link.spread_ms, "work": link.work_ms, "gap": link.gap_ms, "cap": link.cap_ms}
        if link.campaign != campaign["name"]:
            spent = {"campaign": sum(spent.values())}
        between = {"pair_lag": link.pair_lag_ms, "bake": link.bake_ms}
        if link is links[0] and link.waited_ms:
            between["earlier"] = link.waited_ms
        for cause, value_ms in (*spent.items(), *between.items()):
            told[cause] = told.get(cause, 0) + value_ms
    cause, most_ms = max(told.items(), key=lambda each: each[1])
    own = [link.units for link in links if link.campaign == campaign["name"]]
    kind = "hosts" if all(unit.host is not None for units in own for unit in units) else "units"
    unit_count = sum(map(len, own))
    where = "" if len(own) == 1 else f" in {len(own)} regions"
    in_turn = f", of {unit_count:,} {kind} one after the other{where}" if unit_count > len(own) else ""
    because = {
        "gap": f"gaps between update domains{in_turn}",
        "cap": f"waiting for room under caps{in_turn}",
        "work": f"the work itself{in_turn}",
        "spread": "`spread`, within which sets, singles and hosts start at random",
        "pair_lag": "`pair_lag` between paired regions",
        "bake": "`bake` between waves",
        "campaign": "taken by other campaigns",
        "earlier": "waiting before the first of its stages",
    }
    sentences = [f"{most_ms / max(1, sum(told.values())):.0%} of the time on this chain is {because[cause]}."]
    if best is not None and best.bound_ms:
        ratio = length_ms / best.bound_ms
        took = f"it took {ratio:.1f} times that" if ratio >= 1.05 else "that is what it took"
        sentences.append(f"{best.sentence()[0].upper()}{best.sentence()[1:]}; {took}.")
        if hosts is not None:
            can_help = ratio >= 1.5 and cause in ("gap", "work")
            sentences.append(_told_of_hosts(hosts, campaign, can_help=can_help))
    return sentences


def _told_of_hosts(hosts: Hosts, campaign: dict[str, Any], *, can_help: bool) -> str:
    """How sets share the hosts of the regions of *campaign* and, if that *can_help*, how to share them otherwise."""
    mean = hosts.claim_count / hosts.host_count
    walk_by = campaign.get("walk_by", "update_domain")
    domain = walk_by.replace("_", " ")
    told = (
        f"{hosts.one_domain_count:,} of {hosts.host_count:,} hosts there carry one {domain} number; a host has VMs of"
        f" {mean:.1f} domains of sets, {hosts.claim_count_max:,} at most"
    )
    if hosts.shared_count:
        told += f", and {hosts.shared_count:,} have two of one set, and need all of it to be free"
    if can_help and hosts.one_domain_count < hosts.host_count:
        by = "" if walk_by == "update_domain" else f" --by {walk_by}"
        return (
            f"{told}. A host may start only when all sets on it let it: were each to carry one number, as"
            f" `fleet place --policy aligned{by}` puts VMs, hosts of one number could go together."
        )
    if can_help and campaign.get("host_order", "auto") != "auto":
        return f'{told}. With host_order = "auto" hosts of one number go together.'
    return f"{told}."


def _released(files: RunFiles, rows: list[dict[str, Any]], stage: dict[str, Any]) -> _Release:
    """What released *stage*, one of *rows*, the stages that were at work."""
    of = {each["name"]: each for each in files.campaigns}
    lead_ms = _lead_ms(files, stage)
    if stage["iteration"] > FIRST_ITERATION and stage["start_ms"] == stage["asked_ms"] + (lead_ms or 0):
        before = (stage["campaign"], stage["iteration"] - 1, stage["region"])
        by = next((row for row in rows if (row["campaign"], row["iteration"], row["region"]) == before), None)
        return _Release("window", by, int(of[stage["campaign"]]["reschedule_delay_ms"]))
    if stage["start_ms"] == stage["asked_ms"] + (lead_ms or 0):
        if stage["wave"] == 1:
            return _Release("window" if lead_ms else None)
        bake_ms = int(of[stage["campaign"]].get("bake_ms", 0))
        former = []
        for row in rows:
            # A wave between the two with nobody to hit was over at once: its bake passed all the same.
            baked_ms = bake_ms * (stage["wave"] - row["wave"])
            is_former = row["campaign"] == stage["campaign"] and row["wave"] < stage["wave"]
            if is_former and row["free_ms"] + baked_ms == stage["asked_ms"]:
                former.append((row["wave"], row["region"], row, baked_ms))
        _, _, by, baked_ms = max(former, key=lambda each: each[:2], default=(0, "", None, bake_ms))
        return _Release("wave", by, baked_ms)
    found = _Release()
    for row in rows:
        is_own = row["region"] == stage["region"]
        is_paired = (
            frozenset((row["region"], stage["region"])) in files.edges
            and {row["campaign"], stage["campaign"]} <= files.excluding
        )
        lag_ms = max(int(of[each["campaign"]]["pair_lag_ms"]) for each in (row, stage)) if is_paired else 0
        is_then = row["free_ms"] + lag_ms == stage["start_ms"] and row["start_ms"] < stage["start_ms"]
        if is_then and is_own:
            return _Release("campaign", row)
        if is_then and is_paired and found.by is None:
            found = _Release("pair", row, lag_ms)
    return found


def _at_work(stage_rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Stages that were at work, those among them that hit nobody in their window too."""
    return stage_rows.filter(pl.any_horizontal(pl.col("end_ms", "free_ms").is_not_null())).to_dicts()


def _lead_ms(files: RunFiles, stage: dict[str, Any]) -> int | None:
    """From the notice to the opening of the scheduled window; None where the campaign of *stage* has no windows."""
    campaign = next(each for each in files.campaigns if each["name"] == stage["campaign"])
    if "scheduled" not in campaign:
        return None
    before_ms = campaign["self_service"]["length_ms"] + campaign["scheduled"]["gap_ms"]
    return max(int(campaign["notice_ms"]), int(before_ms))


def _campaign_start_ms(files: RunFiles, stage: dict[str, Any]) -> int:
    return int(next(each.get("start_ms", 0) for each in files.campaigns if each["name"] == stage["campaign"]))


def waits(files: RunFiles, stage_rows: pl.DataFrame) -> pl.DataFrame:
    """`waited_ms` of each campaign by `cause`, one of CAUSES, summed over its stages that were at work."""
    rows = _at_work(stage_rows)
    waited_ms = {(each["name"], cause): 0 for each in files.campaigns for cause in CAUSES}
    for stage in rows:
        name, release = stage["campaign"], _released(files, rows, stage)
        if stage["wave"] > 1 and stage["iteration"] == FIRST_ITERATION:
            waited_ms[name, "wave"] += stage["asked_ms"] - _campaign_start_ms(files, stage)
        lead_ms = _lead_ms(files, stage) or 0
        waited_ms[name, "window"] += lead_ms
        if release.cause in ("pair", "campaign"):
            waited_ms[name, release.cause] += stage["start_ms"] - stage["asked_ms"] - lead_ms
        waited_ms[name, "spread"] += stage["last_spread_ms"] or 0
        waited_ms[name, "gap"] += stage["last_gap_ms"] or 0
        waited_ms[name, "cap"] += stage.get("last_cap_ms") or 0
    return pl.DataFrame(
        [(*key, value_ms) for key, value_ms in waited_ms.items()],
        schema={"campaign": pl.String, "cause": pl.String, "waited_ms": pl.Int64},
        orient="row",
    )


def _last_of(files: RunFiles, stage: dict[str, Any]) -> tuple[int | str | None, int | str | None, str | None]:
    """The user's `vm` and `set` at the stage's `last_vm_row`, and the cluster whose sets walk in step with it."""
    if stage["last_vm_row"] is None:
        return None, None, None
    of = next(each for each in files.campaigns if each["name"] == stage["campaign"])
    columns = ["vm", *(name for name in ("set", "cluster") if name in files.fleet_schema)]
    is_in_step = bool(of.get("sets_in_step")) and {"set", "cluster"} <= set(columns)
    folder = files.path / "fleet" / f"region={stage['region']}"
    for path in sorted(folder.glob("*.parquet")):
        found = scanned(path).filter(pl.col("vm_row") == stage["last_vm_row"]).select(columns).collect()
        if len(found):
            row = found.row(0, named=True)
            clusters = []
            if is_in_step and row["set"] is not None:
                of_set = scanned(path).filter(pl.col("set") == row["set"]).select(pl.col("cluster").cast(pl.String))
                clusters = of_set.unique().collect()["cluster"].to_list()
            return row["vm"], row.get("set"), clusters[0] if len(clusters) == 1 else None
    return None, None, None
