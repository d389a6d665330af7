"""fleetsim as its users start it: `fleetsim run` on a prepared fleet."""

import sys

from benches.campaign import Given, scenario


def run(given: Given) -> None:
    """`fleetsim run`."""
    _run(given, scenario(is_random=given.is_random))


def show_help(given: Given) -> None:
    """`fleetsim --help`."""
    _start("--help")


def replicas(given: Given) -> None:
    """`fleetsim run --replicas`: sets start within two hours, their domains in an order that is drawn."""
    lines = scenario(is_random=True).splitlines(keepends=True)
    drawn = "".join(line for line in lines if not line.startswith("update_domain_order"))
    _run(given, f'{drawn}spread = "2h"\n', "--replicas", given.vms // 1000)


def _run(given: Given, text: str, *options: object) -> None:
    path = given.folder / "scenario.toml"
    path.write_text(text)
    _start("run", given.prepared, path, "-o", given.folder / "out", "--threads", given.threads, *options)


def _start(*arguments: object) -> None:
    """The command, in this process, which it ends."""
    from fleetsim.cli import main

    sys.argv = ["fleetsim", *map(str, arguments)]
    main()
