"""Where a store lies: its companion folder, and whether the disk is a local one."""

from __future__ import annotations

import re
from pathlib import Path

from omniq.exceptions import ConfigError

_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre"}
_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")
"""How the system writes blanks and backslashes in the names of mount points."""


def network_filesystem_of(folder: Path) -> str:
    """Return the type of the network file system a folder lies on; empty for a local disk.

    Known on Linux only; elsewhere every disk counts as local.
    """
    kind = filesystem_of(folder)
    return kind if kind in _NETWORK or kind.startswith("fuse.sshfs") else ""


def refuse_network_disk(path: Path) -> None:
    """Refuse a database on a network file system, whose locks WAL mode cannot trust.

    Raises:
        ConfigError: the folder is mounted from a network (known on Linux only).
    """
    kind = network_filesystem_of(path.parent)
    if kind:
        raise ConfigError(
            f"sqlite database {path} lies on a network file system ({kind}), where SQLite loses "
            "data; put it on a local disk, or use a server backend (postgresql://, redis://)"
        )


def filesystem_of(folder: Path, mounts: Path = _MOUNTS) -> str:
    """Return the type of the file system a folder lies on; empty where the system cannot tell."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    target, best, kind = str(folder.resolve()), "", ""
    for line in lines:
        left, _, right = line.partition(" - ")
        mount = _ESCAPED.sub(lambda found: chr(int(found[1], 8)), left.split()[4])
        inside = target == mount or target.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, right.split()[0]
    return kind


def companion_folder(path: Path) -> Path:
    """Return the folder beside a file that holds its locks and sockets, made if needed."""
    folder = path.with_name(path.name + "-wake")
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
