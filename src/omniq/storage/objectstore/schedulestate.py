"""`ScheduleLogState`: encoded schedules by id as the state of a log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from omniq.storage.objectstore.logstate import OnChange

Entry = tuple[str, bytes]
"""The id of a schedule, and its text."""
_GONE: Final = msgspec.Raw(b"null")


class Effect(msgspec.Struct, omit_defaults=True):
    """What became of a schedule: its new text, null if it was deleted."""

    id: str
    data: msgspec.Raw = _GONE


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Effect).decode


class ScheduleLogState:
    """Schedules as JSON texts by id; changes can be taken back and written down."""

    def __init__(self) -> None:
        self._texts: dict[str, bytes] = {}
        self._steps: list[dict[str, bytes | None]] = []
        self.on_change: OnChange | None = None

    def get(self, schedule_id: str) -> bytes | None:
        """Return the text of this schedule."""
        return self._texts.get(schedule_id)

    def items(self) -> list[tuple[str, bytes]]:
        """Return ids and texts, by id."""
        return sorted(self._texts.items())

    def put(self, schedule_id: str, text: bytes | None) -> None:
        """Set the text of a schedule; None deletes it."""
        if self._steps:
            self._steps[-1].setdefault(schedule_id, self._texts.get(schedule_id))
        self._set(schedule_id, text)

    def begin(self) -> None:
        """Begin a step."""
        self._steps.append({})

    def take_back(self) -> None:
        """Undo the last step."""
        for schedule_id, text in self._steps.pop().items():
            self._set(schedule_id, text)

    def keep(self) -> None:
        """Forget how to take the steps back."""
        if self.on_change is not None:
            for schedule_id, was in self._first().items():
                self._tell(schedule_id, was, self._texts.get(schedule_id))
        self._steps.clear()

    def changes(self) -> list[bytes]:
        """Return what the steps changed together."""
        return [
            _record(schedule_id, self._texts.get(schedule_id))
            for schedule_id, was in self._first().items()
            if self._texts.get(schedule_id) != was
        ]

    def apply(self, records: Iterable[bytes]) -> list[bytes]:
        """Make the changes of a commit; return the records that make no sense."""
        odd: list[bytes] = []
        for data in records:
            try:
                effect = _decode(data)
            except msgspec.MsgspecError:
                odd.append(data)
            else:
                text = None if effect.data == _GONE else bytes(effect.data)
                self._tell(effect.id, self._texts.get(effect.id), text)
                self._set(effect.id, text)
        return odd

    def dump(self) -> Iterator[bytes]:
        """Yield records that make this state of an empty one."""
        for schedule_id, text in self.items():
            yield _record(schedule_id, text)

    def committed(self, schedule_id: str) -> Entry | None:
        """Return a schedule as the last commit left it."""
        text = self._first().get(schedule_id, self._texts.get(schedule_id))
        return None if text is None else (schedule_id, text)

    def committed_ids(self) -> Iterable[str]:
        """Return the ids of all schedules the last commit left, and maybe some that are new."""
        return {*self._texts, *self._first()}

    def clear(self) -> None:
        """Become empty."""
        self._texts.clear()

    def _first(self) -> dict[str, bytes | None]:
        """Return what the steps have changed, as it was before them."""
        first: dict[str, bytes | None] = {}
        for step in reversed(self._steps):
            first.update(step)
        return first

    def _tell(self, schedule_id: str, was: bytes | None, text: bytes | None) -> None:
        if self.on_change is not None and text != was:
            self.on_change(
                schedule_id,
                None if was is None else (schedule_id, was),
                None if text is None else (schedule_id, text),
            )

    def _set(self, schedule_id: str, text: bytes | None) -> None:
        if text is None:
            self._texts.pop(schedule_id, None)
        else:
            self._texts[schedule_id] = text


def _record(schedule_id: str, text: bytes | None) -> bytes:
    return _encode(Effect(schedule_id, _GONE if text is None else msgspec.Raw(text)))
