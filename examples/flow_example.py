"""Word statistics of a folder of text files, in two loops that talk through a queue.

    python examples/flow_example.py FOLDER

The first loop reads files, the second counts their words. Files that are no text end in the dead
letters. DATASTORE_URL says where the queue is: memory:// unless set, sqlite:///flow.db,
redis://localhost.
"""

import asyncio
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omniq.datastore import DataStore
from omniq.flow import FlowEngine, NodeTypes

FLOW = {
    "nodes": [
        {"id": "files", "type": "text_files", "data": {"config": {"folder": "."}}},
        {"id": "read", "type": "read_text"},
        {"id": "to_counting", "type": "QueueWriter"},
        {"id": "texts", "type": "QueueReader"},
        {"id": "any_words", "type": "has_words", "data": {"config": {"least": 1}}},
        {"id": "count", "type": "count_words"},
        {"id": "total", "type": "add_up"},
        {"id": "empty", "type": "note_empty"},
    ],
    "edges": [
        {"source": "files", "target": "read"},
        {"source": "read", "target": "to_counting"},
        {"source": "to_counting", "target": "texts"},
        {"source": "texts", "target": "any_words"},
        {"source": "any_words", "target": "count", "sourceHandle": "true"},
        {"source": "any_words", "target": "empty", "sourceHandle": "false"},
        {"source": "count", "target": "total"},
    ],
}
WORD = re.compile(r"[^\W\d_]{3,}")

types = NodeTypes()
totals: Counter[str] = Counter()
counted: list[str] = []
empty: list[str] = []


@types.producer("text_files")
def text_files(*, folder: str) -> Iterator[dict[str, str]]:
    """Yield the text files of a folder and of those below it."""
    for path in sorted(Path(folder).rglob("*")):
        if path.suffix in {".md", ".txt"} and path.is_file():
            yield {"path": str(path)}


@types.blocking("read_text", pool="thread")
def read_text(item: dict[str, str]) -> dict[str, str]:
    """Add the text; a file that is not UTF-8 raises, and is a dead letter."""
    return {**item, "text": Path(item["path"]).read_text(encoding="utf-8")}


@types.conditional("has_words")
async def has_words(item: dict[str, str], *, least: int) -> bool:
    """Choose the exit: are there words to count?"""
    return len(WORD.findall(item["text"])) >= least


@types.blocking("count_words", pool="process")
def count_words(item: dict[str, str]) -> dict[str, Any]:
    """Replace the text by how often each word occurs in it; in processes, as it is all work."""
    return {"path": item["path"], "words": Counter(WORD.findall(item["text"].lower()))}


@types.blocking("add_up")
async def add_up(item: dict[str, Any]) -> None:
    """Add the counts of a file to the statistics."""
    counted.append(item["path"])
    totals.update(item["words"])


@types.blocking("note_empty")
async def note_empty(item: dict[str, Any]) -> None:
    """Note a file without words."""
    empty.append(item["path"])


async def main(folder: str) -> None:
    """Run both loops to their end and print the statistics."""
    FLOW["nodes"][0]["data"]["config"]["folder"] = folder
    async with DataStore(url=os.environ.get("DATASTORE_URL", "memory://")) as store:
        engine = FlowEngine(FLOW, types, store, namespace=f"words-{os.getpid()}", processes=2)
        await engine.run()
        for letter in await engine.take_dead_letters():
            print(f"failed   {letter.item['path']}: {letter.error}")
    print(f"files    {len(counted)} counted, {len(empty)} without words")
    print(f"words    {totals.total()}, {len(totals)} different")
    print("most     " + ", ".join(f"{word} {count}" for word, count in totals.most_common(5)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "docs"))
