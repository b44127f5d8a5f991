"""What a task left behind."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from omniq.clock import as_utc, utcnow


class ResultStatus(StrEnum):
    """How the run that wrote the result ended."""

    SUCCESS = "success"
    FAILED = "failed"

    @classmethod
    def _missing_(cls, value: object) -> ResultStatus | None:
        aliases = {"failure": cls.FAILED, "error": cls.FAILED, "completed": cls.SUCCESS}
        text = str(value).lower()
        return next((member for member in cls if member.value == text), aliases.get(text))


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """An exception as text: it is never turned back into an object by name.

    Attributes:
        type: the class, as ``module.QualName``.
        message: ``str(exception)``.
        traceback: the formatted traceback, shortened to a bounded size.
    """

    type: str
    message: str
    traceback: str = ""

    def __str__(self) -> str:
        name = self.type.removeprefix("builtins.")
        return f"{name}: {self.message}" if self.message else name


class TaskResult(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """The outcome of a task's accepted run.

    Attributes:
        task_id: the task it belongs to.
        status: SUCCESS or FAILED.
        result: the returned value; None for a failure.
        error: what was raised; None for a success.
        claim_count: which claim of the task wrote it; a lower one never overwrites a higher.
        attempt: the attempt that wrote it, from 1; 0 when stored by hand.
        stored_at: when it was written (UTC).
        expires_at: from when on it counts as absent; None keeps it.
        worker_id: who ran it.
    """

    task_id: str
    status: ResultStatus = ResultStatus.SUCCESS
    result: Any = None
    error: ErrorInfo | None = None
    claim_count: int = 0
    attempt: int = 0
    stored_at: datetime = msgspec.field(default_factory=utcnow)
    expires_at: datetime | None = None
    worker_id: str | None = None

    def __post_init__(self) -> None:
        if self.stored_at.tzinfo is None:
            self.stored_at = as_utc(self.stored_at)
        if self.expires_at is not None and self.expires_at.tzinfo is None:
            self.expires_at = as_utc(self.expires_at)
