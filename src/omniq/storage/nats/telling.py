"""Telling of new tasks in the round trip that stores them.

Tasks and events are of two streams, which the server cannot write as one. So each event is sent as
the first of its task, which the server refuses where it knows of one: of a task whose id is taken
there is one as a rule, and after an answer that got lost there may be. What came of it is put right
once the server has said which tasks it stored.
"""

from __future__ import annotations

from collections.abc import Sequence

from omniq.models.event import TaskEvent
from omniq.storage.events import append_missing
from omniq.storage.nats.events import NATSEventStorage
from omniq.storage.nats.frames import Frame
from omniq.storage.nats.jetstream import Stream


class Telling:
    """The events of one insert, in the order of its tasks."""

    def __init__(self, stream: Stream, events: NATSEventStorage, told: Sequence[TaskEvent]) -> None:
        self._stream = stream
        self._events = events
        self._told = told
        self._sequences = [0] * len(told)

    async def publish(self, frames: Sequence[Frame]) -> list[int]:
        """Store messages of tasks, and their events; see `Stream.publish`."""
        both = self._stream.publish_both(frames, self._events.beginning(self._told))
        stored, self._sequences = await both
        return stored

    async def put_right(self, stored: Sequence[bool]) -> None:
        """Take back the events of tasks that were not stored; see that the others are there.

        Should the process die before, what is told of a task that stands is told of it again; it
        had no history then.
        """
        triples = list(zip(self._told, self._sequences, stored, strict=True))
        strays = [sequence for _, sequence, is_stored in triples if sequence and not is_stored]
        await self._events.stream.delete(strays)
        doubtful = [event for event, sequence, is_stored in triples if is_stored and not sequence]
        await append_missing(self._events, doubtful)
