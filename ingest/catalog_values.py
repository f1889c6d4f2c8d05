"""The values of a catalog file: what each may be. All raise ValueError with what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import date, datetime
from enum import StrEnum
from ipaddress import IPv6Network, ip_network
from typing import Final
from zoneinfo import ZoneInfo

from ingest import money
from ingest.catalog import CapMeasure, token_digest
from ingest.iso import COUNTRIES, CURRENCIES
from ingest.macros import is_macro
from ingest.text import problem
from ingest.units import parse_duration_ms
from ingest.vault import PREFIX, Vault, VaultError
from ingest.wire import STANDARD_ALIASES

STANDARD_NAMES: Final = frozenset(STANDARD_ALIASES.values())
"""The parameters of a postback that an alias can stand for."""

STORED: Final = "stored:"
"""What stands for a secret that is stored: given back, it keeps it. `ingest.catalog_views` makes and resolves such."""
GUARDED: Final = "security_token"

MAX_NAME: Final = 200
MAX_VALUE: Final = 255
MAX_PARAMETER: Final = 64
MAX_DURATION_MS: Final = 3650 * 86_400_000
MAX_SECRETS: Final = 2
MIN_SECRET: Final = 16
MAX_NETWORKS: Final = 256
MAX_RATE: Final = 1_000_000
MAX_CAP: Final = 10**12 - 1
_MAX_ID: Final = 2**63 - 1
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def identifier(value: object) -> int:
    """A positive whole number."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _MAX_ID:
        raise ValueError("expected a whole number from 1 up")
    return value


def text(limit: int) -> Callable[[object], str]:
    """A text of 1 to `limit` bytes without blanks around it."""

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError('expected a text in quotes, such as "install"')
        if not value.strip():
            raise ValueError("is empty")
        if value != value.strip():
            raise ValueError("has blanks around it")
        wrong = problem(value, limit)
        if wrong is not None:
            raise ValueError(wrong)
        return value

    return read


def goal_value(value: object) -> str:
    """What a postback's goal parameter can be."""
    goal = text(MAX_VALUE)(value)
    if is_macro(goal):
        raise ValueError("reads as an unexpanded macro: in a postback it would count as missing")
    return goal


def boolean(value: object) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


def choice(kind: type[StrEnum]) -> Callable[[object], str]:
    """One of an enumeration's values."""

    def read(value: object) -> str:
        names = [member.value for member in kind]
        if value not in names:
            raise ValueError(f"expected one of {', '.join(names)}")
        return str(value)

    return read


def duration_ms(value: object) -> int:
    """A duration of 10 years at most, in milliseconds."""
    if not isinstance(value, str):
        raise ValueError('expected a duration such as "30d"')
    ms = int(parse_duration_ms(value))
    if ms > MAX_DURATION_MS:
        raise ValueError("longer than 3650d")
    return ms


def window_ms(value: object) -> int:
    """A duration that is longer than nothing."""
    ms = duration_ms(value)
    if ms == 0:
        raise ValueError("must be longer than 0; leave it out for the configured clicks.window")
    return ms


def currency(value: object) -> str:
    """An ISO 4217 code."""
    if not isinstance(value, str) or value not in CURRENCIES:
        raise ValueError('expected a currency code of ISO 4217, such as "USD"')
    return value


def timezone(value: object) -> str:
    """An IANA time zone. UTC is known even where the machine has no time zones."""
    if value == "UTC":
        return "UTC"
    try:
        return ZoneInfo(value).key if isinstance(value, str) and value else _no_timezone()
    except (LookupError, ValueError, OSError):
        return _no_timezone()


def _no_timezone() -> str:
    raise ValueError('expected a time zone such as "UTC" or "Europe/Berlin" that this machine knows')


def _items(value: object, read: Callable[[object], str]) -> tuple[str, ...]:
    """Distinct items; the message of a wrong one shows which."""
    if not isinstance(value, list):
        raise ValueError("expected a list in brackets")
    items: list[str] = []
    for index, item in enumerate(value):
        try:
            items.append(read(item))
        except ValueError as error:
            raise ValueError(f"item {index}: {error}") from None
    if len(set(items)) != len(items):
        raise ValueError("names something twice")
    return tuple(items)


def countries(value: object) -> tuple[str, ...]:
    """ISO 3166-1 alpha-2 codes."""
    return _items(value, _country)


def _country(value: object) -> str:
    if not isinstance(value, str) or value not in COUNTRIES:
        raise ValueError('expected a country code of ISO 3166-1, such as "US"')
    return value


def identifiers(value: object) -> tuple[int, ...]:
    """Positive whole numbers."""
    return tuple(map(int, _items(value, lambda item: str(identifier(item)))))


def security_tokens(value: object) -> tuple[str, ...]:
    """Tokens as digests; one that is a digest already is taken as it is. No message shows a token."""
    return _items(value, _security_token)


def _security_token(value: object) -> str:
    token = _new_secret(value)
    if not token.startswith("sha256:"):
        return token_digest(token)
    if not _DIGEST.fullmatch(token):
        raise ValueError('expected "sha256:" and 64 hexadecimal digits in lower case')
    return token


def _new_secret(value: object) -> str:
    secret = text(255)(value)
    if secret.startswith(STORED):
        raise ValueError(f'"{STORED}…" stands for one that is stored, and there is none that is called so')
    return secret


def signing_secrets(vault: Vault | None) -> Callable[[object], tuple[str, ...]]:
    """Secrets, encrypted; one that is encrypted already is encrypted anew. No message shows a secret."""

    def read(value: object) -> str:
        secret = _new_secret(value)
        if vault is None:
            raise ValueError("cannot be encrypted: there is no key")
        if secret.startswith(PREFIX):
            try:
                return vault.seal(vault.open(secret))
            except VaultError as error:
                raise ValueError(str(error)) from None
        if len(secret) < MIN_SECRET:
            raise ValueError(f"shorter than {MIN_SECRET} characters; make one with: openssl rand -hex 32")
        return vault.seal(secret)

    def read_all(value: object) -> tuple[str, ...]:
        secrets = _items(value, read)
        if len(secrets) > MAX_SECRETS:
            raise ValueError(f"more than {MAX_SECRETS}: one that is used, and the one before or after it")
        return secrets

    return read_all


def allowed_addresses(value: object) -> tuple[str, ...]:
    """Networks, as Postgres writes them: an address is one of /32 or /128."""
    networks = _items(value, _network)
    if len(networks) > MAX_NETWORKS:
        raise ValueError(f"more than {MAX_NETWORKS}")
    return networks


def _network(value: object) -> str:
    expected = 'expected an address or a network such as "203.0.113.7" or "203.0.113.0/24"'
    if not isinstance(value, str) or "%" in value:
        raise ValueError(expected)
    try:
        network = ip_network(value)
    except ValueError as error:
        raise ValueError(f"{expected}: {error}") from None
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise ValueError("is IPv4 written as IPv6; write it as IPv4")
    return str(network)


def rate_limit(value: object) -> int:
    """Postbacks a second."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_RATE:
        raise ValueError(f"expected postbacks a second, from 1 to {MAX_RATE}")
    return value


def signature_window_ms(value: object) -> int:
    """A duration that is longer than nothing."""
    ms = duration_ms(value)
    if ms == 0:
        raise ValueError('must be longer than 0; leave it out for "5m"')
    return ms


def aliases(value: object) -> dict[str, str]:
    """Own parameter names, each with the standard name it stands for."""
    if not isinstance(value, dict):
        raise ValueError('expected a table in braces, such as { order = "txn_id" }')
    for own, standard in value.items():
        try:
            text(MAX_PARAMETER)(own)
        except ValueError as error:
            raise ValueError(f"the name {own[:MAX_PARAMETER]!r} {error}") from None
        if not isinstance(standard, str) or standard not in STANDARD_NAMES:
            raise ValueError(f"{own}: expected one of {', '.join(sorted(STANDARD_NAMES))}")
        if standard == GUARDED != STANDARD_ALIASES.get(own, GUARDED):
            raise ValueError(
                f"{own}: is a name of {STANDARD_ALIASES[own]} for other advertisers, so it cannot be one of"
                f" {GUARDED}: what is under that name is kept from every log; take another name"
            )
    return value


def _decimal(value: object, parse: Callable[[str], int]) -> int:
    if isinstance(value, float):
        raise ValueError(f'write it as a text, which is exact: "{value}"')
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError('expected a decimal number in quotes, such as "2.00"')
    try:
        return parse(str(value))
    except money.AmountError as error:
        raise ValueError(str(error)) from None


def amount_micros(value: object) -> int:
    """An amount, in micros."""
    return _decimal(value, money.parse_amount)


def micro_percent(value: object) -> int:
    """A percentage, in micro-percent."""
    return _decimal(value, money.parse_percent)


def cap_limit(measure: str) -> Callable[[object], int]:
    """A limit on `measure`: a number of conversions, or an amount in micros; more than 0."""

    def conversions(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_CAP:
            raise ValueError(f"expected a number of conversions, from 1 to {MAX_CAP}")
        return value

    def amount(value: object) -> int:
        micros = amount_micros(value)
        if micros == 0:
            raise ValueError("must be more than 0")
        return micros

    return conversions if measure == CapMeasure.CONVERSIONS else amount


def rate_nanos(value: object) -> int:
    """An exchange rate, in nanos."""
    return _decimal(value, money.parse_rate_nanos)


def day(value: object) -> date:
    """A date of TOML, or a text of one."""
    if isinstance(value, str) and _DAY.fullmatch(value):
        with suppress(ValueError):
            return date.fromisoformat(value)
    if not isinstance(value, date) or isinstance(value, datetime):
        raise ValueError("expected a date such as 2026-11-01")
    return value
