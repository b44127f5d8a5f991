"""The tasks of the demonstration: digest and word statistics of files, and a schedule.

Workers load this file (`omniq worker examples/digests.py`); so can you.
"""

import collections
import hashlib
import re
from pathlib import Path

from omniq import OmniQ, RetryPolicy, current_task

q = OmniQ()  # kept where OMNIQ_URL says, else in ./omniq.db

PATIENT = RetryPolicy(
    max_retries=4, delay_seconds=0.3, backoff="linear", retry_on=(FileNotFoundError,)
)
WORD = re.compile(r"[a-z_]{3,}")


@q.task(retry=PATIENT, timeout=30)
def digest(path: str) -> str:
    """Return the SHA-256 of a file. A missing one may still come: tried again for a while."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@q.task(timeout=30)
def words(path: str) -> dict[str, int]:
    """Return the twenty most frequent words of a text file; what is no UTF-8 fails for good."""
    text = Path(path).read_text(encoding="utf-8").lower()
    return dict(collections.Counter(WORD.findall(text)).most_common(20))


@q.every(1, queue="ticks")
async def heartbeat() -> str:
    """Fire every second while a worker runs."""
    return f"fired as task {current_task().id}"
