"""The adapters that the harness knows, by name."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Literal

from bench.adapter import Adapter

Pace = Literal["slow", "medium", "fast"]


BACKENDS = ("sqlite", "memory", "redis", "postgres", "nats", "file")


@dataclass(frozen=True, slots=True)
class Entry:
    """Where an adapter is, and how the harness has to drive it.

    Attributes:
        target: ``module:Class`` of the adapter, imported only in child processes. package: the
        import name of the library, to tell whether it is installed; None for the standard library.
        in_process: the worker runs in the process that enqueues, since nobody else can see the
        queue. supervised: the worker forks its own processes, so two workers are one command. pace:
        how many tasks it drains, so that a slow one does not last and a fast one is not over at
        once. counts_queries: the server says how many queries it answered (`Adapter.queries`).
    """

    name: str
    backend: str
    target: str
    package: str | None
    in_process: bool = False
    supervised: bool = False
    pace: Pace = "medium"
    counts_queries: bool = False

    def available(self) -> bool:
        """Return whether the library is installed."""
        return self.package is None or find_spec(self.package) is not None


PEERS = "bench.peers"
SERVERS = "bench.omniq_servers"
CATALOGUE = (
    Entry(
        "omniq-sqlite-full", "sqlite", "bench.omniq_sqlite:OmniQSQLiteFull", "omniq", pace="fast"
    ),
    Entry(
        "omniq-sqlite-fast", "sqlite", "bench.omniq_sqlite:OmniQSQLiteFast", "omniq", pace="fast"
    ),
    Entry("huey-sqlite-fsync", "sqlite", f"{PEERS}.huey_sqlite:HueyFsync", "huey", pace="slow"),
    Entry("huey-sqlite-default", "sqlite", f"{PEERS}.huey_sqlite:HueyDefault", "huey", pace="slow"),
    Entry("huey-sqlite-nosync", "sqlite", f"{PEERS}.huey_sqlite:HueyNoSync", "huey"),
    Entry(
        "potatoq-sqlite",
        "sqlite",
        f"{PEERS}.potatoq_sqlite:PotatoqSQLite",
        "potatoq",
        supervised=True,
    ),
    Entry("raw-sqlite-full", "sqlite", f"{PEERS}.raw_sqlite:RawFull", None, pace="fast"),
    Entry("raw-sqlite-normal", "sqlite", f"{PEERS}.raw_sqlite:RawNormal", None, pace="fast"),
    Entry(
        "omniq-memory",
        "memory",
        "bench.omniq_memory:OmniQMemory",
        "omniq",
        in_process=True,
        pace="fast",
    ),
    Entry(
        "taskiq-memory", "memory", f"{PEERS}.taskiq_memory:TaskiqMemory", "taskiq", in_process=True
    ),
    Entry(
        "apscheduler-memory",
        "memory",
        f"{PEERS}.apscheduler_memory:APSchedulerMemory",
        "apscheduler",
        True,
    ),
    Entry("huey-memory", "memory", f"{PEERS}.huey_memory:HueyMemory", "huey", in_process=True),
    Entry(
        "raw-memory", "memory", f"{PEERS}.raw_memory:RawMemory", None, in_process=True, pace="fast"
    ),
    Entry(
        "omniq-redis",
        "redis",
        f"{SERVERS}:OmniQRedis",
        "omniq",
        pace="fast",
        counts_queries=True,
    ),
    Entry("arq-redis", "redis", f"{PEERS}.arq_redis:ArqRedis", "arq", pace="slow"),
    Entry("saq-redis", "redis", f"{PEERS}.saq_queue:SAQRedis", "saq", pace="slow"),
    Entry(
        "taskiq-redis",
        "redis",
        f"{PEERS}.taskiq_servers:TaskiqRedis",
        "taskiq_redis",
        pace="slow",
    ),
    Entry("huey-redis", "redis", f"{PEERS}.huey_redis:HueyRedis", "huey", pace="slow"),
    Entry(
        "dramatiq-redis", "redis", f"{PEERS}.dramatiq_redis:DramatiqRedis", "dramatiq", pace="slow"
    ),
    Entry("streaq-redis", "redis", f"{PEERS}.streaq_redis:StreaqRedis", "streaq", pace="slow"),
    Entry("raw-redis", "redis", f"{PEERS}.raw_redis:RawRedis", "redis", pace="fast"),
    Entry(
        "omniq-postgres",
        "postgres",
        f"{SERVERS}:OmniQPostgres",
        "omniq",
        pace="fast",
        counts_queries=True,
    ),
    Entry(
        "pgqueuer-postgres", "postgres", f"{PEERS}.pgqueuer_postgres:PgQueuerPostgres", "pgqueuer"
    ),
    Entry("saq-postgres", "postgres", f"{PEERS}.saq_queue:SAQPostgres", "saq", pace="slow"),
    Entry("dbos-postgres", "postgres", f"{PEERS}.dbos_postgres:DBOSPostgres", "dbos", pace="slow"),
    Entry("raw-postgres", "postgres", f"{PEERS}.raw_postgres:RawPostgres", "asyncpg", pace="fast"),
    Entry("omniq-nats", "nats", f"{SERVERS}:OmniQNATS", "omniq"),
    Entry("omniq-nats-bare", "nats", f"{SERVERS}:OmniQNATSBare", "omniq"),
    Entry("taskiq-nats", "nats", f"{PEERS}.taskiq_servers:TaskiqNATS", "taskiq_nats", pace="slow"),
    Entry("faststream-nats", "nats", f"{PEERS}.faststream_nats:FastStreamNATS", "faststream"),
    Entry("raw-nats", "nats", f"{PEERS}.raw_nats:RawNATS", "nats"),
    Entry("raw-nats-bare", "nats", f"{PEERS}.raw_nats:RawNATSBare", "nats"),
    Entry("omniq-file-full", "file", "bench.omniq_file:OmniQFileFull", "omniq"),
    Entry("omniq-file-fast", "file", "bench.omniq_file:OmniQFileFast", "omniq"),
    Entry("huey-file", "file", f"{PEERS}.huey_file:HueyFile", "huey"),
    Entry("raw-file-fsync", "file", f"{PEERS}.raw_file:RawFileSynced", None),
    Entry("raw-file", "file", f"{PEERS}.raw_file:RawFile", None),
)


def load(target: str) -> Adapter:
    """Import ``module:Class`` and return a new adapter."""
    module, _, name = target.partition(":")
    adapter = getattr(import_module(module), name)()
    if not isinstance(adapter, Adapter):
        raise TypeError(f"{target} is no adapter.")
    return adapter
