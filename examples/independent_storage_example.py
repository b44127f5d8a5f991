"""Each component where you want it: four ways to say so. Run it in an empty folder.

python examples/independent_storage_example.py
"""

from __future__ import annotations

import os
from pathlib import Path

from omniq import OmniQ
from omniq.models.config import FileConfig, OmniQConfig, SQLiteConfig, StorageBackendConfig

CONFIGS = Path(__file__).parent / "deployment_configs"


def by_environment() -> OmniQ:
    """Eight variables, two a component; what is not said goes with the tasks."""
    os.environ["OMNIQ_TASK_QUEUE_TYPE"] = "sqlite"
    os.environ["OMNIQ_TASK_QUEUE_URL"] = "sqlite:///tasks.db"
    os.environ["OMNIQ_RESULT_STORAGE_TYPE"] = "file"
    os.environ["OMNIQ_RESULT_STORAGE_URL"] = "./results"
    os.environ["OMNIQ_EVENT_STORAGE_TYPE"] = "memory"
    try:
        return OmniQ()
    finally:
        for name in [name for name in os.environ if name.startswith("OMNIQ_")]:
            del os.environ[name]


def by_program() -> OmniQ:
    """Typed configurations and general ones can be mixed."""
    return OmniQ(
        config=OmniQConfig(
            task_queue_backend=SQLiteConfig(database_path="tasks.db", durability="fast"),
            result_storage_backend=FileConfig(base_dir="./results"),
            event_storage_backend=StorageBackendConfig("memory"),
        )
    )


def by_file() -> OmniQ:
    """YAML or TOML."""
    return OmniQ(config=CONFIGS / "mixed_storage.yaml")


def by_argument() -> OmniQ:
    """An argument wins over a configuration, for its component."""
    return OmniQ(config=CONFIGS / "mixed_storage.yaml", results="memory://")


def square(n: int) -> int:
    """Return the square of a number."""
    return n * n


def main() -> None:
    """Run a task on each of them."""
    for make in (by_environment, by_program, by_file, by_argument):
        with make() as q:
            task = q.task(name="square")(square)
            handle = task.enqueue_sync(7)
            q.worker(burst=True).run_sync()
            print(f"{make.__name__}: {handle.result_sync(timeout=10)}")


if __name__ == "__main__":
    main()
