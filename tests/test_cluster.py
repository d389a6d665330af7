"""On a Ray cluster: the bytes of one thread on one machine, whoever is lost, and whoever comes late."""

import contextlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from pathlib import Path

import polars as pl
import psutil
import pytest
from click.testing import CliRunner

import fleetsim
from fleetsim import cluster, policies
from fleetsim.cli import cli
from fleetsim.errors import InputError, RunError
from fleetsim.fleet import prepare
from fleetsim.runfolder import RunFolder
from fleetsim.storage import Url, put_all
from tests.buckets import BUCKET, s3

pytest.importorskip("ray", reason="Ray is not installed: pip install 'fleetsim[ray]'")

pytestmark = [
    # To start a cluster takes 5 to 30 s, and Ray ends the process that asks where a busy machine takes longer.
    pytest.mark.deep,
    # Processes of a cluster that did not start in time are left to their own end.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

# Customers beside another campaign, who fail; tries that fail, iterations, caps, and sets without a guarantee.
SCENARIO = """
name = "all"
start = 2026-12-01T00:00:00Z
seed = 5
quorum = { by = "set", min_up = "majority" }

[[campaign]]
name = "kernel"
kind = "reboot"
notice = "10d"
self_service = { length = "5d", uptake_ratio = 0.4, failure_ratio = 0.3, spare_ratio = 0.5 }
scheduled = { gap = "1d", length = "1h", failure_ratio = 0.4, retry_timeout = "2min" }
iterations_max = 3
reschedule_delay = "14d"

[[campaign]]
name = "host"
length = { p50 = "6s", p99 = "9s" }
start = "11d"
update_domain_gap = "10min"
caps = [{ per = "region", vms_count = 200 }]

[[campaign]]
name = "network"
kind = "reboot"
notice = "1d"
scheduled = { gap = "0s", length = "30min", failure_ratio = 0.4, retry_timeout = "1min" }
iterations_max = 4
reschedule_delay = "3d"
start = "80d"
"""
LONG = 'name = "long"\nstart = 2026-12-01T00:00:00Z\n' + "".join(
    f'[[campaign]]\nname = "c{place}"\nlength = "30s"\n' for place in range(25)
)


@pytest.fixture(scope="module", autouse=True)
def ray_cluster(bucket):
    """Two workers at once, which all tests share but those that lose the driver, or nodes."""
    with cluster.connected("ray", 2):
        yield


@pytest.fixture(scope="module")
def bucket():
    """The URL of a bucket; None where there is no server for it. Workers find it in the environment they start with."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(s3())
            url = f"s3://{BUCKET}"
        except pytest.skip.Exception:
            url = None
        yield url


@pytest.fixture(params=["file", "s3"])
def above(request, bucket, tmp_path):
    """A URL that nothing is below, under each protocol that is tried."""
    if request.param == "file":
        pytest.importorskip("fsspec", reason="fsspec is not installed: pip install 'fleetsim[url]'")
        return f"file://{tmp_path}/there"
    if bucket is None:
        pytest.skip("s3fs and moto are not installed: uv pip install --group s3")
    return f"{bucket}/{tmp_path.name}"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """4,000 VMs in three regions, of which each has several parts."""
    count = 4_000
    fleet = pl.DataFrame({"vm": [f"v{number:04}" for number in range(count)]}).with_columns(
        region=pl.Series(["westeurope", "northeurope", "eastus"]).gather([row % 3 for row in range(count)]),
        set=pl.Series([f"s{row % 3}-{row // (60 if row % 11 else 1)}" if row % 7 else None for row in range(count)]),
    )
    out = tmp_path_factory.mktemp("fleet") / "prepared"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fleetsim.fleet.order.PART_ROWS", 500)
        prepare(fleet, out)
    assert len(list(out.glob("fleet/region=eastus/part-*.parquet"))) > 2
    return out


def contents(folder: Path | Url) -> dict[str, bytes]:
    """Every file that is left, but for those that tell times."""
    if isinstance(folder, Url):
        return {name: (folder / name).read_bytes() for name in folder.files() if not name.endswith("timings.json")}
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "timings.json"
    }


def test_runs_and_replicas_are_those_of_one_thread(prepared, tmp_path):
    one = fleetsim.run(prepared, SCENARIO, tmp_path / "one", threads=1, replicas=9)
    many = fleetsim.run(prepared, SCENARIO, tmp_path / "many", on="ray", replicas=9)

    assert contents(many.path) == contents(one.path)
    assert many.digest == one.digest
    assert fleetsim.verify(many.path).ok
    iterations = pl.read_parquet(one.path / "stages.parquet").select(pl.col("campaign").cast(pl.String), "iteration")
    assert dict(iterations.group_by("campaign").max().iter_rows()) == {"kernel": 3, "host": 1, "network": 4}
    assert len(pl.read_parquet(one.path / "no_guarantee.parquet")) > 0


def test_runs_and_sweeps_at_a_url_are_those_at_a_path(prepared, above, tmp_path):
    put_all(prepared, Url(f"{above}/prepared"), "prepared.json")
    (tmp_path / "plan.toml").write_text(SCENARIO)
    swept = tmp_path / "sweep.toml"
    swept.write_text('scenario = "plan.toml"\nreplicas = 3\n[grid]\ncampaign.host.length = ["10s", "20s"]\n')
    one = fleetsim.run(prepared, SCENARIO, tmp_path / "one", threads=1, replicas=9)
    many = fleetsim.run(f"{above}/prepared", SCENARIO, f"{above}/many", on="ray", replicas=9)

    assert contents(many.path) == contents(one.path)
    assert many.digest == one.digest
    cases = fleetsim.sweep(prepared, swept, tmp_path / "cases", threads=1)
    assert contents(fleetsim.sweep(f"{above}/prepared", swept, f"{above}/cases", on="ray").path) == contents(cases.path)


def test_a_fleet_that_is_not_prepared_is_put_beside_the_url_for_the_time_of_the_run(prepared, above, tmp_path):
    fleet = pl.read_parquet(prepared / "fleet", hive_partitioning=False).select("vm", "region", "set")
    one = fleetsim.run(fleet, LONG, tmp_path / "one", threads=1)
    put_all(prepared, Url(f"{above}/.many.preparing-lost"), "prepared.json")  # of a driver that was lost
    many = fleetsim.run(fleet, LONG, f"{above}/many", on="ray", resume=True)

    assert contents(many.path) == contents(one.path)
    assert [each.name for each in Url(above).iterdir()] == ["many"]


class Again(cluster.Cluster):
    """A cluster that loses the answer to each task, and has another worker do it again."""

    cpu_count = 2

    @contextmanager
    def workers(self, make, *about):
        first, second = make(*about), make(*about)

        def submit(asked):
            answer = Future()
            first(pickle.loads(pickle.dumps(asked)))
            answer.set_result(second(pickle.loads(pickle.dumps(asked))))
            return answer

        yield submit


def test_a_task_that_is_done_again_finds_what_it_found(prepared, tmp_path, monkeypatch):
    one = fleetsim.run(prepared, SCENARIO, tmp_path / "one", threads=1, replicas=3)
    monkeypatch.setattr("fleetsim.runner.connected", lambda *_: nullcontext(Again()))
    twice = fleetsim.run(prepared, SCENARIO, tmp_path / "twice", on="ray", replicas=3)

    assert contents(twice.path) == contents(one.path)


def test_a_fleet_that_is_not_prepared_and_relative_paths(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pl.read_parquet(prepared / "fleet", hive_partitioning=False).select("vm", "region", "set").write_parquet(
        "f.parquet"
    )
    Path("plan.toml").write_text(SCENARIO)
    one = CliRunner().invoke(cli, ["run", "f.parquet", "plan.toml", "-o", "one", "--threads", "1"])
    many = CliRunner().invoke(cli, ["run", "f.parquet", "plan.toml", "-o", "many", "--on", "ray"])

    assert (one.exit_code, many.exit_code) == (0, 0), one.output + many.output
    assert one.stdout.splitlines()[-1] == many.stdout.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.parquet", "many", "one", "plan.toml"]


def test_a_stop_rule_ends_where_it_does_on_threads(prepared, tmp_path):
    asked = {"replicas": 90, "until": "length_ms 3%", "overrides": ["outputs.events=false"]}
    one = fleetsim.run(prepared, SCENARIO, tmp_path / "one", threads=1, **asked)
    many = fleetsim.run(prepared, SCENARIO, tmp_path / "many", on="ray", **asked)
    count = one.manifest["replicas"]

    assert 10 <= count < 80
    assert contents(many.path) == contents(one.path)

    for on in ("ray", None):  # as if it had been interrupted, while workers were ahead
        (many.path / "manifest.json").unlink()
        folder = many.path / "replicas"
        shutil.rmtree(folder / "replica=00004")
        shutil.copytree(folder / "replica=00003", folder / f"replica={count + 1:05}")
        fleetsim.run(prepared, SCENARIO, many.path, on=on, resume=True, **asked)
        assert contents(many.path) == contents(one.path)


@pytest.mark.parametrize("lengths", [["10s", "20s", "40s"], ["10s"]])  # a case a worker; one after the other
def test_sweeps_are_those_of_one_thread(prepared, tmp_path, lengths):
    (tmp_path / "plan.toml").write_text(SCENARIO)
    (tmp_path / "sweep.toml").write_text(
        f'scenario = "plan.toml"\nreplicas = 3\n[grid]\ncampaign.host.length = {json.dumps(lengths)}\n'
    )
    told = []
    one = fleetsim.sweep(prepared, tmp_path / "sweep.toml", tmp_path / "one", threads=1)
    many = fleetsim.sweep(
        prepared, tmp_path / "sweep.toml", tmp_path / "many", on="ray", progress=lambda *step: told.append(step)
    )

    assert contents(many.path) == contents(one.path)
    assert told[-1][1] == told[-1][2] == 4_000 * 3 * len(lengths)


@pytest.mark.parametrize("at_once", [3, 1])  # a case a worker; one after the other
def test_searches_come_to_the_cases_of_one_thread(prepared, tmp_path, at_once):
    (tmp_path / "plan.toml").write_text(SCENARIO)
    (tmp_path / "search.toml").write_text(
        f'scenario = "plan.toml"\n[search]\ncases = 9\nat_once = {at_once}\n'
        'campaign.host.length = { from = "10s", to = "40s", step = "5s" }\ncampaign.host.spread = ["0s", "1h", "2h"]\n'
    )
    best = "max host.length_ms where host.paused_ms_p99 <= 20s"
    one = fleetsim.sweep(prepared, tmp_path / "search.toml", tmp_path / "one", best=best, threads=1)
    many = fleetsim.sweep(prepared, tmp_path / "search.toml", tmp_path / "many", best=best, on="ray", threads=2)

    assert contents(many.path) == contents(one.path)
    assert (many.path / "sweep.json").read_bytes() == (one.path / "sweep.json").read_bytes()


def test_policies_go_with_the_plan(tmp_path, monkeypatch):
    monkeypatch.setattr(policies, "_registered", {})
    (tmp_path / "own.py").write_text(
        "import fleetsim, numba\n\n@fleetsim.policy\n@numba.njit\ndef fullest(vm_count):\n    return -vm_count\n"
    )
    policies.register_file(tmp_path / "own.py")
    count = 600
    fleet = pl.DataFrame(
        {
            "vm": range(count),
            "region": ["eastus"] * count,
            "set": [row // 10 for row in range(count)],
            "host": [f"h{row * row % 97}" for row in range(count)],
        }
    )
    plan = """
name = "hosts"
start = 2026-12-01T00:00:00Z
[[campaign]]
name = "c"
length = "30s"
host_order = "policy:fullest"
"""
    one = fleetsim.run(fleet, plan, tmp_path / "one", threads=1)

    assert contents(fleetsim.run(fleet, plan, tmp_path / "many", on="ray").path) == contents(one.path)
    assert (
        fleetsim.run(fleet, plan, tmp_path / "other", overrides=["campaign.c.host_order=random"]).digest != one.digest
    )


def busy_workers() -> list[psutil.Process]:
    """Workers of clusters that this process has started that are at a task."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[:1] == ["ray::_do"]:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.mark.parametrize("what", ["run", "replicas", "sweep"])
def test_a_worker_that_is_killed_changes_nothing(prepared, tmp_path, what):
    call = {
        "run": lambda out, **options: fleetsim.run(prepared, LONG, out, **options),
        "replicas": lambda out, **options: fleetsim.run(prepared, SCENARIO, out, replicas=30, **options),
        "sweep": lambda out, **options: fleetsim.sweep(prepared, swept, out, **options),
    }[what]
    swept = tmp_path / "sweep.toml"
    (tmp_path / "plan.toml").write_text(SCENARIO)
    swept.write_text('scenario = "plan.toml"\nreplicas = 12\n[grid]\ncampaign.host.length = ["10s", "20s", "40s"]\n')
    killed: set[int] = set()
    is_over = threading.Event()

    def kill() -> None:
        """Kill three workers in the midst of what they do."""
        while len(killed) < 3 and not is_over.wait(0.3):
            for process in busy_workers()[:1]:
                process.kill()
                killed.add(process.pid)

    one = call(tmp_path / "one", threads=1)
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        many = call(tmp_path / "many", on="ray")
    finally:
        is_over.set()
        killer.join()

    assert killed, "it was over before anybody was killed"
    assert contents(many.path) == contents(one.path)


@contextmanager
def command(*arguments, **environment):
    """The command in a process of its own, with a folder for what Ray writes."""
    with tempfile.TemporaryDirectory(prefix="fs-", dir="/tmp") as folder:
        process = subprocess.Popen(
            [sys.executable, "-c", "from fleetsim.cli import main; main()", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "TMPDIR": folder, **environment},
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def await_parts(process: subprocess.Popen, run: Path | Url) -> None:
    deadline = time.monotonic() + 200
    while not any((run / "events").rglob("part-*.parquet")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_driver_that_is_killed_goes_on(prepared, tmp_path):
    (tmp_path / "long.toml").write_text(LONG)
    one = fleetsim.run(prepared, tmp_path / "long.toml", tmp_path / "one", threads=1)
    with command("run", prepared, tmp_path / "long.toml", "-o", tmp_path / "many", "--on", "ray") as process:
        await_parts(process, tmp_path / "many")
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "many/manifest.json").exists(), "killed too late to show anything"
    resumed = fleetsim.run(prepared, tmp_path / "long.toml", tmp_path / "many", on="ray", resume=True)

    assert contents(resumed.path) == contents(one.path)


def test_a_worker_and_a_driver_that_are_killed_change_nothing_at_a_url(prepared, above, tmp_path):
    (tmp_path / "long.toml").write_text(LONG)
    put_all(prepared, Url(f"{above}/prepared"), "prepared.json")
    one = fleetsim.run(prepared, tmp_path / "long.toml", tmp_path / "one", threads=1)
    asked = ["run", f"{above}/prepared", tmp_path / "long.toml", "-o", f"{above}/many", "--on", "ray", "--threads", 2]
    with command(*asked) as process:
        await_parts(process, Url(f"{above}/many"))
        workers = [
            each for each in psutil.Process(process.pid).children(recursive=True) if "ray::_do" in each.cmdline()
        ]
        for each in workers[:1]:
            each.kill()
        time.sleep(1)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not Url(f"{above}/many/manifest.json").exists(), "killed too late to show anything"
    resumed = fleetsim.run(f"{above}/prepared", tmp_path / "long.toml", f"{above}/many", on="ray", resume=True)

    assert contents(resumed.path) == contents(one.path)


def test_a_node_that_comes_late_takes_over_from_one_that_is_lost(prepared, tmp_path):
    from ray.cluster_utils import Cluster

    (tmp_path / "long.toml").write_text(LONG)
    one = fleetsim.run(prepared, tmp_path / "long.toml", tmp_path / "one", threads=1)
    folder = Path("/tmp/ray")  # Ray's own helper writes nowhere else
    was_there = folder.exists()
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        first = nodes.add_node(num_cpus=1)
        run = ["run", prepared, tmp_path / "long.toml", "-o", tmp_path / "many", "--on", "ray"]
        with command(*run, RAY_ADDRESS=nodes.address) as process:
            await_parts(process, tmp_path / "many")
            nodes.remove_node(first, allow_graceful=False)  # now nobody computes
            assert process.poll() is None, "it was over before the node was lost"
            before = len(list(tmp_path.glob("many/events/**/*.parquet")))
            nodes.add_node(num_cpus=2)
            said, _ = process.communicate(timeout=200)
    finally:
        nodes.shutdown()
        if not was_there:
            shutil.rmtree(folder, ignore_errors=True)

    assert process.returncode == 0, said
    assert before < len(list(tmp_path.glob("one/events/**/*.parquet")))
    assert contents(tmp_path / "many") == contents(one.path)


def test_what_cannot_be_read_or_written_there_is_told_here(prepared, tmp_path):
    damaged = tmp_path / "prepared"
    prepare(pl.DataFrame({"vm": [1, 2], "region": ["uksouth"] * 2}), damaged)
    part = damaged / "fleet/region=uksouth/part-00000.parquet"
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(InputError, match=r"region=uksouth/part-00000\.parquet: must be readable"):
        fleetsim.run(damaged, SCENARIO, tmp_path / "run", on="ray")
    assert not (tmp_path / "run").exists()

    # A file where a folder is to be: an error of the disk, to whoever is to write a part.
    RunFolder(tmp_path / "run").write("events", b"")
    fleetsim.run(prepared, LONG, tmp_path / "whole")
    (tmp_path / "run/resolved.toml").write_bytes((tmp_path / "whole/resolved.toml").read_bytes())
    with pytest.raises(RunError, match="could not be written"):
        fleetsim.run(prepared, LONG, tmp_path / "run", on="ray", resume=True)


def test_a_node_with_another_version_is_refused(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "__version__", "9.9.9")
    with pytest.raises(InputError, match=r"all nodes must have fleetsim 9.9.9, as the one that asks, got "):
        fleetsim.run(prepared, LONG, tmp_path / "run", on="ray")
    assert not (tmp_path / "run").exists()
