"""The blocking twins: one rule for every class, safe where loops, forks and signals meet."""

import asyncio
import inspect
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from omniq.blocking import blocking, run_blocking
from omniq.exceptions import SyncInAsyncError


class Greeter:
    """Something with both faces."""

    async def greet(self, name: str, *, loud: bool = False) -> str:
        """Return a greeting."""
        await asyncio.sleep(0)
        return f"hello {name}" + "!" * loud

    async def fail(self) -> None:
        """Raise."""
        raise KeyError("no")

    async def whereabouts(self) -> tuple[int, int]:
        """Return the thread and the loop this runs in."""
        return threading.get_ident(), id(asyncio.get_running_loop())

    greet_sync = blocking(greet)
    fail_sync = blocking(fail)
    whereabouts_sync = blocking(whereabouts)


class LoudGreeter(Greeter):
    """Overrides only the coroutine."""

    async def greet(self, name: str, *, loud: bool = True) -> str:
        """Return a loud greeting."""
        return (await super().greet(name, loud=loud)).upper()


def test_a_twin_returns_what_the_coroutine_returns() -> None:
    """With the same arguments."""
    assert Greeter().greet_sync("you", loud=True) == "hello you!"


def test_a_twin_raises_what_the_coroutine_raises() -> None:
    """The very same exception."""
    with pytest.raises(KeyError, match="no"):
        Greeter().fail_sync()


def test_overriding_the_coroutine_overrides_its_twin() -> None:
    """A backend writes one method, not two."""
    assert LoudGreeter().greet_sync("you") == "HELLO YOU!"


def test_a_twin_looks_like_its_coroutine() -> None:
    """Editors and documentation show parameters and purpose."""
    assert inspect.signature(Greeter.greet_sync) == inspect.signature(Greeter.greet)
    assert Greeter.greet_sync.__qualname__ == "Greeter.greet_sync"
    assert Greeter.greet_sync.__name__ == "greet_sync"
    assert "await greet(…)" in (Greeter.greet_sync.__doc__ or "")


def test_all_twins_share_one_loop_in_a_thread_of_its_own() -> None:
    """What one call opened, the next can use."""
    first, second = Greeter().whereabouts_sync(), Greeter().whereabouts_sync()

    assert first == second
    assert first[0] != threading.get_ident()


def test_twins_may_be_called_from_many_threads_at_once() -> None:
    """They wait side by side."""
    barrier = threading.Barrier(8)
    answers: list[str] = []

    def call() -> None:
        barrier.wait()
        answers.append(Greeter().greet_sync("you"))

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == ["hello you"] * 8


async def test_inside_a_running_loop_the_error_names_what_to_await() -> None:
    """It would block every task of the loop, or dead-lock."""
    with pytest.raises(
        SyncInAsyncError, match=r"LoudGreeter\.greet_sync\(\).*await LoudGreeter\.greet"
    ):
        LoudGreeter().greet_sync("you")


async def test_a_thread_beside_a_running_loop_may_block() -> None:
    """Synchronous tasks of a worker do."""
    assert await asyncio.to_thread(Greeter().greet_sync, "you") == "hello you"


def test_any_coroutine_function_can_be_run() -> None:
    """Methods with parameters of a generic class are wrapped by hand."""

    async def five() -> int:
        return 5

    assert run_blocking(five, "five") == 5


def python(source: str) -> subprocess.CompletedProcess[str]:
    """Run a program of its own, warnings being errors."""
    src = Path(__file__).parents[2] / "src"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(source)],
        env={**os.environ, "PYTHONPATH": str(src)},
        capture_output=True,
        text=True,
        timeout=60,
    )


INTERRUPTED = """
    import asyncio, os, signal, threading
    from omniq.blocking import run_blocking

    cancelled = threading.Event()

    async def wait() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def five() -> int:
        return 5

    try:
        run_blocking(wait, "wait")
    except KeyboardInterrupt:
        print("interrupted", cancelled.wait(10), run_blocking(five, "five"))
"""


def test_keyboard_interrupt_cancels_the_call_and_leaves_the_rest_usable() -> None:
    """Ctrl-C must not leave the call running behind the user's back."""
    done = python(INTERRUPTED)

    assert done.stdout.split() == ["interrupted", "True", "5"], done.stderr


FORKED = """
    import os, warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is the point
    from omniq.blocking import run_blocking

    async def where() -> int:
        return os.getpid()

    assert run_blocking(where, "where") == os.getpid()
    child = os.fork()
    if child == 0:
        os._exit(0 if run_blocking(where, "where") == os.getpid() else 1)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), run_blocking(where, "where") == os.getpid())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_after_a_fork_both_sides_have_a_loop_of_their_own() -> None:
    """Pre-forking servers import first and fork then; the thread stays with the parent."""
    done = python(FORKED)

    assert done.stdout.split() == ["0", "True"], done.stderr


LEFT_OPEN = """
    from omniq.storage.component import Component
    import asyncio

    class Store(Component):
        async def _close(self) -> None:
            await asyncio.to_thread(print, "closed")

    store = Store()
    store.connect_sync()
"""


def test_what_was_left_open_is_closed_at_exit_with_threads_still_at_hand() -> None:
    """Buffered writes reach the store, however the program ends."""
    done = python(LEFT_OPEN)

    assert (done.stdout.split(), done.stderr) == (["closed"], "")
