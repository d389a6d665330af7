"""Fleets: made, imported, read from anything, judged; prepared to the same bytes whatever they came as."""

import csv
import gzip
import hashlib
import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from fleetsim import fleet, schema
from fleetsim.errors import InputError
from fleetsim.fleet import order, preparing, read
from fleetsim.fleet.azure_trace import TRACE
from fleetsim.fleet.draws import below, drawn_codes, fleet_key
from fleetsim.fleet.generating import SIZE_WEIGHTS
from fleetsim.regions import HOW_TO_LIST, load_relation, public_regions
from fleetsim.shipped import dataset_path

TINY_TRACE = {"vm_id": [0, 1, 2], "batch_id": [0, 1, 1], "vcpus": [2, 1, 1], "memory_gib": [3.5, 1.75, 1.75]}


def mixed_fleet(vm_count: int = 600, *, is_text: bool = True) -> pl.DataFrame:
    """Sets of three, singles, texts with gaps and columns of the user's own, in two regions."""
    rows = range(vm_count)
    regions = ["westeurope" if row < vm_count // 2 else "eastus" for row in rows]
    sets = [
        None if row % 11 == 0 or row % 33 == 1 else row // 3 + (1000 if row >= vm_count // 2 else 0) for row in rows
    ]
    return pl.DataFrame(
        {
            "vm": [f"vm-{row}" for row in rows] if is_text else [row * 7 for row in rows],
            "region": regions,
            "set": [None if name is None else f"s{name}" for name in sets] if is_text else sets,
            "size": ["2x3.5" if row % 3 else "4x7" for row in rows],
            "vcpus": [float(row % 4 + 1) for row in rows],
            "note": [None if row % 4 == 0 else f"n{row % 13}" for row in rows],
            "cost": [row % 5 for row in rows],
            "ratio": [row / 4 for row in rows],
            "is_paid": [row % 2 == 0 for row in rows],
        }
    )


def written(path: Path) -> dict[str, str]:
    """Digest of every file below *path*."""
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def rows_of(prepared: fleet.PreparedFleet) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(part.path) for region in prepared.regions for part in region.parts])


def problems_of(source: Any, folder: Path, **kwargs: Any) -> list[str]:
    """What preparing *source* is refused with; *folder* must stay as it is, and `check` say the same."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(InputError) as caught:
        fleet.prepare(source, folder / "new" / "prepared", **kwargs)
    with pytest.raises(InputError) as caught_by_check:
        fleet.check(source, **kwargs)
    assert caught_by_check.value.problems == caught.value.problems
    assert sorted(folder.rglob("*")) == before
    return caught.value.problems


# --- prepared fleets ----------------------------------------------------------------------------------------


def test_every_source_of_the_same_rows_gives_the_same_bytes(tmp_path):
    ordered = mixed_fleet()
    shuffled = ordered.sample(fraction=1, shuffle=True, seed=1)
    ordered.write_csv(tmp_path / "a.csv")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    shuffled.write_parquet(tmp_path / "b.parquet", row_group_size=64)
    table = shuffled.to_arrow()
    with pa.ipc.new_file(str(tmp_path / "c.arrow"), table.schema) as file:
        file.write_table(table)
    with pa.ipc.new_stream(str(tmp_path / "c.arrows"), table.schema) as stream:
        stream.write_table(table, 70)
    shuffled.write_ipc(tmp_path / "d.feather", compression="zstd")
    (tmp_path / "mixed").mkdir()
    shuffled[:100].write_ipc(tmp_path / "mixed/a.ipc")
    shuffled[100:500].write_parquet(tmp_path / "mixed/b.parquet")
    shuffled[500:].write_ipc_stream(tmp_path / "mixed/c.arrow")
    for (region,), rows in shuffled.group_by("region"):
        (tmp_path / f"hive/region={region}").mkdir(parents=True)
        rows.drop("region").write_parquet(tmp_path / f"hive/region={region}/x.parquet")
    (tmp_path / "folder").mkdir()
    for number in range(3):
        shuffled[number::3].write_parquet(tmp_path / f"folder/{number}.parquet")
    first = fleet.prepare(ordered, tmp_path / "first")
    expected = written(tmp_path / "first")
    sources = {
        "csv": tmp_path / "a.csv",
        "packed csv": tmp_path / "a.csv.gz",
        "parquet": str(tmp_path / "b.parquet"),
        "arrow file": tmp_path / "c.arrow",
        "arrow stream": tmp_path / "c.arrows",
        "feather": tmp_path / "d.feather",
        "parquet and arrow": tmp_path / "mixed",
        "hive": tmp_path / "hive",
        "folder": tmp_path / "folder",
        "prepared": tmp_path / "first",
        "shuffled": shuffled,
        "columns in another order": ordered.select(reversed(ordered.columns)),
        "categories": shuffled.with_columns(pl.col("size", "note", "region").cast(pl.Categorical)),
        "categories in chunks": pl.concat([shuffled[:100], shuffled[100:]], rechunk=False).with_columns(
            pl.col("size", "set", "vm").cast(pl.Categorical)
        ),
        "pandas, with an index of its own": ordered.to_pandas().sample(frac=1, random_state=2),
        "duckdb": duckdb.sql("select * from ordered order by hash(vm)"),
        "pyarrow": table,
        "record batch": table.combine_chunks().to_batches()[0],
    }

    for name, source in sources.items():
        again = fleet.prepare(source, tmp_path / f"out of {name}")
        assert again.fleet_digest == first.fleet_digest, name
        of_parts = {path: digest for path, digest in written(again.path).items() if path != "prepared.json"}
        assert of_parts == {path: digest for path, digest in expected.items() if path != "prepared.json"}, name


def test_order_and_chunks_do_not_matter(tmp_path, monkeypatch):
    source = mixed_fleet(120, is_text=False)
    plain = fleet.prepare(source, tmp_path / "plain")
    for seed, (chunk_rows, batch_rows) in enumerate([(1, 7), (7, 1000), (1000, 7), (50, 50), (40, 1)]):
        monkeypatch.setattr(read, "BATCH_ROWS", batch_rows)
        shuffled = source.sample(fraction=1, shuffle=True, seed=seed).to_arrow()
        chunked = pa.Table.from_batches(shuffled.to_batches(max_chunksize=chunk_rows))
        again = fleet.prepare(chunked, tmp_path / str(seed))

        assert again.fleet_digest == plain.fleet_digest
        assert [part.sha256 for region in again.regions for part in region.parts] == [
            part.sha256 for region in plain.regions for part in region.parts
        ]


@pytest.mark.parametrize("block_rows", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("is_in_order", [True, False])
def test_sets_are_ordered_alike_in_blocks_of_any_size(tmp_path, monkeypatch, block_rows, is_in_order):
    rows = pl.int_range(pl.len())
    source = mixed_fleet(300, is_text=False).with_columns(
        # Falling, rising and open, set by set; some sets are of one VM.
        update_domain=pl.when(pl.col("set") % 3 < 2).then((1 - 2 * (pl.col("set") % 3)) * rows % 5).cast(pl.UInt8),
        fault_domain=pl.when(pl.col("set") % 2 == 0).then(rows % 2).cast(pl.UInt8),
    )
    if is_in_order:
        source = source.sort("region", "set", "vm", nulls_last=True)
    plain = fleet.prepare(source, tmp_path / "plain")
    assert plain.domains_assigned_count > 20

    monkeypatch.setattr(order, "_BLOCK_ROWS", block_rows)
    monkeypatch.setattr(preparing, "_VMS_BESIDE", 10)
    fleet.prepare(source, tmp_path / "blocks")

    assert written(tmp_path / "blocks") == written(tmp_path / "plain")


def test_domains_in_part_are_told_alike_in_blocks_of_any_size(tmp_path, monkeypatch):
    in_part = pl.when(pl.int_range(pl.len()) % 5 > 0).then(1).cast(pl.UInt8)
    source = mixed_fleet(300, is_text=False).with_columns(update_domain=in_part, fault_domain=in_part)
    problems = problems_of(source, tmp_path)
    assert len(problems) > 5

    monkeypatch.setattr(order, "_BLOCK_ROWS", 3)
    assert problems_of(source, tmp_path) == problems


def test_any_changed_value_changes_the_digest(tmp_path):
    source = mixed_fleet(30).with_columns(
        set=pl.when(pl.col("vm") == "vm-29").then(None).otherwise("set"),
        fault_domain=pl.lit(1, pl.UInt8),
        created=pl.lit(datetime(2026, 12, 1, tzinfo=UTC), pl.Datetime("ms", "UTC")),
        deleted=pl.lit(datetime(2026, 12, 2, tzinfo=UTC), pl.Datetime("ms", "UTC")),
    )
    digests = {fleet.prepare(source, tmp_path / "plain").fleet_digest}
    changes = {
        "vm": pl.lit("other"),
        "region": pl.lit("westus"),
        "set": pl.lit("other"),
        "size": pl.lit("other"),
        "note": pl.lit(None, pl.String),
        "cost": pl.lit(9),
        "ratio": pl.lit(0.125),
        "is_paid": ~pl.col("is_paid"),
        "created": pl.lit(datetime(2026, 12, 1, 0, 0, 0, 1000, tzinfo=UTC), pl.Datetime("ms", "UTC")),
        "deleted": pl.lit(datetime(2026, 12, 3, tzinfo=UTC), pl.Datetime("ms", "UTC")),
    }
    for name, change in changes.items():
        is_last = pl.int_range(pl.len()) == source.height - 1
        changed = source.with_columns(pl.when(is_last).then(change).otherwise(name).alias(name))
        digests.add(fleet.prepare(changed, tmp_path / name).fleet_digest)
    digests.add(fleet.prepare(source.rename({"note": "other"}), tmp_path / "renamed").fleet_digest)
    domain = pl.when(pl.col("vm") == "vm-2").then(pl.lit(2, pl.UInt8)).otherwise("fault_domain")
    digests.add(fleet.prepare(source.with_columns(fault_domain=domain), tmp_path / "domain").fleet_digest)

    assert len(digests) == 3 + len(changes)


def test_prepared_rows_are_sorted_and_numbered(tmp_path):
    source = mixed_fleet()
    prepared = fleet.prepare(source, tmp_path / "prepared")
    rows = rows_of(prepared)

    assert [region.region for region in prepared.regions] == ["eastus", "westeurope"]
    assert [region.pair_group for region in prepared.regions] == ["eastus", "northeurope"]
    assert rows["vm_row"].to_list() == list(range(source.height))
    ranked = rows.with_columns(group=pl.col("region").cast(pl.String).replace("westeurope", "northeurope"))
    keys = ("group", "set", "update_domain", "vm")
    assert ranked.select(keys).equals(ranked.select(keys).sort(keys, nulls_last=True))
    assert rows.filter(pl.col("set").is_null())["update_domain"].null_count() == prepared.single_count
    assert (prepared.vm_count, prepared.set_count) == (600, source["set"].n_unique() - 1)
    assert prepared.domains_assigned_count == prepared.set_count
    assert prepared.vm_is_string
    stored = pq.read_schema(prepared.regions[0].parts[0].path)
    assert [field.name for field in stored if not field.nullable] == [
        *("vm", "region", "vm_row", "vm_key"),
        *("is_update_domain_assigned", "is_fault_domain_assigned"),
    ]
    assert stored.metadata[b"fleetsim.rows_digest"].decode() == prepared.regions[0].parts[0].rows


def test_parts_units_and_no_guarantee_agree_with_the_rows(tmp_path):
    prepared = fleet.prepare(mixed_fleet(), tmp_path / "prepared")
    rows = rows_of(prepared).with_columns(pl.col("region").cast(pl.String))

    for region in prepared.regions:
        for part in region.parts:
            assert hashlib.sha256(part.path.read_bytes()).hexdigest() == part.sha256
            own = pl.read_parquet(part.path)
            units = pl.read_parquet(part.units_path)
            assert units.columns == schema.UNITS.names()
            expected = (
                own.drop_nulls("set")
                .group_by("set", "update_domain", maintain_order=True)
                .agg(pl.len().cast(pl.UInt32).alias("vm_count"))
                .with_columns((pl.col("set").rank("dense") - 1).cast(pl.UInt32).alias("set_row"))
            )
            assert units.drop("set_key").equals(expected.select("set_row", "update_domain", "vm_count"))
            assert part.unit_count == units.height
            assert part.set_count == units["set_row"].n_unique() == units["set_key"].n_unique()
            assert (part.vm_count, part.single_count) == (own.height, own["set"].null_count())
            assert part.vm_row_start == own["vm_row"][0]
    expected = (
        rows.drop_nulls("set")
        .group_by("region", "set")
        .agg(pl.len(), pl.col("update_domain").n_unique().alias("domains"))
        .filter(pl.col("domains") == 1)
        .select("region", "set", reason=pl.when(len=1).then(pl.lit("one_vm")).otherwise(pl.lit("one_domain")))
        .sort("region", "set")
    )
    told = pl.read_parquet(prepared.path / "no_guarantee.parquet")
    told = told.with_columns(pl.col("region", "reason").cast(pl.String))
    assert told.height > 0
    assert told.equals(expected)


def test_one_domain_sets_are_told_from_sets_of_one(tmp_path):
    source = {"vm": [1, 2, 3], "region": ["westus"] * 3, "set": [5, 5, 6], "update_domain": [4, 4, 0]}
    prepared = fleet.prepare(pl.DataFrame(source), tmp_path / "prepared")

    told = pl.read_parquet(prepared.path / "no_guarantee.parquet")
    assert told["set"].to_list() == [5, 6]
    assert told["reason"].cast(pl.String).to_list() == ["one_domain", "one_vm"]


def test_integers_sort_by_value_and_strings_by_their_bytes(tmp_path):
    numbers = [10, 9, -1, 2**62]
    words = ["Ω", "b", "a10", "a9", "Z", "é"]
    by_value = fleet.prepare(pl.DataFrame({"vm": numbers, "region": "westus"}), tmp_path / "numbers")
    by_bytes = fleet.prepare(pl.DataFrame({"vm": words, "region": "westus"}), tmp_path / "words")

    assert rows_of(by_value)["vm"].to_list() == sorted(numbers)
    assert rows_of(by_bytes)["vm"].to_list() == sorted(words, key=str.encode)
    assert not by_value.vm_is_string
    assert "vm_key" not in rows_of(by_value).columns


def test_string_keys_are_fnv1a(tmp_path):
    def fnv1a(text: str) -> int:
        digest = 0xCBF29CE484222325
        for byte in text.encode():
            digest = (digest ^ byte) * 0x100000001B3 % (1 << 64)
        return digest - (1 << 64) * (digest >> 63)

    source = pl.DataFrame({"vm": ["a", "é", "vm-3"], "region": "westus", "set": ["x", "yy", "yy"]})
    prepared = fleet.prepare(source, tmp_path / "prepared")
    rows = rows_of(prepared)

    assert rows["vm_key"].to_list() == [fnv1a(vm) for vm in rows["vm"]]
    units = pl.read_parquet(prepared.regions[0].parts[0].units_path)
    assert units["set_key"].to_list() == [fnv1a("x"), fnv1a("yy"), fnv1a("yy")]


def test_open_domains_are_dealt_round_robin_by_id(tmp_path):
    vms = [f"v{row}" for row in range(12)]  # v10 and v11 come after v1
    source = pl.DataFrame({"vm": vms, "region": "westus", "set": "s"}).sample(fraction=1, shuffle=True, seed=5)
    rows = rows_of(fleet.prepare(source, tmp_path / "prepared"))

    dealt = dict(zip(rows["vm"], rows["update_domain"], strict=True))
    assert dealt == {
        vm: place % 5
        for place, vm in enumerate(["v0", "v1", "v10", "v11", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9"])
    }


def test_given_domains_are_kept_beside_open_ones(tmp_path):
    source = {
        "vm": [1, 2, 3, 4, 5],
        "region": ["westus"] * 5,
        "set": [1, 1, 2, 2, None],
        "update_domain": [19, 3, None, None, 7],
    }
    prepared = fleet.prepare(pl.DataFrame(source), tmp_path / "prepared")

    domains = dict(rows_of(prepared).select("vm", "update_domain").iter_rows())
    assert domains == {1: 19, 2: 3, 3: 0, 4: 1, 5: None}
    assert prepared.domains_assigned_count == 1
    assert prepared.warnings == ("polars.DataFrame: column 'update_domain' is ignored for VMs in no set (1 rows)",)


def test_fault_domains_are_dealt_by_id_whatever_the_update_domains(tmp_path):
    source = pl.DataFrame(
        {
            "vm": range(8),
            "region": "westus",
            "set": [1, 1, 1, 1, 1, 2, 2, None],
            "update_domain": [4, 3, 2, 1, 0, 0, 0, None],
            "fault_domain": [None, None, None, None, None, 19, 7, 2],
        }
    ).sample(fraction=1, shuffle=True, seed=4)
    prepared = fleet.prepare(source, tmp_path / "prepared")
    rows = rows_of(prepared)

    assert rows["vm"].to_list() == [4, 3, 2, 1, 0, 5, 6, 7]
    assert rows["fault_domain"].to_list() == [1, 0, 2, 1, 0, 19, 7, None]
    assert rows["is_fault_domain_assigned"].to_list() == [True] * 5 + [False] * 3
    assert "is_update_domain_assigned" not in rows.columns
    assert (prepared.domains_assigned_count, prepared.fault_domains_assigned_count) == (0, 1)
    assert prepared.warnings == ("polars.DataFrame: column 'fault_domain' is ignored for VMs in no set (1 rows)",)
    assert fleet.check(source).notes == (
        "VMs of sets that give no domains are spread round robin, by id: over 3 fault domains in 1 sets",
    )


@pytest.mark.parametrize("domains", [[None], [row % 20 for row in range(40)]], ids=["one single", "all given"])
def test_no_domain_is_assigned_where_no_set_is_open(tmp_path, domains):
    sets = [None if domain is None else 1 for domain in domains]
    source = {"vm": range(len(domains)), "region": "westus", "set": sets}
    source = pl.DataFrame(
        {**source, "update_domain": domains, "fault_domain": domains[::-1]},
        schema_overrides={"set": pl.Int64, "update_domain": pl.UInt8, "fault_domain": pl.UInt8},
    )
    prepared = fleet.prepare(source, tmp_path / "prepared")
    rows = rows_of(prepared)

    assert not {"is_update_domain_assigned", "is_fault_domain_assigned"} & set(rows.columns)
    assert rows["update_domain"].to_list() == sorted(domains)
    assert rows.sort("vm")["fault_domain"].to_list() == domains[::-1]
    assert (prepared.domains_assigned_count, prepared.fault_domains_assigned_count) == (0, 0)
    assert fleet.check(source).notes == ()


def test_a_prepared_fleet_prepared_again_keeps_what_it_says_of_its_domains(tmp_path):
    source = pl.DataFrame(
        {
            "vm": range(12),
            "region": "westus",
            "set": [1] * 5 + [2] * 6 + [None],
            "update_domain": [None] * 5 + [0, 1, 2, 3, 4, 0] + [None],
        }
    )
    first = fleet.prepare(source, tmp_path / "first")
    again = fleet.prepare(first.path, tmp_path / "again")
    assert written(again.path) == written(first.path)
    assert (again.domains_assigned_count, again.fault_domains_assigned_count) == (1, 2)
    flags = rows_of(again).select("set", "is_update_domain_assigned", "is_fault_domain_assigned").unique()
    assert sorted(flags.rows(), key=str) == [(1, True, True), (2, False, True), (None, False, False)]

    # Rows alone: domains are the user's now, which changes no row.
    plain = fleet.prepare(rows_of(first), tmp_path / "plain")
    assert plain.fleet_digest == first.fleet_digest
    assert (plain.domains_assigned_count, plain.fault_domains_assigned_count) == (0, 0)

    # A domain changed beside its flag is the user's, and so is its set; a VM taken out leaves the others' alone.
    part = pq.read_table(first.regions[0].parts[0].path)
    changed = pl.from_arrow(part).with_columns(
        fault_domain=pl.when(pl.col("vm") == 7).then(pl.lit(9, pl.UInt8)).otherwise("fault_domain")
    )
    edited = changed.to_arrow().cast(pa.schema(list(part.schema), metadata=part.schema.metadata))
    edited = edited.filter(pc.not_equal(edited["vm"], 0))
    prepared = fleet.prepare(edited, tmp_path / "edited")
    kept = rows_of(prepared).sort("vm")
    before = changed.filter(pl.col("vm") != 0).sort("vm")
    assert kept.select("vm", "update_domain", "fault_domain").equals(
        before.select("vm", "update_domain", "fault_domain")
    )
    assert (prepared.domains_assigned_count, prepared.fault_domains_assigned_count) == (0, 0)
    assert not kept["is_fault_domain_assigned"].any()


def test_a_domain_on_a_single_does_not_hide_a_set_that_gives_none(tmp_path):
    source = {"vm": [1, 2], "region": "westus", "set": [1, None], "fault_domain": [None, 2]}
    rows = rows_of(fleet.prepare(pl.DataFrame(source), tmp_path / "prepared"))

    assert rows["is_fault_domain_assigned"].to_list() == [True, False]
    assert rows["fault_domain"].to_list() == [0, None]


def test_only_a_prepared_fleet_is_believed_that_it_dealt_domains(tmp_path):
    source = pl.DataFrame({"vm": [1, 2, 3, 4], "region": "westus", "set": [1, 1, 2, 2]})
    prepared = fleet.prepare(source[:2], tmp_path / "prepared")
    (tmp_path / "fleet").mkdir()
    (tmp_path / "fleet/a.parquet").write_bytes(prepared.regions[0].parts[0].path.read_bytes())
    claim = source[2:].with_columns(update_domain=pl.int_range(2), is_update_domain_assigned=True)
    claim.write_parquet(tmp_path / "fleet/b.parquet")
    again = fleet.prepare(tmp_path / "fleet", tmp_path / "again")

    assert rows_of(again)["is_update_domain_assigned"].to_list() == [True, True, False, False]
    assert rows_of(again)["is_fault_domain_assigned"].to_list() == [True] * 4
    assert again.warnings == (
        f"{tmp_path / 'fleet'}: column 'is_update_domain_assigned' is left out: fleetsim makes one of that name;"
        " rename it to keep it",
    )


def test_words_and_lives_are_counted_in_the_manifest(tmp_path):
    source = mixed_fleet().with_columns(
        workload=pl.when(pl.col("cost") < 2).then(pl.lit("web")).when(pl.col("cost") == 2).then(pl.lit("db")),
        created=pl.when(pl.col("cost") == 4).then(pl.datetime(2026, 12, 1, time_zone="UTC")),
    )
    prepared = fleet.prepare(source, tmp_path / "prepared")

    assert prepared.sizes == {"2x3.5": 400, "4x7": 200}
    assert list(prepared.workloads.items()) == [("db", 120), ("web", 240)]
    assert prepared.has_lifetimes
    assert prepared.columns["created"] == pa.timestamp("ms", tz="UTC")
    assert prepared.columns["size"] == pa.dictionary(pa.int32(), pa.string())
    assert list(prepared.columns) == rows_of(prepared).columns
    found = fleet.check(source)
    assert (found.created_count, found.deleted_count) == (120, 0)
    bare = fleet.prepare(pl.DataFrame({"vm": [1], "region": "westus"}), tmp_path / "bare")
    assert (bare.sizes, bare.workloads, bare.has_lifetimes) == ({}, {}, False)


@pytest.mark.parametrize("is_text", [True, False])
def test_scale_sets_are_cut_into_placement_groups(tmp_path, is_text):
    names = [7] * 250 + [8] * 100 + [9] * 150
    source = pl.DataFrame(
        {
            "vm": range(500),
            "region": "westus",
            "set": [f"s{name}" if is_text else name for name in names],
            "set_kind": ["scale_set"] * 350 + ["availability_set"] * 150,
            "update_domain": [vm % 20 if vm < 250 else None for vm in range(500)],
        }
    ).sample(fraction=1, shuffle=True, seed=2)
    prepared = fleet.prepare(source, tmp_path / "prepared")
    rows = rows_of(prepared)

    mark = "s" if is_text else ""
    sizes = dict(rows.group_by("set").len().iter_rows())
    expected = {"7/pg-0": 100, "7/pg-1": 100, "7/pg-2": 50, "8": 100, "9": 150}
    assert sizes == {mark + name: size for name, size in expected.items()}
    assert rows.filter(pl.col("set") == f"{mark}7/pg-1")["vm"].sort().to_list() == list(range(100, 200))
    by_vm = rows.sort("vm")
    assert by_vm["update_domain"][:250].to_list() == [vm % 20 for vm in range(250)]
    places = [vm % 100 for vm in range(250)] + list(range(100)) + list(range(150))
    assert by_vm["update_domain"][250:].to_list() == [place % 5 for place in places[250:]]
    assert by_vm["fault_domain"].to_list() == [place % 3 for place in places]
    assert (prepared.domains_assigned_count, prepared.fault_domains_assigned_count) == (2, 5)
    assert fleet.prepare(prepared.path, tmp_path / "again").fleet_digest == prepared.fleet_digest
    assert any("placement groups" in note for note in fleet.check(source).notes) is not is_text


def test_parts_hold_whole_sets_then_singles(tmp_path, monkeypatch):
    monkeypatch.setattr(order, "PART_ROWS", 10)
    sizes = [4, 4, 4, 25, 10, 3]
    sets = [name for name, size in enumerate(sizes) for _ in range(size)] + [None] * 24
    source = pl.DataFrame({"vm": range(74), "region": "westus", "set": sets})
    prepared = fleet.prepare(source, tmp_path / "prepared")

    parts = prepared.regions[0].parts
    assert [part.vm_count for part in parts] == [8, 4, 25, 10, 10, 10, 7]
    assert [part.set_count for part in parts] == [2, 1, 1, 1, 1, 0, 0]
    assert [part.single_count for part in parts] == [0, 0, 0, 0, 7, 10, 7]
    assert [part.vm_row_start for part in parts] == np.cumsum([0, 8, 4, 25, 10, 10, 10]).tolist()
    assert [part.number for part in parts] == list(range(7))


def test_a_prepared_fleet_opens_as_it_was_made(tmp_path):
    made = fleet.prepare(mixed_fleet(), tmp_path / "prepared")

    assert fleet.open_prepared(tmp_path / "prepared") == made
    assert (made.path / "pairs.csv").read_text() == load_relation().to_csv()
    assert made.pairs_digest == load_relation().digest
    assert json.loads(json.dumps(made.to_dict()))["regions"] == {"eastus": 300, "westeurope": 300}


def test_what_is_no_prepared_fleet_is_told(tmp_path):
    made = fleet.prepare(mixed_fleet(), tmp_path / "prepared")
    with pytest.raises(InputError, match=r"must be a prepared fleet, got no prepared\.json in it"):
        fleet.open_prepared(tmp_path)
    part = made.regions[0].parts[0].path
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(InputError, match=f"{part}: must be readable, got: .*; prepare the fleet anew"):
        fleet.open_prepared(made.path)
    part.unlink()
    with pytest.raises(InputError, match=f"{part}: must be there"):
        fleet.open_prepared(made.path)
    manifest = made.path / "prepared.json"
    manifest.write_text(manifest.read_text().replace('"schema_version": 2', '"schema_version": 1'))
    with pytest.raises(InputError, match="schema_version must be 2, got 1"):
        fleet.open_prepared(made.path)
    manifest.write_text("{}")
    with pytest.raises(InputError, match="must be the manifest of a prepared fleet"):
        fleet.open_prepared(made.path)


def test_an_existing_destination_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="out: must not be there yet, got an existing folder"):
        fleet.prepare(tmp_path / "nowhere.parquet", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_users_pairs_decide_regions_and_order(tmp_path):
    (tmp_path / "pairs.csv").write_text("region,paired_region\nzulu,alpha\nalpha,\nmike,\n")
    source = pl.DataFrame({"vm": [1, 2, 3], "region": ["zulu", "mike", "alpha"]})
    prepared = fleet.prepare(source, tmp_path / "prepared", tmp_path / "pairs.csv")

    assert [(region.region, region.pair_group) for region in prepared.regions] == [
        ("alpha", "alpha"),
        ("zulu", "alpha"),
        ("mike", "mike"),
    ]


def test_check_counts_what_prepare_makes(tmp_path):
    source = mixed_fleet()
    found = fleet.check(source)
    made = fleet.prepare(source, tmp_path / "prepared")

    for name in (
        *("vm_count", "set_count", "single_count"),
        *("domains_assigned_count", "fault_domains_assigned_count"),
    ):
        assert getattr(found, name) == getattr(made, name)
    assert found.unit_count == sum(part.unit_count for region in made.regions for part in region.parts)
    assert found.no_guarantee_count == pq.read_metadata(made.path / "no_guarantee.parquet").num_rows
    assert found.to_dict()["vm_count_by_region"] == {"eastus": 300, "westeurope": 300}
    assert found.notes == (
        "VMs of sets that give no domains are spread round robin, by id: over 5 update domains in 200 sets"
        " and over 3 fault domains in 200 sets",
    )


def test_duplicates_are_found_over_any_number_of_ranges(tmp_path, monkeypatch):
    monkeypatch.setattr(preparing, "_KEYS_AT_ONCE", 50)
    source = mixed_fleet(is_text=False)
    assert fleet.check(source).vm_count == 600
    doubled = pl.concat([source, source[[3, 400]].with_columns(region=pl.lit("uksouth"), set=None)])

    problems = problems_of(doubled, tmp_path)
    assert problems == [
        "polars.DataFrame: column 'vm': must be unique, got '21' 2 times, in region 'westeurope' and region 'uksouth'",
        "polars.DataFrame: column 'vm': must be unique, got '2800' 2 times, in region 'eastus' and region 'uksouth'",
    ]


# --- unusable fleets ----------------------------------------------------------------------------------------

PLAIN = {"vm": [1, 2, 3, 4], "region": ["westus", "westus", "eastus", "eastus"]}


@pytest.mark.parametrize(
    ("columns", "expected"),
    {
        "no vm": (
            {"VM ": PLAIN["vm"], "region": PLAIN["region"]},
            ["column 'vm' must be there, got 'VM ', 'region'; rename 'VM ' to 'vm'"],
        ),
        "no region": (
            {"vm": PLAIN["vm"], "Regoin": PLAIN["region"]},
            ["column 'region' must be there, got 'vm', 'Regoin'; rename 'Regoin' to 'region'"],
        ),
        "float vm": (
            {**PLAIN, "vm": [1.0, 2.0, 3.0, 4.0]},
            ["column 'vm' must be integers or strings, got double"],
        ),
        "date vm": (
            {**PLAIN, "vm": pa.array([0] * 4, pa.date32())},
            ["'vm' must be integers or strings, got date32"],
        ),
        "float set": (
            {**PLAIN, "set": [1.0, None, 2.0, 2.0]},
            [
                "column 'set' must be integers or strings, got double; a column of integers with gaps must not become"
                ' floats (pandas: .astype("Int64"))'
            ],
        ),
        "columns but for their case": (
            {**PLAIN, "Set": ["a"] * 4, "Update Domain": [0] * 4},
            [
                "column 'set' must be spelt so, got 'Set'; rename 'Set' to 'set', or to another name if it is none",
                "column 'update_domain' must be spelt so, got 'Update Domain'; rename 'Update Domain' to"
                " 'update_domain', or to another name if it is none",
            ],
        ),
        "null vm": ({**PLAIN, "vm": [1, None, 3, None]}, ["column 'vm', row 2: must not be empty (2 rows)"]),
        "empty vm": ({**PLAIN, "vm": ["a", "b", "", "d"]}, ["column 'vm', row 3: must not be empty"]),
        "null region": (
            {**PLAIN, "region": ["westus", None, "", "eastus"]},
            ["column 'region', row 2: must not be empty (2 rows)"],
        ),
        "unknown regions": (
            {**PLAIN, "region": ["westus", "westeurop", "moonbase", "moonbase"]},
            [
                "column 'region', row 2: must be a known region, got 'westeurop'; did you mean 'westeurope'?;"
                f" or {HOW_TO_LIST}",
                f"column 'region', row 3: must be a known region, got 'moonbase'; {HOW_TO_LIST} (2 rows)",
            ],
        ),
        "twice in a region": (
            {**PLAIN, "vm": ["a", "a", "b", "c"]},
            ["column 'vm': must be unique, got 'a' 2 times, in region 'westus'"],
        ),
        "twice in two regions": (
            {**PLAIN, "vm": ["a", "b", "c", "a"]},
            ["column 'vm': must be unique, got 'a' 2 times, in region 'eastus' and region 'westus'"],
        ),
        "big vm": (
            {**PLAIN, "vm": pa.array([1, 2, 3, 2**64 - 1], pa.uint64())},
            ["'vm', row 4: must be a whole"],
        ),
        "domain of 20": (
            {**PLAIN, "set": [1, 1, 2, 2], "update_domain": [0, 20, 1, -1]},
            ["column 'update_domain', row 2: must be a whole number from 0 to 19, got 20 (2 rows)"],
        ),
        "half a domain": (
            {**PLAIN, "set": [1, 1, 2, 2], "update_domain": [0.0, 1.0, 1.5, 0.0]},
            ["column 'update_domain', row 3: must be a whole number of 64 bits, got '1.5'"],
        ),
        "domain in words": (
            {**PLAIN, "set": [1, 1, 2, 2], "update_domain": ["0", "one", "0", "1"]},
            ["column 'update_domain', row 2: must be a whole number of 64 bits, got 'one'"],
        ),
        "some domains": (
            {**PLAIN, "set": [1, 1, 2, 2], "update_domain": [0, None, 0, 1]},
            [
                "set '1' in region 'westus': column 'update_domain' must be given for all of its 2 VMs"
                " or for none, got 1 without, the first of them VM '2'"
            ],
        ),
        "set in two regions": (
            {**PLAIN, "set": ["x", "s", "s", "y"]},
            ["column 'set': a set must be in one region, got 's' in 'eastus' and 'westus'"],
        ),
        "set kind": (
            {**PLAIN, "set": [1, 1, 2, 2], "set_kind": ["scale_set", "scale_set", "avset", "avset"]},
            ["column 'set_kind', row 3: must be availability_set or scale_set, got 'avset' (2 rows)"],
        ),
        "two set kinds": (
            {**PLAIN, "set": [1] * 4, "set_kind": ["scale_set", "availability_set", "scale_set", "scale_set"]}
            | {"region": ["westus"] * 4},
            ["set '1' in region 'westus': column 'set_kind' must be the same for all of its VMs"],
        ),
        "hosts of some VMs only": (
            {"vm": [1, 2, 3], "region": ["westus"] * 3, "host": [None, "h1", None]},
            [
                "column 'host' must be given for all VMs of a region or for none, got 2 of 3 VMs of region 'westus'"
                " without, the first of them VM '1'"
            ],
        ),
        "a host in two regions": (
            {"vm": [1, 2, 3], "region": ["westus", "eastus", "eastus"], "host": [7, 7, 8]},
            ["column 'host': a host must be in one region, got '7' in 'eastus' and 'westus'"],
        ),
        "a host in two racks, and one in two clusters": (
            {
                "vm": [1, 2, 3, 4],
                "region": ["westus"] * 4,
                "host": ["a", "b", "a", "b"],
                "rack": ["r1", "r2", "r3", "r2"],
                "cluster": ["c", "c", "c", None],
            },
            [
                "column 'rack' must be the same for all VMs of a host, got 'r1' and 'r3' for host 'a' in region"
                " 'westus' (VMs '1' and '3')",
                "column 'cluster' must be the same for all VMs of a host, got 'c' and none for host 'b'",
            ],
        ),
        "hosts as floats": (
            {**PLAIN, "host": [1.0, 2.0, 3.0, 4.0]},
            ["column 'host' must be integers or strings, got double"],
        ),
        "some fault domains": (
            {**PLAIN, "set": [1, 1, 2, 2], "update_domain": [0, 1, 0, None], "fault_domain": [None, 1, 0, 1]},
            [
                "set '1' in region 'westus': column 'fault_domain' must be given for all of its 2 VMs"
                " or for none, got 1 without, the first of them VM '1'",
                "set '2' in region 'eastus': column 'update_domain' must be given for all of its 2 VMs"
                " or for none, got 1 without, the first of them VM '4'",
            ],
        ),
        "fault domain of 20": (
            {**PLAIN, "set": [1, 1, 2, 2], "fault_domain": [19, 0, 20, 0]},
            ["column 'fault_domain', row 3: must be a whole number from 0 to 19, got 20"],
        ),
        "a pause of less than nothing": (
            {**PLAIN, "pause_max_ms": [0, -1, None, -2]},
            ["column 'pause_max_ms', row 2: must not be negative, got -1 (2 rows)"],
        ),
        "a life of nothing, and of less": (
            {
                **PLAIN,
                "created": pa.array([5, 5, 5, None], pa.timestamp("ms", "UTC")),
                "deleted": pa.array([6, 5, 4, 4], pa.timestamp("ms", "UTC")),
            },
            [
                "column 'deleted', row 2: must be later than its 'created', 1970-01-01 00:00:00.005Z,"
                " got 1970-01-01 00:00:00.005Z (2 rows)"
            ],
        ),
        "instants as numbers": (
            {**PLAIN, "created": [1, 2, 3, 4], "deleted": [1.5, 2.0, 3.0, 4.0]},
            [
                "column 'created' must be timestamps, dates or text, got int64",
                "column 'deleted' must be timestamps, dates or text, got double",
            ],
        ),
        "instants that milliseconds cannot tell": (
            {
                **PLAIN,
                "created": pa.array([None, 1_000_000, 1_000_001, 1], pa.timestamp("ns", "UTC")),
                "deleted": pa.array([2**62, None, None, None], pa.timestamp("s")),
            },
            [
                "column 'created', row 3: must be an instant in whole milliseconds of the years 1 to 9999,"
                " as 2026-12-01T00:00:00.000Z, got '1970-01-01 00:00:00.001000001Z' (2 rows)",
                "column 'deleted', row 1: must be an instant in whole milliseconds of the years 1 to 9999",
            ],
        ),
        "instants out of all calendars, of which no life is judged": (
            {
                **PLAIN,
                "created": pa.array([None, None, 253_402_300_799_999, 2**62], pa.timestamp("ms", "UTC")),
                "deleted": pa.array([-62_135_596_800_000, None, None, 5], pa.timestamp("ms", "UTC")),
            },
            ["column 'created', row 4: must be an instant in whole milliseconds of the years 1 to 9999"],
        ),
        "vcpus in words": (
            {**PLAIN, "vcpus": ["1", "2", "few", "4"]},
            ["'vcpus', row 3: must be a number, got 'few'"],
        ),
        "no VM": (
            {name: pa.array(values)[:0] for name, values in PLAIN.items()},
            ["must hold at least one VM"],
        ),
        "fields all at once": (
            {
                "vm": [1, None, 3, 4],
                "region": ["x", "westus", "westus", "westus"],
                "set": [1] * 4,
                "update_domain": [0, 1, 2, 99],
            },
            ["'region', row 1: must be a known", "'vm', row 2: must not be", "'update_domain', row 4"],
        ),
        "rows all at once": (
            {**PLAIN, "vm": [1, 2, 2, 4], "set": ["s", "s", "s", "s"], "update_domain": [0, None, 0, 0]},
            ["set 's' in region 'westus'", "must be unique, got '2'", "must be in one region, got 's'"],
        ),
    }.values(),
)
def test_unusable_fleets_are_told(tmp_path, columns, expected):
    problems = problems_of(pa.table(columns), tmp_path)

    assert len(problems) == len(expected), problems
    for fragment in expected:
        assert any(fragment in problem for problem in problems), (fragment, problems)


def test_a_hundred_unknown_regions_are_not_all_told(tmp_path):
    regions = [f"moon-{number}" for number in range(100)]
    problems = problems_of(pl.DataFrame({"vm": range(100), "region": regions}), tmp_path)

    assert len(problems) == 21
    assert problems[-1].endswith("like 79 more not listed here")


def test_a_file_of_a_folder_that_spells_a_column_otherwise_is_told(tmp_path):
    pl.DataFrame(PLAIN).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"vm": [9], "Region": ["westus"]}).write_parquet(tmp_path / "b.parquet")

    assert problems_of(tmp_path, tmp_path) == [
        f"{tmp_path / 'b.parquet'}: column 'region' must be there, got 'vm', 'Region'; rename 'Region' to 'region'"
    ]


def test_duplicates_in_files_are_told_with_their_rows(tmp_path):
    (tmp_path / "fleet").mkdir()
    pl.DataFrame(PLAIN).write_parquet(tmp_path / "fleet/a.parquet")
    pl.DataFrame({"vm": [9, 3], "region": ["westus", "westus"]}).write_parquet(tmp_path / "fleet/b.parquet")

    assert problems_of(tmp_path / "fleet", tmp_path) == [
        f"{tmp_path / 'fleet'}: column 'vm': must be unique, got '3' 2 times, in row 3 of"
        f" {tmp_path / 'fleet/a.parquet'} and row 2 of {tmp_path / 'fleet/b.parquet'}"
    ]


def test_placement_groups_must_not_take_the_name_of_a_set(tmp_path):
    source = {
        "vm": range(203),
        "region": "westus",
        "set": ["s"] * 201 + ["s/pg-1"] * 2,
        "set_kind": ["scale_set"] * 203,
    }
    assert problems_of(pl.DataFrame(source), tmp_path) == [
        "set 's/pg-1' in region 'westus': must not be called like a placement group of another set"
    ]


CSV_HEAD = "vm,region,set\n"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    {
        "ragged": (
            "f.csv",
            CSV_HEAD + "1,westus,\n2,westus\n3,westus,4,5\n",
            ["row 2: must have 3 fields, got 2", "row 3: must have 3 fields, got 4"],
        ),
        "empty csv": ("f.csv", "", ["must be a fleet as Parquet, CSV or Arrow, got an empty file"]),
        "only a header": ("f.csv", CSV_HEAD, ["must hold at least one VM"]),
        "semicolons": ("f.csv", "vm;region\n1;westus\n", ["must be separated by ',', got a header separated by ';'"]),
        "semicolons, and decimal commas": ("f.csv", "vm;region;vcpus\n1;westus;0,5\n", ["header separated by ';'"]),
        "tabs": ("f.csv", "vm\tregion\n1\twestus\n", ["header separated by tabs"]),
        "vm twice": ("f.csv", "vm,vm,region\n1,1,westus\n", ["column 'vm' must be there once, got it twice"]),
        "not UTF-8": ("f.csv", (CSV_HEAD + "1,é,\n").encode("latin-1"), ["got: text that is not UTF-8"]),
        "a set in floats": ("f.csv", CSV_HEAD + "1,westus,1.0\n1,westus,2\n", ["must be unique, got '1'"]),
        "created in words": (
            "f.csv",
            "vm,region,created\n1,westus,\n2,westus,soon\n3,westus,2026-02-30T00:00:00Z\n",
            [
                "column 'created', row 2: must be an instant with a zone in whole milliseconds of the years 1 to 9999,"
                " as 2026-12-01T00:00:00.000Z, got 'soon' (2 rows)"
            ],
        ),
        "created without a zone": (
            "f.csv",
            "vm,region,created\n1,westus,2026-12-01T00:00:00Z\n2,westus,2026-12-01T00:00:00\n3,westus,2026-12-01\n",
            ["'created', row 2: must be an instant with a zone in whole milliseconds"],
        ),
        "deleted before a millisecond is over": (
            "f.csv",
            "vm,region,deleted\n1,westus,2026-12-01T00:00:00.1230Z\n2,westus,2026-12-01T00:00:00.1234Z\n",
            ["'deleted', row 2: must be an instant with a zone in whole milliseconds"],
        ),
        "the first of many lives": (
            "f.csv",
            "vm,region,created,deleted\n"
            "1,westus,2026-12-01T00:00:00Z,2026-12-01T00:00:00.001Z\n"
            "2,westus,2026-12-01T01:00:00+01:00,2026-12-01T00:00:00Z\n",
            ["'deleted', row 2: must be later than its 'created', 2026-12-01 00:00:00.000Z, got 2026-12-01 00:00"],
        ),
        "feather of old": ("f.feather", b"FEA1" + bytes(50), ["got Feather version 1; write version 2"]),
        "csv value": ("f.csv", "vm,region,vcpus\n1,westus,2\n2,westus,x\n", ["'vcpus', row 2: must be"]),
        "text as parquet": ("f.parquet", "hello world", ["must be a fleet as Parquet, CSV (*.csv) or Arrow"]),
        "truncated": ("f.parquet", b"PAR1" + bytes(50), ["must be a whole Parquet file"]),
    }.values(),
)
def test_unusable_files_are_told(tmp_path, name, content, expected):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    problems = problems_of(path, tmp_path)

    assert len(problems) == len(expected), problems
    for problem, fragment in zip(problems, expected, strict=True):
        assert problem.startswith(str(path))
        assert fragment in problem


def test_a_parquet_file_cut_short_is_told(tmp_path):
    path = tmp_path / "f.parquet"
    mixed_fleet().write_parquet(path)
    path.write_bytes(path.read_bytes()[:-100])

    assert "must be a whole Parquet file, got one that cannot be read" in problems_of(path, tmp_path)[0]


@pytest.mark.parametrize("is_stream", [True, False])
def test_arrow_cut_short_anywhere_is_told(tmp_path, is_stream):
    path = tmp_path / "f.arrow"
    (mixed_fleet().write_ipc_stream if is_stream else mixed_fleet().write_ipc)(path)
    whole = path.read_bytes()
    kind = "stream" if is_stream else "file"
    for size in (8, 100, len(whole) // 2, len(whole) - 8, len(whole) - 1):
        path.write_bytes(whole[:size])

        told = problems_of(path, tmp_path)[0]
        assert told.startswith(f"{path}: must be a whole Arrow {kind}, got one that cannot be read: "), size


def test_a_stream_that_stops_between_batches_is_told(tmp_path):
    path = tmp_path / "f.arrows"
    sizes = []
    table = mixed_fleet().to_arrow()
    with path.open("wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        for batch in table.to_batches(max_chunksize=100):
            stream.write_batch(batch)
            sizes.append(file.tell())
    path.write_bytes(path.read_bytes()[: sizes[2]])
    assert pa.ipc.open_stream(path.read_bytes()).read_all().num_rows == 300  # which Arrow takes for all there is

    assert "must be a whole Arrow stream, got one that cannot be read: it stops" in problems_of(path, tmp_path)[0]


def test_damaged_pages_are_told(tmp_path):
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"vm": range(5000), "region": ["westus"] * 5000}), path, compression="zstd")
    damaged = bytearray(path.read_bytes())
    damaged[4:60] = bytes(56)
    path.write_bytes(damaged)

    assert "must be readable to its end, got" in problems_of(path, tmp_path)[0]


def test_unusable_places_and_objects_are_told(tmp_path):
    (tmp_path / "fleet.parquet").write_bytes(b"x")
    (tmp_path / "empty").mkdir()

    assert problems_of(tmp_path / "fleat.parquet", tmp_path) == [
        f"{tmp_path / 'fleat.parquet'}: must be a file or folder, got nothing there;"
        f" did you mean '{tmp_path / 'fleet.parquet'}'?"
    ]
    assert problems_of(tmp_path / "empty", tmp_path) == [
        f"{tmp_path / 'empty'}: must hold Parquet files (*.parquet) or Arrow files (*.arrow, *.arrows,"
        " *.feather, *.ipc), got none"
    ]
    assert problems_of({"vm": [1]}, tmp_path) == [
        "fleet: must be a path or an Arrow table (pyarrow, polars, pandas, duckdb), got builtins.dict"
    ]
    assert problems_of(mixed_fleet().lazy(), tmp_path)[0].endswith("got polars.LazyFrame; collect() it first")


def test_parts_of_a_folder_must_agree(tmp_path):
    for name, vms in {"a": [1, 2], "b": ["x", "y"]}.items():
        pl.DataFrame({"vm": vms, "region": "westus"}).write_parquet(tmp_path / f"{name}.parquet")

    assert problems_of(tmp_path, tmp_path) == [
        f"{tmp_path}: column 'vm' must have one type,"
        f" got a whole number of 64 bits in {tmp_path / 'a.parquet'} and text in {tmp_path / 'b.parquet'}"
    ]


# --- what is read, and how ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "20", "-3"], [-3, 1, 20]),
        (["1", "007"], ["007", "1"]),
        (["1", "+2"], ["+2", "1"]),
        (["1", "99999999999999999999"], ["1", "99999999999999999999"]),
        (["0x10", "1"], ["0x10", "1"]),
    ],
)
def test_csv_ids_are_integers_only_if_all_are_canonical(tmp_path, values, expected):
    path = tmp_path / "f.csv"
    path.write_text("vm,region\n" + "".join(f"{value},westus\n" for value in values))

    assert rows_of(fleet.prepare(path, tmp_path / "prepared"))["vm"].to_list() == expected


def test_columns_of_the_users_own_are_kept_with_their_types(tmp_path):
    (tmp_path / "f.csv").write_text(
        "vm,region,cost,ratio,code,owner,is_paid,nothing\n"
        '1,westus,5,0.5,007,"Ann, B",true,\n2,westus,,1e3,8,,false,\n3,westus,7,2,9,Cy,,\n'
    )
    rows = rows_of(fleet.prepare(tmp_path / "f.csv", tmp_path / "prepared"))

    assert rows["cost"].to_list() == [5, None, 7]
    assert rows["ratio"].to_list() == [0.5, 1000.0, 2.0]
    assert rows["code"].to_list() == ["007", "8", "9"]
    assert rows["owner"].to_list() == ["Ann, B", None, "Cy"]
    assert rows["is_paid"].to_list() == [True, False, None]
    assert rows["nothing"].to_list() == [None, None, None]


def test_doubtful_columns_are_warned_of(tmp_path):
    source = pa.table({**PLAIN, "update_domian": [1, 2, 3, 4], "tags": [["a"]] * 4, "colour": ["red"] * 4})
    found = fleet.check(source)

    assert found.warnings == (
        "pyarrow.Table: column 'update_domian' is not one of fleetsim's and kept as it is;"
        " did you mean 'update_domain'?",
        "pyarrow.Table: column 'tags' must hold numbers, text, booleans, dates or instants to be kept,"
        " got list<item: string>; it is left out",
    )
    assert found.columns == ("vm", "region", "colour", "update_domian")


@pytest.mark.parametrize(
    ("column", "hint"),
    {
        "availability_set": "; rename it to 'set' if that is what it is",
        "VM-Size": "; rename it to 'size' if that is what it is",
        "availability zone": "; rename it to 'zone' if that is what it is",
        "scale_set_size": "; rename it to 'size' if that is what it is",
        "the_vm_update_domain": "; rename it to 'update_domain' if that is what it is",
        "host_name": "; rename it to 'host' if that is what it is",
        "vm_of_region": None,
        "asset": None,
    }.items(),
)
def test_columns_that_may_be_one_of_ours_are_warned_of(column, hint):
    told = f"pyarrow.Table: column '{column}' is not one of fleetsim's and kept as it is{hint}"

    assert fleet.check(pa.table({**PLAIN, column: ["a"] * 4})).warnings == ((told,) if hint else ())


def test_no_column_is_taken_for_one_that_is_there():
    source = pa.table({**PLAIN, "set": [1, 1, 2, 2], "availability_set": ["a"] * 4})

    assert fleet.check(source).warnings == ()


def test_columns_of_the_users_own_are_not_dropped_silently(tmp_path):
    source = pl.DataFrame({**PLAIN, "vm_row": [3, 2, 1, 0], "vm_key": ["a", "b", "c", "d"]})
    source.write_csv(tmp_path / "f.csv")
    prepared = fleet.prepare(mixed_fleet(), tmp_path / "prepared")
    assert {"vm_row", "vm_key"} <= set(rows_of(prepared).columns)

    assert fleet.check(tmp_path / "f.csv").warnings == tuple(
        f"{tmp_path / 'f.csv'}: column '{name}' is left out: fleetsim makes one of that name; rename it to keep it"
        for name in ("vm_key", "vm_row")
    )
    assert fleet.check(prepared.path).warnings == fleet.check(prepared.regions[0].parts[0].path).warnings == ()


def test_an_empty_column_of_hosts_means_none(tmp_path):
    prepared = fleet.prepare(pl.DataFrame({**PLAIN, "host": [None, None, None, None]}), tmp_path / "prepared")

    assert prepared.host_count == 0
    assert "host_row" not in prepared.columns


INSTANTS = [None, datetime(2026, 12, 1, 1, 2, 3, 4000, tzinfo=UTC), datetime(1969, 12, 31, 23, tzinfo=UTC)]


def test_instants_are_the_same_from_every_source(tmp_path):
    plain = pl.DataFrame({"vm": [1, 2, 3], "region": "westus", "deleted": INSTANTS})
    spelled = ["", "2026-12-01T02:02:03.004+01:00", "1969-12-31 23:00Z"]
    plain.write_csv(tmp_path / "polars.csv")
    plain.with_columns(pl.col("deleted").cast(pl.Datetime("ms", "UTC"))).write_csv(tmp_path / "ms.csv")
    plain.to_pandas().to_csv(tmp_path / "pandas.csv", index=False)
    plain.with_columns(deleted=pl.Series(spelled)).write_csv(tmp_path / "spelled.csv")
    pa.csv.write_csv(plain.to_arrow(), tmp_path / "arrow.csv")
    plain.write_parquet(tmp_path / "f.parquet")
    plain.to_pandas().to_feather(tmp_path / "f.feather")
    units = {unit: pa.timestamp(unit, "Asia/Kathmandu") for unit in ("ms", "us", "ns")}
    sources = {
        **{path.name: path for path in sorted(tmp_path.iterdir())},
        **{unit: pa.table({"vm": [1, 2, 3], "region": ["westus"] * 3, "deleted": pa.array(INSTANTS, kind)})
           for unit, kind in units.items()},
        "categories": plain.with_columns(deleted=pl.Series(spelled, dtype=pl.Categorical)),
        "pandas": plain.to_pandas(),
        "duckdb": duckdb.sql("select * from plain"),
    }  # fmt: skip
    for name, source in sources.items():
        assert fleet.check(source).warnings == (), name
        rows = rows_of(fleet.prepare(source, tmp_path / "out" / name.replace(".", "-")))
        assert rows["deleted"].dtype == pl.Datetime("ms", "UTC"), name
        assert rows["deleted"].to_list() == INSTANTS, name


def test_dates_and_times_without_a_zone_are_utc_and_said(tmp_path):
    naive = [None if instant is None else instant.replace(tzinfo=None) for instant in INSTANTS]
    source = pl.DataFrame(
        {"vm": [1, 2, 3], "region": "westus", "created": [None, date(2026, 12, 1), date(1900, 2, 28)], "deleted": naive}
    )[:2]
    prepared = fleet.prepare(source, tmp_path / "prepared")

    assert rows_of(prepared)["deleted"].to_list() == INSTANTS[:2]
    assert rows_of(prepared)["created"].to_list() == [None, datetime(2026, 12, 1, tzinfo=UTC)]
    assert prepared.warnings == tuple(
        f"polars.DataFrame: column '{name}' has no time zone: it is taken as UTC" for name in ("created", "deleted")
    )


def test_files_of_a_folder_may_give_instants_each_in_their_way(tmp_path):
    (tmp_path / "fleet").mkdir()
    instant = INSTANTS[1]
    for number, created in enumerate(
        [
            pl.Series([instant], dtype=pl.Datetime("us", "UTC")),
            pl.Series(["2026-12-01T01:02:03.004Z"]),
            pl.Series([None], dtype=pl.Null),
            pl.Series([instant.replace(tzinfo=None)], dtype=pl.Datetime("ns")),
        ]
    ):
        pl.DataFrame({"vm": [number], "region": "westus", "created": created}).write_parquet(
            tmp_path / f"fleet/{number}.parquet"
        )
    pl.DataFrame({"vm": [9], "region": "westus"}).write_ipc(tmp_path / "fleet/9.feather")
    prepared = fleet.prepare(tmp_path / "fleet", tmp_path / "prepared")

    assert rows_of(prepared)["created"].to_list() == [instant, instant, None, instant, None]
    assert len(prepared.warnings) == 1


def test_an_empty_column_of_instants_is_one(tmp_path):
    nothing = {
        "null": pa.nulls(4),
        "words": ["", "", "", None],
        "instants": pa.array([None] * 4, pa.timestamp("us", "UTC")),
    }
    digests = set()
    for name, values in nothing.items():
        prepared = fleet.prepare(pa.table({**PLAIN, "created": values}), tmp_path / name)
        assert prepared.columns["created"] == pa.timestamp("ms", "UTC")
        assert not prepared.has_lifetimes
        digests.add(prepared.fleet_digest)

    assert len(digests) == 1


def test_numbers_where_text_is_meant_become_text(tmp_path):
    rows = rows_of(fleet.prepare(pl.DataFrame({**PLAIN, "zone": [1, 2, 3, None]}), tmp_path / "prepared"))

    assert rows.sort("vm")["zone"].to_list() == ["1", "2", "3", None]


# --- generated fleets ---------------------------------------------------------------------------------------


def test_generated_fleets_are_plain_and_the_same_in_both_forms(tmp_path):
    made = fleet.generate(tmp_path / "f.parquet", 1010, ["uksouth", "eastus", "moon"], set_size=20, seed=3)
    fleet.generate(tmp_path / "f", 1010, ["uksouth", "eastus", "moon"], set_size=20, seed=3)
    rows = pl.read_parquet(tmp_path / "f.parquet").with_columns(pl.col("region", "size").cast(pl.String))

    assert made.vm_count_by_region == {"uksouth": 340, "eastus": 340, "moon": 330}
    assert made.set_count == 51
    assert rows["vm"].to_list() == list(range(1010))
    assert rows["set"].to_list() == [vm // 20 for vm in range(1010)]
    assert rows["update_domain"].to_list() == [vm % 20 % 5 for vm in range(1010)]
    assert rows["region"].to_list() == ["uksouth"] * 340 + ["eastus"] * 340 + ["moon"] * 330
    assert rows.group_by("set").agg(pl.col("size").n_unique())["size"].max() == 1
    folder = pl.concat(pl.read_parquet(file) for file in sorted((tmp_path / "f").rglob("*.parquet")))
    assert folder.with_columns(pl.col("region", "size").cast(pl.String)).sort("vm").equals(rows)
    fleet.generate(tmp_path / "again.parquet", 1010, ["uksouth", "eastus", "moon"], set_size=20, seed=3)
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "f.parquet").read_bytes()
    fleet.generate(tmp_path / "other.parquet", 1010, ["uksouth", "eastus", "moon"], set_size=20, seed=4)
    assert not pl.read_parquet(tmp_path / "other.parquet")["size"].cast(pl.String).equals(rows["size"])


def test_generated_sizes_follow_the_measured_mix(tmp_path):
    fleet.generate(tmp_path / "f.parquet", 100_000, set_size=1)
    rows = pl.read_parquet(tmp_path / "f.parquet")

    assert rows["set"].null_count() == rows["update_domain"].null_count() == 100_000
    counts = Counter(rows["size"].cast(pl.String))
    for size, weight in SIZE_WEIGHTS.items():
        expected = 100_000 * weight / sum(SIZE_WEIGHTS.values())
        assert abs(counts[size] - expected) < 4 * expected**0.5


def test_a_generated_fleet_has_the_default_regions_and_is_usable(tmp_path):
    fleet.generate(tmp_path / "fleet", 2000)
    found = fleet.check(tmp_path / "fleet")

    assert set(found.vm_count_by_region.values()) == {200}
    assert len({load_relation().pair_group(region) for region in found.vm_count_by_region}) == 5
    assert (found.set_count, found.unit_count, found.warnings) == (100, 500, ())


def test_unusable_arguments_are_told_all_at_once(tmp_path):
    (tmp_path / "there").touch()
    with pytest.raises(InputError) as caught:
        fleet.generate(tmp_path / "there", 0, ["a", "a", "1"], set_size=2.5, update_domains=21)
    assert [problem.partition(": ")[2] for problem in caught.value.problems] == [
        "must not be there yet, got an existing file",
        "must be a whole number from 1 to 4,294,967,294, got '0'",
        "must be a whole number from 1 to 4,294,967,294, got '2.5'",
        "must be a whole number from 1 to 20, got '21'",
        "each must be named once, got 'a' twice",
        "a name must be letters, digits, '-' or '_' with at least one letter, got '1'",
    ]
    with pytest.raises(InputError, match=r"seed: must be a whole number from 0 to 2\^64 - 1, got '-1'"):
        fleet.generate(tmp_path / "new", 5, seed=-1)
    with pytest.raises(InputError, match="regions: must name at least one region"):
        fleet.generate(tmp_path / "new", 5, [])
    assert not (tmp_path / "new").exists()


# --- the trace ----------------------------------------------------------------------------------------------


def test_draws_of_fleets_are_addressed_and_weighed():
    key = fleet_key(0)
    entities = np.arange(40_000, dtype=np.int64)
    codes = drawn_codes(key, schema.Stream.REGION, entities, [Fraction(1, 2), Fraction(1, 3), Fraction(1, 6)])

    assert np.array_equal(codes[::-7], drawn_codes(key, schema.Stream.REGION, entities[::-7].copy(), [3, 2, 1]))
    assert np.abs(np.bincount(codes) - [20_000, 13_333, 6_667]).max() < 400
    assert not np.array_equal(codes, drawn_codes(key, schema.Stream.SIZE, entities, [3, 2, 1]))
    assert not np.array_equal(codes, drawn_codes(fleet_key(1), schema.Stream.REGION, entities, [3, 2, 1]))


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    path = tmp_path_factory.mktemp("trace") / "azure.parquet"
    return path, fleet.import_trace(path), pl.read_parquet(path)


def test_the_trace_keeps_everybody(trace):
    _, imported, rows = trace

    assert imported.counts == {
        "vms": 1_870_433,
        "batches": 452_901,
        "sets": 197_050,
        "singles": 258_867,
        "regions": 53,
    }
    assert rows["vm"].to_list() == list(range(1_870_433))
    sizes = rows["size"].cast(pl.String).value_counts().sort("count", descending=True)
    assert sizes["size"][:3].to_list() == ["1x1.75", "2x3.5", "4x7"]
    gib = pl.col("memory_gib").cast(pl.String).str.replace(r"\.0$", "")
    spelled = pl.format("{}x{}", pl.col("vcpus").cast(pl.Int64), gib)
    assert rows.select((pl.col("size").cast(pl.String) == spelled).all()).item()


def test_batches_are_sets_in_one_region(trace):
    _, _, rows = trace
    sets = (
        rows.drop_nulls("set")
        .group_by("set")
        .agg(
            pl.len(),
            pl.col("region").n_unique().alias("regions"),
            pl.col("update_domain"),
            pl.col("vm").is_sorted(),
        )
    )

    assert sets["len"].max() == 100
    assert sets["regions"].max() == 1
    assert sets["vm"].all()
    assert sets.filter(pl.col("set") % 100 > 0).height == 197_050 - sets["set"].__floordiv__(100).n_unique()
    domains = sets.filter(pl.col("len") == 12)["update_domain"][0].to_list()
    assert domains == [place % 5 for place in range(12)]
    assert rows.filter(pl.col("set").is_null()).select(pl.col("update_domain", "set_kind").null_count()).row(0) == (
        258_867,
        258_867,
    )


def test_regions_follow_zipf_in_file_order(trace):
    _, _, rows = trace
    batch_ids = pq.read_table(dataset_path(TRACE), columns=["batch_id"])["batch_id"].to_numpy()
    first = np.unique(batch_ids, return_index=True)[1]
    counts = Counter(rows["region"].cast(pl.String).gather(first))
    harmonic = sum(1 / rank for rank in range(1, 54))

    for rank, region in enumerate(public_regions(), 1):
        expected = len(first) / rank / harmonic
        assert abs(counts[region] - expected) < 5 * expected**0.5, region


def test_what_is_invented_travels_with_the_fleet(trace, tmp_path):
    path, imported, _ = trace
    assert len(imported.invented) == 4
    assert imported.invented[0].startswith("creations over 30 days, not a snapshot")
    assert imported.invented[1].endswith("in order of display name: the first, australiacentral, has most")
    with dataset_path("region_pairs_docs.csv").open(encoding="utf-8") as file:
        shown = {row["region"]: row["display_name"] for row in csv.DictReader(file)}
    assert public_regions() == sorted(public_regions(), key=shown.__getitem__)
    assert json.loads(pq.read_schema(path).metadata[b"fleetsim.invented"]) == list(imported.invented)

    first = fleet.prepare(pl.read_parquet(path).head(100), tmp_path / "without")  # Polars drops metadata
    second = fleet.prepare(pq.read_table(path).slice(0, 100), tmp_path / "with")
    third = fleet.prepare(second.path, tmp_path / "again")
    assert first.invented == ()
    assert second.invented == third.invented == imported.invented
    assert first.fleet_digest == second.fleet_digest == third.fleet_digest


def test_another_seed_only_draws_other_regions(tmp_path):
    pq.write_table(
        pa.table({**TINY_TRACE, "vcpus": pa.array(TINY_TRACE["vcpus"], pa.int8())}),
        tmp_path / "trace.parquet",
    )
    made = []
    for seed in range(6):
        fleet.import_trace(tmp_path / f"{seed}.parquet", tmp_path / "trace.parquet", seed)
        made.append(pl.read_parquet(tmp_path / f"{seed}.parquet"))

    assert len({tuple(rows["region"].cast(pl.String)) for rows in made}) > 1
    assert all(rows.drop("region").equals(made[0].drop("region")) for rows in made)
    assert made[0]["set"].to_list() == [None, 100, 100]
    assert made[0]["size"].cast(pl.String).to_list() == ["2x3.5", "1x1.75", "1x1.75"]


# Day 1 of this trace is the start: VM 0 ended before it, 1 and 2 soon after it, 3 was lost sight of, 4 came at it and 5
# after it; of 6 no life is known.
LIVES = {
    "vm_id": range(7),
    "batch_id": [0, 0, 0, 1, 2, 2, 2],
    "vcpus": [1] * 7,
    "memory_gib": [1.75] * 7,
    "created_s": [0, 86_399, 300, 600, 86_400, 90_000, 86_400],
    "lifetime_lo_s": [300, 2, 86_101, 300, 0, 3600, None],
    "lifetime_hi_s": [600, 3, 86_102, 600, 300, 7200, None],
    "censored": [False, False, False, True, False, False, None],
}


def test_those_alive_have_lives_in_their_bins(tmp_path):
    pq.write_table(pa.table(LIVES), tmp_path / "trace.parquet")
    start = datetime(2030, 1, 1, 12, tzinfo=UTC)
    made = fleet.import_trace(
        tmp_path / "f.parquet", tmp_path / "trace.parquet", present="alive", at_day=1, start="2030-01-01T13:00+01:00"
    )
    rows = pl.read_parquet(tmp_path / "f.parquet")

    assert rows["vm"].to_list() == [1, 2, 3, 4, 5]
    assert rows["set"].to_list() == [0, 0, None, 200, 200]  # as of everybody in the trace
    assert rows["update_domain"].to_list() == [1, 2, None, 0, 1]
    ages = [1, 86_100, 85_800, 0, -3600]
    assert [(start - created).total_seconds() for created in rows["created"]] == ages
    lives = (rows["deleted"] - rows["created"]).dt.total_milliseconds().to_list()
    bins = list(zip(LIVES["lifetime_lo_s"], LIVES["lifetime_hi_s"], strict=True))[1:6]
    for life, (low, high), is_lost in zip(lives, bins, LIVES["censored"][1:6], strict=True):
        assert life is None if is_lost else max(1, low * 1000) <= life < high * 1000
    assert made.counts == {
        "vms": 5,
        "alive_at_start": 4,
        "created_later": 1,
        "never_deleted": 1,
        "batches": 3,
        "sets": 2,
        "singles": 1,
        "regions": len(set(rows["region"])),
    }
    assert made.invented[0].startswith("presence: of the 7 VMs of the trace it tells the lives of 6, created")
    assert made.invented[1].startswith("time: day 1 of the trace is 2030-01-01T12:00:00Z")
    assert "drawn uniformly from its bin" in made.invented[2]
    prepared = fleet.prepare(tmp_path / "f.parquet", tmp_path / "prepared")
    assert (prepared.invented, prepared.has_lifetimes) == (made.invented, True)

    # A VM that is deleted at the start is not there any more.
    lives_of_one = {**{name: list(values)[:1] for name, values in LIVES.items()}, "lifetime_hi_s": [301]}
    pq.write_table(pa.table(lives_of_one), tmp_path / "one.parquet")
    import_one = {"source": tmp_path / "one.parquet", "present": "alive"}
    fleet.import_trace(tmp_path / "1.parquet", at_day=0.0034, **import_one)
    life = pl.read_parquet(tmp_path / "1.parquet").select(pl.col("deleted") - pl.col("created")).item()
    exactly = life.total_seconds() / 86_400
    fleet.import_trace(tmp_path / "2.parquet", at_day=exactly - 1e-8, **import_one)
    with pytest.raises(InputError, match="at_day: must be a day on which a VM of known life is alive, or before"):
        fleet.import_trace(tmp_path / "3.parquet", at_day=exactly, **import_one)


def test_lives_are_drawn_by_vm_and_seed(tmp_path):
    count = 20_000
    source = {
        "vm_id": np.arange(count)[::-1],
        "batch_id": np.arange(count) // 3,
        "vcpus": np.ones(count, np.int64),
        "memory_gib": np.ones(count),
        "created_s": np.full(count, 600),
        "lifetime_lo_s": np.full(count, 300),
        "lifetime_hi_s": np.full(count, 600),
        "censored": np.zeros(count, np.bool_),
    }
    pq.write_table(pa.table(source), tmp_path / "trace.parquet")
    pq.write_table(pa.table(source).slice(0, 50), tmp_path / "some.parquet")

    def lives(name: str, seed: int, **kwargs: Any) -> dict[int, float]:
        out = tmp_path / f"{name}-{seed}-{len(kwargs)}.parquet"
        fleet.import_trace(out, tmp_path / name, seed, present="alive", at_day=0, **kwargs)
        life = (pl.col("deleted") - pl.col("created")).dt.total_milliseconds()
        return dict(pl.read_parquet(out).select("vm", life).iter_rows())

    drawn = lives("trace.parquet", 1)
    values = np.array(list(drawn.values()))
    assert abs(values.mean() - 450_000) < 5 * 300_000 / (12 * count) ** 0.5
    assert np.histogram(values, 10, (300_000, 600_000))[0].min() > count / 10 * 0.85
    assert lives("some.parquet", 1, start="2020-02-29T00:00:00Z").items() <= drawn.items()
    assert lives("trace.parquet", 2) != drawn


def test_integers_below_a_bound_are_exact():
    draws = np.array([0, 1, 2**32 - 1, 2**32, 2**63, 2**64 - 1, 0x123456789ABCDEF0], np.uint64)
    for bound in (1, 2, 3, 1000, 2**31 + 11, 2**32 - 1):
        expected = [int(draw) * bound >> 64 for draw in draws]
        assert below(draws, np.full(len(draws), bound)).tolist() == expected


def test_the_traces_last_days_are_lived_through(tmp_path):
    made = fleet.import_trace(tmp_path / "f.parquet", present="alive")
    rows = pl.read_parquet(tmp_path / "f.parquet")

    start = datetime(2026, 12, 1, tzinfo=UTC)
    assert rows.select((pl.col("created") < pl.col("deleted")).fill_null(True).all()).item()
    assert rows.select((pl.col("deleted") > start).fill_null(True).all()).item()
    assert rows["created"].max() - start == timedelta(seconds=2_591_100 - 24 * 86_400)
    assert made.counts["vms"] == rows.height == made.counts["alive_at_start"] + made.counts["created_later"]
    assert made.counts["created_later"] == 429_565
    assert made.counts["never_deleted"] == rows["deleted"].null_count() == 14_317 + 23_311
    assert 15_000 < made.counts["alive_at_start"] < 17_000
    known = pl.read_parquet(dataset_path(TRACE), columns=["vm_id", "lifetime_lo_s", "lifetime_hi_s"])
    joined = rows.drop_nulls("deleted").join(known.cast({"vm_id": pl.Int64}), left_on="vm", right_on="vm_id")
    life_ms = (pl.col("deleted") - pl.col("created")).dt.total_milliseconds()
    assert joined.select((life_ms >= pl.col("lifetime_lo_s") * 1000).all()).item()
    assert joined.select((life_ms < pl.col("lifetime_hi_s") * 1000).all()).item()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    {
        "present": ({"present": "alife"}, ["present: must be throughout or alive, got 'alife'; did you mean 'alive'?"]),
        "throughout": (
            {"at_day": 3, "start": "2026-12-01T00:00:00Z"},
            [
                "at_day: must not be given where everybody is present throughout, got '3'",
                "start: must not be given where everybody is present throughout, got '2026-12-01T00:00:00Z'",
            ],
        ),
        "a month later": (
            {"present": "alive", "at_day": 30.5, "start": "2026-12-01T00:00:00"},
            [
                "at_day: must be a day of the trace, from 0 to 30, got '30.5'",
                "start: must be an instant with a zone in whole milliseconds of the years 1900 to 9998,"
                " as 2026-12-01T00:00:00Z, got '2026-12-01T00:00:00'",
            ],
        ),
        "no day": (
            {"present": "alive", "at_day": float("nan"), "start": datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC)},
            ["at_day: must be a day", "start: must be an instant"],
        ),
        "words": (
            {"present": "alive", "at_day": True, "start": "soon"},
            ["at_day: must be a day", "start: must be an instant"],
        ),
        "the year one": ({"present": "alive", "start": "0001-01-01T00:00:00+01:00"}, ["start: must be an instant"]),
    }.values(),
)
def test_unusable_moments_are_told(tmp_path, arguments, expected):
    with pytest.raises(InputError) as caught:
        fleet.import_trace(tmp_path / "out.parquet", tmp_path / "nowhere.parquet", **arguments)

    assert len(caught.value.problems) == len(expected)
    assert all(map(str.startswith, caught.value.problems, expected))


@pytest.mark.parametrize(
    ("changes", "expected"),
    {
        "no lives": ({"censored": None}, "got no 'censored'"),
        "numbers": ({"censored": [0] * 7}, "column 'censored' must be boolean, got int64"),
        "no creation": ({"created_s": [0, None, 0, 0, 0, 0, 0]}, "column 'created_s' must not be empty, got 1 empty"),
        "created early": ({"created_s": [0, 0, 0, -1, 0, 0, 0]}, "column 'created_s' must be counted from 0"),
        "half a bin": (
            {"lifetime_hi_s": [600, 3, None, 600, 300, 7200, None]},
            "must be given together, got some alone",
        ),
        "no word of its end": ({"censored": [None, *LIVES["censored"][1:]]}, "must be given together, got some alone"),
        "empty bin": ({"lifetime_hi_s": [300, 3, 86_102, 600, 300, 7200, None]}, "must be bins: 0 <= lo < hi"),
        "long": (
            {"lifetime_hi_s": [600, 3, 86_102, 600, 300, 2**31, None]},
            "must be at most 30 days, got 2147483648 s",
        ),
    }.values(),
)
def test_a_trace_without_sound_lives_is_told(tmp_path, changes, expected):
    columns = {name: values for name, values in {**LIVES, **changes}.items() if values is not None}
    pq.write_table(pa.table(columns), tmp_path / "trace.parquet")
    with pytest.raises(InputError) as caught:
        fleet.import_trace(tmp_path / "out.parquet", tmp_path / "trace.parquet", present="alive")

    assert expected in str(caught.value)
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize(
    ("columns", "expected"),
    {
        "other columns": ({"vmid": [1], "batch": [1]}, "got no 'vm_id'; did you mean 'vmid'?"),
        "text": (
            {**TINY_TRACE, "batch_id": ["a", "b", "c"]},
            "column 'batch_id' must be integer, got string",
        ),
        "gap": ({**TINY_TRACE, "vm_id": [0, None, 2]}, "column 'vm_id' must not be empty, got 1 empty rows"),
        "twice": ({**TINY_TRACE, "vm_id": [0, 1, 1]}, "column 'vm_id' must be unique, got 1 repeated"),
        "negative": ({**TINY_TRACE, "batch_id": [-1, 0, 0]}, "must be counted from 0"),
        "nobody": (
            {name: pa.array(values)[:0] for name, values in TINY_TRACE.items()},
            "must hold at least one VM",
        ),
    }.values(),
)
def test_what_is_not_the_trace_is_told(tmp_path, columns, expected):
    path = tmp_path / "trace.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(InputError) as caught:
        fleet.import_trace(tmp_path / "out.parquet", path)

    assert str(path) in str(caught.value)
    assert expected in str(caught.value)
    assert not (tmp_path / "out.parquet").exists()


def test_a_trace_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "trace.csv").write_text("vm_id,batch_id\n")
    with pytest.raises(InputError, match=r"must be the Azure 2017 VM trace as Parquet .* cannot be read"):
        fleet.import_trace(tmp_path / "out.parquet", tmp_path / "trace.csv")
    with pytest.raises(InputError, match="got no such file"):
        fleet.import_trace(tmp_path / "out.parquet", tmp_path / "nowhere.parquet")
    (tmp_path / "there.parquet").touch()
    with pytest.raises(InputError, match="must not be there yet"):
        fleet.import_trace(tmp_path / "there.parquet")


def test_hosts_are_numbered_by_region_and_id(tmp_path):
    source = {
        "vm": [1, 2, 3, 4, 5],
        "region": ["westus", "eastus", "westus", "eastus", "italynorth"],
        "host": ["b", "\U0001f600", "a", "\uff21", None],
        "cluster": ["c", None, "d", "e", None],
    }
    prepared = fleet.prepare(pa.table(source), tmp_path / "prepared")

    hosts = pl.read_parquet(tmp_path / "prepared" / "hosts" / "**" / "*.parquet", hive_partitioning=False)
    told = hosts.sort("host_row").with_columns(pl.col("region", "cluster").cast(pl.String))
    assert told.select("host_row", "host", "region", "cluster", "vm_count").rows() == [
        (0, "\uff21", "eastus", "e", 1),
        (1, "\U0001f600", "eastus", None, 1),
        (2, "a", "westus", "d", 1),
        (3, "b", "westus", "c", 1),
    ]
    assert dict(rows_of(prepared).select("vm", "host_row").rows()) == {1: 3, 2: 1, 3: 2, 4: 0, 5: None}
    assert prepared.host_count == 4


def test_sets_that_share_hosts_stand_together(tmp_path):
    # Sets 1 and 3 share a host, and 3 and 5 another; 2 and 4 share one of their own.
    shared = {1: ["p", "x"], 3: ["p", "q"], 5: ["q", "y"], 2: ["r", "z"], 4: ["r", "w"]}
    rows = [(set_, host) for set_, hosts in shared.items() for host in hosts]
    source = {
        "vm": list(range(len(rows))),
        "region": ["westus"] * len(rows),
        "set": [set_ for set_, _ in rows],
        "host": [host for _, host in rows],
    }
    prepared = fleet.prepare(pa.table(source), tmp_path / "prepared")

    assert rows_of(prepared)["set"].unique(maintain_order=True).to_list() == [1, 3, 5, 2, 4]
    without = fleet.prepare(pa.table(source).drop_columns("host"), tmp_path / "without")
    assert rows_of(without)["set"].unique(maintain_order=True).to_list() == [1, 2, 3, 4, 5]
