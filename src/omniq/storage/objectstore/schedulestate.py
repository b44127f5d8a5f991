"""`ScheduleLogState`: encoded schedules by id as the state of a log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

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
        self._steps.clear()

    def changes(self) -> list[bytes]:
        """Return what the steps changed together."""
        first: dict[str, bytes | None] = {}
        for step in reversed(self._steps):
            first.update(step)
        return [
            _record(schedule_id, self._texts.get(schedule_id))
            for schedule_id, was in first.items()
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
                text = bytes(effect.data)
                self._set(effect.id, None if text == b"null" else text)
        return odd

    def dump(self) -> Iterator[bytes]:
        """Yield records that make this state of an empty one."""
        for schedule_id, text in self.items():
            yield _record(schedule_id, text)

    def clear(self) -> None:
        """Become empty."""
        self._texts.clear()

    def _set(self, schedule_id: str, text: bytes | None) -> None:
        if text is None:
            self._texts.pop(schedule_id, None)
        else:
            self._texts[schedule_id] = text


def _record(schedule_id: str, text: bytes | None) -> bytes:
    return _encode(Effect(schedule_id, _GONE if text is None else msgspec.Raw(text)))
