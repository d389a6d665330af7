"""Runs what pages show, in one process for all of them: to start Python anew for each command takes ten times as long.

`Pasted` starts the process and gives it blocks. Run as a module it is that process: it takes a request at a time from a
named pipe, `fleetsim` with its arguments or Python code, does it in the folder of the page, and leaves what it printed.
"""

import contextlib
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import NamedTuple

ENVIRONMENT = {"COLUMNS": "80", "TZ": "UTC"}
# A function in the place of the command: it hands over its arguments, and passes on output and exit code.
COMMAND = r"""
fleetsim() {
  printf '%s\0' "$PWD" fleetsim "$@" > "$PASTED/asked"
  local code; read -r code < "$PASTED/done"
  cat "$PASTED/out"; cat "$PASTED/err" >&2
  return "$code"
}
"""


class Done(NamedTuple):
    """How a block ended."""

    code: int
    out: str
    err: str


class Pasted:
    """The process that does what pages show; *folder* is for its pipes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("asked", "done"):
            os.mkfifo(folder / name)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = {**os.environ, **ENVIRONMENT, "PATH": path, "PASTED": str(folder)}
        root = Path(__file__).parent.parent
        self.process = subprocess.Popen([sys.executable, "-m", "tests.pasted", folder], cwd=root, env=self.environment)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()

    def run(self, language: str, code: str, folder: Path) -> Done:
        """Run a block of *code* in *folder*."""
        if language == "sh":
            command = ["bash", "-euc", COMMAND + code]
            done = subprocess.run(
                command, cwd=folder, env=self.environment, capture_output=True, text=True, check=False, timeout=120
            )
            return Done(done.returncode, done.stdout, done.stderr)
        (self.folder / "asked").write_text("\0".join([str(folder), "python", code, ""]), "utf-8")
        ended = int((self.folder / "done").read_text("utf-8"))
        return Done(ended, (self.folder / "out").read_text("utf-8"), (self.folder / "err").read_text("utf-8"))


def _answer(language: str, arguments: list[str]) -> int:
    from fleetsim.cli import answer

    if language == "fleetsim":
        return answer(arguments)
    try:
        exec(compile(arguments[0], "<page>", "exec"), {"__name__": "__main__"})
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def _serve(folder: Path) -> None:
    while True:
        place, language, *arguments = (folder / "asked").read_text("utf-8").split("\0")[:-1]
        os.chdir(place)
        with (
            (folder / "out").open("w", encoding="utf-8") as out,
            (folder / "err").open("w", encoding="utf-8") as err,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = _answer(language, arguments)
        (folder / "done").write_text(f"{code}\n", "utf-8")


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
