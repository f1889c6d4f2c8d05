"""Connection errors of both servers in words: what is wrong, what to do, and never a password."""

from __future__ import annotations

import re
import socket
import ssl
from urllib.parse import unquote

from redis import exceptions as redis_errors

HIDDEN = "***"

# Greedy up to the last @: a password that was not percent-encoded may hold any of /?#@:
_USERINFO = re.compile(r"^([a-z0-9+.-]*://[^:@]*:)(.*)@", re.IGNORECASE | re.DOTALL)
_QUERY = re.compile(r"([?&](?:ssl|sentinel_)?password=)([^&#]*)", re.IGNORECASE)


def hide_password(url: str) -> str:
    """`url` with its passwords replaced; whatever it looks like."""
    return _QUERY.sub(rf"\g<1>{HIDDEN}", _USERINFO.sub(rf"\g<1>{HIDDEN}@", url))


def _without_password(text: str, url: str) -> str:
    """An error's own words, without the password of `url` in any spelling."""
    secrets = {match[2] for pattern in (_USERINFO, _QUERY) for match in pattern.finditer(url)}
    secrets |= {unquote(secret) for secret in secrets}
    # Parsers stop at different characters of a password that was not encoded and quote what is left of it.
    secrets |= {part for secret in secrets for part in re.split(r"[/?#@:]", secret)}
    for secret in sorted(secrets - {""}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def explain_postgres_error(error: BaseException, dsn: str) -> str:
    """Why PostgreSQL at `dsn` cannot be used and what to do, in one line."""
    return f"PostgreSQL at {hide_password(dsn)}: {_postgres_reason(error, dsn)}"


def _postgres_reason(error: BaseException, dsn: str) -> str:
    match getattr(error, "sqlstate", None):  # SQLSTATE codes: the appendix of PostgreSQL's manual
        case "28P01":
            return "the password is wrong or missing. Set it in postgres.dsn (percent-encoded)"
        case "28000":
            words = _without_password(str(error), dsn)
            return f"this user may not log in: {words}. Check the user in postgres.dsn and the server's pg_hba.conf"
        case "3D000":
            return "there is no such database. Create it (CREATE DATABASE ...), or correct the name in postgres.dsn"
        case "53300":
            return "all its connections are taken. Raise its max_connections, or lower postgres.pool"
        case "57P03":
            return "it is starting up or shutting down. Try again in a moment"
        case _:
            return _network_reason(error, dsn, "postgres.dsn")


def explain_redis_error(error: BaseException, url: str) -> str:
    """Why Redis at `url` cannot be used and what to do, in one line."""
    return f"Redis at {hide_password(url)}: {_redis_reason(error, url)}"


def _redis_reason(error: BaseException, url: str) -> str:
    root = _root_cause(error)
    words = _without_password(str(root), url)
    match root:
        case redis_errors.NoPermissionError():
            return f"this user may not do that: {words}. Allow it with ACL SETUSER, or use another user in redis.url"
        case redis_errors.AuthenticationError() | redis_errors.AuthenticationWrongNumberOfArgsError():
            return "the password (or user) is wrong or missing. Set it in redis.url: redis://user:password@host:port"
        case redis_errors.BusyLoadingError():
            return "it is still reading its data into memory. Try again in a moment"
        case redis_errors.ResponseError() if "DB index" in words:
            return "there is no such database number. Correct the number at the end of redis.url"
        case _:
            return _network_reason(root, url, "redis.url")


def _root_cause(error: BaseException) -> BaseException:
    """What the server, the socket or TLS said: the client library wraps it, some kinds twice."""
    root, below = error, error.__cause__ or error.__context__
    while below is not None:
        if isinstance(below, OSError | redis_errors.RedisError):
            root = below
        below = below.__cause__ or below.__context__
    return root


def _network_reason(error: BaseException, url: str, key: str) -> str:
    words = _without_password(" ".join(str(error).split()), url) or type(error).__name__
    match error:
        case socket.gaierror():
            return f"the host's name is not known here. Correct the host in {key}, or the machine's DNS"
        case ssl.SSLCertVerificationError():
            option = "ssl_ca_certs" if key == "redis.url" else "sslrootcert"
            return (
                f"its TLS certificate is not trusted: {words}. Name its authority's certificate in {key} "
                f"({option}=FILE), and the host as the certificate does"
            )
        case ssl.SSLError():
            return f"TLS failed: {words}. Does the server speak TLS on this port?"
        case ConnectionRefusedError():
            return f"nothing listens there. Start the server, or correct host and port in {key}"
        case FileNotFoundError():
            return f"there is no such socket. Start the server, or correct the path in {key}"
        case PermissionError():
            return "this user may not open the socket. Run as the user the server runs as, or in its group"
        case TimeoutError():
            return f"no answer in time. Is the host in {key} right, and may this machine reach it?"
        case ValueError():
            return f"{key} cannot be read: {words}. Percent-encode special characters of a password"
        case _ if "Connect call failed" in words:  # several addresses tried: asyncio puts all errors in one
            return f"nothing listens there. Start the server, or correct host and port in {key}"
        case _:
            return f"{words}. Check {key} and that the server is up"
