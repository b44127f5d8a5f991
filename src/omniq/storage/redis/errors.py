"""The one place that turns errors of the redis driver into ours."""

from __future__ import annotations

from omniq.exceptions import StorageError, StorageUnavailableError

_LATER = {
    "OOM": "its memory is full; raise maxmemory or purge; nothing was stored",
    "READONLY": "it is a read-only replica; name the primary, or use a Sentinel URL",
    "MISCONF": "it cannot save to disk and refuses writes; see its log",
    "LOADING": "it is still loading its data",
    "MASTERDOWN": "its primary is down",
    "NOREPLICAS": "too few replicas are connected for it to accept writes",
    "CLUSTERDOWN": "the cluster is down",
    "TRYAGAIN": "the cluster is moving the keys",
    "BUSY": "a script blocks it",
    "UNBLOCKED": "it became a replica",
}
_REFUSED = ("WRONGPASS", "NOAUTH", "NOPERM")
_REFUSED_TEXTS = ("invalid password", "invalid username-password", "authentication required")


def translated(error: BaseException, place: str) -> StorageError:
    """Return our error for one of the driver's, the network's or a deadline's."""
    from redis import exceptions as theirs

    text = f"redis server {place}: "
    if isinstance(error, theirs.AuthenticationError | theirs.AuthorizationError):
        return StorageError(f"{text}it refused the user name or password")
    message = str(error)
    word = message.split(" ", 1)[0].removeprefix("-")
    if word in _REFUSED or any(known in message.lower() for known in _REFUSED_TEXTS):
        return StorageError(f"{text}it refused the user name, password or command: {message}")
    advice = _LATER.get(word) or _LATER.get(_kind(error))
    if advice is not None:
        return StorageUnavailableError(f"{text}{advice}")
    if isinstance(error, TimeoutError | theirs.TimeoutError):
        hint = "; does this port speak TLS?" if place.startswith("rediss") else ""
        return StorageUnavailableError(f"{text}no answer in time; the connection was closed{hint}")
    if "unknown command 'sentinel'" in message.lower():
        return StorageError(f"{text}what answers there is no Sentinel; for a server say redis://")
    if isinstance(error, OSError | theirs.ConnectionError | theirs.ClusterError):
        return StorageUnavailableError(f"{text}{message or type(error).__name__}")
    if "Cluster cannot be connected" in message:
        return StorageUnavailableError(f"{text}{message}")
    return StorageError(f"{text}{message}")


def is_lost_reply(error: BaseException) -> bool:
    """Whether the connection broke, so that nobody knows if the server did what was asked."""
    from redis import exceptions as theirs

    return isinstance(error, OSError | theirs.ConnectionError | theirs.TimeoutError)


def _kind(error: BaseException) -> str:
    """Return the word the server said, where the driver took it off the message."""
    return _WORDS.get(type(error).__name__, "")


_WORDS = {
    "BusyLoadingError": "LOADING",
    "ReadOnlyError": "READONLY",
    "OutOfMemoryError": "OOM",
    "MasterDownError": "MASTERDOWN",
    "ClusterDownError": "CLUSTERDOWN",
    "TryAgainError": "TRYAGAIN",
}
