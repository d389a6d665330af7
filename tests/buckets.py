"""An S3 server on this machine, for tests of runs at a URL: moto's, in a thread, with a bucket."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

BUCKET = "fleetsim"
_KEYS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def s3() -> Iterator[str]:
    """Its address, which this process and those it starts find in their environment, while this goes on."""
    pytest.importorskip("fsspec", reason="fsspec is not installed: pip install 'fleetsim[url]'")
    pytest.importorskip("s3fs", reason="s3fs is not installed: uv pip install --group s3")
    moto = pytest.importorskip("moto.server", reason="moto is not installed: uv pip install --group s3")
    import fsspec

    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in (_KEYS | {"AWS_ENDPOINT_URL": address}).items():
            patch.setenv(name, value)
        files = fsspec.filesystem("s3", skip_instance_cache=True)
        with suppress(FileExistsError):  # moto keeps its buckets as long as this process
            files.mkdir(BUCKET)
        try:
            yield address
        finally:
            fsspec.filesystem("s3").clear_instance_cache()
            server.stop()
