"""The command line. A command parses, makes one call of the library, prints, and sets the exit code.

Only click is imported here; what a command needs is imported when it runs, so that `--help` is at once.
"""

import gc
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from fleetsim import __version__
from fleetsim.errors import InputError, RunError

if TYPE_CHECKING:
    from fleetsim.progress import Progress

EXIT_FAILED, EXIT_UNUSABLE, EXIT_INTERRUPTED = 1, 2, 130


class _InOrder(click.Group):
    """A group that lists its commands in the order a user meets them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


class _Utf8Path(click.Path):
    """Arrow opens files by names in UTF-8 only."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            os.fspath(value).encode()
        except UnicodeEncodeError:
            self.fail(f"must be UTF-8, got {value!r}", param, ctx)
        if "://" in os.fspath(value):
            self.fail(f"must be a path, got the URL {value}", param, ctx)
        return super().convert(value, param, ctx)


class _UrlOrPath(_Utf8Path):
    """A URL, too: what is written is put there, and what is read is fetched."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and "://" in value:
            from fleetsim.storage import located

            return located(value)
        return super().convert(value, param, ctx)


_PATH = _Utf8Path(path_type=Path)
_PLACE = _UrlOrPath(path_type=Path)
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout and nothing else.")
_out = click.option("-o", "--out", type=_PATH, required=True, help="What to write; must be new.")
_pairs = click.option(
    "--pairs",
    type=_PATH,
    help="CSV region,paired_region that replaces the built-in pairs. A prepared fleet has its own.",
)
_seed = click.option("--seed", type=int, default=0, show_default=True, help="Number all draws are addressed by.")
_no_draws = click.option(
    "--seed", type=int, default=0, expose_value=False, help="Taken as by every import; this one draws nothing."
)
_on = click.option("--on", type=click.Choice(["ray"]), help="Compute on a Ray cluster instead of threads.")
_fleet = click.argument("fleet", type=_PATH)
_place_of_fleet = click.argument("fleet", type=_PLACE)
_run_folder = click.argument("run_folder", metavar="RUN", type=_PLACE)


@click.group(cls=_InOrder, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fleetsim")
def cli() -> None:
    """Simulate planned maintenance on a cloud fleet, before it is started.

    \b
    A first look:        fleetsim demo
    Your own fleet:      fleetsim fleet check FLEET.csv
                         fleetsim run FLEET.csv SCENARIO.toml -o RUN
                         fleetsim verify RUN
                         fleetsim report RUN --by size
    Two plans:           fleetsim compare RUN OTHER
    Many settings:       fleetsim sweep FLEET.csv SWEEP.toml -o SWEEP

    A FLEET is Parquet (a file or a folder), CSV, or a prepared fleet; a column `vm` and a column `region` are all it
    needs. `fleetsim schema fleet` lists what else it may have, `fleetsim presets azure-2017` prints a scenario.

    Exit codes: 0 fine, 1 a rule is broken or the run failed, 2 unusable input, 130 interrupted.
    """


@cli.command()
@click.option(
    "-o", "--out", type=_PATH, default=Path("fleetsim-demo"), show_default=True,
    help="Folder of the run; must be new.",
)  # fmt: skip
@click.option("--placements", is_flag=True, help="Instead: how much it matters who shares a host, and which go first.")
@_json
def demo(out: Path, placements: bool, as_json: bool) -> None:
    """Freeze a million VMs, host by host, over the world.

    A fleet as measured at Azure is placed on hosts, the campaign run, verified and reported on: a minute in all.
    """
    if placements:
        from fleetsim.lesson import placements as compare

        with _interruptible(f"if {out} is there, it is unfinished: remove it"), _watched() as progress:
            compared = compare(out, progress=progress)
        _print(compared, as_json)
        return
    from fleetsim.first_run import demo as call

    with _interruptible(f"if {out} is there, it is unfinished: remove it"), _watched() as progress:
        done = call(out, progress=progress)
    if as_json:
        _print_json(
            {
                "fleet": done.fleet.to_dict(),
                "placed": done.placed.to_dict(),
                "run": done.run.to_dict(),
                "verify": done.verdict.to_dict(),
                "report": done.report.to_dict(),
            }
        )
    else:
        _render(done.verdict, brief=True)
        _render(done.report)
        _tell(f"\nThe run is in {out}. Look further:\n  fleetsim report {out} --by size\n  fleetsim verify {out}")
        _tell(f"digest: {done.run.digest}")
    _exit_unless(done.verdict.ok)


@cli.group(cls=_InOrder)
def fleet() -> None:
    """Make, import, describe, place, check and prepare fleets."""


@fleet.command()
@_out
@click.option("--vms", type=int, required=True, help="How many VMs.")
@click.option("--regions", help="Names, comma-separated; default: ten in five pairs; of azure-2017 all public ones.")
@click.option("--mix", default="plain", show_default=True, help="plain, or azure-2017: as measured there.")
@click.option("--set-size", type=int, help="With plain: VMs of a set; 1: singles only; default: 20.")
@click.option("--update-domains", type=int, help="With plain: update domains of a set; default: 5.")
@click.option("--lifetimes", is_flag=True, help="With azure-2017: VMs are created and deleted.")
@click.option("--days", type=int, help="With --lifetimes: for how long; default: 30.")
@click.option("--start", metavar="INSTANT", help="With --lifetimes: from when on; default: 2026-12-01T00:00:00Z.")
@_seed
@_json
def generate(
    out: Path,
    vms: int,
    regions: str | None,
    mix: str,
    set_size: int | None,
    update_domains: int | None,
    lifetimes: bool,
    days: int | None,
    start: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Generate any number of VMs, in bounded memory.

    The mix plain is equal sets. azure-2017 has sizes, sets, applications, clusters and lifetimes as in the Azure 2017
    public trace, over all public regions; what is invented is printed, and recorded in the file. OUT ending in
    .parquet is one file; else it is a folder with a file or more a region.
    """
    from fleetsim.fleet import generate as call

    listed = [name.strip() for name in regions.split(",")] if regions is not None else None
    with _watched() as progress:
        made = call(
            out,
            vms,
            regions=listed,
            set_size=set_size,
            update_domains=update_domains,
            mix=mix,
            lifetimes=lifetimes,
            days=days,
            start=start,
            seed=seed,
            progress=progress,
        )
    _print(made, as_json)


@fleet.group("import", cls=_InOrder)
def import_() -> None:
    """Import fleets from what others wrote."""


@import_.command("azure-trace")
@click.argument("source", required=False, type=_PATH)
@_out
@click.option(
    "--present", type=click.Choice(["throughout", "alive"]), default="throughout", show_default=True,
    help="Every VM of the trace, always; or those alive from --at on, with their lives.",
)  # fmt: skip
@click.option("--at", "at_day", type=float, metavar="DAY", help="With alive: day of the trace, 0 to 30; default: 24.")
@click.option("--start", metavar="INSTANT", help="With alive: when DAY is; default: 2026-12-01T00:00:00Z.")
@_seed
@_json
def azure_trace(
    source: Path | None, out: Path, present: str, at_day: float | None, start: str | None, seed: int, as_json: bool
) -> None:
    """Import the Azure 2017 public trace.

    SOURCE is the trace as Parquet; default: the one shipped. It has neither regions nor sets: what is invented is
    printed, and recorded in the file. When VMs are created and deleted it tells of its last nine days.
    """
    from fleetsim.fleet import import_trace as call

    with _watched() as progress:
        made = call(out, source, seed, present=present, at_day=at_day, start=start, progress=progress)
    _print(made, as_json)


@import_.command("azure-inventory")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=_PATH)
@_out
@click.option(
    "--map", "mapped", multiple=True, metavar="COLUMN=PATH,...",
    help="Where columns are found, as application=tags.app; repeatable.",
)  # fmt: skip
@_no_draws
@click.option("--keep-deallocated", is_flag=True, help="Keep VMs that are on no host.")
@_pairs
@_json
def azure_inventory(
    sources: tuple[Path, ...],
    out: Path,
    mapped: tuple[str, ...],
    keep_deallocated: bool,
    pairs: Path | None,
    as_json: bool,
) -> None:
    """Import your own VMs from what the Azure API or az listed.

    \b
    SOURCE...: files, or folders of them, in any mixture:
      az rest --url ".../Microsoft.Compute/virtualMachines?api-version=2024-07-01"
      the same with &statusOnly=true: domains and power states, joined by id
      az vm list, az vmss list-instances --expand instanceView
      any JSON, JSON lines or CSV, with --map vm=PATH,region=PATH,set=PATH

    Deallocated VMs are on no host: they are left out, and counted. Stopped ones are kept. What is assigned or left
    open is printed, and recorded in the file. The power state is kept as the column power_state.
    """
    from fleetsim.fleet import import_inventory as call

    with _watched() as progress:
        made = call(
            sources, out, _columns_at(mapped), pairs=pairs, keep_deallocated=keep_deallocated, progress=progress
        )
    _print(made, as_json)


@import_.command("huawei-topology")
@click.argument("source", required=False, type=_PATH)
@_out
@_no_draws
@click.option("--sequence", help="Only the VMs of this one, as C1; default: all, each in a region of its own.")
@click.option("--hosts", type=_PATH, help="CSV host_id,rack_id; default: the one shipped.")
@_json
def huawei_topology(source: Path | None, out: Path, sequence: str | None, hosts: Path | None, as_json: bool) -> None:
    """Import Huawei's public topology data.

    SOURCE is the CSV of VMs; default: the one shipped. Hosts, racks and clusters are written beside OUT, as
    OUT.hosts.parquet. The data have neither regions nor update domains: what is invented is printed, and recorded.
    """
    from fleetsim.fleet import import_topology as call

    with _watched() as progress:
        made = call(out, source, sequence, hosts=hosts, progress=progress)
    _print(made, as_json)


@fleet.command()
@click.argument("own", type=_PATH)
@click.option("--in", "among", required=True, type=_PATH, help="The fleet of others, as `generate` makes one.")
@_out
@_pairs
@_json
def embed(own: Path, among: Path, out: Path, pairs: Path | None, as_json: bool) -> None:
    """Put your OWN fleet among the VMs of others, in one fleet.

    A column `owner` tells whose a VM is, own or others: report --only owner=own is about yours. OUT ending in
    .parquet is one file; else it is a folder. Names that both fleets have are kept apart by a prefix.
    """
    from fleetsim.fleet import embed as call

    with _watched() as progress:
        made = call(own, among, out, pairs, progress=progress)
    _print(made, as_json)


@fleet.command()
@_fleet
@_out
@click.option("--vcpus", type=float, help="Of a host; default: 64.")
@click.option("--memory-gib", type=float, help="Of a host; default: 512.")
@click.option("--vms-per-host", type=int, help="Instead: hosts that take N VMs of any size; place by --slots.")
@click.option("--fill", type=float, default=0.8, show_default=True, help="How full the fleet makes them, at most.")
@click.option(
    "--hosts-per-cluster", default="500", show_default=True,
    help="Of clusters the fleet does not name; measured: drawn from 36 clusters of Azure.",
)  # fmt: skip
@click.option("--hosts-per-rack", type=int, default=20, show_default=True, help="The last rack of a cluster: fewer.")
@click.option("--spare-ratio", type=float, default=0.0, show_default=True, help="Spare hosts beside these.")
@_seed
@_pairs
@_json
def hosts(
    fleet: Path,
    out: Path,
    vcpus: float | None,
    memory_gib: float | None,
    vms_per_host: int | None,
    fill: float,
    hosts_per_cluster: str,
    hosts_per_rack: int,
    spare_ratio: float,
    seed: int,
    pairs: Path | None,
    as_json: bool,
) -> None:
    """Make an inventory of hosts that FLEET fits on.

    Each region gets what its VMs take, cluster by cluster where FLEET names clusters; racks are runs of hosts. OUT is
    a Parquet file to place FLEET on: fleet place FLEET --hosts OUT.
    """
    from fleetsim.fleet import hosts as call

    with _watched() as progress:
        made = call(
            fleet,
            out,
            vcpus=vcpus,
            memory_gib=memory_gib,
            vms_per_host=vms_per_host,
            fill=fill,
            hosts_per_cluster=int(hosts_per_cluster) if hosts_per_cluster.isdecimal() else hosts_per_cluster,
            hosts_per_rack=hosts_per_rack,
            spare_ratio=spare_ratio,
            seed=seed,
            pairs=pairs,
            progress=progress,
        )
    _print(made, as_json)


@fleet.command()
@_fleet
@click.option("--hosts", type=_PATH, required=True, help="The inventory: `fleetsim schema hosts`.")
@_out
@click.option("--policy", default="aligned", show_default=True, help="aligned, random, first-fit or best-fit.")
@click.option("--by", default="update_domain", show_default=True, help="Domain to align and count by; or fault_domain.")
@click.option("--any-rack", is_flag=True, help="Do not keep fault domains on racks of their own.")
@click.option("--slots", is_flag=True, help="Each VM takes one vCPU and no memory.")
@click.option("--replace", is_flag=True, help="Drop the hosts and racks that FLEET has.")
@click.option("--host-vcpus", type=float, help="Of hosts that do not say; default: any number.")
@click.option("--host-memory-gib", type=float, help="Of hosts that do not say; default: any amount.")
@_seed
@_pairs
@_json
def place(
    fleet: Path,
    hosts: Path,
    out: Path,
    policy: str,
    by: str,
    any_rack: bool,
    slots: bool,
    replace: bool,
    host_vcpus: float | None,
    host_memory_gib: float | None,
    seed: int,
    pairs: Path | None,
    as_json: bool,
) -> None:
    """Put the VMs of FLEET on hosts that have room for them.

    aligned: a host carries one update domain number. random: any host. first-fit, best-fit: packed. A VM stays in its
    cluster and zone. OUT is FLEET with the host of each VM, and its rack, cluster and zone.
    """
    from fleetsim.fleet import place as call

    with _watched() as progress:
        made = call(
            fleet,
            hosts,
            out,
            policy=policy,
            seed=seed,
            by=by,
            any_rack=any_rack,
            slots=slots,
            replace=replace,
            host_vcpus=host_vcpus,
            host_memory_gib=host_memory_gib,
            pairs=pairs,
            progress=progress,
        )
    _print(made, as_json)


@fleet.command()
@_fleet
@click.option("-o", "--out", type=_PLACE, required=True, help="Folder to write, or its URL; must be new.")
@click.option("--hosts", type=_PATH, help="The inventory FLEET is on: what room is left for VMs that are moved.")
@click.option("--slots", is_flag=True, help="With --hosts: each VM takes one vCPU and no memory.")
@click.option("--host-vcpus", type=float, help="With --hosts: of those that do not say; default: any number.")
@click.option("--host-memory-gib", type=float, help="With --hosts: of those that do not say; default: any amount.")
@_pairs
@_json
def prepare(
    fleet: Path,
    out: Path,
    hosts: Path | None,
    slots: bool,
    host_vcpus: float | None,
    host_memory_gib: float | None,
    pairs: Path | None,
    as_json: bool,
) -> None:
    """Check FLEET and sort it once, so that runs start at once.

    Preparing is a fact of the fleet and the pairs, not of a scenario: one prepared fleet serves any number of runs.
    """
    from fleetsim.fleet import prepare as call

    given = {"--slots": slots, "--host-vcpus": host_vcpus, "--host-memory-gib": host_memory_gib}
    if hosts is None and (alone := next((name for name, value in given.items() if value not in (None, False)), None)):
        raise click.UsageError(f"{alone} goes with --hosts")
    with _watched() as progress:
        made = call(
            fleet,
            out,
            pairs,
            hosts=hosts,
            slots=slots,
            host_vcpus=host_vcpus,
            host_memory_gib=host_memory_gib,
            progress=progress,
        )
    _print(made, as_json)


@fleet.command()
@_fleet
@click.option("--hosts", type=_PATH, help="An inventory: do the VMs fit on the hosts that FLEET puts them on?")
@click.option("--slots", is_flag=True, help="With --hosts: each VM takes one vCPU and no memory.")
@_pairs
@_json
def check(fleet: Path, hosts: Path | None, slots: bool, pairs: Path | None, as_json: bool) -> None:
    """Check FLEET and say what is in it; nothing is written."""
    from fleetsim.fleet import check as call
    from fleetsim.fleet import fits

    if slots and hosts is None:
        raise click.UsageError("--slots goes with --hosts")
    with _watched() as progress:
        found = call(fleet, pairs, progress=progress)
        fitting = None
        if hosts is not None:
            fitting = fits(fleet, hosts, slots=slots, pairs=pairs, progress=progress)
    if as_json:
        _print_json(found.to_dict() | ({} if fitting is None else {"hosts": asdict(fitting)}))
        return
    _print(found, as_json)
    if fitting is not None:
        _tell(str(fitting))


@fleet.command()
@_fleet
@_pairs
@_json
def describe(fleet: Path, pairs: Path | None, as_json: bool) -> None:
    """Say what FLEET is like: regions, sets, sizes, lives.

    Beside it stands what a generated fleet was asked to be.
    """
    from fleetsim.fleet import describe as call

    with _watched() as progress:
        found = call(fleet, pairs, progress=progress)
    _print(found, as_json)


@cli.command()
@_place_of_fleet
@click.argument("scenario", type=_PATH)
@click.option("-o", "--out", type=_PLACE, required=True, help="Folder of the run, or its URL; must be new.")
@_pairs
@click.option("--hosts", type=_PATH, help="The inventory FLEET is on: what room is left for VMs that are moved.")
@click.option("--threads", type=int, help="Threads; default: one a core. The result does not depend on it.")
@click.option("--override", "overrides", multiple=True, metavar="KEY=VALUE", help="As campaign.NAME.length=10s.")
@click.option("--resume", is_flag=True, help="Go on with the interrupted run in OUT.")
@click.option("--replicas", type=int, help="Draw so often, and keep the figures of all draws.")
@click.option("--until", metavar="RULE", help="Fewer replicas, as soon as a mean is known: 'length_ms 1%'.")
@click.option("--replica", type=int, default=0, help="Run this one of a run with replicas, to have its events.")
@click.option("--policies", type=_PATH, help="Python file with functions for host_order, marked with fleetsim.policy.")
@_on
@_json
def run(
    fleet: Path,
    scenario: Path,
    out: Path,
    pairs: Path | None,
    hosts: Path | None,
    threads: int | None,
    overrides: tuple[str, ...],
    resume: bool,
    replicas: int | None,
    until: str | None,
    replica: int,
    policies: Path | None,
    on: str | None,
    as_json: bool,
) -> None:
    """Run SCENARIO.toml over FLEET into a run folder.

    With --on ray, which needs fleetsim[ray], on the workers of the Ray cluster at RAY_ADDRESS, or of a new one on this
    machine. They must see FLEET and OUT under the same paths, or URLs. The result does not depend on it.
    """
    from fleetsim.runner import run as call

    _register(policies)

    with _interruptible("finished parts stay, --resume goes on"), _watched() as progress:
        finished = call(
            fleet,
            scenario,
            out,
            pairs=pairs,
            hosts=hosts,
            threads=threads,
            overrides=overrides,
            resume=resume,
            replicas=replicas,
            until=until,
            replica=replica,
            on=on,
            progress=progress,
        )
    for warning in finished.warnings:
        _tell(f"fleetsim: warning: {warning}", err=True)
    if as_json:
        _print_json(finished.to_dict())
    else:
        counts = finished.manifest["counts"]
        _tell(
            f"{counts['vms']:,} VMs, {counts['stages']:,} stages, {counts['events']:,} events"
            f" in {finished.seconds:.1f} s: {out}"
        )
        if "replicas" in finished.manifest:
            _tell(f"draws: {finished.manifest['replicas']:,}, with their figures in {out / 'replicas'}")
        _tell(f"digest: {finished.digest}")


@cli.command()
@click.argument("run_folder", metavar="[RUN]", required=False, type=_PLACE)
@click.option("--events", type=_PATH, help="Instead of RUN: a log that fleetsim did not write.")
@click.option("--fleet", type=_PATH, help="With --events: the fleet it is about.")
@click.option("--scenario", type=_PATH, help="With --events: what was planned.")
@click.option("--pairs", type=_PATH, help="With --events: CSV region,paired_region that replaces the built-in pairs.")
@_json
def verify(
    run_folder: Path | None,
    events: Path | None,
    fleet: Path | None,
    scenario: Path | None,
    pairs: Path | None,
    as_json: bool,
) -> None:
    """Check every rule of the plan from the files of RUN alone.

    Shares no code with the engine. Exit code 1 if a rule is broken.

    With --events, --fleet and --scenario a log of any origin is checked instead: Parquet, CSV or Arrow with the
    columns vm, start_at, duration_ms, and campaign where the scenario has several. Rules that need more than a log
    tells are not checked.
    """
    of_log = {"--fleet": fleet, "--scenario": scenario}
    if (run_folder is None) == (events is None):
        raise click.UsageError("give either RUN or --events")
    if events is None and (
        given := [name for name, value in {**of_log, "--pairs": pairs}.items() if value is not None]
    ):
        raise click.UsageError(f"{given[0]} goes with --events")
    if events is not None and (missing := [name for name, value in of_log.items() if value is None]):
        raise click.UsageError(f"--events needs {' and '.join(missing)}")
    with _watched() as progress:
        if run_folder is not None:
            from fleetsim.verifier import verify as call

            verdict = call(run_folder, progress=progress)
        else:
            from fleetsim.foreign import verify_events

            assert scenario is not None
            verdict = verify_events(events, fleet, scenario, pairs, progress=progress)
    _print(verdict, as_json)
    _exit_unless(verdict.ok)


@cli.command()
@_run_folder
@click.option("--by", multiple=True, metavar="COLUMN", help="Split by region, size or any fleet column; repeatable.")
@click.option(
    "--only", multiple=True, metavar="COLUMN=VALUE",
    help="Look at these VMs alone; repeatable: any of a column's values, all columns.",
)  # fmt: skip
@click.option(
    "--timeout", "timeouts", multiple=True, metavar="LENGTH",
    help="Also tell the share of VMs paused longer than LENGTH, as 25s; repeatable.",
)  # fmt: skip
@click.option(
    "--format", "format_", type=click.Choice(["table", "json", "csv", "markdown", "parquet"]), default="table",
    show_default=True, help="What to print, or to write to --out.",
)  # fmt: skip
@click.option("--out", type=_PATH, help="File to write instead, or to replace; Parquet needs one.")
@click.option("--looser", is_flag=True, help="Also run RUN again with each rule a tenth looser: what does it cost?")
@click.option("--policies", type=_PATH, help="With --looser: the file that RUN took its policies from.")
@click.option("--html", type=_PATH, help="Write all of it, with charts, as one page that needs no network.")
@click.option("--charts", type=_PATH, help="Write each chart as SVG, PNG and Parquet into this new folder.")
@click.option("--verify", "verified", is_flag=True, help="With --html: ask the verifier first, and say what it found.")
@click.option("--best", metavar="OBJECTIVE", help="Of a sweep: as 'min length_ms where paused_ms_p99 <= 10s'.")
@_json
def report(
    run_folder: Path,
    by: tuple[str, ...],
    only: tuple[str, ...],
    timeouts: tuple[str, ...],
    format_: str,
    out: Path | None,
    looser: bool,
    policies: Path | None,
    html: Path | None,
    charts: Path | None,
    verified: bool,
    best: str | None,
    as_json: bool,
) -> None:
    """Say how long RUN takes, whom it hits, how hard, and why.

    COLUMNs joined by commas split by all of them at once: --by region,size. With --only subscription=mine the figures
    are those of one's own VMs; what is of the whole campaign, as its length, stays so.

    RUN may be the folder of a sweep: then it is said case by case, and --best picks one.

    --html and --charts need fleetsim[page]. With --verify the exit code is 1 if a rule is broken; the page is written
    all the same, and says which. Of a run that is not finished it says that, and what was asked for.
    """
    from fleetsim.reporting import report as call

    if format_ == "parquet" and out is None:
        raise click.UsageError("--format parquet needs --out FILE")
    if format_ == "table" and out is not None:
        raise click.UsageError("--out needs --format json, csv, markdown or parquet")
    if looser and (out is not None or format_ in ("csv", "markdown")):
        raise click.UsageError("--looser goes with tables and JSON on the terminal only")
    if policies is not None and not looser:
        raise click.UsageError("--policies goes with --looser")
    if verified and html is None:
        raise click.UsageError("--verify goes with --html; else there is `fleetsim verify`")
    from fleetsim.storage import local

    run_folder = local(run_folder)
    if (run_folder / "cases.parquet").is_file():
        if html is not None and (out is not None or format_ != "table"):
            raise click.UsageError("--html does not go with --format and --out")
        asked = {"--by": by, "--only": only, "--timeout": timeouts, "--looser": looser, "--charts": charts}
        asked |= {"--verify": verified}
        if wrong := next((option for option, value in asked.items() if value), None):
            raise click.UsageError(f"{wrong} is for runs, and {run_folder} is a sweep: ask it of one of its cases")
        _sweep_report(run_folder, format_, out, html, best, as_json)
        return
    if best is not None and run_folder.exists():
        raise click.UsageError(f"--best is for sweeps, and {run_folder} is none")
    if html is not None or charts is not None:
        if looser or out is not None or format_ != "table":
            raise click.UsageError("--html and --charts do not go with --format, --out and --looser")
        _page(run_folder, as_json, html=html, charts=charts, by=by, only=only, timeouts=timeouts, verified=verified)
        return
    _register(policies)
    savings = None
    with _watched() as progress:
        made = call(
            run_folder,
            by=[column.split(",") for column in by],
            only=only,
            timeouts=timeouts,
            progress=progress,
        )
        if looser:
            from fleetsim.loosening import looser as run_looser

            savings = run_looser(run_folder, progress=progress)
    if out is not None:
        made.write(out, format_)
        _tell(f"fleetsim: report written to {out}", err=True)
        if as_json:
            _print_json({"report": str(out)})
    elif format_ in ("csv", "markdown") and not as_json:
        _tell(made.text(format_).removesuffix("\n"))
    elif as_json or format_ == "json":
        _print_json(made.to_dict() | ({} if savings is None else {"looser": savings.to_dict()}))
    else:
        _render(made)
        if savings is not None:
            _render(savings)


def _sweep_report(
    folder: Path, format_: str, out: Path | None, html: Path | None, best: str | None, as_json: bool
) -> None:
    """What came of the sweep in *folder*, printed or written."""
    from fleetsim.responses import Sweep

    made = Sweep.open(folder)
    made = made if best is None else made.with_best(best)
    if html is not None:
        from fleetsim.page import write_sweep

        write_sweep(made, html)
    _tell_sheet(made, "sweep", format_, out, html, as_json)


def _page(run_folder: Path, as_json: bool, *, by: tuple[str, ...], **asked: Any) -> None:
    """Write the page of a run, its charts, or both."""
    from fleetsim.page import write_page

    with _watched() as progress:
        made = write_page(run_folder, by=[column.split(",") for column in by], progress=progress, **asked)
    if asked["html"] is not None:
        unfinished = "" if made.report is not None else ": the run is not finished, and the page says so"
        _tell(f"fleetsim: page written to {asked['html']}{unfinished}", err=True)
    if asked["charts"] is not None and made.report is not None:
        _tell(f"fleetsim: {len(made.charts)} charts written to {asked['charts']}", err=True)
    if as_json:
        _print_json(
            {name: None if asked[name] is None else str(asked[name]) for name in ("html", "charts")}
            | {"page": made.to_dict()}
        )
    _exit_unless(made.verdict is None or made.verdict.ok)


@cli.command()
@click.argument("runs", metavar="RUN RUN...", nargs=-1, required=True, type=_PLACE)
@click.option("--by", multiple=True, metavar="COLUMN", help="Split by region, size or any fleet column; repeatable.")
@click.option(
    "--only", multiple=True, metavar="COLUMN=VALUE",
    help="Look at these VMs alone; repeatable: any of a column's values, all columns.",
)  # fmt: skip
@click.option(
    "--timeout", "timeouts", multiple=True, metavar="LENGTH",
    help="Also compare the share of VMs paused longer than LENGTH, as 25s; repeatable.",
)  # fmt: skip
@click.option(
    "--format", "format_", type=click.Choice(["table", "json", "csv", "markdown", "parquet"]), default="table",
    show_default=True, help="What to print, or to write to --out.",
)  # fmt: skip
@click.option("--out", type=_PATH, help="File to write instead, or to replace; Parquet needs one.")
@click.option("--html", type=_PATH, help="Write all of it, with charts, as one page that needs no network.")
@_json
def compare(
    runs: tuple[Path, ...],
    by: tuple[str, ...],
    only: tuple[str, ...],
    timeouts: tuple[str, ...],
    format_: str,
    out: Path | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """Tell what differs between two runs, or more.

    First what is asked for, then what comes out of it.

    \b
    Is a gap worth its time?  fleetsim run FLEET PLAN.toml -o a
                              fleetsim run FLEET PLAN.toml -o b
                                --override campaign.NAME.update_domain_gap=5min
                              fleetsim compare a b

    Every RUN is compared with the first. Differences are the later less the first: +36 h is 36 h more. Campaigns are
    matched by name, or are the only one of each run. Over the same fleet VMs are paired: who is hit in both, longer or
    shorter, whose outcome changes; with the same seed, a VM draws the same numbers in both. It is one draw each. Runs
    over different fleets are compared by their figures alone.

    --html needs fleetsim[page].
    """
    from fleetsim.comparing import compare as call

    if format_ == "parquet" and out is None:
        raise click.UsageError("--format parquet needs --out FILE")
    if format_ == "table" and out is not None:
        raise click.UsageError("--out needs --format json, csv, markdown or parquet")
    if html is not None and (out is not None or format_ != "table"):
        raise click.UsageError("--html does not go with --format and --out")
    with _watched() as progress:
        made = call(*runs, by=[column.split(",") for column in by], only=only, timeouts=timeouts, progress=progress)
        if html is not None:
            from fleetsim.page import write_comparison

            write_comparison(made, html, progress=progress)
    _tell_sheet(made, "comparison", format_, out, html, as_json)


@cli.command()
@_place_of_fleet
@click.argument("asked", metavar="SWEEP", type=_PATH)
@click.option("-o", "--out", type=_PLACE, required=True, help="Folder of the sweep, or its URL; must be new.")
@_pairs
@click.option("--hosts", type=_PATH, help="The inventory FLEET is on: what room is left for VMs that are moved.")
@click.option("--threads", type=int, help="Threads; default: one a core. The result does not depend on it.")
@click.option("--override", "overrides", multiple=True, metavar="KEY=VALUE", help="Of all cases, as for `run`.")
@click.option("--policies", type=_PATH, help="Python file with functions for host_order, marked with fleetsim.policy.")
@click.option("--best", metavar="OBJECTIVE", help="As 'min length_ms where paused_ms_p99 <= 10s': which case to take.")
@click.option("--yes", is_flag=True, help="Make as many cases as there are, without being asked.")
@click.option("--resume", is_flag=True, help="Go on with the interrupted sweep in OUT.")
@_on
@_json
def sweep(
    fleet: Path,
    asked: Path,
    out: Path,
    pairs: Path | None,
    hosts: Path | None,
    threads: int | None,
    overrides: tuple[str, ...],
    policies: Path | None,
    best: str | None,
    yes: bool,
    resume: bool,
    on: str | None,
    as_json: bool,
) -> None:
    """Run a scenario over FLEET under many settings of its keys.

    SWEEP names them, and how often each case is drawn:

    \b
    scenario = "plan.toml"
    replicas = 20
    [grid]
    campaign.update.length = ["10s", "30s"]
    campaign.update.update_domain_gap = ["0s", "30min"]

    \b
    Or, with --best and fleetsim[search], it lets the cases be proposed:
    [search]
    cases = 40
    campaign.update.update_domain_gap = { from = "0s", to = "1h", step = "5min" }
    """
    from fleetsim.sweeping import CASES_UNASKED_MAX, case_count
    from fleetsim.sweeping import sweep as call

    _register(policies)
    if not yes and sys.stdin.isatty() and (count := case_count(asked)) > CASES_UNASKED_MAX:
        yes = click.confirm(f"{count:,} cases: make them all?", err=True)
    with _interruptible("finished cases stay, --resume goes on"), _watched() as progress:
        made = call(
            fleet,
            asked,
            out,
            pairs=pairs,
            hosts=hosts,
            threads=threads,
            overrides=overrides,
            best=best,
            yes=yes,
            resume=resume,
            on=on,
            progress=progress,
        )
    _print(made, as_json)


@cli.command()
@_run_folder
@click.option("--vm", required=True, metavar="ID", help="Which one, as the fleet calls it.")
@click.option("--at", metavar="INSTANT", help="As 2026-12-05T08:00:00Z, or after the scenario's start: 36h, 12d.")
@_json
def status(run_folder: Path, vm: str, at: str | None, as_json: bool) -> None:
    """Tell what the owner of one VM is told, or its story.

    With --at: the fields of maintenanceRedeployStatus, as the instance view of the VM has them; there are none unless a
    maintenance with windows concerns it. Without: its whole story, in order of time.
    """
    from fleetsim.instance_view import status as call

    _print(call(run_folder, vm, at), as_json)


@cli.command()
@click.argument("table", required=False)
@_json
def schema(table: str | None, as_json: bool) -> None:
    """Describe the columns of TABLE, or list the tables.

    `figures` is no table: it lists the figures of reports. `scenario` prints the JSON Schema of scenarios.
    """
    from fleetsim.reference import SCENARIO_SCHEMA, described, scenario_schema

    if table == SCENARIO_SCHEMA:
        _tell(scenario_schema().removesuffix("\n"))
    else:
        _print(described(table), as_json)


@cli.command()
@click.argument("name", required=False)
@_json
def presets(name: str | None, as_json: bool) -> None:
    """Print preset NAME as a scenario, or list the presets.

    A preset is printed in full: a scenario to start from.
    """
    from fleetsim.scenario import preset_toml
    from fleetsim.scenario import presets as known

    if name is not None:
        text = preset_toml(name)
        if as_json:
            _print_json(known()[name])
        else:
            _tell(text.removesuffix("\n"))
    elif as_json:
        _print_json({"presets": list(known())})
    else:
        _tell("\n".join(known()))


@cli.command()
@_json
def warmup(as_json: bool) -> None:
    """Compile the kernels now instead of during the first run."""
    from fleetsim.first_run import warmup as call

    folder = call()
    if as_json:
        _print_json({"cache": str(folder) if folder else None})
    else:
        _tell(f"kernels are compiled, in {folder}" if folder else "kernels compile, but cannot be kept")


def _register(policies: Path | None) -> None:
    if policies is not None:
        from fleetsim.policies import register_file

        register_file(policies)


def _columns_at(mapped: tuple[str, ...]) -> dict[str, str]:
    """Paths by column, of arguments like "size=sku.name,zone=zones"."""
    found: dict[str, str] = {}
    for entry in (entry for argument in mapped for entry in argument.split(",")):
        column, _, path = (part.strip() for part in entry.partition("="))
        if not column or not path:
            raise InputError(f"--map: must be COLUMN=PATH, separated by ',', got '{entry}'")
        if found.setdefault(column, path) != path:
            raise InputError(f"--map: a column must be mapped once, got '{column}' to '{found[column]}' and '{path}'")
    return found


def _print(made: Any, as_json: bool) -> None:
    """Print what a call made: its dict as JSON, or its table."""
    if as_json:
        _print_json(made.to_dict())
    else:
        _render(made)


def _tell_sheet(made: Any, word: str, format_: str, out: Path | None, html: Path | None, as_json: bool) -> None:
    """Print *made*, or write it to *out*; of a page that is written to *html*, say so."""
    if html is not None:
        _tell(f"fleetsim: page written to {html}", err=True)
        if as_json:
            _print_json({"html": str(html)})
    elif out is not None:
        made.write(out, format_)
        _tell(f"fleetsim: {word} written to {out}", err=True)
        if as_json:
            _print_json({word: str(out)})
    elif format_ in ("csv", "markdown") and not as_json:
        _tell(made.text(format_).removesuffix("\n"))
    else:
        _print(made, as_json or format_ == "json")


def _render(made: Any, **how: Any) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    with console.capture() as captured:
        made.render(console, **how)
    lines = captured.get().removesuffix("\n").split("\n")
    _tell("\n".join(line.rstrip() for line in lines))


def _print_json(content: Any) -> None:
    is_ascii = sys.stdout is not None and "utf" not in sys.stdout.encoding.lower()
    _tell(json.dumps(content, indent=1, ensure_ascii=is_ascii, allow_nan=False))


def _tell(text: str, err: bool = False) -> None:
    """Print *text*. Who reads it may leave early, as `head` does: the rest goes nowhere, the exit code stands."""
    if (storage := sys.modules.get("fleetsim.storage")) is not None:
        text = storage.as_given(text)
    try:
        click.echo(text, err=err)
    except BrokenPipeError:
        _silence(sys.stderr if err else sys.stdout)


def _silence(stream: IO[str]) -> None:
    """Send what is still in *stream*, and all that follows, nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def _interruptible(hint: str) -> Iterator[None]:
    """Whoever interrupts this is told *hint*."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(hint) from None


def _exit_unless(ok: bool) -> None:
    if not ok:
        raise SystemExit(EXIT_FAILED)


@contextmanager
def _watched() -> Iterator["Progress"]:
    """Progress on stderr: a bar with rate and time left on a terminal, else a line for each stage that ended."""
    if sys.stderr is None or not sys.stderr.isatty():  # None where it is closed
        yield _say
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskID, TextColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:>10}"),
        BarColumn(),
        TextColumn("{task.completed:>13,} of {task.total:,} VMs"),
        TextColumn("{task.fields[pace]:>19}"),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(step: str, done_count: int, total_count: int, sentence: str = "", /) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total_count, pace="")
            pace = _pace(done_count, total_count, bars.tasks[tasks[step]].elapsed or 0)
            bars.update(tasks[step], completed=done_count, total=total_count, pace=pace)

        yield show


def _say(step: str, done_count: int, total_count: int, sentence: str = "", /) -> None:
    if sentence:
        _tell(f"fleetsim: {step}: {sentence} ({done_count:,} of {total_count:,})", err=True)


def _pace(done_count: int, total_count: int, elapsed_s: float) -> str:
    """Rate and time left by what was done so far: VMs come in bursts, so the last moment tells little."""
    if elapsed_s < 0.1 or not done_count:
        return ""
    vms_a_second = done_count / elapsed_s
    rate = f"{vms_a_second / 1e6:.1f} M/s" if vms_a_second >= 1e5 else f"{vms_a_second / 1e3:.1f} k/s"
    minutes, seconds = divmod(round((total_count - done_count) / vms_a_second), 60)
    return f"{rate} {f'{minutes}:{seconds:02} left':>10}"


class _WithoutPandas:
    """Finder of modules that finds no pandas: where it is installed, Arrow imports it at its first array, for 0.15 s.

    No command uses it, and the process is ours alone; a program that imports fleetsim keeps its pandas.
    """

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("the command line does without pandas", name=name)


def main() -> None:
    """Run the command line as a process of its own."""
    # Numba and Arrow make half a million objects; to look through them for garbage, again and again and at the end, was
    # a third of what a small run takes.
    gc.set_threshold(200_000)
    sys.meta_path.insert(0, _WithoutPandas)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where it is closed
            stream.reconfigure(errors="backslashreplace")  # a file's name may be no text
    status = answer()
    if (storage := sys.modules.get("fleetsim.storage")) is not None:
        storage.forget()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):  # who reads it may be gone, or its disk is full
            status = status or EXIT_FAILED
    # Not by way of the interpreter's end: now and then a thread of Arrow's, still at work, does not survive that.
    os._exit(status)


def answer(arguments: Sequence[str] | None = None) -> int:
    """Run the command of *arguments* (None: the process's own). Returns its exit code.

    The two families of expected errors end here, anything else is a bug.
    """
    try:
        cli.main(arguments, prog_name="fleetsim", standalone_mode=False)
    except InputError as error:
        for problem in error.problems:
            _tell(f"fleetsim: {problem}", err=True)
        return EXIT_UNUSABLE
    except RunError as error:
        _tell(f"fleetsim: {error}", err=True)
        return EXIT_FAILED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort) as error:
        hint = error.__cause__ if isinstance(error, click.Abort) else error
        _tell("; ".join(filter(None, ("fleetsim: interrupted", str(hint or "")))), err=True)
        return EXIT_INTERRUPTED
    except OSError as error:  # a full disk, a folder that must not be written to
        place = f"{error.filename}: " if error.filename else ""
        _tell(f"fleetsim: {place}{(error.strerror or str(error)).lower()}", err=True)
        if error.filename is None and sys.stdout is not None:  # it may have been stdout, which would fail again
            _silence(sys.stdout)
        return EXIT_FAILED
    except SystemExit as error:
        return int(error.code or 0)
    return 0
