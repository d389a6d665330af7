"""Ray: tasks on the workers of a cluster, in the place of threads. The one module that imports it.

What a task needs besides files on storage that all see is a plan, which each worker process takes once, and what a task
hands back is as small. So a task can be done again wherever its worker was lost, and none waits for another's memory.
"""

import contextlib
import importlib.util
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from fleetsim import __version__, policies
from fleetsim.errors import InputError, RunError, nearest
from fleetsim.storage import is_url

LOSSES_MAX = 20
"""Workers that one task may lose before it is taken to be what kills them."""
_STARTS_MAX = 3
"""How often a cluster is started here: Ray waits 30 s for its processes, which a busy machine may not keep to."""
_STORE_BYTES = 128 << 20
"""Of the object store of a cluster that is started here: plans are all it holds."""

_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")


class Cluster:
    """The Ray cluster this process is connected to."""

    @property
    def cpu_count(self) -> int:
        """CPUs it has now: nodes come and go."""
        import ray

        return max(1, int(ray.cluster_resources().get("CPU", 1)))

    @contextmanager
    def workers(
        self, make: Callable[..., Callable[[_Asked], _Answer]], *about: Any
    ) -> Iterator[Callable[[_Asked], Future[_Answer]]]:
        """What gives tasks to workers, a CPU each; at the end those that are not done are dropped.

        Each worker process calls *make* with *about* once, and what that returns with what is submitted: once, or again
        where a worker was lost, perhaps while the first still runs. The result of the future raises what that raises.
        """
        import ray

        plan = [ray.put((__version__, policies.registered(), make, about))]  # in a list, it stays a reference
        do = ray.remote(_do).options(num_cpus=1, max_retries=LOSSES_MAX, retry_exceptions=False)
        pending: set[Any] = set()

        def submit(asked: _Asked) -> Future[_Answer]:
            answer: Future[_Answer] = Future()
            task = do.remote(plan, asked)
            pending.add(task)

            def done(future: Future[_Answer]) -> None:
                pending.discard(task)
                error = future.exception()
                if error is None:
                    answer.set_result(future.result())
                else:
                    answer.set_exception(_plain(error))

            task.future().add_done_callback(done)
            return answer

        try:
            yield submit
        finally:
            tasks = list(pending)
            for task in tasks:
                ray.cancel(task)
            if tasks:  # what is being written is whole when this returns
                ray.wait(tasks, num_returns=len(tasks), timeout=60, fetch_local=False)


def check_asked(on: str | None) -> None:
    """Raise `InputError` where a run cannot be *on* what is asked for."""
    if on is None:
        return
    if on != "ray":
        raise InputError(f"on: must be ray, got '{on}'{nearest(on, ['ray'])}")
    if importlib.util.find_spec("ray") is None:
        raise InputError("--on ray needs Ray: pip install 'fleetsim[ray]'")


@contextmanager
def connected(on: str | None, threads: int | None = None) -> Iterator[Cluster | None]:
    """The cluster to run *on*, if any: the one this process is connected to, else that of RAY_ADDRESS, else a new one.

    A new one is on this machine, with *threads* CPUs (default: all), and ends with this.
    """
    check_asked(on)
    if on is None:
        yield None
        return
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
        if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"} & os.environ.keys():
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # or Ray would keep one in the home folder
    import ray

    if ray.is_initialized():
        yield Cluster()
        return
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    with contextlib.ExitStack() as stack:
        if address:
            stack.callback(ray.shutdown)
            try:
                ray.init(address, **quiet)
            except (OSError, RuntimeError, ValueError) as error:
                raise InputError(f"RAY_ADDRESS: must be a Ray cluster that runs, got {address}: {error}") from error
        else:
            # Sockets have names of at most 107 bytes, of which Ray takes more than 60.
            above = tempfile.gettempdir() if len(tempfile.gettempdir()) < 25 else "/tmp"
            folder = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="fs-ray-", dir=above, ignore_cleanup_errors=True)
            )
            stack.callback(ray.shutdown)
            _start(num_cpus=threads or os.cpu_count() or 1, _temp_dir=folder, **quiet)
        yield Cluster()


def _start(**options: Any) -> None:
    """Start a cluster on this machine. Raises `RunError` where it cannot be."""
    import ray

    for tries_left in range(_STARTS_MAX - 1, -1, -1):
        try:
            ray.init("local", object_store_memory=_STORE_BYTES, include_dashboard=False, **options)
            return
        except Exception as error:  # Ray has no other for it
            ray.shutdown()
            if not tries_left:
                raise RunError(f"--on ray: a cluster could not be started on this machine: {error}") from error


_made: dict[str, Callable[[Any], Any]] = {}
"""In a worker process: what it made of the plan it was given last."""


def _do(plan: list[Any], asked: Any) -> Any:
    """In a worker process: do what is *asked* as the *plan* says, which is taken once."""
    import ray

    key = plan[0].hex()
    if key not in _made:
        version, registered, make, about = ray.get(plan[0])
        if version != __version__:
            raise InputError(
                f"--on ray: all nodes must have fleetsim {version}, as the one that asks, got {__version__} on"
                f" {ray.util.get_node_ip_address()}"
            )
        policies.take_over(registered)
        _made.clear()
        _made[key] = make(*about)
    return _made[key](asked)


def _plain(error: BaseException) -> BaseException:
    """What a task raised, without what Ray wraps it in; or, of what befell it, a failure of the run."""
    from ray.exceptions import RayError, RayTaskError

    if isinstance(error, RayTaskError) and isinstance(error.cause, Exception):
        return error.cause
    if isinstance(error, RayError):
        said = [line for line in str(error).splitlines() if line.strip()]
        return RunError(f"--on ray: {type(error).__name__}: {said[0] if said else ''}; finished parts stay")
    return error


def shared(path: Any) -> Any:
    """*path* as other processes find it; what is no path, as a URL, stays as it is."""
    is_path = isinstance(path, str | Path) and not is_url(path)
    return Path(path).absolute() if is_path else path
