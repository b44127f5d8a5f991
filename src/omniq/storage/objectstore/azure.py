"""`AzureDriver`: Azure Blob Storage, by the client of adlfs."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, ClassVar

from omniq.exceptions import StorageError
from omniq.storage.file.location import Location
from omniq.storage.objectstore.bucket import MISSED, NOT_FOUND, BucketDriver
from omniq.storage.objectstore.driver import ABSENT, Entry, Page, Stored
from omniq.storage.objectstore.errors import Refusal, unreachable, without_credentials

_ONCE: dict[str, Any] = {"retry_total": 0}
"""Repeating is done by us."""
_REMEMBERED_PAGES = 1000


class AzureDriver(BucketDriver):
    """Conditions by `If-None-Match` and `If-Match`; the version is the etag.

    A listing cannot begin after a key, only go on where another ended: where pages end is
    remembered, and who asks for another place pays for the pages before it.
    """

    module: ClassVar[str] = "adlfs"
    file_system: ClassVar[str] = "AzureBlobFileSystem"
    extra: ClassVar[str] = "azure"
    more_options: ClassVar[tuple[str, ...]] = (
        "exclude_environment_credential",
        "exclude_managed_identity_credential",
        "exclude_shared_token_cache_credential",
        "exclude_workload_identity_credential",
        "managed_identity_client_id",
        "workload_identity_client_id",
    )

    def __init__(self, location: Location, **limits: Any) -> None:
        container, at, rest = location.path.partition("@")
        if at and "/" not in container:
            host, _, path = rest.partition("/")
            options = {"account_name": host.partition(".")[0], **location.options}
            location = Location(location.protocol, f"{container}/{path}".rstrip("/"), options)
        super().__init__(location, **limits)
        self._ends: OrderedDict[tuple[str, str], str] = OrderedDict()

    async def _shut(self) -> None:
        made, self._fs = self._fs, None
        if made is not None:
            await made.service_client.close()

    async def _get(self, key: str) -> Stored | None:
        try:
            found = await self._blob(key).download_blob(**_ONCE)
            return Stored(await found.readall(), _etag(found.properties.etag))
        except Exception as error:
            if self._status(error) == NOT_FOUND and self._code(error) != "ContainerNotFound":
                return None
            raise

    async def _put(self, key: str, data: bytes, expected: str | None) -> str | None:
        try:
            answer = await self._blob(key).upload_blob(data, **_condition(expected), **_ONCE)
        except Exception as error:
            if expected is not None and self._is_missed(error):
                return None
            raise
        return _etag(answer["etag"])

    async def _remove(self, key: str, version: str) -> bool:
        try:
            await self._blob(key).delete_blob(**_unmodified(version), **_ONCE)
        except Exception as error:
            if self._is_missed(error):
                return False
            raise
        return True

    async def _delete(self, keys: list[str]) -> None:
        for key in keys:
            try:
                await self._blob(key).delete_blob(**_ONCE)
            except Exception as error:
                if self._code(error) != "BlobNotFound":
                    raise

    async def _list(self, prefix: str, after: str, limit: int, token: str) -> Page:
        token = token or self._ends.get((prefix, after), "")
        listing = self._container.list_blobs(
            name_starts_with=self._name(prefix), results_per_page=limit, **_ONCE
        )
        pages = listing.by_page(continuation_token=token or None)
        entries = [
            Entry(self._key(one.name), int(one.size), one.last_modified, _etag(one.etag))
            async for one in await anext(pages)
        ]
        token = pages.continuation_token or ""
        if token and entries:
            self._remember(prefix, entries[-1].key, token)
        return Page([entry for entry in entries if entry.key > after], token)

    def _remember(self, prefix: str, last: str, token: str) -> None:
        self._ends[prefix, last] = token
        if len(self._ends) > _REMEMBERED_PAGES:
            self._ends.popitem(last=False)

    @property
    def _container(self) -> Any:
        return self._fs.service_client.get_container_client(self._bucket)

    def _blob(self, key: str) -> Any:
        return self._container.get_blob_client(self._name(key))

    def _is_missed(self, error: Exception) -> bool:
        return self._status(error) in MISSED or self._code(error) == "BlobNotFound"

    def _status(self, error: Exception) -> int:
        return int(getattr(error, "status_code", None) or 0)

    def _code(self, error: Exception) -> str:
        code: Any = getattr(error, "error_code", None)
        return str(getattr(code, "value", code) or "")

    def _refusal(self, error: Exception) -> Refusal | None:
        status = self._status(error)
        if not status:
            return None
        return Refusal(status, self._code(error), str(getattr(error, "message", "")))

    def _translated(self, error: Exception, what: str) -> StorageError:
        refusal = self._refusal(error)
        if refusal is not None:
            return self._refused(refusal, what)
        if type(error).__name__ in {"ClientAuthenticationError", "CredentialUnavailableError"}:
            return without_credentials(error, str(self), what)
        return unreachable(error, str(self), what)


def _etag(text: str) -> str:
    """Return an etag in the quotes that belong to it; listings leave them out."""
    return f'"{text.strip(chr(34))}"'


def _condition(expected: str | None) -> dict[str, Any]:
    if expected is None or expected == ABSENT:
        return {"overwrite": expected is None}
    return {"overwrite": True, **_unmodified(expected)}


def _unmodified(version: str) -> dict[str, Any]:
    from azure.core import MatchConditions

    return {"etag": version, "match_condition": MatchConditions.IfNotModified}
