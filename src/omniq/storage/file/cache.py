"""Texts of task files in memory: as current as the files, for every change is observed."""

from __future__ import annotations

from collections import OrderedDict

_MOST_BYTES = 16 << 20
_LARGEST = 64 << 10


class TextCache:
    """The texts of the files read or written last, by task id."""

    def __init__(self) -> None:
        self._texts: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    def get(self, task_id: str) -> bytes | None:
        """Return the text of a task's file, if it is known."""
        return self._texts.get(task_id)

    def put(self, task_id: str, text: bytes) -> None:
        """Remember the text of a task's file."""
        self.drop(task_id)
        if len(text) > _LARGEST:
            return
        self._texts[task_id] = text
        self._bytes += len(text)
        while self._bytes > _MOST_BYTES:
            self._bytes -= len(self._texts.popitem(last=False)[1])

    def drop(self, task_id: str) -> None:
        """Forget the text of a task's file."""
        text = self._texts.pop(task_id, None)
        if text is not None:
            self._bytes -= len(text)

    def clear(self) -> None:
        """Forget all."""
        self._texts.clear()
        self._bytes = 0
