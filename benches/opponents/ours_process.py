"""fleetsim as its users start it: `fleetsim run` on a prepared fleet."""

import sys

from benches.campaign import Given, scenario


def run(given: Given) -> None:
    """The command, in this process, which it ends."""
    from fleetsim.cli import main

    path = given.folder / "scenario.toml"
    path.write_text(scenario(is_random=given.is_random))
    arguments = ["run", given.prepared, path, "-o", given.folder / "out", "--threads", given.threads]
    sys.argv = ["fleetsim", *map(str, arguments)]
    main()
