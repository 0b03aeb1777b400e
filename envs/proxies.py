"""The proxy that the environment's variables lead a URL through. This machine itself is never reached through one."""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

HUB_FAULTS = (OSError, ValueError, ImportError, httpx.HTTPError, httpx.InvalidURL)
"""What the Hugging Face hub's client raises where the hub, or the proxy to it, cannot be used."""

_LOCAL_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and the variable that names it."""

    variable: str
    url: str

    def __str__(self) -> str:
        """As messages name it, without credentials."""
        login, at, place = self.url.rpartition("@")
        scheme = f"{login.partition('://')[0]}://" if at and "://" in login else ""
        return f"{self.variable}={scheme}{place}"


def proxy_of(url: str) -> Proxy | None:
    """The proxy of a URL; None for this machine, and for hosts that `no_proxy` names."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxies = getproxies()
    for kind in (parts.scheme, "all"):
        if proxies.get(kind):
            return Proxy(_variable(kind, proxies[kind]), proxies[kind])
    return None


def is_loopback(host: str) -> bool:
    """Whether the host is this machine, by its name or its address."""
    name = host.lower().strip("[]").rstrip(".")
    if name in _LOCAL_NAMES or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return _is_short_loopback(name)
    inner = getattr(address, "ipv4_mapped", None) or address
    return bool(inner.is_loopback or inner.is_unspecified)


def _is_short_loopback(name: str) -> bool:
    """Old spellings of an address, such as 127.1."""
    try:
        return socket.inet_aton(name)[0] in (0, 127)
    except (OSError, ValueError):
        return False


def _variable(kind: str, value: str) -> str:
    fitting = [name for name in sorted(os.environ) if name.lower() == f"{kind}_proxy" and os.environ[name] == value]
    return fitting[-1] if fitting else "the system's proxy"
