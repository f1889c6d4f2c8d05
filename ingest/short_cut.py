"""What the short cut is made of: compiled code where it was built, else Python that says the same."""

from __future__ import annotations

from collections.abc import Callable

from ingest.arrival import Receipt
from ingest.compiled import is_built
from ingest.fast_protocol import FastPath, Heads, Submit
from ingest.plain_requests import PlainRequests
from ingest.receipts import new_receipt


def stamp() -> Callable[[str | None], Receipt]:
    """What makes receipts."""
    if not is_built():
        return new_receipt
    from ingest.compiled.requests import Stamps  # noqa: PLC0415  it may not be there

    return Stamps().receipt


def fast_path(requests: PlainRequests, submit: Submit) -> FastPath:
    """The short cut; the plainest requests and answers by compiled code, where it was built."""
    heads = Heads()
    if not is_built():
        return FastPath(requests.read, submit, heads.write)
    from ingest.compiled.requests import Answers, Requests  # noqa: PLC0415  it may not be there

    return FastPath(Requests(requests).read, submit, Answers(heads.write).write)
