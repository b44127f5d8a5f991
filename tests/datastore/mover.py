"""A process that pushes to, or pops from, a queue; started by tests."""

from __future__ import annotations

import asyncio
import json
import sys

from omniq.datastore import DataStore

QUEUE = "moved"
BATCH = 25


async def push(store: DataStore, producer: int, count: int) -> None:
    """Push numbered items, in turns one by one and many at once."""
    number = 0
    while number < count:
        await store.queue.push(QUEUE, [producer, number])
        batch = range(number + 1, min(number + BATCH, count))
        await store.queue.push_many(QUEUE, [[producer, one] for one in batch])
        number += BATCH


async def pop(store: DataStore) -> list[list[int]]:
    """Pop until the item that says stop; return what came."""
    found: list[list[int]] = []
    while (item := await store.queue.pop(QUEUE, timeout=60)) is not None:
        if item == "stop":
            break
        found.append(item)
    return found


async def receive_and_die(store: DataStore) -> None:
    """Receive an item, say so, and hang until killed."""
    delivery = await store.queue.receive(QUEUE, timeout=60, lease_seconds=1)
    assert delivery is not None
    print(json.dumps(delivery.data), flush=True)
    await asyncio.Event().wait()


async def main(url: str, prefix: str, role: str, *arguments: str) -> None:
    async with DataStore(url=url, prefix=prefix) as store:
        match role:
            case "push":
                await push(store, int(arguments[0]), int(arguments[1]))
            case "pop":
                print(json.dumps(await pop(store)))
            case _:
                await receive_and_die(store)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
