"""Orders of hosts that users write: what they are told, and what is refused."""

import numba
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pytest
from click.testing import CliRunner

import fleetsim
from fleetsim.cli import cli
from fleetsim.errors import InputError

HEAD = 'name = "p"\nstart = 2026-12-01T00:00:00Z\n[[campaign]]\nname = "hosts"\nlength = "30s"\n'
ONE_AT_A_TIME = HEAD + "caps = [{ per = 'region', hosts_count = 1 }]\n"


@fleetsim.policy
@numba.njit
def heaviest_first(weight_sum):
    return -np.int64(weight_sum)


@fleetsim.policy
@numba.njit
def by_all(vm_count, claim_count, domain, weight_max):
    return vm_count * 1000 + claim_count * 100 + domain * 10 + np.int64(weight_max)


def fleet(**columns):
    return pa.table(
        {
            "vm": [1, 2, 3, 4, 5, 6],
            "region": ["westeurope"] * 6,
            "host": ["a", "b", "b", "c", "c", "d"],
            "set": ["s", "s", None, "t", "s", None],
            "update_domain": [0, 1, None, 0, 2, None],
            "weight": [7.0, 2.0, 4.5, None, 9.0, None],
            **columns,
        }
    )


def order_of(run):
    steps = pl.read_parquet(run.path / "steps" / "**" / "*.parquet", hive_partitioning=False).sort("start_at")
    hosts = pl.read_parquet(run.path / "hosts" / "**" / "*.parquet", hive_partitioning=False)
    return steps.join(hosts, on="host_row", maintain_order="left")["host"].to_list()


def run_by(tmp_path, name, **columns):
    scenario = f'{ONE_AT_A_TIME}host_order = "policy:{name}"\n'
    run = fleetsim.run(fleet(**columns), scenario, tmp_path / name)
    assert fleetsim.verify(run.path).ok
    return run


def test_hosts_go_in_the_order_of_a_policy(tmp_path):
    # a 7, b 6.5, c 9, d 0; and by all: a 1000+100+0+7, b 2000+100+10+4, c 2000+200+0+9, d 1000+0-10+0.
    assert order_of(run_by(tmp_path, "heaviest_first")) == ["c", "a", "b", "d"]
    assert order_of(run_by(tmp_path, "by_all")) == ["d", "a", "b", "c"]


def test_columns_of_integers_are_told_as_such(tmp_path):
    assert order_of(run_by(tmp_path, "heaviest_first", weight=[1, 2, 3, None, 9, -1])) == ["c", "b", "a", "d"]


def test_the_source_of_a_policy_is_part_of_the_digest(tmp_path):
    run = run_by(tmp_path, "heaviest_first")
    resolved = (run.path / "resolved.toml").read_text()

    assert 'host_order = "policy:heaviest_first"' in resolved
    assert f'host_policy_sha256 = "{fleetsim.policies.registered()["heaviest_first"].sha256}"' in resolved


@numba.njit
def of_floats(vm_count):
    return vm_count * 0.5


@numba.njit
def of_truth(vm_count):
    return vm_count > 1


@numba.njit
def failing(vm_count):
    return vm_count // np.int64(0) + len("x")


@numba.njit
def with_default(vm_count, weight=3):
    return vm_count * weight


@numba.njit
def of_what_is_not(vm_count):
    return vm_count + nowhere  # noqa: F821


@numba.njit
def of_nothing():
    return 1


def plain(vm_count):
    return vm_count


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (plain, "policy 'plain': must be compiled with numba.njit, got function"),
        (of_floats, "policy 'of_floats': must return a whole number, an int64, got float"),
        (of_truth, "policy 'of_truth': must return a whole number, an int64, got bool"),
        (failing, "policy 'failing': must take numbers and not fail, got"),
        (with_default, "policy 'with_default': must have plain parameters without defaults, got 'weight=3'"),
        (of_what_is_not, "policy 'of_what_is_not': must take numbers and not fail, got NameError: name 'nowhere' is"),
        (of_nothing, "policy 'of_nothing': must be told something of a host, such as vm_count, got no parameters"),
    ],
)
def test_unusable_policies_are_told(function, expected):
    with pytest.raises(InputError) as raised:
        fleetsim.policy(function)
    assert str(raised.value).startswith(expected)


@fleetsim.policy
@numba.njit
def of_chance(vm_count):
    return vm_count + np.random.randint(1 << 40)


@fleetsim.policy
@numba.njit
def failing_for_some(vm_count):
    if vm_count > 1:
        raise ValueError("more than one")
    return vm_count


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("of_chance", "policy 'of_chance': must give a host the same number again, got another"),
        ("failing_for_some", "policy 'failing_for_some': must not fail, got ValueError: more than one"),
    ],
)
def test_policies_that_fail_in_a_run_are_told_and_leave_nothing(tmp_path, name, expected):
    with pytest.raises(InputError) as raised:
        run_by(tmp_path, name)
    assert str(raised.value) == expected
    assert list(tmp_path.iterdir()) == []


def test_what_a_policy_takes_from_around_it_is_part_of_the_digest(tmp_path):
    text = (
        "import fleetsim, numba\n\nW = {}\n\n@numba.njit\ndef times(x):\n    return x * {}\n\n"
        "@fleetsim.policy\n@numba.njit\ndef weighed(vm_count):\n    return times(vm_count) + W\n"
    )
    digests = set()
    for number, values in enumerate([(1, 2), (-1, 2), (1, 3), (1, 2)]):
        path = tmp_path / f"mine{number}.py"
        path.write_text(text.format(*values))
        fleetsim.policies.register_file(path)
        digests.add(fleetsim.policies.registered()["weighed"].sha256)
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("order", "columns", "expected"),
    [
        ("policy:heaviest", {}, "must name a registered policy, got 'heaviest'; did you mean 'heaviest_first'?"),
        ("policy:heaviest_first", {"weight": ["x"] * 6}, "got 'weight_sum'"),
        ("policies", {}, "or a column, as 'column:vcpus', or a policy"),
        ("column:vm_row", {}, "must be by a column of the fleet, got 'vm_row'"),
        ("column:wait", {}, "must be by a column of the fleet, got 'wait'"),
    ],
)
def test_orders_that_cannot_be_are_told(tmp_path, order, columns, expected):
    with pytest.raises(InputError) as raised:
        fleetsim.run(fleet(**columns), f'{HEAD}host_order = "{order}"\n', tmp_path / "run")
    assert expected in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_the_command_takes_policies_from_a_file(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import fleetsim, numba\n\n@fleetsim.policy\n@numba.njit\ndef smallest_first(vm_count):\n    return vm_count\n"
    )
    (tmp_path / "s.toml").write_text(f'{ONE_AT_A_TIME}host_order = "policy:smallest_first"\n')
    pa.csv.write_csv(fleet(), tmp_path / "f.csv")
    files = [str(tmp_path / name) for name in ("f.csv", "s.toml", "run", "mine.py")]
    done = CliRunner().invoke(cli, ["run", *files[:2], "-o", files[2], "--policies", files[3]])

    assert done.exit_code == 0, done.output
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(InputError, match=r"empty\.py: must mark a function with fleetsim\.policy, got none"):
        fleetsim.policies.register_file(tmp_path / "empty.py")
