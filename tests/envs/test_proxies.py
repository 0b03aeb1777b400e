"""Which hosts are reached through a proxy: never this machine, whatever the variables say."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepcredit.envs.proxies import is_loopback, proxy_of


@given(st.integers(0, 2**24 - 1))
def test_all_of_127_is_this_machine(rest: int) -> None:
    address = ipaddress.IPv4Address((127 << 24) + rest)
    assert is_loopback(str(address))
    assert is_loopback(f"::ffff:{address}")


@given(st.ip_addresses().filter(lambda address: address.is_global))
def test_addresses_of_the_world_are_not(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert not is_loopback(str(address))


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "a.localhost", "127.1", "0.0.0.0", "::1", "[::1]", "::"])
def test_names_of_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["localhost.example.org", "notlocalhost", "128.0.0.1", "example.org", "", "127.example"]
)
def test_names_of_others(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_the_variable_is_named_and_no_password_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _clear(monkeypatch)
    monkeypatch.setenv(name, "http://me:secret@proxy:3128")
    found = proxy_of("http://example.org:8000")
    assert found is not None
    assert found.url == "http://me:secret@proxy:3128"
    assert str(found) == f"{name}=http://proxy:3128"
    assert proxy_of("http://127.0.0.1:8000") is None


@pytest.mark.parametrize("spared", ["*", "example.org", ".org", "other,example.org:8000"])
def test_hosts_that_no_proxy_names_are_reached_directly(spared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _clear(monkeypatch)
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", spared)
    assert proxy_of("http://example.org:8000") is None


def _clear(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{kind}_proxy", raising=False)
        monkeypatch.delenv(f"{kind.upper()}_PROXY", raising=False)
