"""Object stores when things go wrong: every trouble has a typed error that says what to do."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from omniq.exceptions import ConfigError, StorageError, StorageUnavailableError
from omniq.storage.file.location import Location, locate
from omniq.storage.objectstore.connect import driver_of
from omniq.storage.objectstore.driver import ABSENT
from tests.servers import objects
from tests.servers.process import free_port
from tests.servers.proxy import Proxy, proxy

STORES = tuple(objects.PLACES)
URLS = {"s3": objects.s3_url, "gcs": objects.gcs_url, "azure": objects.azure_url}
SECRET = "c2VjcmV0LW9mLW1pbmU="
"""Appears in no message; a valid base64 text, which a key of Azure has to be."""


def place_at(store: str, port: int) -> Location:
    """A new folder of the shared server, reached through another port."""
    base_dir, protocol, _ = objects.PLACES[store]()
    parts = urlsplit(URLS[store]())
    url = f"http://127.0.0.1:{port}{parts.path}"
    options = {
        "s3": objects.s3_options,
        "gcs": objects.gcs_options,
        "azure": objects.azure_options,
    }
    return locate(base_dir, protocol, options[store](url))


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def tunnel(store: str) -> AsyncIterator[Proxy]:
    """A way to the shared server that can be blocked."""
    async with proxy(urlsplit(URLS[store]()).port or 80) as opened:
        yield opened


async def test_a_missing_bucket_is_named(store: str) -> None:
    """With what to do about it."""
    _, protocol, options = objects.PLACES[store]()
    place = locate("omniq-no-such-bucket/base", protocol, options)

    with pytest.raises(StorageError, match=r"omniq-no-such-bucket/base.*create the bucket") as info:
        await driver_of(place).open()

    assert not isinstance(info.value, StorageUnavailableError)
    assert info.value.__cause__ is not None


async def test_nobody_there(store: str) -> None:
    """Worth another try later."""
    driver = driver_of(place_at(store, free_port()), call_seconds=0.5)

    with pytest.raises(StorageUnavailableError, match="cannot be reached") as info:
        await driver.open()

    assert info.value.__cause__ is not None


async def test_a_silent_store_does_not_hang(store: str, tunnel: Proxy) -> None:
    """A request has a deadline of its own, whatever the library and the network think."""
    driver = driver_of(place_at(store, tunnel.port), request_seconds=5, call_seconds=0.5)
    await driver.open()
    driver._request_seconds = 0.3  # pyright: ignore[reportPrivateUsage] - open() was not the point
    tunnel.silent = True

    began = time.monotonic()
    with pytest.raises(StorageUnavailableError, match="may or may not have been carried out"):
        await driver.put("k", b"x", expected=ABSENT)
    with pytest.raises(StorageUnavailableError, match="no answer within"):
        await driver.get("k")

    assert time.monotonic() - began < 10
    await driver.close()


@pytest.mark.parametrize("lost", [1, 2, 3])
async def test_a_write_whose_reply_is_lost_is_found_out_about(
    store: str, tunnel: Proxy, lost: int
) -> None:
    """It was carried out, sent again, refused, and is known to be ours by its bytes."""
    driver = driver_of(place_at(store, tunnel.port))
    first = await driver.put("k", b"before")

    tunnel.replies_to_lose = lost
    made = await driver.put("new", b"mine", expected=ABSENT)
    tunnel.replies_to_lose = lost
    replaced = await driver.put("k", b"after", expected=first)

    assert tunnel.replies_to_lose == 0
    assert await driver.get("new") == (b"mine", made)
    assert await driver.get("k") == (b"after", replaced)
    await driver.close()


async def test_a_race_with_lost_replies_has_one_winner(store: str, tunnel: Proxy) -> None:
    """Whoever is told to have won did, and nobody else is."""
    place = place_at(store, tunnel.port)
    drivers = [driver_of(place) for _ in range(4)]
    for driver in drivers:
        await driver.open()

    for turn in range(5):
        tunnel.replies_to_lose = 2
        made = await asyncio.gather(
            *(one.put(f"k{turn}", b"%d" % n, expected=ABSENT) for n, one in enumerate(drivers))
        )
        (winner,) = (n for n, version in enumerate(made) if version is not None)
        assert await drivers[0].get(f"k{turn}") == (b"%d" % winner, made[winner])

    for driver in drivers:
        await driver.close()


async def test_a_throttled_request_is_repeated(store: str, tunnel: Proxy) -> None:
    """Stores answer 503 when asked too often; that is no reason to fail."""
    driver = driver_of(place_at(store, tunnel.port))
    await driver.open()
    driver.requests.clear()

    tunnel.requests_to_throttle = 2
    version = await driver.put("k", b"x", expected=ABSENT)

    assert version is not None
    assert driver.requests["put"] >= 3
    await driver.close()


async def test_a_store_that_only_throttles_is_unavailable(store: str, tunnel: Proxy) -> None:
    """After a few tries, with the answer it gave."""
    driver = driver_of(place_at(store, tunnel.port), call_seconds=0.5)
    await driver.open()

    tunnel.requests_to_throttle = 1000
    with pytest.raises(StorageUnavailableError, match=r"get k failed: .*503"):
        await driver.get("k")

    tunnel.requests_to_throttle = 0
    assert await driver.get("k") is None, "it recovers by itself"
    await driver.close()


async def test_wrong_credentials_of_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a server that checks them."""
    monkeypatch.setenv("INITIAL_NO_AUTH_ACTION_COUNT", "0")
    with objects.running("s3", tmp_path) as server:
        options = {**objects.s3_options(server.url), "secret": SECRET}

        with pytest.raises(
            StorageError, match=r"InvalidAccessKeyId.*check the credentials"
        ) as info:
            await driver_of(locate("omniq-tests/x", "s3", options)).open()

    assert not isinstance(info.value, StorageUnavailableError)
    assert SECRET not in repr(info.value)


async def test_wrong_credentials_of_azure(caplog: pytest.LogCaptureFixture) -> None:
    """Azurite checks signatures."""
    text = objects.azure_connection_string(objects.azure_url(), SECRET)
    place = locate("omniq-tests/x", "azure", {"connection_string": text})

    with (
        caplog.at_level(logging.DEBUG, "omniq"),
        pytest.raises(StorageError, match="check the credentials") as info,
    ):
        await driver_of(place).open()

    assert not isinstance(info.value, StorageUnavailableError)
    assert SECRET not in repr(info.value)
    assert SECRET not in repr(driver_of(place))
    assert SECRET not in caplog.text


async def test_wrong_credentials_of_google(tmp_path: Path) -> None:
    """A file that holds none."""
    path = tmp_path / "credentials.json"
    path.write_text("{}")
    options = {**objects.gcs_options(objects.gcs_url()), "token": str(path)}

    with pytest.raises((ConfigError, StorageError), match=r"gs://omniq-tests/x") as info:
        await driver_of(locate("omniq-tests/x", "gcs", options)).open()

    assert not isinstance(info.value, StorageUnavailableError)


async def test_no_credentials_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 with neither options, variables nor files."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    place = locate("omniq-tests/x", "s3", {"endpoint_url": objects.s3_url()})

    with pytest.raises(StorageError, match=r"credentials.*check the credentials"):
        await driver_of(place).open()


BAD_OPTIONS: list[tuple[str, dict[str, Any], str]] = [
    ("s3", {"endpont_url": "x"}, r"no option 'endpont_url'; did you mean 'endpoint_url'\?"),
    ("s3", {"asynchronous": True}, "no option 'asynchronous'"),
    ("s3", {"endpoint_url": "nowhere", "key": "k", "secret": SECRET}, "nowhere"),
    ("s3", {"key": "a", "username": "b", "secret": SECRET}, "makes no sense"),
    ("s3", {"config_kwargs": {"no_such": 1}}, "makes no sense"),
    ("gcs", {"tokn": SECRET}, r"no option 'tokn'; did you mean 'token'\?"),
    ("gcs", {"access": "all", "token": "anon"}, "makes no sense"),
    ("azure", {"connection_string": SECRET}, "makes no sense"),
    ("azure", {"acount_name": "x"}, r"no option 'acount_name'; did you mean 'account_name'\?"),
]


@pytest.mark.parametrize(("protocol", "options", "problem"), BAD_OPTIONS)
async def test_bad_options(protocol: str, options: dict[str, Any], problem: str) -> None:
    """Refused before anything is sent, without telling a secret."""
    with pytest.raises(ConfigError, match=problem) as info:
        await driver_of(locate("omniq-tests/x", protocol, options)).open()

    assert SECRET not in str(info.value)


@pytest.mark.parametrize(
    "path",
    ["s3://", "s3://a/../b", "s3:///x", f"s3://key:{SECRET}@bucket/x", "s3://b_/x", "gs://a"],
)
def test_a_path_that_names_no_bucket(path: str) -> None:
    """Known before anything is opened."""
    with pytest.raises(ConfigError) as info:
        driver_of(locate(path))

    assert SECRET not in str(info.value)
    assert SECRET not in repr(locate(path))


@pytest.mark.parametrize(
    ("store", "module"), [("s3", "s3fs"), ("gcs", "gcsfs.core"), ("azure", "adlfs")]
)
async def test_a_missing_package_is_named(
    store: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the extra that brings it."""
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(ConfigError, match=rf"pip install 'omniq-tasks\[{store}\]'"):
        await driver_of(locate("bucket/x", store)).open()


async def test_a_url_of_azure_may_name_the_account() -> None:
    """The way Azure itself writes them."""
    driver = driver_of(
        locate("abfss://jobs@account.dfs.core.windows.net/a/b", fs_kwargs={"account_key": SECRET})
    )

    assert repr(driver) == "AzureDriver('abfs://jobs/a/b')"
    assert driver.location.options["account_name"] == "account"
