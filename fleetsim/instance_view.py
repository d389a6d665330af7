"""What the owner of one VM is told: its maintenance status at an instant, or its whole story.

Reads a run's files alone, and of the tables with a row a VM only the part that has this one. The status is spelled as
`maintenanceRedeployStatus` in the instance view of a VM (facts.md 1.3). Instants are datetimes in UTC.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import polars.selectors as cs

from fleetsim.errors import InputError, nearest
from fleetsim.figures.declared import duration
from fleetsim.figures.runs import RunFiles, in_turn, scanned
from fleetsim.schema import Effect, Outcome, Phase, Result, effect_names
from fleetsim.storage import Url

if TYPE_CHECKING:
    from rich.console import Console

_WINDOWS = ("notice_at", "self_service_start_at", "self_service_end_at", "scheduled_start_at", "scheduled_end_at")
_ENDS = ("self_service_end_at", "scheduled_end_at", "last_end_at")
_IDS_LOOKED_AT = 5_000
"""VMs with either half of a wrong id among which the nearest is looked for."""

_SELF_SERVICE = Phase.SELF_SERVICE.name.lower()
_COMPLETED = Result.COMPLETED.name.lower()
_ABORTED = Result.ABORTED.name.lower()
_RETRY_LATER = Result.RETRY_LATER.name.lower()
_RESULT_CODES = {_COMPLETED: "MaintenanceCompleted", _ABORTED: "MaintenanceAborted", _RETRY_LATER: "RetryLater"}

_SKIPPED = Outcome.SKIPPED.name.lower()
_DELETED = Outcome.DELETED.name.lower()
_FAILED = Outcome.FAILED.name.lower()
_NEVER_PENDING = {outcome.name.lower() for outcome in (Outcome.ALREADY_UPDATED, Outcome.UNAFFECTED)}

_AT_ONE_INSTANT = (
    *("created", "impact_ends", "deleted", "self_service_window_ends", "scheduled_window_ends", "outcome"),
    *("notice", "self_service_window_opens", "scheduled_window_opens", "request", "impact_starts"),
)
"""What happens first of what happens at once (semantics.md 2); nothing happens to a VM before it is created."""


@dataclass(frozen=True, slots=True)
class Status:
    """What the instance view of a VM tells at an instant.

    `maintenance_redeploy_status` has the fields of the API under their names; it is None unless a maintenance with
    windows concerns the VM, and `sentence` then says why.
    """

    vm: int | str
    at: datetime
    region: str
    maintenance_redeploy_status: dict[str, Any] | None
    sentence: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The status as plain values, for JSON."""
        return {
            "vm": self.vm,
            "at": _spelt(self.at),
            "region": self.region,
            "maintenanceRedeployStatus": self.maintenance_redeploy_status,
        }

    def render(self, console: "Console") -> None:
        """Print the status, a field a row."""
        from rich.table import Table
        from rich.text import Text

        console.print(Text(f"{self.vm} in {self.region} at {_spelt(self.at)}", style="bold"))
        if self.maintenance_redeploy_status is None:
            console.print(Text(f"no maintenanceRedeployStatus: {self.sentence}"))
            return
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in self.maintenance_redeploy_status.items():
            grid.add_row(Text(name, style="dim"), Text(str(value).lower() if isinstance(value, bool) else str(value)))
        console.print(grid)


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that happens to a VM. `more` is what else there is to tell of it, by name; lengths are in ms."""

    at: datetime
    campaign: str | None
    iteration: int | None
    what: str
    more: dict[str, Any]

    def sentence(self) -> str:
        """What happens, in the words of the files."""
        told = []
        if self.what in ("impact_starts", "impact_ends"):
            told.append(str(self.more["kind"]))
            if self.what == "impact_starts":
                told.append(duration(self.more["duration_ms"]))
                if "host_to" in self.more:
                    told.append(f"from {self.more['host_from']} to {self.more['host_to']}")
            else:
                told += ([] if self.more["result"] == _COMPLETED else [self.more["result"]]) + self.more["effects"]
        elif self.what == "request":
            told.append(self.more["result"])
        elif self.what == "outcome":
            told += [self.more["outcome"], *([] if self.more["reason"] == "none" else [self.more["reason"]])]
        elif self.more.get("is_late"):
            told.append("late")
        what = self.what.replace("self_service", "self-service").replace("_", " ")
        return f"{what}: {', '.join(told)}" if told else what


@dataclass(frozen=True, slots=True)
class Story:
    """All that happens to a VM in a run, in order of time."""

    vm: int | str
    region: str
    rows: tuple[Row, ...]

    def to_dict(self) -> dict[str, Any]:
        """The story as plain values, for JSON."""
        rows = [
            {"at": _spelt(row.at), "campaign": row.campaign, "iteration": row.iteration, "what": row.what, **row.more}
            for row in self.rows
        ]
        return {"vm": self.vm, "region": self.region, "story": rows}

    def render(self, console: "Console") -> None:
        """Print the story, a row each."""
        from rich.table import Table
        from rich.text import Text

        console.print(Text(f"{self.vm} in {self.region}", style="bold"))
        if not self.rows:
            console.print("nothing happens to it")
            return
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column("at", no_wrap=True)
        table.add_column("campaign", overflow="fold", max_width=16)
        table.add_column("iteration", justify="right", no_wrap=True)
        table.add_column("what", overflow="fold")
        for row in self.rows:
            cells = (_spelt(row.at), row.campaign or "", str(row.iteration or ""), row.sentence())
            table.add_row(*map(Text, cells))
        console.print(table)


def status(run: str | Path | Url, vm: int | str, at: str | datetime | None = None) -> Status | Story:
    """What the owner of *vm* is told of the maintenance of the finished *run* at the instant *at*, a `Status`.

    *at* has a zone, or is a span after the scenario's start, as `36h`. Without it: the `Story` of the VM. Raises
    `InputError` for an unknown VM, an instant the run does not tell of, or where a table that is needed was not kept.
    """
    files = RunFiles.open(run)
    instant = None if at is None else _instant(files, at)
    found = _found(files, vm)
    return _story(files, found) if instant is None else _status(files, found, instant)


# ---- What the files say of one VM --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Vm:
    """A VM of the fleet, and the part of the fleet it is in."""

    vm: int | str
    vm_row: int
    region: str
    fleet_path: Path
    created_at: datetime | None
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Event:
    """A row of `events`; a request that was refused or failed takes no time."""

    campaign: str
    iteration: int
    phase: str
    kind: str
    result: str
    start_at: datetime
    duration_ms: int
    effects: int
    host_from: str | None = None
    host_to: str | None = None  # None as well where nobody tells, or where it stays

    @property
    def end_at(self) -> datetime:
        return self.start_at + timedelta(milliseconds=self.duration_ms)

    @property
    def is_request(self) -> bool:
        return self.phase == _SELF_SERVICE

    def is_under_way(self, at: datetime) -> bool:
        return self.start_at <= at < self.end_at


@dataclass(frozen=True, slots=True)
class _Stage:
    """A stage the VM is in scope of, and how the VM ended it. `windows` are by their columns; none without windows."""

    campaign: str
    iteration: int
    windows: dict[str, datetime]
    last_end_at: datetime | None
    outcome: str
    reason: str

    def own(self, events: Sequence[_Event]) -> list[_Event]:
        return [each for each in events if (each.campaign, each.iteration) == (self.campaign, self.iteration)]


def _found(files: RunFiles, vm: int | str) -> _Vm:
    """The row of *vm* in the fleet."""
    columns = ["vm", "vm_row", "region", *(each for each in ("created", "deleted") if each in files.fleet_schema)]
    wanted = _as_in_fleet(files, vm)
    paths = files.fleet_paths if wanted is not None else []
    pieces = [scanned(path).filter(pl.col("vm") == wanted).select(columns) for path in paths]
    for path, rows in zip(paths, in_turn(files, "status", pieces), strict=True):
        for row in rows.iter_rows(named=True):
            return _Vm(row["vm"], row["vm_row"], row["region"], path, row.get("created"), row.get("deleted"))
    raise InputError(f"vm: must be a VM of the fleet, got '{vm}'{_nearest_id(files, str(vm))}")


def _as_in_fleet(files: RunFiles, vm: int | str) -> int | str | None:
    """*vm* as the integer or string that ids of the fleet are; None where it can be none."""
    if not files.fleet_schema["vm"].is_integer():
        return str(vm)
    with suppress(ValueError):
        number = int(vm)
        if str(number) == str(vm) and abs(number) < 2**63:
            return number
    return None


def _nearest_id(files: RunFiles, vm: str) -> str:
    """A hint at the id nearest to *vm*. One slip leaves the first half or the second as it was."""
    text, word = pl.col("vm").cast(pl.String), vm.lower()
    halves = (
        text.str.to_lowercase().str.starts_with(word[: len(word) // 2]),
        text.str.to_lowercase().str.ends_with(word[len(word) // 2 :]),
    )
    ids = pl.concat([scanned(path).select("vm") for path in files.fleet_paths])
    found = pl.collect_all([ids.filter(half).select(text).head(_IDS_LOOKED_AT) for half in halves])
    return nearest(vm, pl.concat(found).to_series().to_list())


def _rows(files: RunFiles, vm: _Vm, table: str, columns: Sequence[str]) -> list[dict[str, Any]]:
    """*columns* of the rows of *vm* in `events` or `outcomes`, by campaign in file order and iteration."""
    if not files.has(table):
        raise InputError(f"{files.path}: must have kept its {table}, got [outputs] {table} = false")
    number = vm.fleet_path.stem.removeprefix("part-")
    paths = sorted((files.path / table / vm.fleet_path.parent.name).glob(f"part-*-{number}.parquet"))
    of_vm = pl.col("vm_row") == vm.vm_row
    pieces = [
        scanned(path).filter(of_vm).select(columns).with_columns(cs.categorical().cast(pl.String)) for path in paths
    ]
    return [row for rows in in_turn(files, "status", pieces) for row in rows.iter_rows(named=True)]


def _events(files: RunFiles, vm: _Vm) -> list[_Event]:
    """All events of *vm* in order of time."""
    told = [name for name in _Event.__match_args__ if not name.startswith("host_")]
    hosts: dict[int | None, str] = {}
    for path in sorted((files.path / "hosts" / vm.fleet_path.parent.name).glob("*.parquet")):
        told += ["host_from", "host_to"] * (not hosts)
        hosts |= dict(scanned(path).select("host_row", pl.col("host").cast(pl.String)).collect().iter_rows())
    events = []
    for row in _rows(files, vm, "events", told):
        host_from, host_to = row.pop("host_from", None), row.pop("host_to", None)
        stays = host_from == host_to
        events.append(_Event(**row, host_from=hosts.get(host_from), host_to=None if stays else hosts.get(host_to)))
    return sorted(events, key=lambda event: event.start_at)


def _stages(files: RunFiles, vm: _Vm, *, with_windows_only: bool = False) -> list[_Stage]:
    """The stages that *vm* is in scope of, by campaign in file order and iteration."""
    columns = ["campaign", "iteration", *_WINDOWS, "last_end_at"]
    rows = files.scan("stages").filter(pl.col("region") == vm.region).select(columns)
    if with_windows_only:
        rows = rows.drop_nulls("notice_at")
    stages = rows.collect().rows(named=True)
    if not stages:  # then nobody asks for outcomes
        return []
    ended = {
        (row["campaign"], row["iteration"]): row
        for row in _rows(files, vm, "outcomes", ["campaign", "iteration", "outcome", "reason"])
    }
    return [
        _Stage(
            windows={} if stage["notice_at"] is None else {name: stage[name] for name in _WINDOWS},
            last_end_at=stage["last_end_at"],
            **ended[stage["campaign"], stage["iteration"]],
        )
        for stage in stages
        if (stage["campaign"], stage["iteration"]) in ended
    ]


def _settled_at(files: RunFiles, vm: _Vm, stage: _Stage, events: Sequence[_Event]) -> datetime:
    """When the outcome of *vm* in *stage* takes effect."""
    if stage.outcome == _DELETED and vm.deleted_at is not None:
        return vm.deleted_at
    last = stage.own(events)
    if stage.outcome == _SKIPPED:
        last = [each for each in last if each.is_request and each.result == _ABORTED]
    elif stage.outcome != _FAILED:
        last = [each for each in last if each.result == _COMPLETED]
    if last:
        return max(each.end_at for each in last)
    end_at = stage.windows.get("scheduled_end_at", stage.last_end_at) or _asked_at(files, vm, stage)
    return end_at if vm.created_at is None else max(end_at, vm.created_at)


def _asked_at(files: RunFiles, vm: _Vm, stage: _Stage) -> datetime:
    """When *stage* was asked for: all that is known of one that hit nobody and announced no windows."""
    row = {"campaign": stage.campaign, "iteration": stage.iteration, "region": vm.region, "figure": "asked_ms"}
    asked_ms = files.scan("summary").filter(**row).select("value").collect().item()
    return _start_at(files) + timedelta(milliseconds=asked_ms)


# ---- At an instant -----------------------------------------------------------------------------------------


def _instant(files: RunFiles, given: str | datetime) -> datetime:
    """The instant *given*, or the span after the scenario's start, within what the run tells of."""
    start_at = _start_at(files)
    at: object = given
    if isinstance(given, str):
        with suppress(ValueError):
            at = datetime.fromisoformat(given)
    if isinstance(at, str):
        from fleetsim.scenario import span_ms

        try:
            at = start_at + timedelta(milliseconds=span_ms(at))
        except ValueError as error:
            raise InputError(
                f"at: must be an instant with a zone, as 2026-12-01T00:00:00Z, or a span after the scenario's start,"
                f" which {error}"
            ) from None
    if not isinstance(at, datetime) or at.tzinfo is None or at.microsecond % 1000:
        raise InputError(
            f"at: must be an instant with a zone in whole milliseconds, as 2026-12-01T00:00:00Z, got '{given}'"
        )
    known = files.scan("stages").select(pl.max_horizontal(_ENDS).max()).collect().item()
    last_at = known or start_at
    if not start_at <= at <= last_at:
        raise InputError(
            f"at: must be from {_spelt(start_at)} to {_spelt(last_at)}, which the run tells of, got '{given}'"
        )
    return at.astimezone(UTC)


def _status(files: RunFiles, vm: _Vm, at: datetime) -> Status:
    """The status of *vm* at *at*, and where it has none, why."""
    if absence := _absence(vm, at):
        return Status(vm.vm, at, vm.region, None, absence)
    stages = _stages(files, vm, with_windows_only=True)
    concerned = [each for each in stages if each.windows["notice_at"] <= at < each.windows["scheduled_end_at"]]
    if not concerned:
        sentence = f"no maintenance with windows concerns the VM now, {_next_notice(vm, stages, at)}"
        return Status(vm.vm, at, vm.region, None, sentence)
    stage = min(concerned, key=lambda each: each.windows["scheduled_start_at"])
    windows = stage.windows
    events = _events(files, vm)
    is_allowed = (
        windows["self_service_start_at"] <= at < windows["self_service_end_at"]
        and stage.outcome not in _NEVER_PENDING
        and at < _settled_at(files, vm, stage, events)
        and not any(each.is_under_way(at) for each in events)
    )
    requests = [each for each in stage.own(events) if each.is_request and each.start_at <= at]
    ended = [each for each in requests if each.end_at <= at and each.result in _RESULT_CODES]
    last = max(reversed(ended), key=lambda each: each.end_at, default=None)
    fields = {
        "isCustomerInitiatedMaintenanceAllowed": is_allowed,
        "preMaintenanceWindowStartTime": _spelt(windows["self_service_start_at"]),
        "preMaintenanceWindowEndTime": _spelt(windows["self_service_end_at"]),
        "maintenanceWindowStartTime": _spelt(windows["scheduled_start_at"]),
        "maintenanceWindowEndTime": _spelt(windows["scheduled_end_at"]),
        "lastOperationResultCode": "None" if last is None else _RESULT_CODES[last.result],
        "lastOperationMessage": _told_unasked(stage, events, at)
        or _message(requests, last, at, is_left_out=stage.outcome == _SKIPPED),
    }
    return Status(vm.vm, at, vm.region, fields)


def _absence(vm: _Vm, at: datetime) -> str:
    """Why *vm* does not exist at *at*, or nothing."""
    if vm.created_at is not None and at < vm.created_at:
        return f"the VM does not exist yet, it is created at {_spelt(vm.created_at)}"
    if vm.deleted_at is not None and vm.deleted_at <= at:
        return f"the VM is no more, it was deleted at {_spelt(vm.deleted_at)}"
    return ""


def _next_notice(vm: _Vm, stages: Sequence[_Stage], at: datetime) -> str:
    """When the first of *stages* after *at* is announced that *vm* lives to be told of."""
    notices = [each.windows["notice_at"] for each in stages]
    coming = [each for each in notices if at < each and (vm.deleted_at is None or each < vm.deleted_at)]
    return f"the next notice is at {_spelt(min(coming))}" if coming else "no notice follows"


def _told_unasked(stage: _Stage, events: Sequence[_Event], at: datetime) -> str:
    """Why *stage* has, or by *at* had, nothing to do for the VM without any request, or nothing."""
    if stage.outcome in _NEVER_PENDING:
        return "This VM needs no maintenance."
    over = [each for each in stage.own(events) if not each.is_request and each.end_at <= at]
    if not over:
        return ""
    last = max(over, key=lambda each: each.end_at)
    if last.result == _COMPLETED:
        return f"The platform had updated this VM by {_spelt(last.end_at)}."
    is_tried = any(each.is_under_way(at) for each in stage.own(events))
    then = "it is tried again" if is_tried else "it is not tried again in this window"
    return f"The platform's try to update this VM failed at {_spelt(last.end_at)}, and {then}."


def _message(requests: Sequence[_Event], last: _Event | None, at: datetime, *, is_left_out: bool) -> str:
    """What became of the *requests* made by *at*, of which *last* is the last that has a result."""
    if moves := [each for each in requests if each.is_under_way(at)]:
        return f"The VM is being moved, as asked for at {_spelt(moves[-1].start_at)}."
    if last is None:
        return "Nobody has asked for the maintenance of this VM."
    asked = f"asked for at {_spelt(last.start_at)}"
    if last.result == _COMPLETED:
        return f"The VM was moved to an updated host by {_spelt(last.end_at)}, as {asked}."
    if last.result == _ABORTED:
        left_out = ", and it is left out until the next notice" if is_left_out else ""
        return f"The move {asked} failed: the VM stays where it was{left_out}."
    return f"The move {asked} was refused for the time being."


# ---- From first to last ------------------------------------------------------------------------------------


def _story(files: RunFiles, vm: _Vm) -> Story:
    """All that happens to *vm*, in order of time, and at one instant in the order of _AT_ONE_INSTANT."""
    events = _events(files, vm)
    rows = [
        Row(at, None, None, what, {})
        for what, at in (("created", vm.created_at), ("deleted", vm.deleted_at))
        if at is not None
    ]
    for event in events:
        rows += _rows_of_event(event)
    for stage in _stages(files, vm):
        rows += _rows_of_windows(vm, stage)
        at = _settled_at(files, vm, stage, events)
        more = {"outcome": stage.outcome, "reason": stage.reason}
        rows.append(Row(at, stage.campaign, stage.iteration, "outcome", more))
    attempts = {(each.campaign, each.iteration, each.start_at) for each in events if not each.duration_ms}

    def order(row: Row) -> tuple[datetime, int]:
        # An attempt that fails at once ends the iteration there: the outcome follows from it.
        follows = row.what == "outcome" and (row.campaign, row.iteration, row.at) in attempts
        return row.at, _AT_ONE_INSTANT.index("request" if follows else row.what)

    return Story(vm.vm, vm.region, tuple(sorted(rows, key=order)))


def _rows_of_event(event: _Event) -> list[Row]:
    """A request and its result, and the impact where there is one, from start to end."""
    of = (event.campaign, event.iteration)
    rows = [Row(event.start_at, *of, "request", {"result": event.result})] if event.is_request else []
    if event.duration_ms:
        effects = [name for name in effect_names() if event.effects & Effect[name.upper()]]
        more = {name: getattr(event, name) for name in ("phase", "kind", "result", "duration_ms")}
        if event.host_to is not None:
            more |= {"host_from": event.host_from, "host_to": event.host_to}
        for what, at in (("impact_starts", event.start_at), ("impact_ends", event.end_at)):
            rows.append(Row(at, *of, what, {**more, "effects": effects}))
    return rows


def _rows_of_windows(vm: _Vm, stage: _Stage) -> list[Row]:
    """The notice and windows of *stage* as far as *vm* meets them: one created later is told of them then."""
    if not stage.windows:
        return []
    born_at = vm.created_at or stage.windows["notice_at"]
    if stage.windows["scheduled_end_at"] <= born_at:
        return []
    told_at = max(born_at, stage.windows["notice_at"])
    rows = [("notice", told_at, {"is_late": told_at > stage.windows["notice_at"]})]
    for window in ("self_service", "scheduled"):
        start_at, end_at = (stage.windows[f"{window}_{side}_at"] for side in ("start", "end"))
        if born_at < end_at:
            rows += [(f"{window}_window_opens", max(born_at, start_at), {}), (f"{window}_window_ends", end_at, {})]
    return [
        Row(at, stage.campaign, stage.iteration, what, more)
        for what, at, more in rows
        if vm.deleted_at is None or at < vm.deleted_at
    ]


def _start_at(files: RunFiles) -> datetime:
    start: datetime = files.resolved["start"]
    return start.astimezone(UTC)


def _spelt(at: datetime) -> str:
    """*at* in ISO 8601, in UTC; milliseconds where it has some."""
    text = at.astimezone(UTC).isoformat(timespec="milliseconds" if at.microsecond else "seconds")
    return text.replace("+00:00", "Z")
