"""What the components whose state is a log share: opening, closing, and what the doctor finds."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from omniq.models.finding import Finding, broken, fine, risk
from omniq.serialization import SerializationFormat
from omniq.storage.component import Capabilities, Component
from omniq.storage.file.codec import Compression, FileCodec
from omniq.storage.objectstore.damages import aside_findings
from omniq.storage.objectstore.driver import ObjectDriver
from omniq.storage.objectstore.poller import LONGEST_SECONDS
from omniq.storage.objectstore.service import LogService

LEASE_SECONDS = 60.0
HEARTBEAT_SECONDS = 10.0
_VALUE_FIELDS = ("args", "kwargs", "metadata")


class LoggedComponent(Component):
    """Opens and closes its log, which opens and closes the driver."""

    _log: LogService[Any]
    _two_at_once: ClassVar[str]
    """What goes wrong with two processes where the store knows no conditions."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._log)!r})"

    async def _open(self) -> None:
        await self._log.open()
        self.capabilities = frugal(self._log.driver)

    async def _close(self) -> None:
        await self._log.close()

    async def _findings(self) -> list[Finding]:
        return [self._conditions(), *await self._damages(), *await self._tree()]

    def _conditions(self) -> Finding:
        """Say what the probe at the start has shown."""
        if self._log.driver.is_conditional:
            return fine(repr(self), "honours conditional writes: any number of workers may run")
        return risk(
            repr(self),
            f"does not honour conditional writes, so {self._two_at_once}",
            "run a single worker, or use S3, Google Cloud Storage, Azure or a server backend",
        )

    async def _damages(self) -> list[Finding]:
        """Report what this process could not read, or else what others set aside before."""
        found = [
            broken(
                repr(self),
                f"a record of {damage.key} is damaged: {damage.line[:200]!r}",
                "what it was about may be lost: make it anew; all others are there",
            )
            for damage in self._log.damages
        ]
        return found or await aside_findings(self._log.driver, self._log.folder, repr(self))

    async def _tree(self) -> list[Finding]:
        """Say up to which commit people see what goes on."""
        if not self._log.has_tree:
            return []
        seq, shown = await self._log.progress()
        if shown is None:
            return [fine(repr(self), "no tree is published yet")]
        return [fine(repr(self), f"the tree shows commit {shown:,} of {max(seq, shown):,}")]


def codec_of(
    kind: type[Any], serialization_format: SerializationFormat, compression: Compression
) -> FileCodec:
    """Return the codec of the items of a log."""
    return FileCodec(kind, _VALUE_FIELDS, format=serialization_format, compression=compression)


def frugal(driver: ObjectDriver) -> Capabilities:
    """Return what a store of objects promises, where each request costs time and money."""
    return msgspec.structs.replace(
        driver.capabilities,
        lease_seconds=LEASE_SECONDS,
        heartbeat_seconds=HEARTBEAT_SECONDS,
        poll_seconds=LONGEST_SECONDS,
    )
