"""The network address that a request comes from: what is counted by where a name or a cookie costs nothing."""

import ipaddress

from starlette.datastructures import Headers
from starlette.types import Scope

_FORWARDING = (
    "forwarded", "via", "x-forwarded", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip",
    "x-original-", "x-envoy-", "cf-", "cdn-loop", "fastly-", "fly-", "tailscale-", "x-gradio-server",
)  # fmt: skip
"""What the headers begin with by which proxies and tunnels say that they ask for somebody else."""


def address_of(scope: Scope) -> str:
    """The address of whoever asks, as it is counted; empty where it would be that of many.

    The server has put there what a proxy says that it trusts (`FORWARDED_ALLOW_IPS`). One that it doesn't trust, on
    this computer or in its network, asks for everybody.
    """
    client = scope.get("client")
    try:
        known = _known(client[0] if client else "")
    except ValueError:
        return ""
    is_proxy = not known.is_global and is_forwarded(scope)
    return "" if known.is_loopback or is_proxy else counted(client[0] if client else "")


def is_forwarded(scope: Scope) -> bool:
    """Whether a proxy or a tunnel says that it asks for somebody else. No browser does."""
    return any(name.startswith(_FORWARDING) for name in Headers(scope=scope))


def counted(address: str) -> str:
    """An address, or of IPv6 the network that one customer gets. What is no address stays as it is."""
    try:
        known = _known(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((known, 64), strict=False)) if known.version == 6 else str(known)


def _known(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    known = ipaddress.ip_address(address)
    return (known.ipv4_mapped if known.version == 6 else None) or known
