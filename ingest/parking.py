"""Postbacks whose click is not known yet: sealed on their way into the queue, opened again when the click is there."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from ingest.arrival import Arrival
from ingest.decide import Decision
from ingest.spool_records import pack_arrival, unpack_arrival
from ingest.vault import Vault
from storage.parked import ParkedPostback
from storage.records import Kind

MAX_ARRIVAL_BYTES: Final = 64 << 10
"""What came with a postback, at most; one that brought more is rejected at once."""
MAX_PARKED: Final = 1_000_000
"""Postbacks that wait for their clicks, about; while there are more, all others are rejected at once."""


class Parking:
    """What is parked keeps all that it takes to decide it exactly as it came: token and signature too, and so it is
    encrypted. `is_full`: nothing more is parked for now."""

    def __init__(self, vault: Vault, park_ms: int) -> None:
        self._vault = vault
        self._park_us = park_ms * 1000
        self.is_full = False

    @property
    def key_ids(self) -> Sequence[str]:
        """Of the keys that we have."""
        return self._vault.key_ids

    def park(self, arrival: Arrival, decision: Decision, click_ids: Sequence[str]) -> Decision:
        """The decision with the arrival sealed in it; a plain rejection where there is no room. `click_ids`: the clicks
        that it may be about."""
        data = pack_arrival(arrival)
        if self.is_full or len(data) > MAX_ARRIVAL_BYTES:
            return replace(decision, kind=Kind.REJECTION)
        receipt, record = decision.receipt, decision.record
        envelope: dict[str, object] = {
            "until_us": receipt.received_us + self._park_us,
            "click_ids": list(dict.fromkeys(click_ids)),
            "key_id": self._vault.key_ids[0],
            "sealed": b64encode(self._vault.seal_data(data, receipt.postback_id)).decode(),
            "sent": record.params,
        }
        return replace(decision, record=replace(record, params=envelope))

    def open(self, parked: ParkedPostback) -> Arrival:
        """What was parked. Raises VaultError."""
        return unpack_arrival(self._vault.open_data(parked.sealed, parked.postback_id, parked.key_id))
