"""How a folder of files is: what was set aside, its journal, its disk."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from omniq.models.finding import Finding, fine, risk
from omniq.storage.file.control import META
from omniq.storage.file.journal import SEGMENT_BYTES
from omniq.storage.file.ops import ASIDE
from omniq.storage.local.disk import MIB, disk_findings, network_findings

MANY = 1000
NAMED = 3
USUAL_SEGMENTS = 4
"""Those written, those being swept, and room for a slow disk."""


def folder_findings(root: Path, durability: str) -> list[Finding]:
    """Look at the folder of one component."""
    name = f"files {root}"
    found = [_durability(name, durability), *_aside(name, root), *_journal(name, root)]
    return [*found, *network_findings(name, root), *disk_findings(root)]


def _durability(name: str, durability: str) -> Finding:
    if durability == "full":
        return fine(name, "what is acknowledged is synced to the disk")
    return risk(
        name,
        "durability is 'fast': a power cut may lose the last moments, also what was acknowledged",
        "leave durability at 'full' unless every task can be enqueued anew",
    )


def _aside(name: str, root: Path) -> list[Finding]:
    """Report damaged records that were set aside, so that they hide no others."""
    folder = root / ASIDE
    names = sorted(path.name for path in islice(folder.iterdir(), MANY)) if folder.is_dir() else []
    if not names:
        return [fine(name, "no damaged records")]
    number = f"{len(names):,}" if len(names) < MANY else f"{MANY:,} or more"
    return [
        risk(
            name,
            f"{number} damaged records were set aside: {', '.join(names[:NAMED])}",
            f"look at them in {folder}; enqueue anew what is worth it, then delete the files",
        )
    ]


def _journal(name: str, root: Path) -> list[Finding]:
    """Report a journal that is not swept: the disk cannot keep up, or refuses."""
    sizes = [path.stat().st_size for path in (root / META).glob("journal-*")]
    if not sizes:
        return []
    text = f"journal of {sum(sizes) / MIB:,.1f} MiB in {len(sizes)} segments"
    if sum(sizes) <= USUAL_SEGMENTS * SEGMENT_BYTES:
        return [fine(name, text)]
    return [
        risk(
            name,
            f"{text}: old ones are not swept, so a start after a power cut takes long",
            "look for 'checkpoint' warnings in the workers' logs: the disk is too slow or failing",
        )
    ]
