"""FastStream on NATS JetStream (acknowledged after the run). It keeps no results and no events."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import nats
from faststream.nats import JStream, NatsBroker, PullSub

from bench.adapter import Adapter
from bench.recorder import record
from bench.servers import URL_VARIABLE

BATCH = 100
WORKERS = 100
CHECK_SECONDS = 0.001


class FastStreamNATS(Adapter):
    """FastStream, pulling a hundred messages at a time."""

    async def setup(self, directory: Path) -> None:
        self._broker = NatsBroker(os.environ[URL_VARIABLE], logger=None)
        self._stream = JStream("bench", subjects=["bench.*"])
        self._client: Any = await nats.connect(os.environ[URL_VARIABLE])
        await self._client.jetstream().add_stream(
            name="bench", subjects=["bench.*"], retention="workqueue"
        )
        await self._broker.connect()
        self._sent = 0

    async def enqueue(self, number: int) -> None:
        self._sent += 1
        await self._broker.publish(number, "bench.noop", stream="bench")

    async def start_worker(self, processes: int) -> None:
        subscriber = self._broker.subscriber(
            "bench.noop",
            stream=JStream("bench", subjects=["bench.*"], declare=False),
            durable="bench",
            pull_sub=PullSub(batch_size=BATCH),
            max_workers=WORKERS,
        )
        subscriber(run_noop)
        await self._broker.start()

    async def finished(self) -> int:
        """Return how many messages were acknowledged, which deletes them."""
        info = await self._client.jetstream().stream_info("bench")
        return self._sent - int(info.state.messages)

    async def round_trip(self, number: int) -> None:
        sent = self._sent
        await self.enqueue(number)
        while await self.finished() <= sent:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(CHECK_SECONDS)

    async def teardown(self) -> None:
        await self._broker.stop()
        await self._client.close()


async def run_noop(number: int) -> None:
    """Note the run; the task of every benchmark."""
    record(number)
