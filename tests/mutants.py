# length: a list
"""Bugs sown on purpose, which the suite must find; `scripts/mutants` applies them one at a time.

Each is a promise of docs/guarantees.md broken in one place. A mutant whose old text is no longer in
its file, once exactly, is reported as stale: bring it up to date with the code.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """A bug to sow.

    Attributes:
        name: what is broken, in a few words.
        file: below src/omniq.
        old, new: the text to replace, and what by.
        tests: arguments of pytest for the quickest tests that must fail.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str


_QUEUE = "tests/contract/test_queue.py --backend {} -k '{}'"


def on_sqlite(words: str) -> str:
    """Return the tests of the queue contract on SQLite whose names fit these words."""
    return _QUEUE.format("sqlite", words)


def in_memory(words: str) -> str:
    """Return the tests of the queue contract in memory whose names fit these words."""
    return _QUEUE.format("memory", words)


RESULTS = "tests/contract/test_results.py --backend sqlite"
RESULTS_IN_MEMORY = "tests/contract/test_results.py --backend memory"
SCHEDULES = "tests/contract/test_schedules.py --backend sqlite"
SQLITE = "tests/integration/test_sqlite.py"
OPENING = "tests/integration/test_sqlite_opening.py"
WAKING = "tests/integration/test_sqlite_waking.py"
PROCESSES = "tests/integration/test_sqlite_processes.py -k 'not crash'"
CRASHES = "tests/integration/test_sqlite_processes.py -k crash"
DISK = "tests/integration/test_bad_disk.py"
INPUT = "tests/integration/test_bad_input.py"
RACES = "tests/integration/test_worker_races.py"
WORKER = "tests/integration/test_worker.py"
LIFECYCLE = "tests/unit/test_lifecycle.py"
HANDLE = "tests/unit/test_handle.py"
COALESCE = "tests/unit/test_coalesce.py"
SCHEDULER = "tests/unit/test_scheduler.py"

MUTANTS = [
    # The fence
    Mutant(
        "swap without the token",
        "storage/sqlite/writes.py",
        'f"AND lease_token IS ?{fence + 2} AND status',
        'f"AND (lease_token IS ?{fence + 2} OR 1) AND status',
        on_sqlite("stale or repeated"),
    ),
    Mutant(
        "swap without the claim count",
        "storage/sqlite/writes.py",
        "WHERE claim_count = ?{fence + 1} ",
        "WHERE (claim_count = ?{fence + 1} OR 1) ",
        on_sqlite("stale or repeated"),
    ),
    Mutant(
        "swap without the status",
        "storage/sqlite/writes.py",
        "AND status = ?{fence + 3} ",
        "AND (status = ?{fence + 3} OR 1) ",
        on_sqlite("stale or repeated or twice"),
    ),
    Mutant(
        "swap in memory without the token",
        "storage/memory/table.py",
        "        and stored.lease_token == seen.lease_token\n",
        "",
        in_memory("stale or repeated"),
    ),
    Mutant(
        "swap that loses one stops the others",
        "storage/sqlite/writes.py",
        "applied = [complete or self._swap_one(connection, change) for change in changes]",
        "applied = [complete for change in changes]",
        on_sqlite("stop_the_others"),
    ),
    Mutant(
        "extend without the token",
        "storage/sqlite/writes.py",
        "claim_count = ? AND lease_token = ? AND status = 'running'",
        "claim_count = ? AND (lease_token = ? OR 1) AND status = 'running'",
        on_sqlite("held or lease"),
    ),
    Mutant(
        "extend without the claim count",
        "storage/sqlite/writes.py",
        "WHERE id = ? AND claim_count = ? AND lease_token",
        "WHERE id = ? AND (claim_count = ? OR 1) AND lease_token",
        on_sqlite("held or lease or claim"),
    ),
    Mutant(
        "extend of what is over",
        "storage/sqlite/writes.py",
        "lease_token = ? AND status = 'running'",
        "lease_token = ?",
        on_sqlite("lease or settle or extend or held"),
    ),
    Mutant(
        "extend in memory without the token",
        "storage/memory/table.py",
        "!= (lease[1], lease[2])",
        "!= (lease[1], record.task.lease_token)",
        in_memory("held or lease"),
    ),
    Mutant(
        "a change that stays running moves the lease",
        "storage/sqlite/writes.py",
        "THEN due_at ELSE ?5 END",
        "THEN ?5 ELSE ?5 END",
        on_sqlite("moves_the_lease"),
    ),
    Mutant(
        "a cancel request is overwritten",
        "storage/sqlite/writes.py",
        "THEN max(cancel_requested, ?8) ELSE",
        "THEN ?8 ELSE",
        on_sqlite("cancel_request"),
    ),
    Mutant(
        "memory forgets merge_running",
        "storage/memory/table.py",
        "after = lifecycle.merge_running(stored, after)",
        "after = after",
        in_memory("moves_the_lease or cancel_request"),
    ),
    Mutant(
        "a stale copy updates a task",
        "storage/queue.py",
        "if not same_run or not await",
        "if not await",
        on_sqlite("update_task"),
    ),
    # Claims
    Mutant(
        "claim without a lease",
        "storage/sqlite/claims.py",
        "due_at = :ends_at,",
        "due_at = NULL,",
        on_sqlite("abandoned or lease"),
    ),
    Mutant(
        "claim without counting",
        "storage/sqlite/claims.py",
        "claim_count = claim_count + 1,",
        "claim_count = claim_count,",
        on_sqlite("claim"),
    ),
    Mutant(
        "lost leases are not counted",
        "storage/sqlite/claims.py",
        "lost_leases = lost_leases + (status = 'running'),",
        "lost_leases = lost_leases,",
        on_sqlite("losses or poisoned"),
    ),
    Mutant(
        "claim of what is not due",
        "storage/sqlite/claims.py",
        "AND status = 'scheduled' AND due_at <= ? ",
        "AND status = 'scheduled' AND ? ",
        on_sqlite("delayed or moment or put_off"),
    ),
    Mutant(
        "claim of a lease that has not ended",
        "storage/sqlite/claims.py",
        "AND status = 'running' AND due_at <= :now\n",
        "AND status = 'running' AND :now\n",
        on_sqlite("claimed_again or abandoned or fifty"),
    ),
    Mutant(
        "claim from a paused queue",
        "storage/sqlite/claims.py",
        "if queue not in paused] if paused else queues",
        "] if paused else queues",
        on_sqlite("paused"),
    ),
    Mutant(
        "low priority first",
        "storage/sqlite/claims.py",
        "ORDER BY priority DESC, created_at, id LIMIT :limit",
        "ORDER BY priority, created_at, id LIMIT :limit",
        on_sqlite("priority or order"),
    ),
    Mutant(
        "young first",
        "storage/sqlite/claims.py",
        "ORDER BY priority DESC, created_at, id LIMIT :limit",
        "ORDER BY priority DESC, id LIMIT :limit",
        on_sqlite("older or order or place"),
    ),
    # Keys and parents
    Mutant(
        "a key is never freed",
        "storage/sqlite/schema.py",
        "WHERE unique_key IS NOT NULL AND finished_at IS NULL;",
        "WHERE unique_key IS NOT NULL;",
        on_sqlite("key"),
    ),
    Mutant(
        "a key is not unique",
        "storage/sqlite/schema.py",
        "CREATE UNIQUE INDEX {task}_unique",
        "CREATE INDEX {task}_unique",
        on_sqlite("key"),
    ),
    Mutant(
        "a key in memory is never freed",
        "storage/memory/table.py",
        "                self._release_key(after)\n",
        "                pass\n",
        in_memory("key"),
    ),
    Mutant(
        "only the first generation is cancelled",
        "storage/sqlite/writes.py",
        "        while finished and self._has_dependencies",
        "        if finished and self._has_dependencies",
        on_sqlite("generations"),
    ),
    Mutant(
        "children are not freed",
        "storage/sqlite/writes.py",
        "self._free_children(transaction, [task for task in done if task.is_final], now)",
        "self._free_children(transaction, [], now)",
        on_sqlite("parent or child"),
    ),
    Mutant(
        "a lost swap frees children",
        "storage/sqlite/writes.py",
        "for change, ok in zip(changes, applied, strict=True) if ok]",
        "for change, ok in zip(changes, applied, strict=True)]",
        on_sqlite("lost_swap"),
    ),
    Mutant(
        "the cascade in memory stops",
        "storage/memory/table.py",
        "                        ended.append(after)\n",
        "                        pass\n",
        in_memory("generations"),
    ),
    Mutant(
        "a child of a failed parent runs",
        "lifecycle.py",
        'if parent is not TaskStatus.COMPLETED and child.on_parent_failure == "cancel":',
        'if parent is None and child.on_parent_failure == "cancel":',
        LIFECYCLE,
    ),
    Mutant(
        "a new child of a failed parent runs",
        "lifecycle.py",
        'elif status is not TaskStatus.COMPLETED and task.on_parent_failure == "cancel":',
        'elif status is None and task.on_parent_failure == "cancel":',
        LIFECYCLE,
    ),
    # Lifecycle
    Mutant(
        "poison is never stopped",
        "lifecycle.py",
        "if task.lost_leases >= CRASH_LIMIT:",
        "if task.lost_leases >= 99:",
        f"{LIFECYCLE} {WORKER} -k 'poison'",
    ),
    Mutant(
        "a release costs an attempt",
        "lifecycle.py",
        "            after.attempt = task.attempt - 1\n            return after",
        "            return after",
        LIFECYCLE,
    ),
    Mutant(
        "a snooze costs an attempt",
        "lifecycle.py",
        "    after = _scheduled(_left(task), now, delay, reason)\n    after.attempt = task.attempt - 1",
        "    after = _scheduled(_left(task), now, delay, reason)",
        LIFECYCLE,
    ),
    Mutant(
        "losses are never forgiven",
        "lifecycle.py",
        "    after.lease_token = after.worker_id = None\n    after.lost_leases = 0\n",
        "    after.lease_token = after.worker_id = None\n",
        LIFECYCLE,
    ),
    Mutant(
        "the final task keeps its token",
        "lifecycle.py",
        "    after.lease_token = after.due_at = None\n    after.finished_at = now",
        "    after.due_at = None\n    after.finished_at = now",
        LIFECYCLE,
    ),
    Mutant(
        "cancelling ends a running task",
        "lifecycle.py",
        "    if task.status is not TaskStatus.RUNNING:\n        return _ended(task, TaskStatus.CANCELLED, now, reason)",
        "    if True:\n        return _ended(task, TaskStatus.CANCELLED, now, reason)",
        LIFECYCLE,
    ),
    Mutant(
        "an expired task runs",
        "lifecycle.py",
        "if task.expires_at is not None and task.expires_at <= now:\n        return Expired()",
        "if task.expires_at is None and False:\n        return Expired()",
        LIFECYCLE,
    ),
    Mutant(
        "a damaged request is run",
        "lifecycle.py",
        "    if DAMAGED in task.metadata:",
        "    if False:",
        PROCESSES.replace("not crash", "damaged"),
    ),
    Mutant(
        "a retried task keeps its attempts",
        "lifecycle.py",
        "    after.attempt = after.lost_leases = 0\n",
        "",
        LIFECYCLE,
    ),
    # Results
    Mutant(
        "a stale result overwrites",
        "storage/sqlite/stores.py",
        "data = excluded.data WHERE excluded.claim_count >= claim_count OR expires_at <= ?",
        "data = excluded.data WHERE excluded.claim_count >= 0 OR expires_at <= ?",
        RESULTS,
    ),
    Mutant(
        "an expired result is shown",
        "storage/sqlite/stores.py",
        '                    "AND (expires_at IS NULL OR expires_at > ?)"\n                )\n'
        "                found.update(connection.execute(query, (*ids, at)).fetchall())",
        '                    "AND (expires_at IS NULL OR 1 OR expires_at > ?)"\n                )\n'
        "                found.update(connection.execute(query, (*ids, at)).fetchall())",
        RESULTS,
    ),
    Mutant(
        "a result of another claim is believed",
        "handle.py",
        "found if found is not None and found.claim_count == task.claim_count else None",
        "found",
        HANDLE,
    ),
    Mutant(
        "swap first, result later",
        "storage/queue.py",
        "        if results:\n            await storage.set_many(results)\n        return await self.swap(changes, now=now)",
        "        won = await self.swap(changes, now=now)\n        if results:\n            await storage.set_many(results)\n        return won",
        CRASHES,
    ),
    Mutant(
        "swap without its result",
        "storage/sqlite/queue.py",
        "            storage.write_rows(transaction, rows)\n",
        "",
        on_sqlite("finish"),
    ),
    # Transactions and locks
    Mutant(
        "deferred transactions",
        "storage/sqlite/threads.py",
        'connection.execute("BEGIN IMMEDIATE")',
        'connection.execute("BEGIN DEFERRED")',
        SQLITE,
    ),
    Mutant(
        "commits without the lock file",
        "storage/sqlite/threads.py",
        "        transaction = Transaction(connection)\n        with self._lock, self._gate:",
        "        transaction = Transaction(connection)\n        with self._gate:",
        SQLITE,
    ),
    Mutant(
        "checkpoints without the lock file",
        "storage/sqlite/threads.py",
        '        with self._lock, self._gate:\n            self._connection.execute("PRAGMA busy_timeout = 50")',
        '        with self._gate:\n            self._connection.execute("PRAGMA busy_timeout = 50")',
        SQLITE,
    ),
    Mutant(
        "a failed checkpoint leaves no patience",
        "storage/sqlite/threads.py",
        '            finally:\n                self._connection.execute(f"PRAGMA busy_timeout',
        '            except ZeroDivisionError:\n                self._connection.execute(f"PRAGMA busy_timeout',
        SQLITE,
    ),
    Mutant(
        "the WAL is never brought back",
        "storage/sqlite/threads.py",
        "            if size >= self._checkpoint_at:",
        "            if size < 0:",
        SQLITE,
    ),
    Mutant(
        "a failing job fails its neighbours",
        "storage/sqlite/threads.py",
        "if len(jobs) > 1 and not is_busy(error):",
        "if len(jobs) < 0:",
        SQLITE,
    ),
    Mutant(
        "each waits for the lock by itself",
        "storage/sqlite/threads.py",
        "if len(jobs) > 1 and not is_busy(error):",
        "if len(jobs) > 1:",
        SQLITE,
    ),
    Mutant(
        "what was given up is done later",
        "storage/sqlite/threads.py",
        "results = [None if job.future.done() else job.run(transaction) for job in jobs]",
        "results = [job.run(transaction) for job in jobs]",
        SQLITE,
    ),
    Mutant(
        "full durability is not",
        "storage/sqlite/database.py",
        'level = "FULL" if self.durability == "full" else "NORMAL"',
        'level = "NORMAL"',
        SQLITE,
    ),
    Mutant(
        "a full disk is no StorageUnavailableError",
        "storage/sqlite/errors.py",
        '_ADVICE.keys() - {"SQLITE_NOTADB", "SQLITE_CORRUPT"}',
        '_ADVICE.keys() - {"SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_FULL"}',
        DISK,
    ),
    Mutant(
        "a newer schema is used",
        "storage/sqlite/schema.py",
        "    if version > VERSION:",
        "    if version < VERSION:",
        OPENING,
    ),
    Mutant(
        "network disks are used",
        "storage/sqlite/database.py",
        "        refuse_network_disk(self.path)\n",
        "",
        OPENING,
    ),
    Mutant(
        "namespaces share tables",
        "storage/sqlite/schema.py",
        'f"{namespace}_{name}" for name',
        'f"omniq_{name}" for name',
        OPENING,
    ),
    Mutant(
        "a call behind the order to stop",
        "storage/sqlite/database.py",
        "                if thread is not None:\n                    thread.inbox.put(job)\n                    return\n",
        "                pass\n            if thread is not None:\n                thread.inbox.put(job)\n                return\n",
        OPENING,
    ),
    # Forks, wake-ups, death
    Mutant(
        "a child uses its parent's connection",
        "storage/sqlite/database.py",
        "        if self._pid != os.getpid():\n            _inherited.append",
        "        if self._pid == 0:\n            _inherited.append",
        PROCESSES.replace("not crash", "fork"),
    ),
    Mutant(
        "forks wait for nobody",
        "storage/local/forks.py",
        "        before=_close_gates, after_in_parent=_open_gates, after_in_child=_open_gates",
        "        after_in_parent=_open_gates, after_in_child=_open_gates",
        PROCESSES.replace("not crash", "fork"),
    ),
    Mutant(
        "a child keeps its parent's lock",
        "storage/local/writelock.py",
        "    os.register_at_fork(after_in_child=_leave_to_parent)",
        "    pass",
        PROCESSES.replace("not crash", "fork"),
    ),
    Mutant(
        "nobody elsewhere is woken",
        "storage/local/wake.py",
        "            self._send(ready_queues, final_ids)\n",
        "            pass\n",
        WAKING,
    ),
    Mutant(
        "dead sockets are kept",
        "storage/local/wake.py",
        "            path.unlink(missing_ok=True)  # its process is gone",
        "            pass",
        WAKING,
    ),
    Mutant(
        "closing leaves waiters waiting",
        "storage/local/wake.py",
        "        self.wake(READY, [_EVERYTHING])\n        self.wake(FINAL, [_EVERYTHING])\n        if listener",
        "        if listener",
        WAKING,
    ),
    Mutant(
        "the living are taken for dead",
        "storage/local/liveness.py",
        "    return held is not None and held[1] == os.getpid()",
        "    return False",
        PROCESSES,
    ),
    Mutant(
        "the dead are not noticed",
        "storage/sqlite/queue.py",
        "            if dead:\n",
        "            if not dead:\n",
        PROCESSES,
    ),
    Mutant(
        "all leases end with one death",
        "storage/sqlite/writes.py",
        "WHERE status = 'running' AND worker_id IN ({marks}) RETURNING",
        "WHERE status = 'running' AND (1 OR worker_id IN ({marks})) RETURNING",
        PROCESSES,
    ),
    Mutant(
        "namespaces bury each other's dead",
        "storage/sqlite/database.py",
        "        folder = companion_folder(self.path) / self.namespace\n",
        '        folder = companion_folder(self.path) / "all"\n',
        PROCESSES,
    ),
    # Workers
    Mutant(
        "no heartbeat",
        "worker/leases.py",
        "        if not leases:\n            return\n",
        "        if True:\n            return\n",
        f"{WORKER} -k 'blocked or running_task'",
    ),
    Mutant(
        "a lost run goes on",
        "worker/leases.py",
        "                self._stop_run(run, StopReason.LOST)\n                continue",
        "                continue",
        f"{WORKER} {RACES}",
    ),
    Mutant(
        "an untrusted run goes on",
        "worker/leases.py",
        "            if run.trusted_until < moment:\n                self._stop_run(run, StopReason.LOST)",
        "            if run.trusted_until < moment:\n                continue",
        f"{WORKER} {RACES}",
    ),
    Mutant(
        "a lost end counts as won",
        "worker/settler.py",
        "self._event(item, now) if ok else self._lost_event(item.run, now)",
        "self._event(item, now)",
        f"{WORKER} {RACES}",
    ),
    Mutant(
        "a failing store loses the ends",
        "worker/settler.py",
        "                ended = self._still_trusted(ended)\n",
        "                return\n",
        DISK,
    ),
    Mutant(
        "a lost answer counts as a lost lease",
        "worker/settler.py",
        "        if check and not all(won):",
        "        if False and check and not all(won):",
        f"{WORKER} {RACES}",
    ),
    Mutant(
        "a value that cannot be stored fails its batch",
        "worker/settler.py",
        "        except ValidationError:\n            for item in ended:",
        "        except ZeroDivisionError:\n            for item in ended:",
        WORKER,
    ),
    Mutant(
        "a late claim is run",
        "worker/worker.py",
        "if verdict is None and time.monotonic() >= trusted_until:",
        "if verdict is None and time.monotonic() < 0:",
        RACES,
    ),
    Mutant(
        "a burst ends too soon",
        "worker/worker.py",
        "return not was_busy",
        "return True",
        RACES,
    ),
    Mutant(
        "an unknown task fails",
        "worker/executor.py",
        "return lifecycle.Parked(str(error))",
        "return lifecycle.failure(error, final=True)",
        f"{INPUT} -k parked",
    ),
    # Batches and schedules
    Mutant(
        "one bad call fails its batch",
        "coalesce.py",
        "        except ValidationError as error:\n            if len(batch) == 1:",
        "        except ValidationError as error:\n            if len(batch) >= 1:",
        COALESCE,
    ),
    Mutant(
        "each firing makes another task",
        "ids.py",
        'return str(uuid.uuid5(_FIRES, f"{schedule_id}@{to_micros(fire_at)}"))',
        "return new_id()",
        SCHEDULER,
    ),
    Mutant(
        "schedules advance without a fence",
        "storage/sqlite/stores.py",
        "AND next_run_at IS ? AND run_count = ?",
        "AND (next_run_at IS ? OR 1) AND (run_count = ? OR 1)",
        SCHEDULES,
    ),
]
