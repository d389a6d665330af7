"""Runs at a URL: the files of a run at a path, read back from there, and nothing left on this machine."""

import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from click.testing import CliRunner

import fleetsim
from fleetsim import cli, storage
from fleetsim.errors import InputError, RunError
from fleetsim.fleet import open_prepared, prepare
from fleetsim.runfolder import RunFolder
from fleetsim.storage import Url
from tests.buckets import BUCKET, s3

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: pip install 'fleetsim[url]'")

# aiobotocore's clients outlive the loop they were made for.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SCENARIO = """
name = "all"
start = 2026-12-01T00:00:00Z
seed = 5
quorum = { by = "application", min_up = "majority" }
tolerance = { batch = "7s" }

[[campaign]]
name = "kernel"
kind = "reboot"
notice = "10d"
self_service = { length = "5d", uptake_ratio = 0.4, failure_ratio = 0.3 }
scheduled = { gap = "1d", length = "1h", failure_ratio = 0.4, retry_timeout = "2min" }
iterations_max = 3
reschedule_delay = "14d"

[[campaign]]
name = "host"
length = { p50 = "6s", p99 = "9s" }
start = "90d"
update_domain_gap = "10min"
caps = [{ per = "region", vms_count = 200 }]
"""
LONG = 'name = "long"\nstart = 2026-12-01T00:00:00Z\n' + "".join(
    f'[[campaign]]\nname = "c{place}"\nlength = "30s"\n' for place in range(12)
)


@pytest.fixture(scope="module")
def bucket():
    with s3() as address:
        yield address


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.deep)])
def above(request, tmp_path):
    """A URL that nothing is below, under each protocol that is tried."""
    if request.param == "file":
        return f"file://{tmp_path}/there"
    request.getfixturevalue("bucket")
    return f"s3://{BUCKET}/{tmp_path.name}"


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files, which must be empty again at the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr("fleetsim.fleet.order.PART_ROWS", 100)  # regions have several parts
    yield folder
    storage.forget()
    assert list(folder.iterdir()) == []


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """1,200 VMs in three regions, of which each has several parts."""
    count = 1_200
    frame = pl.DataFrame({"vm": [f"v{number:04}" for number in range(count)]}).with_columns(
        region=pl.Series(["westeurope", "northeurope", "eastus"]).gather([row % 3 for row in range(count)]),
        set=pl.Series([f"s{row % 3}-{row // (60 if row % 11 else 1)}" if row % 7 else None for row in range(count)]),
        application=pl.Series([f"a{row % 40}" for row in range(count)]),
        workload=pl.Series(["batch", "web"]).gather([row % 2 for row in range(count)]),
    )
    path = tmp_path_factory.mktemp("fleet") / "fleet.parquet"
    frame.write_parquet(path)
    return path


@pytest.fixture(scope="module")
def prepared(fleet):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fleetsim.fleet.order.PART_ROWS", 100)
        return Path(str(prepare(fleet, fleet.parent / "prepared").path))


@pytest.fixture(scope="module")
def one(prepared):
    """The run at a path, on one thread."""
    out = prepared.parent / "one"
    return fleetsim.run(prepared, SCENARIO, out, threads=1, replicas=3)


def contents(where: str | Path) -> dict[str, bytes]:
    """Every file that is left, by its name from there, but for those that tell times."""
    files, path = fsspec.core.url_to_fs(str(where))
    files.invalidate_cache()
    names = [name for name in files.find(path) if not name.endswith("timings.json")]
    return {name.removeprefix(f"{path}/"): files.cat_file(name) for name in sorted(names)}


def put(url: str, content: bytes) -> None:
    files, path = fsspec.core.url_to_fs(url)
    files.makedirs(files._parent(path), exist_ok=True)
    files.pipe_file(path, content)


def test_a_run_at_a_url_is_that_at_a_path(prepared, one, above, temporary):
    there = prepare(prepared, f"{above}/prepared")
    assert contents(there.path) == contents(prepared)
    many = fleetsim.run(f"{above}/prepared", SCENARIO, f"{above}/run/", replicas=3)

    assert (str(many.path), many.digest) == (f"{above}/run", one.digest)
    assert contents(many.path) == contents(one.path)
    assert list(temporary.iterdir()) == []
    verdict = fleetsim.verify(f"{above}/run")
    assert verdict.ok
    assert str(verdict.run) == f"{above}/run"
    assert fleetsim.report(many.path).frame.equals(fleetsim.report(one.path).frame)
    assert fleetsim.read_events(f"{above}/run").collect().equals(fleetsim.read_events(one.path).collect())
    assert len(list(temporary.iterdir())) == 1  # fetched once


def test_a_path_and_a_url_go_together(prepared, one, above, tmp_path):
    prepare(prepared, f"{above}/prepared")
    written = fleetsim.run(prepared, SCENARIO, f"{above}/run", replicas=3)
    read = fleetsim.run(f"{above}/prepared", SCENARIO, tmp_path / "run", replicas=3)

    assert contents(written.path) == contents(read.path) == contents(one.path)


def test_a_fleet_that_is_not_prepared(fleet, one, above, temporary):
    fleetsim.run(fleet, SCENARIO, f"{above}/run", overrides=["seed=6"])

    assert fleetsim.verify(f"{above}/run").ok
    assert list(fsspec.core.url_to_fs(above)[0].ls(fsspec.core.url_to_fs(above)[1])) == [
        fsspec.core.url_to_fs(f"{above}/run")[1]
    ]
    with pytest.raises(InputError, match=r"must be a prepared fleet, got no prepared\.json in it"):
        fleetsim.run(f"{above}/run", SCENARIO, f"{above}/other")


def test_a_prepared_fleet_that_lacks_a_part_or_has_other_pairs(prepared, above, tmp_path):
    there = prepare(prepared, f"{above}/prepared")
    (tmp_path / "pairs.csv").write_text("region,paired_region\nwesteurope,eastus\neastus,westeurope\n")
    with pytest.raises(InputError, match="must be prepared with the same pairs"):
        fleetsim.run(there.path, SCENARIO, f"{above}/run", pairs=tmp_path / "pairs.csv")
    part = there.regions[0].parts[1].path
    part.unlink()
    with pytest.raises(InputError) as refused:
        open_prepared(f"{above}/prepared")
    assert refused.value.problems == [f"{part}: must be there, got no such file; prepare the fleet anew"]
    with pytest.raises(InputError, match="must not be there yet"):
        prepare(prepared, f"{above}/prepared")


def test_a_run_that_is_killed_goes_on(prepared, above, tmp_path):
    (tmp_path / "long.toml").write_text(LONG)
    local = fleetsim.run(prepared, tmp_path / "long.toml", tmp_path / "one", threads=1)
    code = "from fleetsim.cli import main; main()"
    command = [sys.executable, "-c", code, "run", prepared, tmp_path / "long.toml", "-o", f"{above}/run"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        deadline = time.monotonic() + 100
        while not Url(f"{above}/run/events").rglob("part-*.parquet"):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGKILL)
    there = contents(f"{above}/run")
    assert 0 < len([name for name in there if name.startswith("events/")]) < local.manifest["counts"]["stages"]
    assert "manifest.json" not in there, "killed too late to show anything"
    with pytest.raises(InputError, match="found an unfinished run; --resume goes on with it"):
        fleetsim.run(prepared, tmp_path / "long.toml", f"{above}/run")
    with pytest.raises(InputError, match="--resume goes on with the same run only: seed"):
        fleetsim.run(prepared, tmp_path / "long.toml", f"{above}/run", resume=True, overrides=["seed=9"])

    # What other writers leave half written, a part without an end, and one of another run.
    put(f"{above}/run/events/region=eastus/.half.tmp", b"PAR1")
    part = next(name for name in there if name.startswith("events/"))
    put(f"{above}/run/{part}", there[part][:-9])
    resumed = fleetsim.run(prepared, tmp_path / "long.toml", f"{above}/run", resume=True)

    assert contents(resumed.path) == contents(local.path)
    again = fleetsim.run(prepared, tmp_path / "long.toml", f"{above}/run", resume=True)
    assert (again.digest, again.warnings) == (local.digest, ("the run was finished already",))
    with pytest.raises(InputError, match="found a finished run"):
        fleetsim.run(prepared, tmp_path / "long.toml", f"{above}/run")


def test_parts_that_are_there_are_kept(prepared, one, above, monkeypatch):
    fleetsim.run(prepared, SCENARIO, f"{above}/run", replicas=3)
    Url(f"{above}/run/manifest.json").unlink()
    written = []
    put = Url.put
    monkeypatch.setattr(Url, "put", lambda self, content: (written.append(self.text), put(self, content)))
    fleetsim.run(prepared, SCENARIO, f"{above}/run", replicas=3, resume=True)

    assert contents(f"{above}/run") == contents(one.path)
    assert not [name for name in written if "/events/" in name or "/fleet/" in name or "/replicas/" in name]
    assert written[-1] == f"{above}/run/manifest.json"


def test_replicas_that_are_too_many_are_dropped(prepared, above, tmp_path):
    asked = {"replicas": 20, "until": "length_ms 20%", "overrides": ["outputs.events=false"]}
    local = fleetsim.run(prepared, SCENARIO, tmp_path / "run", threads=1, **asked)
    count = local.manifest["replicas"]
    assert 10 <= count < 17
    fleetsim.run(prepared, SCENARIO, f"{above}/run", **asked)
    Url(f"{above}/run/manifest.json").unlink()
    last = Url(f"{above}/run/replicas/replica={count - 1:05}")
    put(f"{above}/run/replicas/replica={count + 3:05}/part-00000.parquet", (last / "part-00000.parquet").read_bytes())
    last.remove()

    assert contents(fleetsim.run(prepared, SCENARIO, f"{above}/run", resume=True, **asked).path) == contents(local.path)


def test_a_sweep_at_a_url(prepared, above, tmp_path, temporary):
    (tmp_path / "plan.toml").write_text(SCENARIO)
    swept = tmp_path / "sweep.toml"
    swept.write_text('scenario = "plan.toml"\nreplicas = 2\n[grid]\ncampaign.host.length = ["10s", "20s"]\n')
    local = fleetsim.sweep(prepared, swept, tmp_path / "sweep")
    made = fleetsim.sweep(prepared, swept, f"{above}/sweep", best="min host.length_ms")

    assert contents(f"{above}/sweep") == contents(local.path)
    assert made.figures.equals(local.figures)
    assert str(made.path) == f"{above}/sweep"
    with pytest.raises(InputError, match="found a finished sweep"):
        fleetsim.sweep(prepared, swept, f"{above}/sweep")
    Url(f"{above}/sweep/sweep.json").unlink(missing_ok=True)
    Url(f"{above}/sweep/case=00001").remove()
    fleetsim.sweep(prepared, swept, f"{above}/sweep", resume=True)
    assert contents(f"{above}/sweep") == contents(local.path)


def test_commands_take_urls(prepared, one, above, tmp_path, temporary):
    def say(*arguments):
        done = CliRunner().invoke(cli.cli, list(map(str, arguments)))
        return done.exit_code, done.stdout

    (tmp_path / "plan.toml").write_text(SCENARIO)
    assert say("fleet", "prepare", prepared, "-o", f"{above}/prepared")[0] == 0
    code, said = say("run", f"{above}/prepared", tmp_path / "plan.toml", "-o", f"{above}/run", "--replicas", 3)
    assert (code, said.splitlines()[-1]) == (0, f"digest: {one.digest}")
    code, said = say("verify", f"{above}/run")
    assert code == 0
    assert f"{above}/run:therunkeeps" in "".join(said.split())  # lines are broken where the terminal ends
    code, said = say("report", f"{above}/run")
    assert (code, said.splitlines()[0]) == (0, "all in run")
    assert say("status", f"{above}/run", "--vm", "v0007") == say("status", one.path, "--vm", "v0007")
    code, said = say("compare", one.path, f"{above}/run", "--json")
    assert code == 0
    assert f'"path": "{above}/run"' in said
    assert str(temporary) not in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("fleet", "generate", "-o", "s3://bucket/fleet", "--vms", "10"),
        ("fleet", "check", "s3://bucket/fleet"),
        ("run", "prepared", "s3://bucket/plan.toml", "-o", "run"),
        ("verify", "--events", "s3://bucket/log", "--fleet", "f", "--scenario", "s"),
    ],
)
def test_where_a_url_is_not_taken(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.answer(arguments) == 2
    assert "must be a path, got the URL s3://bucket/" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("memory://run", "memory://run: must be where other processes find it, got the memory of this one"),
        ("s4://bucket/run", "s4://bucket/run: must be a URL that fsspec knows, got: Protocol not known: s4"),
        ("s3://", "s3://: must be the URL of a folder, as s3://bucket/run, got another"),
        ("s3://bucket", "s3://bucket: must be the URL of a folder, as s3://bucket/run, got another"),
        ("simplecache::file:///run", "simplecache::file:///run: must be the URL of a folder"),
        ("file:///there/run[1]", "file:///there/run[1]: must be a URL without any of * ? [ ]"),
    ],
)
def test_urls_that_are_none(prepared, url, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = tmp_path / "plan.toml"
    plan.write_text(SCENARIO)
    for command in (["run", str(prepared), str(plan), "-o", url], ["run", url, str(plan), "-o", "run"]):
        assert cli.answer(command) == 2
        assert capsys.readouterr().err.startswith(f"fleetsim: {said}")
    assert not Path("run").exists()
    assert cli.answer(["verify", url]) == 2


def test_a_library_that_is_not_there(prepared, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(InputError, match=r"^gs://bucket/run: needs a library more: .*gcsfs"):
        fleetsim.run(prepared, SCENARIO, "gs://bucket/run")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(InputError, match=r"^s3://bucket/run: needs fsspec: pip install 'fleetsim\[url\]'$"):
        fleetsim.run(prepared, SCENARIO, "s3://bucket/run")
    with pytest.raises(InputError, match="must be given as text, got a Path, which has lost a slash"):
        fleetsim.run(prepared, SCENARIO, Path("s3://bucket/run"))


def authorised(address: str, count: str) -> None:
    """From the request after *count* others on, the server asks who may do it."""
    headers = {"Content-Type": "text/plain"}
    request = urllib.request.Request(f"{address}/moto-api/reset-auth", count.encode(), headers, method="POST")
    urllib.request.urlopen(request).close()


@pytest.mark.deep
def test_what_the_storage_refuses_is_told_and_nothing_is_written(prepared, bucket, tmp_path, capsys):
    plan = tmp_path / "plan.toml"
    plan.write_text(SCENARIO)
    before = contents(f"s3://{BUCKET}")

    def refused(*arguments):
        assert cli.answer(list(map(str, arguments))) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "must be where files can be written and removed, got: The specified bucket" in refused(
        "run", prepared, plan, "-o", "s3://nobodys/run"
    )
    assert "s3://nobodys/run: must be the folder of a run" in refused("verify", "s3://nobodys/run")
    authorised(bucket, "0")
    try:
        urls = f"s3://{BUCKET}/prepared", f"s3://{BUCKET}/run"
        for command in (
            ("run", prepared, plan, "-o", urls[1]),
            ("run", urls[0], plan, "-o", tmp_path / "run"),
            ("fleet", "prepare", prepared, "-o", urls[0]),
            ("verify", urls[1]),
            ("report", urls[1]),
        ):
            assert any(word in refused(*command) for word in ("Forbidden", "does not exist in our records"))
    finally:
        authorised(bucket, "inf")
    assert contents(f"s3://{BUCKET}") == before
    assert not (tmp_path / "run").exists()


def test_storage_that_fails_in_the_midst(prepared, one, above, monkeypatch):
    put = Url.put
    left = [40]

    def fail(self, content):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(5, "no answer", self.text)
        return put(self, content)

    with monkeypatch.context() as patch:
        patch.setattr(Url, "put", fail)
        with pytest.raises(RunError, match="could not be written: no answer; finished parts stay, --resume goes on"):
            fleetsim.run(prepared, SCENARIO, f"{above}/run", replicas=3)
        left[0] = 20
        with pytest.raises(OSError, match="no answer"):
            prepare(prepared, f"{above}/prepared")
    assert not Url(f"{above}/prepared").exists()

    prepare(prepared, f"{above}/prepared")
    read, asked = Url.read_bytes, [0]

    def lost(self):
        asked[0] += "/units/" in self.text
        if asked[0] > 5:
            raise OSError(5, "no answer", self.text)
        return read(self)

    with monkeypatch.context() as patch:
        patch.setattr(Url, "read_bytes", lost)
        with pytest.raises(RunError, match="could not be read: no answer; finished parts stay, --resume goes on"):
            fleetsim.run(f"{above}/prepared", SCENARIO, f"{above}/other", replicas=3)
    for name in ("run", "other"):
        resumed = fleetsim.run(f"{above}/prepared", SCENARIO, f"{above}/{name}", replicas=3, resume=True)
        assert contents(resumed.path) == contents(one.path)


def test_a_run_stays_where_there_is_no_room_to_look_at_it(prepared, one, above, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("fleetsim.room.shutil.disk_usage", lambda _: SimpleNamespace(free=100))
        with pytest.raises(RunError, match=r"must have about .* of disk for what is kept, .* TMPDIR says where to"):
            fleetsim.run(prepared, SCENARIO, f"{above}/run", replicas=3)
    resumed = fleetsim.run(prepared, SCENARIO, f"{above}/run", replicas=3, resume=True)

    assert contents(resumed.path) == contents(one.path)


def test_a_run_is_fetched_again_when_it_has_changed(one, above, temporary):
    for name, content in contents(one.path).items():
        put(f"{above}/run/{name}", content)
    first = storage.local(f"{above}/run")
    assert contents(first) == contents(one.path)
    assert storage.local(Url(f"{above}/run")) == first
    part = next(name for name in contents(one.path) if name.startswith("events/"))
    put(f"{above}/run/{part}", b"other bytes")
    assert not fleetsim.verify(f"{above}/run").ok
    assert not first.exists()
    with pytest.raises(InputError, match="got nothing there"):
        storage.local(f"{above}/nothing")
    storage.forget()
    assert list(temporary.iterdir()) == []


def test_names_that_lead_out_of_the_folder_are_not_fetched(tmp_path):
    with pytest.raises(InputError, match=r"must have its files below it, got 'events/\.\./\.\./out'"):
        storage.fetch(Url("s3://bucket/run"), tmp_path, {"events/../../out": {"size": 1}})


def test_a_file_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    """Under `file://` a file is renamed into place, and what was being written is cleared."""
    url = Url(f"file://{tmp_path}/folder/part")
    url.put(b"old")

    def half(self, path, data, **_):
        Path(path).write_bytes(data[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.pipe_file", half)
    with pytest.raises(OSError, match="No space left on device"):
        url.put(b"new")
    assert contents(tmp_path / "folder") == {"part": b"old"}
    (tmp_path / "folder/.left.tmp").touch()
    RunFolder(url.parent).open()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["part"]
