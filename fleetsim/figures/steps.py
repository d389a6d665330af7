"""The units of a stage that could wait for one another: the chain of those that led to its end, and its hosts."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from fleetsim.figures.runs import RunFiles, scanned


@dataclass(frozen=True, slots=True)
class Hop:
    """A unit of a chain: who it is, when it was worked on, and what of the one before it waited for (None: nothing)."""

    host: int | str | None
    set: int | str | None
    domain: int | None
    vm: int | str | None  # of a single
    start_ms: int
    held_ms: int
    waited_for: str | None

    @property
    def name(self) -> str:
        """The unit in words."""
        if self.host is not None:
            return f"host {self.host}"
        if self.set is not None:
            return f"domain {self.domain} of set {self.set}"
        return f"single {self.vm}" if self.vm is not None else f"domain {self.domain} of sets in step"


def chain_of_units(files: RunFiles, stage: dict[str, Any]) -> tuple[Hop, ...]:
    """The units of *stage* that led, one letting the next start, to its last end; none where the run has no steps.

    Of several that ended last the first in the fleet is followed; so is the first of several that let one start.
    """
    steps = steps_of(files, stage)
    if steps is None or steps.is_empty():
        return ()
    unit_row, waited_row = steps["unit_row"].to_numpy(), steps["waited_row"].fill_null(-1).cast(pl.Int64).to_numpy()
    start_ms = steps["start_ms"].to_numpy()
    before = np.where(waited_row < 0, -1, np.searchsorted(unit_row, waited_row)).tolist()
    place = int(np.argmax(start_ms + steps["duration_ms"].to_numpy()))
    chain = []
    while place >= 0:
        chain.append(place)
        place = before[place]
    return tuple(Hop(**row) for row in _named(files, stage, steps[chain[::-1]]).iter_rows(named=True))


def steps_of(files: RunFiles, stage: dict[str, Any]) -> pl.DataFrame | None:
    """The units of *stage* by `unit_row`, with `start_ms` since scenario start; None where the run has no steps."""
    frames = [
        scanned(path)
        .filter(pl.col("campaign").cast(pl.String) == stage["campaign"], pl.col("iteration") == stage["iteration"])
        .with_columns(start_ms=pl.col("start_at").dt.epoch("ms") - files.start_ms_epoch)
        .collect()
        for path in sorted((files.path / "steps" / f"region={stage['region']}").glob("*.parquet"))
    ]
    return pl.concat(frames).sort("unit_row") if frames else None


def _named(files: RunFiles, stage: dict[str, Any], steps: pl.DataFrame) -> pl.DataFrame:
    """*steps* as rows of `Hop`, by the names that the fleet has for them."""
    region = f"region={stage['region']}"
    hosts = [
        scanned(path).select("host_row", "host") for path in sorted((files.path / "hosts" / region).glob("*.parquet"))
    ]
    identity = files.fleet_schema
    names = steps.select("unit_row", "host_row", "set_row", "domain", "start_ms", held_ms="duration_ms").with_columns(
        waited_for=steps["waited_for"].cast(pl.String)
    )
    named = names.with_columns(host=pl.lit(None, identity.get("host", pl.String)))
    if hosts:
        known = pl.concat(hosts).collect()
        named = names.join(known, on="host_row", how="left", maintain_order="left")
    wanted = names["unit_row"].unique().implode()
    columns = ["vm_row", "vm", *(name for name in ("set",) if name in identity)]
    vms = pl.concat(
        scanned(path).select(columns).filter(pl.col("vm_row").is_in(wanted)).collect()
        for path in sorted((files.path / "fleet" / region).glob("*.parquet"))
    )
    if "set" not in vms.columns:
        vms = vms.with_columns(set=pl.lit(None, pl.Int64))
    told = named.join(vms, left_on="unit_row", right_on="vm_row", how="left", maintain_order="left")
    is_host = pl.col("host_row").is_not_null()
    return told.select(
        "host",
        set=pl.when(~is_host & pl.col("set_row").is_not_null()).then("set"),
        domain="domain",
        vm=pl.when(~is_host & pl.col("domain").is_null()).then("vm"),
        start_ms="start_ms",
        held_ms="held_ms",
        waited_for="waited_for",
    )


@dataclass(frozen=True, slots=True)
class Hosts:
    """How the VMs in sets of a region sit on its hosts, as the fleet has it, whatever the dates of VMs.

    claim_count        (set, domain) on a host, summed over hosts
    one_domain_count   hosts whose VMs in sets have one domain number
    shared_count       hosts with two domains of one set: they wait for the whole of it
    """

    host_count: int
    claim_count: int
    claim_count_max: int
    one_domain_count: int
    shared_count: int


def hosts_of(files: RunFiles, regions: list[str], walk_by: str = "update_domain") -> Hosts | None:
    """The hosts of *regions*, by the domains that *walk_by* names; None where they have none."""
    if not {"host_row", "set", walk_by} <= set(files.fleet_schema):
        return None
    frames = [
        scanned(path).select("host_row", "set", domain=walk_by).drop_nulls().unique()
        for region in regions
        for path in sorted((files.path / "fleet" / f"region={region}").glob("*.parquet"))
    ]
    claims = pl.concat(pl.collect_all(frames)).unique() if frames else pl.DataFrame()
    if claims.is_empty():
        return None
    of_hosts = claims.group_by("host_row").agg(
        claim_count=pl.len(), domain_count=pl.col("domain").n_unique(), set_count=pl.col("set").n_unique()
    )
    return Hosts(
        host_count=len(of_hosts),
        claim_count=len(claims),
        claim_count_max=int(of_hosts["claim_count"].max()),  # type: ignore[arg-type]
        one_domain_count=int((of_hosts["domain_count"] == 1).sum()),
        shared_count=int((of_hosts["set_count"] < of_hosts["claim_count"]).sum()),
    )
