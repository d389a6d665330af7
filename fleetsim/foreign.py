"""Logs that fleetsim did not write: laid out as the files of a run, as far as a log goes, and put to the verifier.

A log tells when which VM was hit, for how long. Fleet and scenario tell the rest: the fleet is prepared and the
scenario resolved as for a run, so the verifier meets what it knows, and rules that need what no log tells are not
checked. Nothing is judged here but whether the log can be read.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from fleetsim import __version__
from fleetsim.blocks import resolve_over
from fleetsim.errors import InputError, nearest, nearest_path, renaming
from fleetsim.fleet.prepared import PreparedFleet, PreparedPart, as_prepared, relation_over
from fleetsim.fleet.preparing import prepare
from fleetsim.progress import Progress
from fleetsim.regions import Relation
from fleetsim.runfolder import RESOLVED, RunFolder
from fleetsim.scenario import Campaign, Resolved, load_scenario
from fleetsim.schema import EVENTS, FIRST_ITERATION, LENGTH_MS_MAX, SCHEMA_VERSION, Effect, Kind, Phase, Result, words
from fleetsim.storage import readable
from fleetsim.tables import arrow_schema, parquet_bytes, provenance_of
from fleetsim.verifier import Verdict, verify_parts

_TOLD_MAX = 5
"""Faulty rows a message names; all are counted."""
_NEAR_MAX = 10_000
"""VMs of the fleet among which the one nearest to an unknown one is looked for."""
_EFFECTS_MAX = sum(Effect)
_NEEDED = ("start_at", "duration_ms")
_WORDS: dict[str, type[IntEnum]] = {"phase": Phase, "kind": Kind, "result": Result}
_LACKING = {
    "manifest": "a log is no run",
    "outcomes": "a log tells no outcomes",
    "stages": "a log tells no stages",
    "summary": "a log tells no sums",
    "no_guarantee": "a log lists no sets",
}


def verify_events(
    events: Any,
    fleet: Any,
    scenario: str | Path | Mapping[str, Any],
    pairs: str | Path | None = None,
    *,
    progress: Progress | None = None,
) -> Verdict:
    """Check the log *events* of planned maintenance over *fleet* against the plan of *scenario*.

    events    Parquet, CSV or Arrow, a file or any object with the Arrow PyCapsule interface, a row an impact: `vm` (or
              `vm_row`, where *fleet* is a prepared one), `start_at` (an instant; text with its zone), `duration_ms`
              (whole), and `campaign` where the scenario has several; `phase`, `kind`, `result`, `iteration` and
              `effects` where they are known. Rows come in any order
    fleet     as for `run`
    scenario  as for `run`: what was planned
    pairs     CSV with the relation of regions, instead of the built-in one

    Lasts as long as preparing the fleet and verifying a run of it. A stage counts as started when its first impact
    starts. Raises `InputError` with what is wrong about the log: a column, a VM or a campaign that is not known, or
    an instant or a length that is none.
    """
    loaded = replace(load_scenario(scenario), has_events=True)
    relation = relation_over(fleet, pairs)
    log = _Log(events)
    with tempfile.TemporaryDirectory(prefix="fleetsim-verify.") as scratch:
        given = as_prepared(fleet, relation)
        prepared = given or prepare(fleet, Path(scratch) / "prepared", pairs, progress=progress)
        resolved = resolve_over(prepared, loaded, relation)
        rows = log.rows(prepared, resolved, has_rows_of_fleet=given is not None)
        folder = Path(scratch) / "run"
        _lay_out(folder, rows, prepared, resolved, relation)
        lacking = dict(_LACKING) | ({} if log.has_effects else {"effects": "the log has no column 'effects'"})
        verdict = verify_parts(folder, lacking, progress=progress)
    return replace(verdict, run=Path(log.name))


class _Log:
    """A log about to be read. Its problems are told all at once, column by column."""

    def __init__(self, events: Any) -> None:
        self.name, self._frame = _read(events)
        found = self._frame.columns
        self._problems: list[str] = []
        for column in _NEEDED:
            if column not in found:
                self._problems.append(f"{self.name}: must have a column '{column}'{self._hint(column)}")
        if not {"vm", "vm_row"} & set(found):
            self._problems.append(f"{self.name}: must have a column 'vm', or 'vm_row'{self._hint('vm')}")
        self._raise()
        self.has_effects = "effects" in found

    def _hint(self, column: str) -> str:
        """Which of the columns there are is meant."""
        known = [*EVENTS.names(), "vm"]
        missing = [name for name in known if name not in self._frame.columns]
        found = [name for name in self._frame.columns if name not in known]
        return f", got {', '.join(self._frame.columns) or 'none'}{renaming(column, found, missing)}"

    def _raise(self) -> None:
        if self._problems:
            raise InputError(self._problems)

    def _refuse(self, column: str, rule: str, is_faulty: pl.Series) -> None:
        """Note what of *column* breaks its *rule*."""
        if not is_faulty.any():
            return
        at = is_faulty.arg_true().head(_TOLD_MAX).to_list()
        shown = [self._frame[column][row] for row in at]
        got = ", ".join(
            f"{'nothing' if value is None else repr(str(value))} in row {row + 1}"
            for row, value in zip(at, shown, strict=True)
        )
        more = int(is_faulty.sum()) - len(at)
        self._problems.append(
            f"{self.name}: column '{column}' must {rule}, got {got}{f' and {more:,} more' if more else ''}"
        )

    def rows(self, prepared: PreparedFleet, resolved: Resolved, *, has_rows_of_fleet: bool) -> pl.DataFrame:
        """The log in the columns of `events`, in order of campaign and `vm_row`; words are text."""
        campaigns = {campaign.name: campaign for campaign in resolved.scenario.campaigns}
        campaign = self._campaigns(list(campaigns))
        columns = {
            "campaign": campaign,
            **{column: self._words(column, codes, campaign, campaigns) for column, codes in _WORDS.items()},
            "iteration": self._numbers("iteration", 1, 255, FIRST_ITERATION),
            "vm_row": self._vm_rows(prepared, has_rows_of_fleet=has_rows_of_fleet),
            "start_at": self._instants(),
            "duration_ms": self._numbers("duration_ms", 0, LENGTH_MS_MAX, None),
            "effects": self._numbers("effects", 0, _EFFECTS_MAX, 0),
        }
        self._raise()
        if "kind" not in self._frame.columns:
            columns["kind"] = _with_reboots(columns["kind"], campaign, columns["vm_row"], prepared, resolved)
        rows = pl.DataFrame(columns).cast(
            {"iteration": pl.UInt8, "vm_row": pl.UInt32, "duration_ms": pl.UInt32, "effects": pl.UInt8}
        )
        return rows.sort("campaign", "vm_row", "start_at")

    def _campaigns(self, known: Sequence[str]) -> pl.Series:
        if "campaign" not in self._frame.columns:
            if len(known) > 1:
                self._problems.append(
                    f"{self.name}: must have a column 'campaign', for the scenario has several{self._hint('campaign')}"
                )
            return pl.Series([known[0]], dtype=pl.String).new_from_index(0, len(self._frame))
        campaign = self._frame["campaign"].cast(pl.String)
        unknown = campaign.filter(~campaign.is_in(list(known)).fill_null(value=False))
        hint = nearest(unknown[0], known) if len(unknown) and unknown[0] is not None else ""
        self._refuse(
            "campaign",
            f"be a campaign of the scenario ({', '.join(known)})",
            ~campaign.is_in(list(known)).fill_null(value=False),
        )
        if hint and self._problems:
            self._problems[-1] += hint
        return campaign

    def _words(
        self,
        column: str,
        codes: type[IntEnum],
        campaign: pl.Series,
        campaigns: Mapping[str, Campaign],
    ) -> pl.Series:
        if column not in self._frame.columns:
            if column == "kind":
                kinds = {name: each.kind.name.lower() for name, each in campaigns.items()}
                return campaign.replace_strict(kinds, default=None, return_dtype=pl.String)
            word = {"phase": Phase.PLATFORM, "result": Result.COMPLETED}[column].name.lower()
            return pl.Series([word]).new_from_index(0, len(self._frame))
        found = self._frame[column].cast(pl.String)
        self._refuse(column, f"be one of {', '.join(words(codes))}", ~found.is_in(words(codes)).fill_null(value=False))
        return found

    def _numbers(self, column: str, low: int, high: int, default: int | None) -> pl.Series:
        """An integer column; where there is none, *default*."""
        if column not in self._frame.columns:
            return pl.Series([default], dtype=pl.Int64).new_from_index(0, len(self._frame))
        found = self._frame[column]
        number = found.cast(pl.Int64, strict=False)
        is_whole = number.is_not_null()
        if found.dtype.is_float():
            is_whole &= (found == found.floor()).fill_null(value=False)
        is_inside = is_whole & number.is_between(low, high).fill_null(value=False)
        self._refuse(column, f"be a whole number from {low:,} to {high:,}", ~is_inside)
        return number.fill_null(0)

    def _instants(self) -> pl.Series:
        found = self._frame["start_at"]
        if found.dtype == pl.String:
            text = found.str.replace(" ", "T", literal=True)
            exact = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", time_unit="us", time_zone="UTC", strict=False)
        elif isinstance(found.dtype, pl.Datetime):
            # Without a zone: UTC, as in fleets (docs/decisions/0009).
            exact = found.dt.replace_time_zone("UTC") if found.dtype.time_zone is None else found
            exact = exact.dt.convert_time_zone("UTC")
        else:
            exact = pl.Series([None], dtype=pl.Datetime("ms", "UTC")).new_from_index(0, len(found))
        instant = exact.dt.cast_time_unit("ms")
        is_exact = (instant.dt.cast_time_unit(exact.dtype.time_unit) == exact).fill_null(value=False)  # type: ignore[attr-defined]
        self._refuse("start_at", "be an instant with a zone, in whole milliseconds", ~is_exact)
        return instant

    def _vm_rows(self, prepared: PreparedFleet, *, has_rows_of_fleet: bool) -> pl.Series:
        if "vm" not in self._frame.columns:
            if not has_rows_of_fleet:
                hint = "run `fleetsim fleet prepare`, or give a column 'vm'"
                self._problems.append(f"{self.name}: column 'vm_row' needs a prepared fleet, got another; {hint}")
            return self._numbers("vm_row", 0, prepared.vm_count - 1, None)
        parts = [part for region in prepared.regions for part in region.parts]
        vms = pl.concat([_columns_of(part, ["vm", "vm_row"]) for part in parts])
        found = self._frame["vm"]
        # An id is text in a CSV, whatever it is in the fleet; a fraction is none.
        vm = found.cast(vms["vm"].dtype, strict=False)
        if found.dtype.is_float():
            vm = pl.select(pl.when(found == vm.cast(found.dtype)).then(vm)).to_series()
        vm_row = vm.to_frame("vm").join(vms, on="vm", how="left", maintain_order="left")["vm_row"]
        count = len(self._problems)
        self._refuse("vm", "be a VM of the fleet", vm_row.is_null())
        if len(self._problems) > count:
            unknown = str(found.filter(vm_row.is_null())[0])
            self._problems[-1] += nearest(unknown, vms["vm"].head(_NEAR_MAX).cast(pl.String).to_list())
        return vm_row.fill_null(0)


def _with_reboots(
    kind: pl.Series, campaign: pl.Series, vm_row: pl.Series, prepared: PreparedFleet, resolved: Resolved
) -> pl.Series:
    """*kind*, which no log tells, but `reboot` where a campaign reboots a VM that it cannot freeze."""
    rebooting = [each.name for each in resolved.scenario.campaigns if each.reboot_length is not None]
    if not rebooting or "size" not in prepared.columns:
        return kind
    sizes = pl.concat([_columns_of(part, ["vm_row", "size"]) for region in prepared.regions for part in region.parts])
    is_unfrozen = pl.col("size").cast(pl.String).is_in(list(resolved.cannot_freeze_sizes))
    reboots = campaign.is_in(rebooting) & vm_row.is_in(sizes.filter(is_unfrozen)["vm_row"].cast(pl.Int64).implode())
    return pl.select(pl.when(reboots).then(pl.lit(Kind.REBOOT.name.lower())).otherwise(kind)).to_series()


def _columns_of(part: PreparedPart, columns: Sequence[str]) -> pl.DataFrame:
    return pl.read_parquet(readable(part.path), columns=list(columns), glob=False, hive_partitioning=False)


def _read(events: Any) -> tuple[str, pl.DataFrame]:
    """What a log is called, and its rows."""
    if not isinstance(events, str | Path):
        kind = type(events)
        name = f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
        if isinstance(events, pl.LazyFrame) or not hasattr(events, "__arrow_c_stream__"):
            hint = "; collect() it first" if hasattr(events, "collect") else ""
            raise InputError(
                f"events: must be a path or an Arrow table (pyarrow, polars, pandas, duckdb), got {name}{hint}"
            )
        return name, _flat(pl.DataFrame(pa.table(events)))
    path = Path(events)
    if not path.exists():
        raise InputError(f"{path}: must be a log, got nothing there{nearest_path(path)}")
    try:
        if path.is_dir():
            return str(path), _flat(pl.read_parquet(path / "**/*.parquet", hive_partitioning=False))
        with path.open("rb") as stream:
            magic = stream.read(6)
        if magic[:4] == b"PAR1":
            return str(path), _flat(pl.read_parquet(path, glob=False, hive_partitioning=False))
        if magic == b"ARROW1":
            return str(path), _flat(pl.read_ipc(path))
        if path.name.endswith((".csv", ".csv.gz")):
            return str(path), pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: must be a readable log, got: {str(error).splitlines()[0]}") from error
    raise InputError(f"{path}: must be a log as Parquet, CSV (*.csv) or Arrow, got a file that is none of them")


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    """*frame* with words as text."""
    return frame.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))


def _lay_out(out: Path, rows: pl.DataFrame, prepared: PreparedFleet, resolved: Resolved, relation: Relation) -> None:
    """Write *rows* and what they are judged by into *out*, as a run has it."""
    digests = {"scenario_digest": resolved.scenario_digest, "fleet_digest": prepared.fleet_digest}
    provenance = provenance_of(**digests, seed=resolved.scenario.seed)
    stated = {"fleetsim_version": __version__, "schema_version": SCHEMA_VERSION, "pairs_digest": relation.digest}
    folder = RunFolder(out)
    folder.open()
    folder.write(RESOLVED, resolved.to_toml({**stated, **digests}).encode())
    folder.write("scenario.toml", resolved.scenario.text.encode())
    folder.write("pairs.csv", relation.to_csv().encode())
    schema = arrow_schema(EVENTS, provenance)
    by_campaign = {name: part for (name,), part in rows.partition_by("campaign", as_dict=True).items()}
    for region in prepared.regions:
        for part in region.parts:
            folder.link(f"fleet/region={region.region}/{part.path.name}", part.path, part.vm_count, part.sha256)
            within = pl.col("vm_row").is_between(part.vm_row_start, part.vm_row_start + part.vm_count - 1)
            for campaign in resolved.scenario.campaigns:
                happened = by_campaign.get(campaign.name, rows.head(0)).filter(within)
                name = f"part-c{campaign.place:03}-i{FIRST_ITERATION:03}-{part.number:05}.parquet"
                table = _as_events(happened, schema)
                folder.write(f"events/region={region.region}/{name}", parquet_bytes(table), len(table))
    folder.finish({"seed": resolved.scenario.seed, **digests, "counts": {}}, {})


def _as_events(rows: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    """*rows* typed as `events` is."""
    table = rows.to_arrow()
    columns = []
    for field in schema:
        column = table[field.name].combine_chunks()
        if pa.types.is_dictionary(field.type):
            encoded = column.cast(pa.string()).dictionary_encode()
            column = pa.DictionaryArray.from_arrays(encoded.indices.cast(field.type.index_type), encoded.dictionary)
        columns.append(column.cast(field.type))
    return pa.Table.from_arrays(columns, schema=schema)
