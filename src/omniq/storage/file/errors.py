"""The one place that turns errors of the file system into ours."""

from __future__ import annotations

import errno

from omniq.exceptions import StorageError, StorageUnavailableError

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space and try again",
    errno.EDQUOT: "the disk quota is used up; free some space and try again",
    errno.EFBIG: "the file may not grow any further; raise the limit (ulimit -f)",
    errno.EROFS: "the disk is mounted read-only",
    errno.EACCES: "no permission; check the owner and mode of the folder",
    errno.EPERM: "not permitted; check the owner and mode of the folder",
    errno.EIO: "the disk reported an error",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n)",
    errno.ENFILE: "too many open files on this machine",
    errno.ENOENT: "a folder of the store was removed",
    errno.ENOTDIR: "a file or a symbolic link stands where a folder of the store belongs",
    errno.ELOOP: "a symbolic link stands where a file of the store belongs; it was not followed",
    errno.EISDIR: "a folder stands where a file of the store belongs",
}
_PLANTED = {errno.ENOTDIR, errno.ELOOP, errno.EISDIR}


def translated(error: OSError, root: object) -> StorageError:
    """Return our error for one of the file system's: what failed, where, and what to do."""
    where = f"{root}: {error.filename}" if isinstance(error.filename, str) else str(root)
    text = f"file storage {where}: {error.strerror or error}"
    advice = _ADVICE.get(error.errno or 0)
    if advice:
        text = f"{text} ({advice})"
    kind = StorageError if error.errno in _PLANTED else StorageUnavailableError
    return kind(text)
