"""`GCSDriver`: Google Cloud Storage, by the session and the credentials of gcsfs.

The requests are made here: those of gcsfs repeat themselves for a minute, and leave conditions out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, NamedTuple
from urllib.parse import quote
from uuid import uuid4

from omniq.exceptions import StorageError
from omniq.storage.objectstore.bucket import MISSED, NOT_FOUND, BucketDriver
from omniq.storage.objectstore.driver import ABSENT, Entry, Page, Stored
from omniq.storage.objectstore.errors import Refusal, unreachable, without_credentials

_FIRST_ERROR = 400


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    content: bytes


class _RefusedError(Exception):
    """An answer that is an error."""

    def __init__(self, answer: _Answer) -> None:
        super().__init__(f"HTTP status {answer.status}")
        self.answer = answer


class GCSDriver(BucketDriver):
    """Conditions by `ifGenerationMatch`; the version is the generation."""

    # Not the class gcsfs gives out by default: that one asks about each bucket over gRPC first.
    module: ClassVar[str] = "gcsfs.core"
    file_system: ClassVar[str] = "GCSFileSystem"
    extra: ClassVar[str] = "gcs"

    async def _prepare(self) -> None:
        await self._fs._set_session()

    async def _shut(self) -> None:
        made, self._fs = self._fs, None
        session = getattr(made, "_session", None)
        if session is not None:
            await session.close()

    async def _get(self, key: str) -> Stored | None:
        try:
            answer = await self._request("GET", self._object(key), {"alt": "media"})
        except _RefusedError as error:
            if error.answer.status == NOT_FOUND:
                return None
            raise
        return Stored(answer.content, answer.headers["X-Goog-Generation"])

    async def _put(self, key: str, data: bytes, expected: str | None) -> str | None:
        body, kind = _multipart({"name": self._name(key)}, data)
        try:
            answer = await self._request(
                "POST",
                f"{self._fs._location}/upload/storage/v1/b/{self._bucket}/o",
                {"uploadType": "multipart", **_condition(expected)},
                body,
                kind,
            )
        except _RefusedError as error:
            if expected is not None and error.answer.status in MISSED:
                return None
            raise
        return str(json.loads(answer.content)["generation"])

    async def _remove(self, key: str, version: str) -> bool:
        try:
            await self._request("DELETE", self._object(key), _condition(version))
        except _RefusedError as error:
            if error.answer.status in {*MISSED, NOT_FOUND}:
                return False
            raise
        return True

    async def _delete(self, keys: list[str]) -> None:
        for key in keys:
            try:
                await self._request("DELETE", self._object(key), {})
            except _RefusedError as error:
                if error.answer.status != NOT_FOUND:
                    raise

    async def _list(self, prefix: str, after: str, limit: int, token: str) -> Page:
        options = {"prefix": self._name(prefix), "maxResults": str(limit)}
        options["fields"] = "items(name,size,updated,generation),nextPageToken"
        if token:
            options["pageToken"] = token
        if after:
            # An offset is part of the listing; a blank is less than whatever else a key may hold.
            options["startOffset"] = f"{self._name(after)} "
        answer = json.loads((await self._request("GET", self._objects, options)).content)
        entries = [
            Entry(
                self._key(one["name"]),
                int(one.get("size", 0)),
                datetime.fromisoformat(one["updated"]),
                str(one.get("generation", "")),
            )
            for one in answer.get("items", ())
        ]
        return Page(entries, answer.get("nextPageToken", ""))

    async def _request(
        self,
        method: str,
        url: str,
        options: Mapping[str, str],
        body: bytes | None = None,
        kind: str = "",
    ) -> _Answer:
        headers = self._fs._get_headers({"Content-Type": kind} if kind else None)
        params = self._fs._get_params(options)
        sent = self._fs.session.request(method, url, params=params, data=body, headers=headers)
        async with sent as response:
            answer = _Answer(response.status, response.headers, await response.read())
        if answer.status >= _FIRST_ERROR:
            raise _RefusedError(answer)
        return answer

    @property
    def _objects(self) -> str:
        return f"{self._fs._location}/storage/v1/b/{self._bucket}/o"

    def _object(self, key: str) -> str:
        return f"{self._objects}/{quote(self._name(key), safe='')}"

    def _refusal(self, error: Exception) -> Refusal | None:
        if not isinstance(error, _RefusedError):
            return None
        answer = error.answer
        text = answer.content.decode(errors="replace")
        try:
            problem: Any = json.loads(text)["error"]
            message = str(problem["message"])
        except (ValueError, KeyError, TypeError):
            message = text
        return Refusal(answer.status, message=message)

    def _translated(self, error: Exception, what: str) -> StorageError:
        refusal = self._refusal(error)
        if refusal is not None:
            return self._refused(refusal, what)
        if type(error).__module__.startswith("google.auth"):
            return without_credentials(error, str(self), what)
        return unreachable(error, str(self), what)


def _multipart(about: Mapping[str, str], data: bytes) -> tuple[bytes, str]:
    """Return the body and the type of an upload in one request: what it is, and its bytes."""
    boundary = uuid4().hex
    body = (
        f"--{boundary}\r\nContent-Type: application/json\r\n\r\n{json.dumps(about)}\r\n"
        f"--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
    )
    return b"%b%b\r\n--%b--" % (body.encode(), data, boundary.encode()), (
        f"multipart/related; boundary={boundary}"
    )


def _condition(expected: str | None) -> dict[str, str]:
    if expected is None:
        return {}
    return {"ifGenerationMatch": "0" if expected == ABSENT else expected}
