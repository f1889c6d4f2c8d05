"""A postback in the spool: one framed, checksummed record. Pure.

A segment is a header line, then records: length of the body (u32, little endian), CRC-32 of the body (u32), body. The
body is the arrival in MessagePack. Only the end of a segment can be torn: records before it were on disk before their
senders were answered.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from zlib import crc32

import msgspec

from ingest.arrival import Arrival, Receipt
from ingest.bodies import Nested
from ingest.reasons import Reason
from ingest.signatures import Signed
from ingest.wire import Fault, Pairs, pairs_of, plain

HEADER: Final = b"postback spool 1\n"
_FRAME: Final = struct.Struct("<II")


class _Body(msgspec.Struct, frozen=True, array_like=True):
    """Texts are bytes: what came in may hold lone surrogates."""

    postback_id: bytes
    received_us: int
    remote_ip: str | None
    idempotency_key: str | None
    pairs: list[tuple[bytes, bytes, bool]]
    fault: tuple[str, str] | None
    signed: tuple[bytes, list[bytes], int] | None = None  # not in records that older versions wrote


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(_Body)


@dataclass(frozen=True, slots=True)
class Damage:
    """Where a segment stops making sense. `is_tail`: nothing follows that could have been a record."""

    offset: int
    is_tail: bool


def encode_arrival(arrival: Arrival) -> bytes:
    """The arrival as one record."""
    body = pack_arrival(arrival)
    return _FRAME.pack(len(body), crc32(body)) + body


def pack_arrival(arrival: Arrival) -> bytes:
    """The arrival as the body of a record."""
    receipt, fault, signed = arrival.receipt, arrival.fault, arrival.signed
    return _encoder.encode(
        _Body(
            receipt.postback_id,
            receipt.received_us,
            receipt.remote_ip,
            arrival.idempotency_key,
            [(_bytes(name), _bytes(value), isinstance(value, Nested)) for name, value in pairs_of(arrival.sent)],
            None if fault is None else (fault.reason.value, fault.detail),
            None if signed is None else (signed.message, list(signed.signatures), signed.timestamp_s),
        )
    )


def decode_segment(data: bytes) -> Iterator[Arrival | Damage]:
    """The arrivals of a segment in order; a Damage last, where it does not end as it should."""
    if not data.startswith(HEADER):
        if data:
            yield Damage(0, is_tail=HEADER.startswith(data))
        return
    offset = len(HEADER)
    while offset < len(data):
        start = offset + _FRAME.size
        if start > len(data):
            yield Damage(offset, is_tail=True)
            return
        length, checksum = _FRAME.unpack_from(data, offset)
        body = data[start : start + length]
        if len(body) < length or crc32(body) != checksum:
            # A torn write may leave any length, and zeros where data was to follow.
            yield Damage(offset, is_tail=start + length >= len(data) or not any(data[start:]))
            return
        yield unpack_arrival(body)
        offset = start + length


def unpack_arrival(body: bytes) -> Arrival:
    """What `pack_arrival` packed."""
    read = _decoder.decode(body)
    pairs: Pairs = [
        (_text(name), Nested(_text(value)) if is_nested else _text(value)) for name, value, is_nested in read.pairs
    ]
    fault = None if read.fault is None else Fault(Reason(read.fault[0]), read.fault[1])
    receipt = Receipt(read.postback_id, read.received_us, read.remote_ip)
    signed = None if read.signed is None else Signed(read.signed[0], tuple(read.signed[1]), read.signed[2])
    return Arrival(receipt, plain(pairs), read.idempotency_key, fault, signed)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
