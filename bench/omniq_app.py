"""The application that OmniQ's worker command imports."""

from __future__ import annotations

import os

from bench.recorder import record
from omniq import OmniQ

URL_VARIABLE = "BENCH_OMNIQ_URL"
BARE_VARIABLE = "BENCH_OMNIQ_BARE"
"""Set where neither results nor events are kept."""
is_bare = BARE_VARIABLE in os.environ
q = OmniQ(os.environ[URL_VARIABLE], result_ttl=0 if is_bare else 86_400, log_events=not is_bare)


@q.task
async def noop(number: int) -> int:
    """Note the run; the task of every benchmark."""
    record(number)
    return number
