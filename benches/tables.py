"""The tables of the documents, made of the newest of benches/results/VERSION.json; nothing in them is typed.

python -m benches.tables    writes them anew into PAGES, between `<!-- benches: NAME -->` and `<!-- /benches -->`
"""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benches import large
from benches.opponents import GROUPS

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
PAGES = ("README.md", "docs/performance.md", "docs/measured.md")
BLOCK = re.compile(r"(<!-- benches: (\S+) -->\n).*?(<!-- /benches -->)", re.DOTALL)

Content = dict[str, Any]


def kept(version: str) -> Path:
    """Where the rows of a version of fleetsim are kept."""
    return RESULTS / f"{version}.json"


def newest() -> Path:
    """The rows of the newest version there are any of."""
    paths = [path for path in RESULTS.glob("*.json") if path.stem[0].isdigit()]
    return max(paths, key=lambda path: [int(number) for number in re.findall(r"\d+", path.stem)])


def keep(content: Content) -> None:
    """Keep what was measured, in place of what is kept of it, or of another machine or other versions."""
    path = kept(content["versions"]["fleetsim"])
    rows, left_out, layers, profiles = (content[key] for key in ("rows", "left_out", "layers", "profiles"))
    if path.exists() and large.origin(old := json.loads(path.read_text())) == large.origin(content):
        measured = {(row["group"], row["vms"]) for row in rows}
        rows = [*rows, *(row for row in old["rows"] if (row["group"], row["vms"]) not in measured)]
        left_out = list(dict.fromkeys([*old["left_out"], *left_out]))
        layers = max((each for each in (layers, old["layers"]) if each), key=lambda each: each["vms"], default=None)
        for name, profile in old["profiles"].items():
            profiles[name] = max(profiles.get(name, profile), profile, key=lambda each: each["vms"])
    place = {group: number for number, group in enumerate(GROUPS)}
    rows = sorted(rows, key=lambda row: (place[row["group"]], row["vms"]))  # opponents stay in their order
    path.write_text(
        json.dumps({**content, "rows": rows, "left_out": left_out, "layers": layers, "profiles": profiles}, indent=1)
        + "\n"
    )


def rendered(page: str, content: Content) -> str:
    """*page* with its tables made of *content*."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{_table(found[2], content)}\n{found[3]}", page)


def _table(name: str, content: Content) -> str:
    kind, _, group = name.partition(":")
    makers: dict[str, Callable[[], str]] = {
        "machine": lambda: _machine(content),
        "layers": lambda: _layers(content),
        "summary": lambda: _summary(content),
        "ratios": lambda: _ratios(content, group),
        "costs": lambda: _costs(content, group),
        "rows": lambda: _rows(content, group),
        "large": lambda: large.table(json.loads(large.KEPT.read_text())),
        "profile": lambda: _profile(content, group),
        "marks": lambda: _marks(content, json.loads(large.KEPT.read_text())),
    }
    return makers[kind]()


def _machine(content: Content) -> str:
    machine, versions = content["machine"], dict(content["versions"])
    fleetsim, python = versions.pop("fleetsim"), versions.pop("python")
    rounds = {row["vms"]: len(row["seconds_by_round"]) for row in content["rows"]}
    sizes = {count: [f"{size:,}" for size in sorted(rounds) if rounds[size] == count] for count in rounds.values()}
    told = "; ".join(f"{count} of {', '.join(sizes[count])} VMs" for count in sorted(sizes, reverse=True))
    others = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"fleetsim {fleetsim} on {machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']:.0f} GiB,"
        f" {machine['system']}, shared with others; Python {python}, {others}. Medians of rounds: {told}.\n"
    )


def _ratios(content: Content, group: str) -> str:
    """Opponents down, sizes across: how many times the CPU time of fleetsim, whose own row has ns each."""
    rows = _of(content, group)
    sizes = sorted({row["vms"] for row in rows})
    lines = []
    for name in dict.fromkeys(row["name"] for row in rows):
        at = {row["vms"]: row for row in rows if row["name"] == name}
        what = next(iter(at.values()))["what"]
        lines.append([what, *(_against(at.get(size)) for size in sizes)])
    return _grid(["CPU time, as a multiple of fleetsim's", *(f"{size:,} VMs" for size in sizes)], lines)


def _against(row: Content | None) -> str:
    if row is None:
        return ""
    ratio = row["cpu_ratio_to_fleetsim"]
    return f"**{_number(_cpu_ns(row))} ns each**" if ratio is None else _number(ratio)


def _costs(content: Content, group: str) -> str:
    """What each row takes of itself, at the largest size there is."""
    rows = _of(content, group)
    size = max(row["vms"] for row in rows)
    lines = [
        [
            row["what"],
            f"{row['events'] or size:,}",
            str(row["threads"]),
            _number(_cpu_ns(row)),
            f"{row['peak_mib']:,.0f}",
        ]
        for row in rows
        if row["vms"] == size
    ]
    return _grid([f"{size:,} VMs", "VM-events", "threads", "CPU ns each", "peak MiB"], lines)


def _cpu_ns(row: Content) -> float:
    """CPU time of a VM-event, or of a VM where there is none."""
    return float(row["cpu_seconds"] / (row["events"] or row["vms"]) * 1e9)


def _rows(content: Content, group: str) -> str:
    """Everything measured of a group."""
    heads = ["", "VMs", "VM-events", "threads", "seconds", "CPU seconds", "M VM-events/s", "ns each", "peak MiB"]
    ratios = ("ratio_to_fleetsim", "cpu_ratio_to_fleetsim", "ratio_to_limit")
    lines = [
        [
            row["what"] + (f", {row['gb_per_s']:.1f} GB/s" if row["gb_per_s"] else ""),
            f"{row['vms']:,}",
            "" if row["events"] is None else f"{row['events']:,}",
            str(row["threads"]),
            f"{row['seconds']:.3g}",
            f"{row['cpu_seconds']:.3g}",
            "" if row["events_per_s"] is None else _number(row["events_per_s"] / 1e6),
            _number(row["ns_each"]),
            f"{row['peak_mib']:,.0f}",
            *("" if row[key] is None else _number(row[key]) for key in ratios),
        ]
        for row in _of(content, group)
    ]
    return _grid([*heads, "x fleetsim", "x its CPU", "x limit"], lines)


def _layers(content: Content) -> str:
    layers = content["layers"]
    lines = [[layer, f"{share:.0%}"] for layer, share in layers["shares"].items()]
    return _grid([f"`fleetsim.run` over {layers['vms']:,} VMs with random lengths", "of its threads' time"], lines)


def _summary(content: Content) -> str:
    """What the README says: the opponents of SUMMARY at the largest size they were sent over, group by group."""
    names = dict.fromkeys(row["name"] for row in content["rows"] if row["name"] in SUMMARY)
    lines = []
    for name in names:
        rows = [row for row in content["rows"] if row["name"] == name]
        size = max(row["vms"] for row in rows)
        at = {row["group"]: row for row in rows if row["vms"] == size}
        lines.append([rows[0]["what"], f"{size:,}", *(_against(at.get(group)) for group in _SAID)])
    return _grid(["CPU time, as a multiple of fleetsim's", "VMs", *_SAID.values()], lines)


_SAID = {
    "memory": "in memory, 30 s each",
    "random": "in memory, random lengths",
    "parquet": "to Parquet, 30 s each",
    "parquet-random": "to Parquet, random lengths",
}
SUMMARY = {
    "fleetsim", "c", "c-heap", "polars", "simpy-sets", "salabim", "simgrid", "mesa",
    "run-process", "write", "polars-reads", "polars-knows", "duckdb-reads", "duckdb-knows", "simpy-process",
}  # fmt: skip


def _marks(content: Content, largest: Content) -> str:
    """What fleetsim set out to reach, and what was measured of it, each with the largest fleet there is."""

    def at(group: str, name: str, vms: int | None = None) -> Content:
        rows = [row for row in _of(content, group) if row["name"] == name and vms in (None, row["vms"])]
        return max(rows, key=lambda row: row["vms"])

    def kernel(name: str) -> str:
        return f"{_number(_cpu_ns(at('kernel', name)))} ns"

    def times(group: str, *names: str) -> str:
        """How many times the CPU time of fleetsim each of *names* takes."""
        return ", ".join(f"{_number(at(group, name)['cpu_ratio_to_fleetsim'])} x" for name in names)

    def ran(vms: int) -> str:
        (row,) = (row for row in largest["rows"] if (row["step"], row["vms"]) == ("run", vms))
        return f"{row['seconds']:.3g} s, {row['peak_mib']:,.0f} MiB"

    def seconds(name: str) -> float:
        return float(at("use", name)["seconds"])

    def sped_up(name: str) -> str:
        return f"{_number(seconds(f'{name}-1') / seconds(name))} x"

    simulators = ("simpy-sets", "mesa", "simgrid", "salabim")
    simpy = at("parquet", "simpy-process")
    against_call = simpy["cpu_seconds"] / at("parquet", "run", simpy["vms"])["cpu_seconds"]
    one_million_s = at("parquet", "run-process", 1_000_000)["seconds"]
    lines = [
        ["sets alone, random lengths, no files: a VM-event, one core", "6 ns", kernel("walk-random")],
        ["under a cap, units of 4 VMs: a VM-event, one core", "25 ns", kernel("gate-caps")],
        ["hosts of 20 VMs: a VM-event, one core", "100 ns", kernel("gate-hosts")],
        [
            "a run to Parquet, against pyarrow that writes its tables",
            "at most 1.3 x",
            f"{_number(at('parquet-random', 'run')['ratio_to_limit'])} x",
        ],
        ["100 M VMs, prepared, to Parquet", "12 s, 2 GiB", ran(100_000_000)],
        ["1,000 M VMs", "150 s, 4 GiB", ran(1_000_000_000)],
        ["1,000 replicas of 1 M VMs", "20 s", f"{_number(seconds('replicas'))} s"],
        ["SimPy, Mesa, SimGrid, salabim, in memory, 30 s each", "at least 100 x", times("memory", *simulators)],
        ["the same with random lengths", "at least 100 x", times("random", *simulators)],
        ["SimPy, to Parquet, against `fleetsim.run`", "at least 50 x", f"{_number(against_call)} x"],
        ["Polars, DuckDB, to Parquet, 30 s each", "above 1 x", times("parquet", "polars-reads", "duckdb-reads")],
        ["the same with random lengths", "above 1 x", times("parquet-random", "polars-knows", "duckdb-knows")],
        ["C, calendar queue, in memory, 30 s each", "1 x", times("memory", "c")],
        ["two threads for one: plain, under a cap", "1.7 x", f"{sped_up('figures')}, {sped_up('figures-caps')}"],
        [
            "`fleetsim --help`, a run of 1 M VMs",
            "0.3 s, 2 s",
            f"{_number(seconds('help'))} s, {_number(one_million_s)} s",
        ],
    ]
    return _grid(["work", "mark", "measured"], lines)


def _profile(content: Content, name: str) -> str:
    """Where the time of a row of the group `kernel` goes."""
    profile = content["profiles"][name]
    lines = [[part, f"{share:.0%}"] for part, share in profile["shares"].items()]
    return _grid([f"{profile['what']}, {profile['vms']:,} VMs", "of the time"], lines)


def _of(content: Content, group: str) -> list[Content]:
    if group not in GROUPS:
        raise ValueError(f"no group is called {group}; there are {', '.join(GROUPS)}")
    return [row for row in content["rows"] if row["group"] == group]


def _number(value: float) -> str:
    """Three digits that say something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _grid(heads: list[str], lines: Iterable[list[str]]) -> str:
    rule = ["---", *("---:" for _ in heads[1:])]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [heads, rule, *lines])


def main() -> None:
    """The command above."""
    content = json.loads(newest().read_text())
    for name in PAGES:
        path = ROOT / name
        path.write_text(rendered(path.read_text("utf-8"), content), "utf-8")


if __name__ == "__main__":
    main()
