"""Plain requests as postbacks, for the short cut."""

from __future__ import annotations

from collections.abc import Sequence

from ingest.addresses import Network, client_address
from ingest.arrival import Arrival, Unread
from ingest.receipts import new_receipt
from ingest.simple_request import read_simple
from ingest.wire import Sent, UnreadableError, read_body, read_fields, together


class PlainRequests:
    """Reads requests for one of `paths`; `trusted`: proxies whose word on a sender's address is believed."""

    def __init__(self, paths: Sequence[str], trusted: Sequence[Network]) -> None:
        self.paths = frozenset(path.encode() for path in paths)
        self._trusted = trusted

    def read(self, data: bytes, peer: str | None) -> Arrival | Unread | None:
        """The postback that these bytes from this peer are, as one whole request; None where it is not for the short
        cut. What cannot be read is not: it takes the long way, and is refused there."""
        request = read_simple(data, self.paths)
        if request is None:
            return None
        query, body = request.query, request.body
        sent: Sent | None = None
        if body is not None:
            try:
                sent = together(read_fields(query), read_body(request.headers.content_type, body))
            except UnreadableError:
                return None
        if not (query.strip("&") if sent is None else sent):
            return None
        receipt = new_receipt(self.address(peer, request.headers.forwarded_for))
        return Unread(receipt, query) if sent is None else Arrival(receipt, sent)

    def address(self, peer: str | None, forwarded_for: str | None) -> str | None:
        """The sender's address."""
        return client_address(peer, forwarded_for, self._trusted)
