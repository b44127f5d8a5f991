"""The limit of the driver: redis-py doing the writes that OmniQ does, and nothing else.

Three small scripts, each with its whole batch as one packed argument. Two of them make the round
trip of a batch of 100 together: store the results, move the tasks to completed if the claim is
still theirs, append two events a task; and claim the next. No task objects, no retries, no
coroutines: the task is called directly.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from bench.adapter import Adapter
from bench.recorder import record
from bench.servers import URL_VARIABLE

BATCH = 100
INSERTED_AT_ONCE = 1000
IDLE_SECONDS = 0.002

PUSH = """
local tasks, payloads, ready, ids = {}, {}, {}, {}
local batch = cmsgpack.unpack(ARGV[1])
for n = 1, #batch do
  local id = batch[n][1]
  tasks[2 * n - 1], tasks[2 * n] = '{raw}:t:' .. id, cmsgpack.pack({'pending', 0, '', -1})
  payloads[2 * n - 1], payloads[2 * n] = '{raw}:p:' .. id, batch[n][2]
  ready[2 * n - 1], ready[2 * n] = '0', id
  redis.call('RPUSH', '{raw}:events:' .. id, 'ENQUEUED ' .. ARGV[2])
  redis.call('EXPIRE', '{raw}:events:' .. id, 2592000)
end
redis.call('MSET', unpack(tasks))
redis.call('MSET', unpack(payloads))
redis.call('ZADD', '{raw}:ready', unpack(ready))
"""
CLAIM = """
local popped = redis.call('ZPOPMIN', '{raw}:ready', ARGV[1])
if #popped == 0 then return {} end
local tasks, leased, keys, answer = {}, {}, {}, {}
for n = 1, #popped / 2 do
  local id = popped[2 * n - 1]
  keys[n] = '{raw}:p:' .. id
  tasks[2 * n - 1] = '{raw}:t:' .. id
  tasks[2 * n] = cmsgpack.pack({'running', 1, ARGV[2], ARGV[3] + 30})
  leased[2 * n - 1], leased[2 * n] = ARGV[3] + 30, id
end
redis.call('MSET', unpack(tasks))
redis.call('ZADD', '{raw}:leased', unpack(leased))
local payloads = redis.call('MGET', unpack(keys))
for n = 1, #keys do
  answer[2 * n - 1], answer[2 * n] = popped[2 * n - 1], payloads[n]
end
return answer
"""
FINISH = """
local batch = cmsgpack.unpack(ARGV[1])
local keys, ids, tasks, finished, results = {}, {}, {}, {}, {}
for n = 1, #batch do
  keys[n] = '{raw}:t:' .. batch[n][1]
end
local stored = redis.call('MGET', unpack(keys))
local m = 0
for n = 1, #batch do
  local id = batch[n][1]
  redis.call('SET', '{raw}:result:' .. id, batch[n][2], 'EX', 86400)
  results[2 * n - 1], results[2 * n] = '0', id
  local task = cmsgpack.unpack(stored[n])
  if task[1] == 'running' and task[3] == ARGV[2] then
    m = m + 1
    ids[m] = id
    tasks[2 * m - 1], tasks[2 * m] = keys[n], cmsgpack.pack({'completed', 1, '', ARGV[3]})
    finished[2 * m - 1], finished[2 * m] = ARGV[3], id
    redis.call('RPUSH', '{raw}:events:' .. id, 'STARTED ' .. ARGV[3], 'COMPLETED ' .. ARGV[3])
  end
end
redis.call('MSET', unpack(tasks))
redis.call('ZREM', '{raw}:leased', unpack(ids))
redis.call('ZADD', '{raw}:finished', unpack(finished))
redis.call('ZADD', '{raw}:results', unpack(results))
redis.call('INCRBY', '{raw}:done', m)
"""

_pack = msgspec.msgpack.Encoder().encode
_payload = msgspec.json.Encoder().encode
_unpayload = msgspec.json.Decoder().decode


class RawRedis(Adapter):
    """redis-py with hiredis."""

    async def setup(self, directory: Path) -> None:
        from redis.asyncio import Redis

        self._redis: Any = Redis.from_url(os.environ[URL_VARIABLE])
        self._push = await self._redis.script_load(PUSH)
        self._claim = await self._redis.script_load(CLAIM)
        self._finish = await self._redis.script_load(FINISH)
        self._work: asyncio.Task[None] | None = None

    async def enqueue(self, number: int) -> None:
        await self._insert([number])

    async def enqueue_bulk(self, numbers: range) -> None:
        for start in range(0, len(numbers), INSERTED_AT_ONCE):
            await self._insert(numbers[start : start + INSERTED_AT_ONCE])

    async def start_worker(self, processes: int) -> None:
        self._work = asyncio.create_task(self._drain())

    async def finished(self) -> int:
        return int(await self._redis.get("{raw}:done") or 0)

    async def round_trip(self, number: int) -> None:
        (task_id,) = await self._insert([number])
        while not await self._redis.exists(f"{{raw}}:result:{task_id}"):
            await asyncio.sleep(IDLE_SECONDS)

    async def teardown(self) -> None:
        if self._work is not None:
            self._work.cancel()
        await self._redis.aclose()

    async def _insert(self, numbers: Iterable[int]) -> list[str]:
        tasks = [
            (ordered_id(), _payload({"args": [number], "queue_name": "default"}).decode())
            for number in numbers
        ]
        await self._redis.evalsha(self._push, 0, _pack(tasks), str(time.time()))
        return [task_id for task_id, _ in tasks]

    async def _drain(self) -> None:
        token, done = os.urandom(16).hex(), list[tuple[str, str]]()
        while True:
            pipeline = self._redis.pipeline(transaction=False)
            if done:
                pipeline.evalsha(self._finish, 0, _pack(done), token, str(time.time()))
            pipeline.evalsha(self._claim, 0, BATCH, token, int(time.time()))
            claimed = (await pipeline.execute())[-1]
            pairs = zip(claimed[::2], claimed[1::2], strict=True)
            done = [(task_id.decode(), _run(data)) for task_id, data in pairs]
            if not done:
                await asyncio.sleep(IDLE_SECONDS)


def ordered_id() -> str:
    """Return an id that sorts by the moment it was made."""
    text = (time.time_ns().to_bytes(8) + os.urandom(8)).hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _run(payload: bytes) -> str:
    (number,) = _unpayload(payload)["args"]
    record(number)
    return _payload(number).decode()
