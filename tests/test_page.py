"""The page of a run: its charts say what the figures say, it stands alone, and a real browser shows it.

The browser's tests are skipped where there is no Chromium, unless FLEETSIM_BROWSER is set, as in CI.
"""

import base64
import dataclasses
import datetime as dt
import itertools
import json
import os
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fleetsim
from fleetsim import cli, figures
from fleetsim.errors import InputError
from fleetsim.figures import RunFiles
from fleetsim.page import CHART_NAME_LENGTH_MAX, charts, drawing
from fleetsim.page.document import sort_value
from fleetsim.page.palette import DARK, IDLE, STEPS
from fleetsim.reporting import report
from tests import browser

SCENARIO = """
name = "both <kinds>"
start = 2026-12-01T00:00:00Z
seed = 3

[[campaign]]
name = "kernel"
kind = "reboot"
notice = "10d"
self_service = { length = "5d", uptake_ratio = 0.3, failure_ratio = 0.1 }
scheduled = { gap = "1d", length = "3d", failure_ratio = 0.05, retry_timeout = "1min" }

[[campaign]]
name = "hypervisor"
start = "2d"
waves = [["westeurope", "eastus"], ["*"]]
bake = "1h"
length = { p50 = "6s", p99 = "9s" }
update_domain_gap = "10min"
spread = "2h"

[tolerance]
real-time = "5s"

[quorum]
by = "application"
min_up = 0.9
"""
ROGUE = "<script>document.title='owned'</script>"
CAPS = """
name = "caps"
start = 2026-12-01T00:00:00Z
[[campaign]]
name = "hosts"
length = { p50 = "6s", p99 = "9s" }
work = "5min"
update_domain_gap = "10min"
caps = [{ per = "region", vms_ratio = 0.1 }]
"""


def made_fleet(vm_count=2_000):
    regions = ["westeurope", "northeurope", "eastus", "westus", "madeup"]
    rows = pl.DataFrame({"vm": range(vm_count)})
    number = pl.col("vm")
    return rows.with_columns(
        region=(number % 1_000 // 200).replace_strict(dict(enumerate(regions)), return_dtype=pl.String),
        set=pl.when(number % 7 > 0).then(pl.format("s{}", number % 1_000 // 10 + 1_000 * (number % 1_000 // 200))),
        application=(number % 40).replace_strict({0: ROGUE, 1: "shop"}, default="the rest"),
        workload=pl.when(number % 5 == 0).then(pl.lit("real-time")).otherwise(pl.lit("web")),
        created=pl.when(number % 11 == 0).then(pl.datetime(2026, 12, 3, 3, time_unit="ms", time_zone="UTC")),
    )


PAIRS = """region,paired_region
westeurope,northeurope
northeurope,westeurope
eastus,westus
westus,eastus
madeup,
italynorth,
"""


def made_run(folder, scenario=SCENARIO, vm_count=2_000, overrides=()):
    (folder / "pairs.csv").write_text(PAIRS)
    made = fleetsim.run(made_fleet(vm_count), scenario, folder / "run", pairs=folder / "pairs.csv", overrides=overrides)
    return made.path


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return made_run(tmp_path_factory.mktemp("both"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """As *both*, but all VMs always there and every try of the platform succeeds."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "pairs.csv").write_text(PAIRS)
    asked = ["campaign.kernel.scheduled.failure_ratio=0"]
    fleet = made_fleet().drop("created")
    return fleetsim.run(fleet, SCENARIO, folder / "run", pairs=folder / "pairs.csv", overrides=asked).path


@pytest.fixture(scope="module")
def capped(tmp_path_factory):
    return made_run(tmp_path_factory.mktemp("capped"), CAPS, 500)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    asked = ["outputs.events=false", "outputs.outcomes=false"]
    return made_run(tmp_path_factory.mktemp("bare"), overrides=asked)


@pytest.fixture(scope="module")
def page(both, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    fleetsim.write_page(both, html=path, verified=True, by=["region", "workload"])
    return path


# What charts are drawn from


@pytest.mark.parametrize("kind", ["both", "plain"])
@given(width_ms=st.integers(60_000, 10**8))
def test_courses_add_up_to_the_figures_whatever_the_bins(request, kind, width_ms):
    files = RunFiles.open(request.getfixturevalue(kind))
    names = [each["name"] for each in files.campaigns]
    rows = figures.courses(files, dict.fromkeys(names, width_ms))
    for campaign in figures.campaigns(files, figures.stages(files)).to_dicts():
        own = rows.filter(campaign=campaign["campaign"])
        out = own["paused_mean"] + own["down_mean"]
        assert (out * own["bin_ms"]).sum() == pytest.approx(campaign["unavailable_ms"], rel=1e-9)
        assert (own["pending_mean"] * own["bin_ms"]).sum() == pytest.approx(campaign["pending_vm_ms"], rel=1e-9)
        updated = sum(campaign[f"{word}_count"] for word in ("updated", "updated_scheduled", "updated_self_service"))
        assert own["updated_count"].max() == updated
        assert own["bin_start_ms"].diff().drop_nulls().unique().to_list() in ([], [width_ms])


def test_courses_of_some_vms_are_theirs(both):
    files = RunFiles.open(both)
    of = [files.narrowed({"workload": [word]}) for word in ("web", "real-time")]
    parts = [figures.courses(each, {"hypervisor": 600_000}) for each in of]
    whole = figures.courses(files, {"hypervisor": 600_000})

    assert [len(each) > 0 for each in parts] == [True, True]
    assert sum(each["paused_mean"].sum() for each in parts) == pytest.approx(whole["paused_mean"].sum())
    assert sum(each["updated_count"].max() for each in parts) == whole["updated_count"].max()


def test_lengths_count_every_vm_that_is_hit(both, bare):
    for run in (both, bare):
        files = RunFiles.open(run)
        bins_ms = {"kernel": 60_000, "hypervisor": 500}
        rows = figures.lengths(files, bins_ms)
        assert set(zip(rows["campaign"], rows["is_down"], strict=True)) == {("kernel", True), ("hypervisor", False)}
        of_campaigns = figures.campaigns(files, figures.stages(files))
        hit = dict(of_campaigns.select("campaign", "vm_hit_count").rows())
        assert rows.filter(campaign="hypervisor")["vm_count"].sum() == pytest.approx(hit["hypervisor"])
        if run == both:  # the engine's histogram counts those that have failed again, in each iteration
            assert rows.filter(campaign="kernel")["vm_count"].sum() == hit["kernel"]


def test_shares_of_applications_add_up_to_when_they_are_out(both):
    made = report(both)
    for name in ("kernel", "hypervisor"):
        own = made.applications.filter(campaign=name)
        names = own["application"].to_list()
        rows = figures.application_shares(made.files, name, names, charts.SHARES)
        all_out = rows.filter(step=len(charts.SHARES)).select("application", "out_ms")
        assert dict(all_out.rows()) == {
            row["application"]: row["application_out_ms"] for row in own.to_dicts() if row["application_out_ms"]
        }
        # By hand: merged spans of the impacts of each.
        vms = fleetsim.read_events(both, columns=["application"]).filter(
            pl.col("campaign") == name, pl.col("duration_ms") > 0
        )
        merged = (
            vms.sort("start_at")
            .with_columns(before=pl.col("end_at").cum_max().shift(1).over("application"))
            .with_columns(since=pl.max_horizontal("start_at", "before"))
            .group_by("application")
            .agg(out_ms=(pl.col("end_at") - pl.col("since")).dt.total_milliseconds().clip(0).sum())
            .collect()
        )
        found = rows.group_by("application").agg(pl.col("out_ms").sum())
        assert dict(found.rows()) == dict(merged.rows()), name
        first = figures.application_shares(made.files, name, names[:1], charts.SHARES)
        assert first.equals(rows.filter(application=names[0]))


def test_joint_outage_is_drawn_for_each_campaign(both):
    drawn = {each.name: each for each in charts.charts_of(report(both)) if isinstance(each, drawing.Chart)}
    frame = drawn["joint-outage-hypervisor"].frame

    assert "joint-outage-kernel" in drawn
    assert set(frame["application"]) == {ROGUE, "shop", "the rest"}
    assert set(frame["share"]) <= set(charts._step_words(charts.SHARES, "{:.0%}"))


def test_hours_of_regions_add_up_to_hours(both):
    files = RunFiles.open(both)
    keys = ["campaign", "hour"]
    summed = figures.hours(files, ("campaign", "region")).group_by(keys).agg(pl.exclude("region").sum()).sort(keys)

    assert summed.select(pl.exclude("region")).equals(figures.hours(files))


def test_pairs_are_neighbours_in_the_timeline(both):
    lanes = charts._Charts(report(both)).lanes
    order = list(lanes)

    assert set(order) == {"westeurope", "northeurope", "eastus", "westus", "madeup"}
    for pair in (("westeurope", "northeurope"), ("eastus", "westus")):
        assert abs(order.index(pair[0]) - order.index(pair[1])) == 1
        assert lanes[pair[0]] == lanes[pair[1]]
    assert len(set(lanes.values())) == 3


def test_each_campaign_has_a_timeline_on_a_scale_of_its_own(both):
    made = report(both)
    drawn = {each.name: each for each in charts.charts_of(made) if getattr(each, "section", "") == "timeline"}

    assert [set(each.frame["campaign"]) for each in drawn.values()] == [{"kernel"}, {"hypervisor"}]
    for chart, (name, unit_ms) in zip(drawn.values(), (("kernel", 86_400_000), ("hypervisor", 3_600_000)), strict=True):
        own = chart.frame
        domains = {
            tuple(layer["encoding"]["x"]["scale"]["domain"])
            for layer in chart.spec(drawing.WIDE)["layer"]
            if "scale" in layer["encoding"]["x"]
        }
        ((low, high),) = domains
        assert low == own["start_ms"].min() / unit_ms, name
        assert high == pytest.approx(own["end_ms"].max() / unit_ms, rel=0.01), name
        row = made.campaign_rows.row(by_predicate=pl.col("campaign") == name, named=True)
        work = own.filter(what="at work")
        assert work["end_ms"].max() == row["last_end_ms"]
        assert f"at {figures.duration(row['last_end_ms'])}." in chart.text


def test_the_timeline_of_some_vms_is_theirs(both):
    events = fleetsim.read_events(both, columns=["application"]).filter(
        pl.col("application") == "shop", pl.col("campaign") == "hypervisor"
    )
    start_ms = int(dt.datetime(2026, 12, 1, tzinfo=dt.UTC).timestamp() * 1_000)
    last = events.group_by("region").agg(pl.col("end_at").max().dt.epoch("ms") - start_ms).collect()
    made = report(both, only=["application=shop"])
    (drawn,) = [each for each in charts.charts_of(made) if getattr(each, "name", "") == "timeline-hypervisor"]
    work = drawn.frame.filter(what="at work")

    assert dict(work.select("region", "end_ms").rows()) == dict(last.rows())
    assert "Of the VMs asked for, first at work is" in drawn.text
    assert f"at {figures.duration(max(last['end_at']))}." in drawn.text
    whole = figures.stages(RunFiles.open(both)).filter(campaign="hypervisor")
    assert max(last["end_at"]) < whole["end_ms"].max(), "the whole campaign goes on with others"


def test_campaigns_without_charts_of_their_own_share_a_timeline(tmp_path):
    campaign = '\n[[campaign]]\nname = "c{}"\nlength = "5s"\n'
    scenario = 'name = "many"\nstart = 2026-12-01T00:00:00Z\n' + "".join(map(campaign.format, range(6)))
    found = [each for each in charts.charts_of(report(made_run(tmp_path, scenario, 60))) if each.section == "timeline"]

    assert [sorted(set(each.frame["campaign"])) for each in found] == [["c0"], ["c1"], ["c2"], ["c3"], ["c4", "c5"]]
    assert found[-1].title.startswith("2 other campaigns")


def test_the_chain_of_units_is_drawn_to_its_end(capped):
    made = report(capped)
    (drawn,) = [each for each in charts.charts_of(made) if getattr(each, "name", "") == "chain"]
    last = drawn.frame.filter(pl.col("what") != "until it is free")["end_ms"].max()

    assert last == made.chains["hosts"][-1].end_ms
    assert {"work", "gap"} <= set(drawn.frame["what"])
    own = drawn.frame.filter(pl.col("what") != "waits for another stage").sort("start_ms")
    for _, lane in own.group_by("lane"):
        assert (lane["start_ms"].shift(-1) >= lane["end_ms"]).all(), "bars of one stage do not overlap"


@pytest.fixture(scope="module")
def intolerant(tmp_path_factory):
    """Pauses of 6 s, which `published_maximum` would make longer for those who stand 8 s."""
    scenario = CAPS.replace("caps = ", "# caps = ") + '[tolerance]\nreal-time = "5s"\nweb = "5500ms"\n'
    return made_run(tmp_path_factory.mktemp("intolerant"), scenario, 500)


def test_a_remedy_that_saves_nobody_has_no_bar(intolerant):
    made = report(intolerant)
    (drawn,) = [each for each in charts.charts_of(made) if getattr(each, "name", "") == "tolerance"]
    saved = {(each.workload, remedy.name): remedy.saved_count for each in made.intolerances for remedy in each.remedies}

    assert min(saved.values()) < 0 < max(saved.values())
    bars = drawn.frame.filter(pl.col("what") != "paused too long")
    assert bars["vm_count"].min() >= 0.5
    assert len(bars) == sum(round(count) > 0 for count in saved.values())
    workloads = ", ".join(each.workload for each in made.intolerances)
    assert f". Nobody of {workloads} is saved by self-service: a freeze has none" in drawn.text
    worse = ", ".join(
        workload for (workload, name), count in saved.items() if (name, count < 0) == ("published_maximum", True)
    )
    assert f". More of {worse} would be paused too long with pauses of 10 s, all of them" in drawn.text
    for width in (drawing.WIDE, drawing.NARROW):
        svg = drawn.svg(width)
        assert "…" not in svg, "no label is cut"
        assert "self-service" not in svg


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory):
    """A run over all regions whose place is known, most of which wait for a wave that never starts."""
    known = pl.read_csv(Path(fleetsim.__file__).parents[1] / "datasets" / "region_pairs_real.csv")
    placed = known.drop_nulls("latitude")["region"].to_list()
    vms = pl.DataFrame({"region": [name for place, name in enumerate(placed) for _ in range(30 + place * 7 % 10)]})
    scenario = (
        'name = "map"\nstart = 2026-12-01T00:00:00Z\nhorizon = "2d"\n[[campaign]]\nname = "c"\nspread = "9h"\n'
        'waves = [["westeurope", "germanywestcentral", "japaneast"], ["*"]]\nbake = "5d"\n'
    )
    fleet = vms.with_columns(vm=pl.int_range(pl.len()), application=pl.format("payments in {}", "region"))
    return fleetsim.run(fleet, scenario, tmp_path_factory.mktemp("everywhere") / "run").path


def test_a_region_never_at_work_has_a_colour_of_its_own(everywhere):
    (drawn,) = [each for each in charts.charts_of(report(everywhere)) if getattr(each, "name", "") == "map"]
    idle = drawn.frame.filter(pl.col("last_end_ms").is_null())
    svg = drawn.svg()

    assert 0 < len(idle) < len(drawn.frame)
    assert f"Never at work: {len(idle)} regions" in drawn.text
    marks = re.findall(r'aria-label="(\w+): [\d,]+ VMs, (not )?at work[^>]*fill="(#\w+)"', svg)
    assert len(marks) == len(drawn.frame)
    assert {region for region, is_idle, colour in marks if colour == IDLE} == set(idle["region"])
    assert ">not at work<" in svg


# The file


class Elements(HTMLParser):
    """Start tags with their attributes, and all text outside scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.within = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.within = tag if tag in ("script", "style") else self.within

    def handle_endtag(self, tag):
        self.within = None if tag == self.within else self.within

    def handle_data(self, data):
        if self.within is None:
            self.texts.append(data)


def test_the_page_says_what_was_run_and_what_was_found(page, both):
    elements = Elements(page.read_text("utf-8"))
    text = " ".join("".join(elements.texts).split())
    header = report(both).header()

    for said in ("both <kinds>", "2,000 VMs in 5 regions", "seed 3", header["run_digest"], header["scenario_digest"],
                 header["fleet_digest"], f"fleetsim {header['fleetsim_version']}", "rules kept"):  # fmt: skip
        assert said in text, said
    for question in ("How long?", "Whom?", "How hard?", "Why so long?"):
        assert text.count(question) == 2, "each campaign answers"
    assert "not verified" not in text


def test_rules_that_had_nothing_to_check_are_counted_apart(page, both):
    text = " ".join("".join(Elements(page.read_text("utf-8")).texts).split())
    found = fleetsim.verify(both).rules
    kept = sum(rule.status == "kept" and rule.row_count > 0 for rule in found)
    idle = sum(rule.status == "kept" and rule.row_count == 0 for rule in found)
    unchecked = sum(rule.status == "not checked" for rule in found)

    assert kept and idle
    said = f"{kept} rules kept, {idle} had nothing to check" + (f", {unchecked} not checked" if unchecked else "")
    assert text.count(said) == 2, "on the first screen and below"


def test_why_of_windows_is_what_the_iterations_took(page, both):
    text = " ".join("".join(Elements(page.read_text("utf-8")).texts).split())
    chain = report(both).chains["kernel"]
    anew_ms = sum(link.start_ms - before.end_ms for before, link in itertools.pairwise(chain) if link.cause == "window")
    length_ms = report(both).campaign_rows.filter(campaign="kernel")["length_ms"].item()

    assert max(link.iteration for link in chain) >= 2
    said = f"{anew_ms / length_ms:.0%} of its length, {figures.duration(length_ms)}, is scheduling anew who was left"
    assert said in text


TAIL = """
name = "tail"
start = 2026-12-01T00:00:00Z
[[campaign]]
name = "kernel"
kind = "reboot"
notice = "10d"
self_service = { length = "5d" }
scheduled = { gap = "1d", length = "3d", failure_ratio = 0.03, retry_timeout = "0s" }
"""


def test_few_who_cost_most_of_the_time_are_told_first(tmp_path):
    run = made_run(tmp_path, TAIL, 600)
    ends = fleetsim.read_events(run).filter(pl.col("result").cast(pl.String) != "aborted").select("end_at").collect()
    row = report(run).campaign_rows.row(0, named=True)
    start_ms = int(dt.datetime(2026, 12, 1, tzinfo=dt.UTC).timestamp() * 1_000)
    ends_ms = sorted((ends["end_at"].dt.epoch("ms") - start_ms).to_list())
    last_ms, length_ms = row["last_end_ms"], row["length_ms"]
    quiet = [
        (after - before, count)
        for count, (before, after) in enumerate(itertools.pairwise(ends_ms), start=1)
        if count >= 0.95 * len(ends_ms) and last_ms - before > length_ms / 2
    ]
    _, count = max(quiet)
    at = dt.datetime(2026, 12, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=ends_ms[count - 1])
    more = figures.duration(last_ms - ends_ms[count - 1])
    fleetsim.write_page(run, html=tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text("utf-8")

    said = f"; {count} of {len(ends_ms)} updated by {at:%d %b %H:%M}, the last {len(ends_ms) - count} take {more} more"
    assert said in text
    assert figures.stragglers(RunFiles.open(run), "kernel", 0, last_ms, 0.0) is None, "nobody is less than few"


def test_where_most_of_the_time_goes_to_many_nobody_is_called_few(capped, tmp_path):
    fleetsim.write_page(capped, html=tmp_path / "page.html")

    assert "updated by" not in (tmp_path / "page.html").read_text("utf-8").split("<nav")[0]


def test_the_page_asks_nobody_for_anything(page):
    text = page.read_text("utf-8")
    tags = Elements(text).tags

    assert not [tag for tag, _ in tags if tag in ("iframe", "img", "object", "embed", "base", "form")]
    assert [attrs["href"] for tag, attrs in tags if tag == "link"] == ["data:,"]
    links = [attrs["href"] for tag, attrs in tags if tag == "a"]
    assert links and all(link.startswith("#") for link in links)
    assert not [attrs for tag, attrs in tags if {"src", "srcset"} & attrs.keys()]
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    (policy,) = [attrs["content"] for tag, attrs in tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert len(text) < 3_000_000


def test_names_of_users_are_text(page):
    text = page.read_text("utf-8")

    assert ROGUE not in text
    assert "&lt;script&gt;document.title" in text
    assert len([tag for tag, _ in Elements(text).tags if tag == "script"]) == 1


def test_every_chart_has_a_title_and_a_text_and_names_of_its_own(page):
    elements = Elements(page.read_text("utf-8"))
    ids = [attrs["id"] for _, attrs in elements.tags if "id" in attrs]
    pictures = [attrs for tag, attrs in elements.tags if tag == "svg"]

    assert len(ids) == len(set(ids))
    assert len(pictures) >= 2 * 15
    for attrs in pictures:
        assert attrs["role"] == "img"
        assert attrs["aria-label"]
        assert attrs["aria-describedby"] in ids
    used = set(re.findall(r"url\(#([\w-]+)\)", page.read_text("utf-8")))
    assert used <= set(ids)


def test_equal_runs_make_equal_pages(both, page, tmp_path):
    fleetsim.write_page(both, html=tmp_path / "again.html", verified=True, by=["region", "workload"])

    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_every_colour_of_a_chart_has_its_dark_one(both):
    colours = set()
    for chart in charts.charts_of(report(both)):
        if isinstance(chart, drawing.Chart):
            colours |= set(re.findall(r'(?:fill|stroke)="(#[0-9a-fA-F]+)"', chart.svg()))

    assert len(colours) > 10
    assert colours <= DARK.keys()
    assert len(set(DARK)) == len(DARK) and STEPS[0] in DARK


def test_charts_are_files_of_three_kinds(both, tmp_path):
    made = fleetsim.write_page(both, charts=tmp_path / "charts")
    found = sorted(path.name for path in (tmp_path / "charts").iterdir())

    assert found == sorted(f"{name}.{kind}" for name in made.charts for kind in ("svg", "png", "parquet"))
    for name in made.charts:
        assert (tmp_path / "charts" / f"{name}.svg").read_text("utf-8").startswith("<svg")
        assert (tmp_path / "charts" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    drawn = pl.read_parquet(tmp_path / "charts" / "completion-hypervisor.parquet")
    assert (
        drawn["updated_count"].max() == made.report.campaign_rows.filter(campaign="hypervisor")["updated_count"].item()
    )
    named = {"timeline-kernel", "map", "sets", "chain-kernel", "heat-hypervisor", "applications-kernel"}
    assert named | {"tolerance-hypervisor"} <= set(made.charts)


def test_charts_as_files_have_their_title_in_them(both):
    for chart in charts.charts_of(report(both)):
        if not isinstance(chart, drawing.Chart):
            continue
        lines = chart.spec(drawing.WIDE, is_titled=True)["title"]["text"]
        assert " ".join(lines) == chart.title
        for line in lines:
            assert f">{line.replace('<', '&lt;').replace('>', '&gt;')}</text>" in chart.svg()
        assert f">{lines[0]}</text>" not in chart.inline(drawing.WIDE), "on the page it is a heading"


def test_names_of_campaigns_are_names_of_files():
    names = ["Kernel 5.15", "kernel-5-15", "..", "/", "über", "日本", "others", "x" * 300]
    slugs = charts.slugs_of(names)

    assert slugs["Kernel 5.15"] == "kernel-5-15"
    assert slugs["über"] == "uber"
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug) for slug in slugs.values())
    assert len({*slugs.values(), charts.OTHERS}) == len(names) + 1
    longest = max(len(f"applications-{slug}.parquet") for slug in slugs.values())
    assert longest <= CHART_NAME_LENGTH_MAX


def is_chain(chart):
    return isinstance(chart, drawing.Chart) and chart.name == "chain"


@pytest.mark.parametrize("place", [".", "there", "new"])
def test_charts_go_into_a_folder_that_is_empty_or_new(capped, tmp_path, monkeypatch, capsys, place):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    if place == "there":
        Path("there").mkdir()
    # One of them tells where all go, and to draw them all takes seconds.
    monkeypatch.setattr(
        fleetsim.page, "charts_of", lambda made: [each for each in charts.charts_of(made) if is_chain(each)]
    )
    code = cli.answer(["report", str(capped), "--charts", place])

    assert code == 0, capsys.readouterr().err
    assert (Path(place) / "chain.svg").is_file() and (Path(place) / "chain.png").is_file()
    assert not [path for path in tmp_path.rglob("*") if "unfinished" in path.name]


def test_what_a_run_cannot_tell_is_said_and_why(bare, tmp_path):
    made = fleetsim.write_page(bare, html=tmp_path / "page.html")
    text = " ".join("".join(Elements((tmp_path / "page.html").read_text("utf-8")).texts).split())

    assert {why for title, why in made.lacking.items() if "updated" in title} == {
        "the run kept no events: [outputs] events = false"
    }
    assert {"timeline-kernel", "out-kernel", "lengths-hypervisor"} <= set(made.charts)
    for title, why in made.lacking.items():
        assert f"{title}: not drawn, {why}." in text
    assert "not verified" in text


def test_a_campaign_that_hits_nobody_has_a_page(tmp_path):
    asked = ["campaign.hypervisor.regions=['italynorth']", "campaign.kernel.regions=['italynorth']"]
    scenario = SCENARIO.replace('waves = [["westeurope", "eastus"], ["*"]]\nbake = "1h"\n', "")
    run = made_run(tmp_path, scenario, 10, asked)
    made = fleetsim.write_page(run, html=tmp_path / "page.html", charts=tmp_path / "charts")

    assert made.charts == ()
    assert len(made.lacking) >= 10


def test_many_campaigns_and_some_vms(tmp_path):
    campaign = '\n[[campaign]]\nname = "c{}"\nlength = "5s"\n'
    scenario = 'name = "many"\nstart = 2026-12-01T00:00:00Z\n' + "".join(map(campaign.format, range(6)))
    run = made_run(tmp_path, scenario, 300)
    made = fleetsim.write_page(run, html=tmp_path / "page.html", only=["workload=web"])
    text = "".join(Elements((tmp_path / "page.html").read_text("utf-8")).texts)

    assert len([name for name in made.charts if name.startswith("chain-")]) == charts.CAMPAIGNS_DRAWN
    assert "c5" in text
    assert "Only VMs with workload=web" in text


# What it says of runs that are not as they should be


def test_a_broken_run_is_called_so(capped, tmp_path):
    import shutil

    run = tmp_path / "broken"
    shutil.copytree(capped, run)
    path = sorted(run.glob("events/region=*/*.parquet"))[0]
    table = pq.read_table(path)
    shorter = table.set_column(
        table.schema.get_field_index("duration_ms"),
        table.schema.field("duration_ms"),
        pl.Series([max(0, each - 1) for each in table["duration_ms"].to_pylist()], dtype=pl.UInt32).to_arrow(),
    )
    pq.write_table(shorter, path)
    code = cli.answer(["report", str(run), "--html", str(tmp_path / "page.html"), "--verify"])
    text = (tmp_path / "page.html").read_text("utf-8")

    assert code == 1
    assert "breaks the plan" in text
    assert "This run breaks its plan" in text


def test_an_unfinished_run_is_called_so(both, tmp_path, capsys):
    import shutil

    run = tmp_path / "unfinished"
    shutil.copytree(both, run)
    (run / "manifest.json").unlink()
    code = cli.answer(["report", str(run), "--html", str(tmp_path / "page.html"), "--json"])
    text = (tmp_path / "page.html").read_text("utf-8")

    assert code == 0
    assert "unfinished" in text and "--resume" in text and "kernel" in text
    said = capsys.readouterr()
    assert "not finished" in said.err
    assert json.loads(said.out)["page"]["is_finished"] is False
    with pytest.raises(InputError, match="not finished"):
        fleetsim.write_page(run, charts=tmp_path / "charts")
    assert not (tmp_path / "charts").exists()


def test_without_the_extra_it_says_how_to_get_it(both, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(drawing, "find_spec", lambda name: None)
    code = cli.answer(["report", str(both), "--html", str(tmp_path / "page.html")])

    assert code == 2
    assert "pip install 'fleetsim[page]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--html", "nowhere/page.html"], "must be in a folder that is there"),
        (["--html", "."], "must be a file, got a folder"),
        (["--charts", "full"], "must be a new or an empty folder"),
        (["--charts", "full/file"], "must be a new or an empty folder"),
        (["--charts", "."], "must be a new or an empty folder, got a folder with 'full' in it"),
        (["--html", f"{'n' * 250}.html"], "must be a shorter name"),
        (["--charts", "n" * 300], "must be a shorter name"),
        (["--html", f"{'n/' * 3000}page.html"], "must be a shorter name"),
        (["--html", "page.html", "--by", "nothing"], "must be a column of the fleet"),
        (["--html", "page.html", "--out", "x", "--format", "json"], "do not go with"),
        (["--verify"], "--verify goes with --html"),
    ],
)
def test_bad_input_is_one_message_and_nothing_is_written(both, tmp_path, monkeypatch, capsys, options, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    code = cli.answer(["report", str(both), *options])

    assert code == 2
    assert said in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "full"]


def test_reports_without_a_page_import_nothing_that_draws(both):
    code = (
        "import sys; from fleetsim import cli;"
        f"cli.answer(['report', {str(both)!r}, '--json']);"
        "print([name for name in ('altair', 'vl_convert') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stderr.strip().endswith("[]")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,234", 1234),
        ("~19", 19),
        ("66.7%", 66.7),
        ("0 s", 0),
        ("250 ms", 250),
        ("9 min 30 s", 570_000),
        ("1,870 d 3 h", 1870 * 86_400_000 + 3 * 3_600_000),
        ("-", None),
        ("web-1", None),
        ("2x3.5", None),
    ],
)
def test_cells_sort_by_what_they_say(text, value):
    assert sort_value(text) == value


# A browser


@pytest.fixture(scope="module")
def driver():
    if (why := browser.missing()) is not None:
        if os.environ.get(browser.MUST_BE_THERE):
            pytest.fail(why)
        pytest.skip(why)
    with browser.chromium() as driver:
        yield driver


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("is_dark", [False, True])
def test_a_browser_shows_the_page_from_disk(driver, page, width, is_dark):
    driver.get_log("browser"), driver.get_log("performance")
    browser.show(driver, page, width=width, is_dark=is_dark)
    time.sleep(0.2)
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    # The browser's own first tab asks for things of its own.
    requests = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent" and message["params"]["documentURL"] == page.as_uri()
    ]

    assert requests and all(url.startswith("data:") or url == page.as_uri() for url in requests), requests
    assert driver.get_log("browser") == []
    assert driver.title.startswith("both <kinds>")
    shown = driver.execute_script(
        "return [...document.querySelectorAll('figure.chart')].map(figure => {"
        " const seen = [...figure.querySelectorAll('svg')].filter(each => each.getBoundingClientRect().width > 0);"
        " const box = seen[0]?.getBoundingClientRect();"
        " const marks = seen[0]?.querySelectorAll('[data-tells]').length;"
        " return [figure.id, seen.length, box?.left, box?.right, box?.height, marks]; })"
    )
    assert len(shown) >= 15
    for name, count, left, right, height, marks in shown:
        assert count == 1, name
        assert left >= 0 and right <= width and height > 30, name
        assert marks > 0, f"{name} is empty"
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    ground = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(21, 24, 28)" if is_dark else "rgb(255, 255, 255)")


_OVERLAPS = """
const found = [];
for (const svg of document.querySelectorAll('figure.chart svg')) {
  if (!svg.getBoundingClientRect().width) continue;
  const texts = [...svg.querySelectorAll('text')].map(each => [each.textContent, each.getBoundingClientRect()]);
  const frame = svg.getBoundingClientRect();
  texts.forEach(([text, box], place) => {
    if (box.left < frame.left - 1 || box.right > frame.right + 1) found.push([svg.ariaLabel, text, 'is cut']);
    for (const [other, there] of texts.slice(place + 1)) {
      const isTwice = text === other && Math.abs(box.left - there.left) < 1 && Math.abs(box.top - there.top) < 1;
      const wide = Math.min(box.right, there.right) - Math.max(box.left, there.left);
      const high = Math.min(box.bottom, there.bottom) - Math.max(box.top, there.top);
      if (!isTwice && wide > 1 && high > 3) found.push([svg.ariaLabel, text, other]);
    }
  });
}
return found;
"""


@pytest.mark.parametrize("width", [400, 1400])
def test_no_label_covers_another(driver, page, width):
    browser.show(driver, page, width=width)

    assert driver.execute_script(_OVERLAPS) == []


def test_names_on_the_map_cover_nothing_and_are_whole(driver, everywhere, tmp_path):
    fleetsim.write_page(everywhere, html=tmp_path / "page.html")
    browser.show(driver, tmp_path / "page.html", width=1400)
    named = driver.execute_script(
        "const all = [...document.querySelectorAll('#chart-map svg.wide .mark-text text')];"
        "return all.map(each => [each.textContent, each.getBoundingClientRect().toJSON()]);"
    )
    dots = driver.execute_script(
        "const all = [...document.querySelectorAll('#chart-map svg.wide [data-tells]')];"
        "return all.map(each => [each.dataset.tells, each.getBoundingClientRect().toJSON()]);"
    )

    regions = {tells.split(":")[0] for tells, _ in dots}
    named = [[name, box] for name, box in named if name in regions]

    assert driver.execute_script(_OVERLAPS) == []
    assert len({name for name, _ in named}) == charts.NAMES_DRAWN
    for name, box in named:
        for tells, dot in dots:
            wide = min(box["right"], dot["right"]) - max(box["left"], dot["left"])
            high = min(box["bottom"], dot["bottom"]) - max(box["top"], dot["top"])
            assert not (wide > 0 and high > 0), f"{name} covers {tells}"
    browser.show(driver, tmp_path / "page.html", width=400)
    assert driver.execute_script(_OVERLAPS) == [], "names of regions are long, and leave axes little room"


@pytest.mark.parametrize(("width", "height"), [(1400, 900), (400, 850)])
def test_one_screen_answers(driver, capped, tmp_path, width, height):
    fleetsim.write_page(capped, html=tmp_path / "page.html")
    browser.show(driver, tmp_path / "page.html", width=width, height=height)
    bottoms = driver.execute_script(
        "return [...document.querySelectorAll('.answers > div')].map(each => each.getBoundingClientRect().bottom)"
    )

    assert len(bottoms) == 4
    assert max(bottoms) < height


@pytest.mark.parametrize("width", [400, 1400])
def test_tables_wider_than_the_screen_say_so(driver, page, width):
    browser.show(driver, page, width=width)
    driver.execute_script("document.querySelectorAll('details').forEach(each => (each.open = true))")
    time.sleep(0.2)
    found = driver.execute_script(
        "return [...document.querySelectorAll('.table')].map(each => {"
        " const inner = each.querySelector('.scroll'), hint = each.querySelector('.hint');"
        " return [inner.scrollWidth > inner.clientWidth, hint.getBoundingClientRect().width > 0]; })"
    )

    assert all(is_wide == is_told for is_wide, is_told in found)
    assert {is_wide for is_wide, _ in found} >= {width == 400}


def test_tables_sort_by_mouse_and_by_keyboard_and_copy(driver, page):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.show(driver, page, width=1400)
    table = driver.find_element(By.CSS_SELECTOR, "#tables table")
    names = [head.text for head in table.find_elements(By.CSS_SELECTOR, "thead th")]
    place = names.index("hit")

    def column():
        cells = table.find_elements(By.CSS_SELECTOR, f"tbody tr > :nth-child({place + 1})")
        return [int(cell.text.replace(",", "")) for cell in cells]

    before = column()
    head = table.find_elements(By.CSS_SELECTOR, "thead button")[place]
    driver.execute_script("arguments[0].click()", head)
    assert column() == sorted(before)
    assert head.find_element(By.XPATH, "..").get_attribute("aria-sort") == "ascending"
    head.send_keys(Keys.ENTER)
    assert column() == sorted(before, reverse=True)
    assert column() != sorted(before), "there is something to sort"

    copy = driver.find_element(By.CSS_SELECTOR, "#tables .copy")
    driver.execute_script("arguments[0].scrollIntoView()", copy)
    copy.click()
    assert copy.text == "Copied"
    driver.execute_script(
        "const area = document.createElement('textarea'); area.id = 'pasted'; document.body.prepend(area);"
    )
    area = driver.find_element(By.ID, "pasted")
    area.send_keys(Keys.CONTROL, "v")
    lines = area.get_attribute("value").splitlines()
    assert lines[0].split("\t") == names
    assert len(lines) == 1 + len(before)


def test_marks_tell_what_they_are(driver, page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    browser.show(driver, page, width=1400)
    marks = driver.find_elements(By.CSS_SELECTOR, "#chart-timeline-kernel svg.wide [data-tells]")
    mark = max(marks, key=lambda each: each.size["width"])
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", mark)
    time.sleep(0.2)  # to scroll hides what a mark told
    ActionChains(driver).move_to_element(mark).perform()
    tip = driver.find_element(By.ID, "tip")

    assert tip.is_displayed()
    assert tip.text == mark.get_attribute("data-tells")
    assert "VMs in scope" in tip.text


def test_paper_takes_a_few_pages(driver, page, tmp_path):
    browser.show(driver, page, width=1400, is_dark=True)
    printed = base64.b64decode(driver.print_page())
    (tmp_path / "page.pdf").write_bytes(printed)
    count = len(re.findall(rb"/Type\s*/Page\b", printed))

    assert 2 <= count <= 14, "two campaigns with all charts"
    assert Path(tmp_path / "page.pdf").stat().st_size > 20_000


def test_a_chart_of_too_many_rows_is_not_drawn_and_says_so():
    rows = pl.DataFrame({"row": range(drawing.ROWS_DRAWN_MAX + 1)})
    large = drawing.Chart("large", "time", "Large", "Many.", rows, lambda width, is_narrow: None)

    lacking = charts._drawable(large)

    assert isinstance(lacking, charts.Lacking)
    assert (lacking.section, lacking.title) == ("time", "Large")
    assert "drawn from 5,001 rows" in lacking.why
    assert charts._drawable(dataclasses.replace(large, frame=rows.head(1))).name == "large"


def test_who_nobody_has_hit_gets_a_page_too(tmp_path):
    vms = pl.DataFrame({"vm": range(40), "region": ["westeurope"] * 20 + ["northeurope"] * 20})
    scenario = 'name = "y"\nstart = 2026-12-01T22:00:00Z\nhorizon = "3h"\n[[campaign]]\nname = "c"\nspread = "2h"\n'
    run = fleetsim.run(vms, scenario, tmp_path / "run")

    fleetsim.write_page(run.path, html=tmp_path / "late.html", only=["region=westeurope"])
    fleetsim.write_page(run.path, html=tmp_path / "one.html", only=["vm=30"])

    assert "nobody was hit; the whole campaign takes" in (tmp_path / "late.html").read_text()
    start = fleetsim.report(run.path, only=["vm=30"]).campaign_rows["first_start_ms"][0]
    at = dt.datetime(2026, 12, 1, 22, tzinfo=dt.UTC) + dt.timedelta(milliseconds=start)
    assert f"from {at:%d %b %H:%M} to" in (tmp_path / "one.html").read_text()
    with pytest.raises(InputError, match="got one name for both"):
        fleetsim.write_page(run.path, html=tmp_path / "x", charts=tmp_path / "x")
