"""Where files lie: at a path, or at a URL that several machines reach. The one module that imports fsspec.

A `Url` answers to those names of `pathlib.Path` that a run needs, so that the same lines do for both. What is read of
it is read whole, into memory; what is written is there at once, whole, as a file that is renamed into place. Readers
that want a folder are given one: `local` fetches it.
"""

import atexit
import contextlib
import errno
import io
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from fleetsim.errors import InputError, RunError, nearest
from fleetsim.room import check_disk

REQUESTS = 16
"""Files fetched or put at once: each mostly waits for an answer."""
_WHOLE_PUTS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"})
"""Protocols under which an object is there when all its bytes are, and not before. Of others a file is renamed."""
_PATTERN = frozenset("*?[]")
"""What fsspec takes for a pattern of names where it moves or removes files."""


@dataclass(frozen=True, slots=True, order=True)
class Url:
    """A file or folder under a URL. Methods are those of `Path`; they raise `OSError`, whatever the storage raises."""

    text: str

    def __str__(self) -> str:
        return self.text

    def __truediv__(self, name: str) -> "Url":
        return Url(f"{self.text.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        return self.text.rpartition("/")[2]

    @property
    def parent(self) -> "Url":
        return Url(self.text.rpartition("/")[0])

    def match(self, pattern: str) -> bool:
        return PurePosixPath(self.name).match(pattern)

    def exists(self) -> bool:
        return self._kind() is not None

    def is_file(self) -> bool:
        return self._kind() == "file"

    def is_dir(self) -> bool:
        return self._kind() == "directory"

    def iterdir(self) -> list["Url"]:
        """What is in the folder, by name; nothing where there is none."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), self._storage() as (files, path):
            files.invalidate_cache()
            names = {entry["name"].rstrip("/") for entry in files.ls(path, detail=True)} - {path.rstrip("/")}
            return [self / PurePosixPath(name).name for name in sorted(names)]
        return []

    def rglob(self, pattern: str) -> list["Url"]:
        """The files below whose names match *pattern*, by name."""
        return [self / name for name in self.files() if PurePosixPath(name).match(pattern)]

    def files(self) -> dict[str, dict[str, Any]]:
        """What fsspec tells of each file below, by its name from here, in order."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), self._storage() as (files, path):
            files.invalidate_cache()
            above = f"{path.rstrip('/')}/"
            found = {name.removeprefix(above): told for name, told in files.find(path, detail=True).items()}
            # Some make an empty object in the place of a folder; and a file has none below but itself.
            return {name: found[name] for name in sorted(found) if name and not name.endswith("/") and name != path}
        return {}

    def read_bytes(self) -> bytes:
        with self._storage() as (files, path):
            return bytes(files.cat_file(path))

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def write_text(self, text: str) -> None:
        self.put(text.encode())

    def put(self, content: Any) -> None:
        """Write *content* (bytes-like): whole, or not at all."""
        data = bytes(memoryview(content))
        with self._storage() as (files, path):
            if self._protocol in _WHOLE_PUTS:
                files.pipe_file(path, data)
                return
            folder = path.rpartition("/")[0]
            unfinished = f"{folder}/.{secrets.token_hex(8)}.tmp"
            files.makedirs(folder, exist_ok=True)
            try:
                files.pipe_file(unfinished, data)
                files.mv(unfinished, path)
            except BaseException:
                with contextlib.suppress(Exception):
                    files.rm_file(unfinished)
                raise

    def copy_from(self, source: "Place") -> None:
        """Write what is at *source*: without its bytes coming by here, where the storage is the same."""
        if isinstance(source, Url) and self._protocol in _WHOLE_PUTS:
            with self._storage() as (files, path), source._storage() as (others, other):
                if files is others:
                    files.cp_file(other, path)
                    return
        self.put(source.read_bytes())

    def unlink(self, missing_ok: bool = False) -> None:
        with contextlib.suppress(*[FileNotFoundError] * missing_ok), self._storage() as (files, path):
            files.rm_file(path)

    def remove(self) -> None:
        """Remove it, with all below."""
        with contextlib.suppress(FileNotFoundError), self._storage() as (files, path):
            files.invalidate_cache()
            files.rm(path, recursive=True)

    @property
    def _protocol(self) -> str:
        return self.text.partition("://")[0].lower()

    def _kind(self) -> str | None:
        """`file` or `directory`; None where there is nothing."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), self._storage() as (files, path):
            files.invalidate_cache()  # others write there, too
            return str(files.info(path)["type"])
        return None

    @contextmanager
    def _storage(self) -> Iterator[tuple[Any, str]]:
        """The file system of fsspec, and the name in it."""
        try:
            import fsspec

            yield fsspec.core.url_to_fs(self.text)
        except Exception as error:  # of fsspec, of the library below it, or of the one below that
            plain = errno.EACCES if isinstance(error, PermissionError) else errno.EIO
            plain = errno.ENOENT if isinstance(error, FileNotFoundError) else plain
            code = getattr(error, "errno", None) or plain
            said = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise OSError(code, " ".join(str(said).split()), self.text) from error


Place: TypeAlias = Path | Url


def is_url(given: object) -> bool:
    """Whether *given* is a URL, or the text of one."""
    return isinstance(given, Url) or (isinstance(given, str) and "://" in given and "\n" not in given)


def located(given: str | Path | Url) -> Place:
    """Where *given* is. Raise `InputError` for a URL that cannot be had here."""
    if isinstance(given, Url):
        return given
    if not is_url(given):
        path = Path(given)
        if len(path.parts) > 1 and path.parts[0].removesuffix(":") in _WHOLE_PUTS and path.parts[0].endswith(":"):
            raise InputError(f"{path}: a URL must be given as text, got a Path, which has lost a slash of it")
        return path
    text = str(given).rstrip("/")
    protocol, _, within = text.partition("://")
    protocol = protocol.lower()
    # Beside a folder others are made for a while, which beside a bucket cannot be.
    is_bucket = "/" not in within.strip("/") and protocol not in ("file", "local", "memory")
    if is_bucket or not within.strip("/") or "::" in text:
        raise InputError(f"{given}: must be the URL of a folder, as s3://bucket/run, got another")
    if _PATTERN & set(within):
        raise InputError(f"{given}: must be a URL without any of {' '.join(sorted(_PATTERN))}")
    try:
        import fsspec
    except ImportError:
        raise InputError(f"{given}: needs fsspec: pip install 'fleetsim[url]'") from None
    if protocol == "memory":
        raise InputError(f"{given}: must be where other processes find it, got the memory of this one")
    try:
        fsspec.core.url_to_fs(text)
    except ImportError as error:
        raise InputError(f"{given}: needs a library more: {error}") from error
    except Exception as error:
        known = fsspec.available_protocols()
        hint = "" if protocol in known else nearest(protocol, known)
        raise InputError(f"{given}: must be a URL that fsspec knows, got: {error}{hint}") from error
    return Url(text)


@contextmanager
def as_input() -> Iterator[None]:
    """What storage refuses while this goes on is `InputError`: nothing has been done yet."""
    try:
        yield
    except OSError as error:
        if error.filename is None or not is_url(error.filename):
            raise
        raise InputError(f"{error.filename}: {error.strerror}") from error


def readable(where: Place) -> Path | io.BytesIO:
    """The file at *where* for whoever takes a path or an open file: NumPy, Arrow, Polars.

    Raises `FileNotFoundError` where there is none at a URL, `RunError` where that cannot be asked now.
    """
    if isinstance(where, Path):
        return where
    try:
        return io.BytesIO(where.read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RunError(
            f"{where}: could not be read: {error.strerror}; finished parts stay, --resume goes on"
        ) from error


def remove(where: Place) -> None:
    """Remove the folder *where* with all in it, as far as that can be done."""
    if isinstance(where, Path):
        shutil.rmtree(where, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            where.remove()


def children(folder: Place) -> list[Path] | list[Url]:
    """What is in *folder*; nothing where there is none."""
    return sorted(folder.glob("*")) if isinstance(folder, Path) else folder.iterdir()


def check_writable(out: Url) -> None:
    """Raise `InputError` unless files can be written to *out*, and removed: one is, named as what is half written."""
    probe = out / f".{secrets.token_hex(8)}.tmp"
    try:
        probe.put(b"fleetsim")
        probe.unlink()
    except OSError as error:
        raise InputError(f"{out}: must be where files can be written and removed, got: {error.strerror}") from error


def check_room(out: Place, needed: int, hint: str, *, resume: bool) -> None:
    """Raise `InputError` where *out* cannot take what is to be written: about *needed* bytes, unless some are there.

    Of a URL nobody knows how much it takes, but whether it may be written to.
    """
    if isinstance(out, Url):
        check_writable(out)
    elif not resume:
        check_disk(out, needed, hint)


def put_all(folder: Path, out: Url, last: str) -> None:
    """Write all files in *folder* to *out*, that one called *last* after all others."""
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    with ThreadPoolExecutor(REQUESTS) as pool:
        list(pool.map(lambda name: (out / name).copy_from(folder / name), [each for each in names if each != last]))
    (out / last).copy_from(folder / last)


def fetch(url: Url, folder: Path, files: dict[str, dict[str, Any]]) -> None:
    """Fetch *files*, of those that `url.files` tells of, into *folder*."""
    if outside := next((name for name in files if ".." in PurePosixPath(name).parts), None):
        raise InputError(f"{url}: must have its files below it, got '{outside}'")
    needed = sum(told.get("size") or 0 for told in files.values())
    check_disk(folder, needed, f"{url} is fetched for the time it is read; TMPDIR says where to")

    def one(name: str) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with (url / name)._storage() as (storage, path):
            storage.get_file(path, str(folder / name))

    pool = ThreadPoolExecutor(REQUESTS)
    try:
        list(pool.map(one, files))
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def fetched(where: Place, under: tuple[str, ...]) -> Iterator[Path]:
    """A folder with the files of *where* whose names start with one of *under*, for the time this goes on.

    Raises `RunError` where there is no room for them.
    """
    if isinstance(where, Path):
        yield where
        return
    with tempfile.TemporaryDirectory(prefix="fleetsim-") as above:
        try:
            fetch(where, Path(above), {name: told for name, told in where.files().items() if name.startswith(under)})
        except InputError as error:
            raise RunError(f"{error}; finished parts stay, --resume goes on") from error
        yield Path(above)


_local: dict[Url, tuple[object, Path]] = {}
"""What is fetched by `local`: what the storage told of it, and the folder."""


def local(given: str | Path | Url) -> Path:
    """The folder *given*, fetched into a temporary one if it is at a URL.

    That is kept until this process ends, or `forget`, and fetched again only where the storage tells something else.
    """
    url = located(given)
    if isinstance(url, Path):
        return url
    with as_input():
        files = url.files()
        if not files:
            raise InputError(f"{url}: must be the folder of a run, got nothing there")
        # Of what another process is at work on, what it hands on is gone before it is fetched.
        files = {name: told for name, told in files.items() if not name.startswith(".")}
        marks = ("size", "ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime")
        told = [(name, *(str(of_file.get(mark)) for mark in marks)) for name, of_file in files.items()]
        if url in _local and _local[url][0] == told:
            return _local[url][1]
        _drop(url)
        above = Path(tempfile.mkdtemp(prefix="fleetsim-"))
        _local[url] = None, above / url.name
        try:
            (above / url.name).mkdir()
            fetch(url, above / url.name, files)
        except BaseException:
            _drop(url)
            raise
        _local[url] = told, above / url.name
    return _local[url][1]


def _drop(url: Url) -> None:
    if url in _local:
        shutil.rmtree(_local.pop(url)[1].parent, ignore_errors=True)


@atexit.register
def forget() -> None:
    """Remove all that `local` has fetched."""
    for url in list(_local):
        _drop(url)


def as_given(text: str) -> str:
    """*text*, with the URLs in the place of the folders that `local` has fetched."""
    for url, (_, folder) in _local.items():
        text = text.replace(os.fspath(folder), str(url))
    return text
