"""What ingest/compiled/requests.pyx has for others."""

from collections.abc import Callable

from ingest.arrival import Arrival, Receipt, Unread
from ingest.outcome import Outcome
from ingest.plain_requests import PlainRequests

class Stamps:
    def receipt(self, address: str | None) -> Receipt: ...

class Requests:
    def __init__(self, others: PlainRequests) -> None: ...
    def read(self, data: bytes, peer: str | None) -> Arrival | Unread | None: ...

class Answers:
    def __init__(self, others: Callable[[Outcome | None], bytes]) -> None: ...
    def write(self, outcome: Outcome | None) -> bytes: ...
