"""The limit of the driver: nats-py fetching, publishing and acknowledging in batches.

A batch of 100 is fetched from a work-queue stream; for each task its result goes to a stream, and
two events to another; when all are stored, the task is acknowledged, which deletes it. No fence, no
task objects, no coroutines: the task is called directly. ``raw-nats-bare`` leaves results and
events out, as FastStream does.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import nats
from nats.errors import TimeoutError as NothingError

from bench.adapter import Adapter
from bench.peers.raw_redis import ordered_id
from bench.recorder import record
from bench.servers import URL_VARIABLE

BATCH = 100
IN_FLIGHT = 1000
IDLE_SECONDS = 0.002
WAIT_SECONDS = 1.0

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class RawNATS(Adapter):
    """nats-py with its own asynchronous publishing."""

    keeps_all: ClassVar[bool] = True

    async def setup(self, directory: Path) -> None:
        self._client: Any = await nats.connect(os.environ[URL_VARIABLE])
        self._stream: Any = self._client.jetstream(publish_async_max_pending=4 * IN_FLIGHT)
        await self._stream.add_stream(name="task", subjects=["task.*"], retention="workqueue")
        await self._stream.add_stream(
            name="result", subjects=["result.*"], max_msgs_per_subject=1, max_age=86_400
        )
        await self._stream.add_stream(name="event", subjects=["event.*.*"])
        self._work: asyncio.Task[None] | None = None
        self._sent = 0

    async def enqueue(self, number: int) -> None:
        await self._publish(number)

    async def enqueue_bulk(self, numbers: range) -> None:
        for start in range(0, len(numbers), IN_FLIGHT):
            waiting: list[Any] = []
            for number in numbers[start : start + IN_FLIGHT]:
                task_id = ordered_id()
                waiting.append(
                    await self._stream.publish_async(f"task.{task_id}", _request(number))
                )
                if self.keeps_all:
                    subject = f"event.{task_id}.ENQUEUED"
                    waiting.append(await self._stream.publish_async(subject, b"%f" % time.time()))
            self._sent += len(waiting) // (2 if self.keeps_all else 1)
            await asyncio.gather(*waiting)

    async def start_worker(self, processes: int) -> None:
        consumer = await self._stream.pull_subscribe("task.*", durable="raw", stream="task")
        self._work = asyncio.create_task(self._drain(consumer))

    async def finished(self) -> int:
        tasks = await self._stream.stream_info("task")
        done = self._sent - int(tasks.state.messages)
        if not self.keeps_all:
            return done
        results = await self._stream.stream_info("result")
        return min(done, int(results.state.messages))

    async def round_trip(self, number: int) -> None:
        task_id = await self._publish(number)
        while True:
            try:
                await self._stream.get_last_msg("result", f"result.{task_id}")
            except nats.js.errors.NotFoundError:
                await asyncio.sleep(IDLE_SECONDS)
            else:
                return

    async def teardown(self) -> None:
        if self._work is not None:
            self._work.cancel()
        await self._client.close()

    async def _publish(self, number: int) -> str:
        self._sent += 1
        task_id = ordered_id()
        stored = self._stream.publish(f"task.{task_id}", _request(number))
        if self.keeps_all:
            event = self._stream.publish(f"event.{task_id}.ENQUEUED", b"%f" % time.time())
            await asyncio.gather(stored, event)
        else:
            await stored
        return task_id

    async def _drain(self, consumer: Any) -> None:
        while True:
            try:
                messages = await consumer.fetch(BATCH, timeout=WAIT_SECONDS)
            except NothingError:
                continue
            waiting: list[Any] = []
            for message in messages:
                (number,) = _decode(message.data)["args"]
                record(number)
                if self.keeps_all:
                    waiting += await self._kept(message.subject.rpartition(".")[2], number)
            await asyncio.gather(*waiting)
            for message in messages:
                await message.ack()

    async def _kept(self, task_id: str, number: int) -> list[Any]:
        now = b"%f" % time.time()
        return [
            await self._stream.publish_async(f"result.{task_id}", _encode(number)),
            await self._stream.publish_async(f"event.{task_id}.STARTED", now),
            await self._stream.publish_async(f"event.{task_id}.COMPLETED", now),
        ]


class RawNATSBare(RawNATS):
    """Without results and events."""

    keeps_all = False

    async def round_trip(self, number: int) -> None:
        raise NotImplementedError


def _request(number: int) -> bytes:
    return _encode({"args": [number], "queue_name": "default"})
