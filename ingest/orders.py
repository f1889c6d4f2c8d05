"""What the supervisor tells a worker process."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from ingest.config import Config
from ingest.units import decode_number


class Role(StrEnum):
    """What a worker does."""

    RECEIVER = "receiver"
    WRITER = "writer"


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker needs to know; the URLs are those of the running engines."""

    role: Role
    index: int
    config: Config
    redis_url: str
    postgres_dsn: str
    port: int


def encode_orders(orders: Orders) -> bytes:
    """The line for the worker's standard input."""
    return msgspec.json.encode(orders, enc_hook=int) + b"\n"


def decode_orders(line: bytes) -> Orders:
    """What `encode_orders` made."""
    return msgspec.json.decode(line, type=Orders, dec_hook=decode_number)
