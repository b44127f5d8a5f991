"""Whether a disk still has room."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from omniq.models.finding import Finding, broken, fine, risk
from omniq.storage.local.filesystem import network_filesystem_of

MIB = 1 << 20
NEARLY_FULL = (256 * MIB, 2048 * MIB)
"""Less than the first is always little; up to the second, where it is 5 % of the disk."""
FULL = 16 * MIB
FEW_FILES = 0.02


def disk_findings(folder: Path) -> list[Finding]:
    """Return how much room is left for files in a folder, and how many files there may still be."""
    usage = shutil.disk_usage(folder)
    name = f"disk {_mount_point(folder)}"
    free = f"{usage.free / MIB:,.0f} MiB free"
    hint = "make room: delete files, omniq queues purge, shorter result_ttl"
    little = max(NEARLY_FULL[0], min(NEARLY_FULL[1], usage.total // 20))
    if usage.free < FULL:
        return [broken(name, f"is full, {free}: nothing can be enqueued or finished", hint)]
    if usage.free < little:
        return [risk(name, f"is nearly full, {free}", hint)]
    if _files_left(folder) < FEW_FILES:
        return [risk(name, "has hardly any inodes left, so few more files can be made", hint)]
    return [fine(name, free)]


def network_findings(name: str, folder: Path) -> list[Finding]:
    """Return a risk where a folder lies on a network file system, as the operator allowed."""
    kind = network_filesystem_of(folder)
    if not kind:
        return []
    return [
        risk(
            name,
            f"lies on a network file system ({kind}), whose locks several machines cannot trust",
            "run workers on one machine only, or use a server backend",
        )
    ]


def _mount_point(folder: Path) -> Path:
    """Return where the disk of a folder is mounted."""
    here = folder.resolve()
    while not here.is_mount() and here != here.parent:
        here = here.parent
    return here


def _files_left(folder: Path) -> float:
    """Return the share of files that can still be made; 1 where there is no limit."""
    if not hasattr(os, "statvfs"):
        return 1.0
    status = os.statvfs(folder)
    return status.f_favail / status.f_files if status.f_files else 1.0
