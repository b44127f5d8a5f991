"""The file backend on a full disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.integration.disks import tmpfs_disk

OPEN_WHILE_FULL = """
import asyncio, sys
from omniq.backend.file import FileBackend
from omniq.exceptions import StorageUnavailableError

async def main():
    backend = FileBackend(sys.argv[1])
    try:
        await backend.get_schedule_storage().list_schedules()
    except StorageUnavailableError as error:
        print(error)

asyncio.run(main())
"""


def test_a_store_that_cannot_be_made_is_an_error_and_not_the_end_of_the_process(
    tmp_path: Path,
) -> None:
    """Memory that is mapped to a hole in a file cannot be written on a full disk: SIGBUS."""
    with tmpfs_disk(tmp_path / "disk") as disk:
        store = disk.folder / "store"
        (store / "schedules" / ".omniq").mkdir(parents=True)
        control = store / "schedules" / ".omniq" / "control"
        control.touch()
        disk.fill()

        ended = subprocess.run(
            [sys.executable, "-c", OPEN_WHILE_FULL, str(store)],
            capture_output=True,
            text=True,
            check=False,
        )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert "the disk is full" in ended.stdout
