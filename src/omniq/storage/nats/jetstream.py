"""What JetStream can do for a store, each as one round trip for any number of items.

A stream keeps the last message of each subject (or all of them, for events). Reads come from the
stream itself: with one replica by batched direct get; with several from its leader, because the
other replicas may lag behind.
"""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec

from omniq.exceptions import SchemaError, StorageError
from omniq.storage.nats.errors import (
    NAME_TAKEN,
    NOT_FOUND,
    STREAM_NOT_FOUND,
    WRONG_SEQUENCE,
    no_responders,
    refused,
)
from omniq.storage.nats.link import NATSServer

if True:  # the shape of a message is needed without loading the driver
    from omniq.storage.nats.frames import Delivery, Frame
