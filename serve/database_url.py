"""DATABASE_URL as platforms write it, translated for asyncpg."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, urlencode, urlsplit

_SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")

_ENCODE = "In a user's name or password write characters such as @ : / ? # [ ] as %40 %3A %2F …"
_READ_BY_ASYNCPG = frozenset(
    {
        *("host", "port", "dbname", "user", "password", "passfile", "options", "application_name"),
        *("sslmode", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl"),
        *("sslnegotiation", "ssl_min_protocol_version", "ssl_max_protocol_version"),
        *("target_session_attrs", "krbsrvname", "gsslib"),
    }
)
_CHOICES = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "target_session_attrs": (
        *("any", "primary", "standby", "prefer-standby", "read-write", "read-only"),
    ),
}
_DEFAULTS = {  # values that ask for what this driver does anyway: any other cannot be honoured
    "channel_binding": ("disable", "prefer"),
    "gssencmode": ("disable", "prefer"),
    "client_encoding": ("utf8", "utf-8", "auto"),
    "sslcompression": ("0",),
    "sslsni": ("1",),
    "load_balance_hosts": ("disable",),
}
_CURES = {
    "channel_binding": "This driver has no channel binding: write channel_binding=prefer, and"
    " sslmode=verify-full&sslrootcert=system where the server's certificate is to be verified.",
    "gssencmode": "This driver has no GSSAPI encryption: encrypt by sslmode.",
    "client_encoding": "Everything is UTF-8 here: leave it out.",
}
_NUMBERS = (
    *("connect_timeout", "tcp_user_timeout"),
    *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
    *("prepared_statement_cache_size", "statement_cache_size"),  # asyncpg's and SQLAlchemy's own
)
_FILES = ("sslcert", "sslkey", "sslrootcert", "sslcrl", "passfile")


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """What the URL says; ``numbers`` are its parameters that asyncpg does not read."""

    dsn: str = field(repr=False)
    """For asyncpg, which reads most of libpq's parameters itself. It may hold a password."""
    numbers: Mapping[str, int]
    verified_by_system: bool
    """``sslrootcert=system``: the system's certificate authorities vouch for the server."""
    options: str
    """What ``options`` sets on the server."""

    @classmethod
    def parse(cls, url: str) -> DatabaseUrl:
        """Read and check it.

        Raises:
            ValueError: something in it cannot be honoured. The message names the parameter and a
                cure, never the URL, which may hold a password.
        """
        parts = _split(url)
        query = _query(parts)
        numbers = {name: _number(name, query.pop(name)) for name in _NUMBERS if name in query}
        for name, defaults in _DEFAULTS.items():
            value = query.pop(name, defaults[0])
            if value.lower() not in defaults:
                cure = _CURES.get(name, "Leave it out.")
                raise ValueError(f"DATABASE_URL: {name}={value} cannot be honoured. {cure}")
        _check(query)
        system = query.get("sslrootcert") == "system"
        if system:
            del query["sslrootcert"], query["sslmode"]
        return cls(
            dsn=parts._replace(scheme="postgresql", query=urlencode(query)).geturl(),
            numbers=numbers,
            verified_by_system=system,
            options=query.get("options", ""),
        )


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:  # its message may quote the password
        raise ValueError(f"DATABASE_URL is not a URL. {_ENCODE}") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError("DATABASE_URL must begin with postgresql:// or postgres://")
    hosts = parts.netloc.rpartition("@")[2].split(",")
    ports = [host.rpartition("]")[2].partition(":")[2] for host in hosts]
    if parts.fragment or not all(port.isdecimal() or not port for port in ports):
        raise ValueError(f"DATABASE_URL is cut in the wrong place. {_ENCODE}")
    return parts


def _query(parts: SplitResult) -> dict[str, str]:
    """Of a parameter that is there twice the last value counts; hosts and ports are a list."""
    try:
        found = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
    except ValueError:
        raise ValueError(f"DATABASE_URL: what follows ? is not name=value. {_ENCODE}") from None
    query = {name: values[-1] for name, values in found.items()}
    for name in {"host", "port"} & found.keys():
        query[name] = ",".join(found[name])
    if "ssl" in query:  # as asyncpg and other drivers spell it
        value = query.pop("ssl").lower()
        query.setdefault("sslmode", {"true": "require", "false": "disable"}.get(value, value))
    fallback = query.pop("fallback_application_name", None)
    if fallback:
        query.setdefault("application_name", fallback)
    return query


def _number(name: str, value: str) -> int:
    if not value.isdecimal():
        raise ValueError(f"DATABASE_URL: {name} must be a whole number")
    return int(value)


def _check(query: Mapping[str, str]) -> None:
    """Of the parameters that asyncpg reads."""
    for name in query:
        if name not in _READ_BY_ASYNCPG:
            raise ValueError(
                f"DATABASE_URL: the parameter {name} is not known. Those of libpq are taken,"
                " settings of the server by options=-c%20name%3Dvalue."
            )
    for name, choices in _CHOICES.items():
        if query.get(name, choices[0]) not in choices:
            raise ValueError(f"DATABASE_URL: {name} must be one of {', '.join(choices)}")
    for name in _FILES:
        if name not in query or (name, query[name]) == ("sslrootcert", "system"):
            continue
        if not Path(query[name]).is_file():
            raise ValueError(f"DATABASE_URL: the file that {name} names is not there")
    if query.get("sslrootcert") == "system" and query.get("sslmode") != "verify-full":
        raise ValueError("DATABASE_URL: sslrootcert=system needs sslmode=verify-full")
