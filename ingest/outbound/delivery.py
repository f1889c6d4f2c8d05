"""One attempt: a message as a request, to a vetted address, within a time, and whatever comes back bounded."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from ipaddress import ip_address
from typing import Final, Self

import aiohttp
import structlog
from aiohttp import ClientConnectorCertificateError, ClientConnectorDNSError, ClientConnectorError, ClientSSLError
from yarl import URL

from ingest import __version__
from ingest.money import format_micros
from ingest.outbound.networks import Policy, RefusedError
from ingest.outbound.signing import signature
from ingest.outbound.templates import TemplateError, parse_template, render
from ingest.vault import VaultError
from storage.outbox import Attempt, DueMessage

MAX_ANSWER_BYTES: Final = 65_536
"""Of an answer's body are read, and thrown away, so that the connection can be used again."""
MAX_HEADER_BYTES: Final = 4_096
MAX_HEADERS: Final = 64
CONNECTIONS_KEPT_S: Final = 15.0
FORM: Final = "application/x-www-form-urlencoded"
KEY_HEADER: Final = "Idempotency-Key"
OK: Final = range(200, 300)

log = structlog.get_logger()


class Fault(StrEnum):
    """Why an attempt failed."""

    HTTP_STATUS = "http_status"
    REDIRECT = "redirect"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    TLS = "tls"
    DNS = "dns"
    PROTOCOL = "protocol"
    ADDRESS_REFUSED = "address_refused"
    URL_REFUSED = "url_refused"
    DEFECT = "defect"
    NO_KEY = "no_key"
    """The publisher's secret cannot be opened here: the key file is another one."""


class _RefusedAddressError(OSError):
    """Raised where the connection would be made. Always the same text: so it comes through for many addresses, too."""

    def __init__(self) -> None:
        super().__init__("the address is refused")


def host_is_well(attempt: Attempt) -> bool:
    """Whether the host works, though it may not like the message. What never came to it says nothing against it."""
    if attempt.status is not None:
        return attempt.status < 500 and attempt.status != 429
    return attempt.error in {None, Fault.URL_REFUSED, Fault.NO_KEY, Fault.DEFECT}


def macro_values(message: DueMessage) -> dict[str, str]:
    """What each macro stands for."""
    came_with_click = {name: str(value) for name, value in message.click_params.items()}
    return {
        **{f"click.{name}": value for name, value in came_with_click.items()},
        **{name: value for name, value in came_with_click.items() if name.startswith("sub")},
        "click_id": message.click_id,
        "conversion_id": message.conversion_id,
        "country": message.country.strip(),
        "currency": message.currency,
        "event_time": message.event_at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "goal": message.goal_value,
        "goal_id": str(message.goal_id),
        "payout": format_micros(message.payout_micros),
        "status": "approved",
        "txn_id": message.txn_id,
    }


class Delivery:
    """Sends messages; use it as an async context. Redirects are not followed, no cookies are kept, no proxy is used.

    The address is vetted where the socket to it is made: whatever a name is said to stand for, and when, what is
    connected to is what was vetted.
    """

    def __init__(
        self, policy: Policy, open_secret: Callable[[str], str], *, timeout_s: float, connections: int
    ) -> None:
        self._policy = policy
        self._open_secret = open_secret
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=connections, keepalive_timeout=CONNECTIONS_KEPT_S, socket_factory=self._vetted_socket
            ),
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"postback/{__version__}", "Accept": "*/*"},
            trust_env=False,
            auto_decompress=False,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()

    def _vetted_socket(
        self, info: tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]
    ) -> socket.socket:
        family, kind, protocol, _, place = info
        try:
            self._policy.check_address(ip_address(str(place[0])))
        except ValueError:  # RefusedError is one
            raise _RefusedAddressError from None
        return socket.socket(family, kind, protocol)

    async def attempt(self, message: DueMessage) -> Attempt:
        """Try once. Raises nothing that speaks of the message, the publisher or its host."""
        at = datetime.now(UTC)
        began_s = time.monotonic()
        status: int | None = None
        fault: Fault | None = None
        try:
            status = await self._request(message)
            if status not in OK:
                fault = Fault.REDIRECT if status in range(300, 400) else Fault.HTTP_STATUS
        except (TemplateError, RefusedError):
            fault = Fault.URL_REFUSED
        except VaultError:
            fault = Fault.NO_KEY
        except (aiohttp.ClientError, OSError, ValueError) as error:
            fault = _fault_of(error)
        except Exception:  # a defect of ours: it is seen, and the message is tried again as any other
            log.exception("a publisher's postback cannot be tried", conversion_id=message.conversion_id)
            fault = Fault.DEFECT
        return Attempt(at, round((time.monotonic() - began_s) * 1000), status, fault)

    async def _request(self, message: DueMessage) -> int:
        template = parse_template(message.url, self._policy)
        target = render(template, macro_values(message))
        body = b""
        wanted = f"{target.path}?{target.query}" if target.query else target.path
        headers = {KEY_HEADER: message.conversion_id}
        if message.method == "POST":
            body, wanted = target.query.encode(), target.path
            headers["Content-Type"] = FORM
        headers |= self._signature(message, wanted, body)
        async with self._session.request(
            message.method,
            URL(target.origin + wanted, encoded=True),
            headers=headers,
            data=body or None,
            allow_redirects=False,
        ) as response:
            if response.status in OK:
                await _read_away(response)
            return response.status

    def _signature(self, message: DueMessage, wanted: str, body: bytes) -> Mapping[str, str]:
        if message.sealed_secret is None:
            return {}
        secret = self._open_secret(message.sealed_secret)
        now_s = int(time.time())
        return dict([signature(secret, message.method, wanted, message.conversion_id, body, now_s)])


async def _read_away(response: aiohttp.ClientResponse) -> None:
    """So that the connection can be kept; one whose body goes on and on is closed. The status has been said already, so
    nothing that goes wrong here matters."""
    left = MAX_ANSWER_BYTES
    try:
        while left > 0:
            read = await response.content.read(left)
            if not read:
                return
            left -= len(read)
    except (aiohttp.ClientError, OSError):
        pass
    response.close()


def _fault_of(error: Exception) -> Fault:
    match error:
        case ClientConnectorDNSError():
            return Fault.DNS
        case ClientConnectorCertificateError() | ClientSSLError():
            return Fault.TLS
        case ClientConnectorError() if isinstance(error.os_error, _RefusedAddressError):
            return Fault.ADDRESS_REFUSED
        case TimeoutError():
            return Fault.TIMEOUT
        case OSError() | aiohttp.ClientConnectionError():
            return Fault.CONNECTION
        case _:
            return Fault.PROTOCOL
