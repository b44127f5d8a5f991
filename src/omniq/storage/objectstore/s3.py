"""`S3Driver`: S3 and what speaks its language, by the session of s3fs."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any, ClassVar

from omniq.exceptions import ConfigError, StorageError
from omniq.storage.objectstore.bucket import MISSED, BucketDriver
from omniq.storage.objectstore.driver import ABSENT, PARALLEL, Entry, Page, Stored
from omniq.storage.objectstore.errors import Refusal, unreachable, without_credentials

_NO_CREDENTIALS = frozenset(
    {
        "CredentialRetrievalError",
        "NoCredentialsError",
        "PartialCredentialsError",
        "ProfileNotFound",
        "SSOTokenLoadError",
        "TokenRetrievalError",
        "UnauthorizedSSOTokenError",
    }
)


class S3Driver(BucketDriver):
    """Conditions by `If-None-Match` and `If-Match`; the version is the etag."""

    module: ClassVar[str] = "s3fs"
    file_system: ClassVar[str] = "S3FileSystem"
    extra: ClassVar[str] = "s3"
    more_options: ClassVar[tuple[str, ...]] = ("profile",)
    most_deleted: ClassVar[int] = 1000

    def _defaults(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options with patience and repetition left to us."""
        config = {
            "connect_timeout": 5,
            "read_timeout": 60,
            "max_pool_connections": PARALLEL,
            "retries": {"max_attempts": 0},
        }
        given: dict[str, Any] = options.pop("config_kwargs", None) or {}
        if "session" not in options:
            options["session"] = _session(options.pop("profile", None))
        return {**options, "config_kwargs": {**config, **given}}

    async def _prepare(self) -> None:
        try:
            await self._fs.set_session()
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{self}: an option makes no sense: {error}") from error

    async def _shut(self) -> None:
        made, self._fs = self._fs, None
        creator = getattr(made, "_s3creator", None)
        if creator is not None:
            await creator.__aexit__(None, None, None)

    async def _get(self, key: str) -> Stored | None:
        try:
            answer = await self._call("get_object", Key=self._name(key))
        except Exception as error:
            if self._code(error) == "NoSuchKey":
                return None
            raise
        async with answer["Body"] as body:
            return Stored(await body.read(), answer["ETag"])

    async def _put(self, key: str, data: bytes, expected: str | None) -> str | None:
        try:
            answer = await self._call(
                "put_object", Key=self._name(key), Body=data, **_condition(expected)
            )
        except Exception as error:
            if expected is not None and _is_missed(self._refusal(error)):
                return None
            raise
        return str(answer["ETag"])

    async def _remove(self, key: str, version: str) -> bool:
        try:
            await self._call("delete_object", Key=self._name(key), IfMatch=version)
        except Exception as error:
            if _is_missed(self._refusal(error)):
                return False
            raise
        return True

    async def _delete(self, keys: list[str]) -> None:
        if len(keys) == 1:
            await self._call("delete_object", Key=self._name(keys[0]))
            return
        wanted = [{"Key": self._name(key)} for key in keys]
        answer = await self._call("delete_objects", Delete={"Objects": wanted, "Quiet": True})
        for problem in answer.get("Errors", ()):
            code = str(problem.get("Code", ""))
            status = 403 if code == "AccessDenied" else 503
            raise self._refused(Refusal(status, code, str(problem.get("Message", ""))), "delete")

    async def _list(self, prefix: str, after: str, limit: int, token: str) -> Page:
        options: dict[str, Any] = {"Prefix": self._name(prefix), "MaxKeys": limit}
        if token:
            options["ContinuationToken"] = token
        elif after:
            options["StartAfter"] = self._name(after)
        answer = await self._call("list_objects_v2", **options)
        entries = [
            Entry(self._key(one["Key"]), int(one["Size"]), one["LastModified"], one.get("ETag", ""))
            for one in answer.get("Contents", ())
        ]
        return Page(entries, answer.get("NextContinuationToken", ""))

    async def _call(self, name: str, **arguments: Any) -> Any:
        """Send one request: as s3fs would, with its options, but without repetitions."""
        method = getattr(await self._fs.get_s3(self._bucket), name)
        known = self._fs._get_s3_method_kwargs(method, Bucket=self._bucket, **arguments)
        return await method(**known)

    def _code(self, error: Exception) -> str:
        refusal = self._refusal(error)
        return refusal.code if refusal else ""

    def _refusal(self, error: Exception) -> Refusal | None:
        answer: dict[str, Any] | None = getattr(error, "response", None)
        if answer is None or "Error" not in answer:
            return None
        problem: dict[str, str] = answer["Error"]
        status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        return Refusal(status, problem.get("Code", ""), problem.get("Message", ""))

    def _translated(self, error: Exception, what: str) -> StorageError | ConfigError:
        refusal = self._refusal(error)
        if refusal is not None:
            return self._refused(refusal, what)
        if type(error).__name__ in _NO_CREDENTIALS:
            return without_credentials(error, str(self), what)
        if type(error).__name__ == "ParamValidationError":
            return self._refused(Refusal(400, message=str(error)), what)
        return unreachable(error, str(self), what)


def _is_missed(refusal: Refusal | None) -> bool:
    return refusal is not None and (refusal.status in MISSED or refusal.code == "NoSuchKey")


@cache
def _models() -> Any:
    """Return what reads the description of S3, a hundred milliseconds' work, only once."""
    return _new_session(None).get_component("data_loader")


def _session(profile: str | None) -> Any:
    session = _new_session(profile)
    session.register_component("data_loader", _models())
    return session


def _new_session(profile: str | None) -> Any:
    return import_module("aiobotocore.session").AioSession(profile=profile)


def _condition(expected: str | None) -> dict[str, str]:
    if expected is None:
        return {}
    return {"IfNoneMatch": "*"} if expected == ABSENT else {"IfMatch": expected}
