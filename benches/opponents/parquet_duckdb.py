"""DuckDB as a whole process: one COPY a table.

Settings that measured best (DuckDB 2.0, 10 M VMs): words as ENUM of one word, three times as fast as VARCHAR;
preserve_insertion_order off, so that both cores write; snappy, the default, which is no slower than zstd, lz4 or none.
Instants are TIMESTAMPTZ, in microseconds: a type in milliseconds with a zone it has not.
"""

from collections.abc import Sequence

import duckdb

from benches.campaign import (
    DOMAIN_COUNT,
    FREEZE_MS,
    GAP_MS,
    MU,
    REGION_COUNT,
    REGION_MS,
    REGIONS,
    SET_SIZE,
    SIGMA,
    START_MS_EPOCH,
    TABLES,
    TURN_MS,
    UINT8,
    Given,
)


def knowing(given: Given) -> None:
    """The fleet by heart: vm_row is the VM, and region and domain follow from it."""
    if given.is_random:
        _write(given, "impacts", _drawn_impacts(given.vms))
        return
    second = f"range // {given.vms // REGION_COUNT} % 2"
    fleet = f"SELECT range AS vm_row, range % {DOMAIN_COUNT} AS domain, {second} AS second FROM range({given.vms})"
    _write(given, _closed_form(fleet))


def reading(given: Given) -> None:
    """The prepared fleet, region by region, of which vm_row and update_domain are read."""
    regions = [
        f"SELECT vm_row, update_domain::BIGINT AS domain, {place % 2}::BIGINT AS second"
        f" FROM read_parquet('{given.prepared}/fleet/region={region}/*.parquet', hive_partitioning = false)"
        for place, region in enumerate(REGIONS)
    ]
    _write(given, _closed_form(" UNION ALL ".join(regions)))


def _closed_form(fleet: str) -> str:
    """*fleet* selects vm_row, domain, and second: whether it is in the second region of its pair."""
    start_ms = f"domain * {TURN_MS} + second * {REGION_MS}"
    return f"(SELECT vm_row, {start_ms} AS start_ms, {FREEZE_MS}::UINTEGER AS duration_ms FROM ({fleet}))"


def _drawn_impacts(vms: int) -> list[str]:
    """Statements that make the table impacts (vm_row, start_ms, duration_ms), with random lengths."""
    region_sets = vms // REGION_COUNT // SET_SIZE
    normal = "sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random())"  # Box and Muller
    return [
        f"""CREATE TEMP TABLE vms AS
            SELECT range AS vm_row, round(exp({MU} + {SIGMA} * {normal}))::UINTEGER AS duration_ms FROM range({vms})""",
        f"""CREATE TEMP TABLE units AS
            SELECT *, sum(turn_ms) OVER (PARTITION BY set ORDER BY domain)::BIGINT AS next_ms
            FROM (SELECT vm_row // {SET_SIZE} AS set, vm_row % {DOMAIN_COUNT} AS domain,
                         max(duration_ms)::BIGINT + {GAP_MS} AS turn_ms FROM vms GROUP BY ALL)""",
        f"""CREATE TEMP TABLE seconds AS
            SELECT set // {region_sets} + 1 AS region, max(next_ms) - {GAP_MS} AS region_ms
            FROM units WHERE set // {region_sets} % 2 = 0 GROUP BY ALL""",
        f"""CREATE TEMP VIEW impacts AS
            SELECT vm_row, next_ms - turn_ms + coalesce(region_ms, 0) AS start_ms, duration_ms
            FROM vms JOIN units ON set = vm_row // {SET_SIZE} AND domain = vm_row % {DOMAIN_COUNT}
                 LEFT JOIN seconds ON region = set // {region_sets}""",
    ]


def _write(given: Given, impacts: str, before: Sequence[str] = ()) -> None:
    """*impacts* has vm_row, start_ms and duration_ms; *before* are statements it needs."""
    computed = {
        "vm_row": "vm_row::UINTEGER",
        "start_at": f"make_timestamptz((start_ms + {START_MS_EPOCH}) * 1000)",
        "duration_ms": "duration_ms",
        "paused_ms": "duration_ms",
    }
    out = given.folder / "out"
    out.mkdir()
    with duckdb.connect(config={"threads": given.threads, "preserve_insertion_order": False}) as connection:
        for statement in before:
            connection.execute(statement)
        for table, columns in TABLES.items():
            selected = ", ".join(
                f"{computed[name] if same is None else _same(name, same)} AS {name}" for name, same in columns.items()
            )
            path = out / f"{table}.parquet"
            connection.execute(
                f"COPY (SELECT {selected} FROM {impacts}) TO '{path}' (FORMAT parquet, COMPRESSION snappy)"
            )


def _same(name: str, value: str | int) -> str:
    if isinstance(value, str):
        return f"'{value}'::ENUM('{value}')"
    return f"{value}::{'UTINYINT' if name in UINT8 else 'UINTEGER'}"
