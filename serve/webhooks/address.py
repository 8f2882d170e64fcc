"""Where webhooks may lead: nowhere that only this service can reach."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import httpx2

from serve.webhooks.errors import InvalidUrl

MAX_URL_CHARS = 2000
_UNICAST = ip_network("2000::/3")
_NAT64 = ip_network("64:ff9b::/96")
_NOT_FOR_US = (
    ip_network("168.63.129.16/32"),  # Azure's own services, on an address that looks public
    ip_network("192.0.0.0/24"),
    ip_network("192.88.99.0/24"),
)


def checked_url(url: str, *, allow_private: bool) -> httpx2.URL:
    """The URL, as far as it can be judged without asking DNS.

    Raises:
        InvalidUrl: the sentence says what is wrong with it.
    """
    schemes = ("https", "http") if allow_private else ("https",)
    if len(url) > MAX_URL_CHARS:
        raise _refused(f"must have {MAX_URL_CHARS} characters at most")
    if not url.isprintable() or " " in url:
        raise _refused("must hold no spaces or control characters")
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise _refused("is not a URL") from error
    if parsed.scheme not in schemes or not parsed.host:
        raise _refused(f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    if parsed.userinfo:
        raise _refused("must hold no name and password; deliveries are signed instead")
    if parsed.fragment:
        raise _refused("must hold no fragment")
    if parsed.port is not None and not _is_web_port(parsed.port):
        raise _refused("must have port 80, 443, or one from 1024 to 65535")
    if not allow_private and _surely_private(parsed.host):
        raise _refused("must lead to a public address")
    return parsed


def is_public(address: str) -> bool:
    """Whether the numeric address is one that anybody on the Internet could reach."""
    ip = ip_address(address)
    if isinstance(ip, IPv4Address):
        return ip.is_global and not ip.is_multicast and not any(ip in net for net in _NOT_FOR_US)
    inner = _embedded(ip)
    if inner is not None:
        return is_public(str(inner))
    tunnel = ip.sixtofour is not None or ip.teredo is not None
    return ip in _UNICAST and ip.is_global and not tunnel


def _is_web_port(port: int) -> bool:
    return port in (80, 443) or 1024 <= port < 65536


def _embedded(ip: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a packet to ``ip`` reaches in the end."""
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped


def _surely_private(host: str) -> bool:
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return not is_public(host)
    except ValueError:  # a name: DNS is asked at every delivery
        return False


def _refused(reason: str) -> InvalidUrl:
    return InvalidUrl(f"url {reason}.", param="url")
