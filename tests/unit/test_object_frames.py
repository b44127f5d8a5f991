"""Records in an object: each behind a checksum of its own."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from omniq.storage.objectstore.frames import Header, pack, unpack


@settings(deadline=None)
@given(st.lists(st.binary(max_size=20).filter(lambda data: b"\n" not in data), max_size=5))
def test_frames_come_back_as_they_were(records: list[bytes]) -> None:
    """Header and records, in order."""
    content = unpack(pack(Header(1, "n", is_marked=True), records))

    assert content == (Header(1, "n", is_marked=True), records, [])


@given(st.data(), st.lists(st.text("ab", min_size=1, max_size=9), min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_no_damaged_byte_goes_unseen(data: st.DataObject, texts: list[str]) -> None:
    """Wherever it is; the records it did not touch are still there."""
    records = [text.encode() for text in texts]
    whole = pack(Header(1, "n"), records)
    place = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda one: one != whole[place]))

    content = unpack(whole[:place] + bytes([byte]) + whole[place + 1 :])

    assert content.damaged
    assert len(content.records) >= len(records) - 2
    assert set(content.records) <= set(records)
