"""A NATS server that knows its users by JWT, and the credentials file of one of them.

What `nsc` makes in production: an operator signs an account, the account signs a user, and the user
proves by a signature of the server's nonce that the key is his. See docs.nats.io, "JWTs in depth".
"""

from __future__ import annotations

import json
import os
import time
from base64 import b32encode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, NamedTuple

import nkeys

_CREDENTIALS = """-----BEGIN NATS USER JWT-----
{jwt}
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
{seed}
------END USER NKEY SEED------
"""
_BOUNDS = ("subs", "data", "payload", "mem_storage", "disk_storage", "streams", "consumer")
_UNLIMITED: dict[str, int] = dict.fromkeys((*_BOUNDS, "imports", "exports", "conn", "leaf"), -1)


class Key(NamedTuple):
    """A pair of keys of an operator, account or user."""

    public: str
    seed: str
    sign: Callable[[bytes], bytes]


class Realm(NamedTuple):
    """Lines for the configuration of a server, and what its one user logs in with."""

    lines: tuple[str, ...]
    credentials: str


def new_realm() -> Realm:
    """Make an operator, an account with JetStream, and a user, all with fresh keys."""
    operator, user = _new_key(nkeys.PREFIX_BYTE_OPERATOR), _new_key(nkeys.PREFIX_BYTE_USER)
    account, system = (_new_key(nkeys.PREFIX_BYTE_ACCOUNT) for _ in range(2))
    limits = {"limits": _UNLIMITED}
    lines = (
        f"operator: {_signed(operator, operator, 'operator', {})}",
        f"system_account: {system.public}",
        "resolver: MEMORY",
        "resolver_preload: {",
        f"  {account.public}: {_signed(account, operator, 'account', limits)}",
        f"  {system.public}: {_signed(system, operator, 'account', {})}",
        "}",
    )
    jwt = _signed(user, account, "user", _UNLIMITED)
    return Realm(lines, _CREDENTIALS.format(jwt=jwt, seed=user.seed))


def _new_key(prefix: int) -> Key:
    made: Any = nkeys  # the module has no types
    seed: bytes = made.encode_seed(os.urandom(32), prefix)
    pair = made.from_seed(seed)
    return Key(pair.public_key.decode(), seed.decode(), pair.sign)


def _signed(subject: Key, issuer: Key, kind: str, more: Mapping[str, Any]) -> str:
    claims: dict[str, Any] = {
        "iat": int(time.time()),
        "iss": issuer.public,
        "name": kind,
        "sub": subject.public,
        "nats": {**more, "type": kind, "version": 2},
    }
    claims["jti"] = b32encode(sha256(json.dumps(claims).encode()).digest()).decode().rstrip("=")
    parts = [_part({"typ": "JWT", "alg": "ed25519-nkey"}), _part(claims)]
    signature = issuer.sign(".".join(parts).encode())
    return ".".join([*parts, _encoded(signature)])


def _part(content: dict[str, Any]) -> str:
    return _encoded(json.dumps(content).encode())


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")
