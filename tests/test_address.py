"""Visitors are told apart by their address only where it is theirs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat.address import address_of, counted


def asked(client: str | None, **headers: str) -> str:
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return address_of({"type": "http", "client": client and (client, 5000), "headers": sent})


@pytest.mark.parametrize(
    ("client", "address"),
    [
        ("8.8.8.8", "8.8.8.8"),
        ("::ffff:8.8.8.8", "8.8.8.8"),
        ("192.168.1.7", "192.168.1.7"),
        ("2001:4860:4860:0:1::8888", "2001:4860:4860::/64"),
        ("2001:4860:4860:1::8888", "2001:4860:4860:1::/64"),
    ],
)
def test_a_visitor_has_an_address_and_of_ipv6_what_one_customer_gets(client: str, address: str) -> None:
    assert asked(client) == address


@pytest.mark.parametrize("client", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "testclient", "", None])
def test_nobody_is_told_by_the_address_of_this_computer_or_by_none(client: str | None) -> None:
    assert asked(client) == ""


def test_a_proxy_that_is_not_trusted_is_not_taken_for_its_visitors() -> None:
    assert asked("172.17.0.1", x_forwarded_for="8.8.8.8") == ""
    assert asked("10.1.2.3", forwarded="for=8.8.8.8") == ""


def test_a_visitor_who_says_to_be_a_proxy_has_their_own_address() -> None:
    assert asked("8.8.8.8", x_forwarded_for="9.9.9.9", x_real_ip="9.9.9.9", forwarded="for=9.9.9.9") == "8.8.8.8"


@settings(max_examples=50)
@given(st.text(max_size=60) | st.ip_addresses().map(str))
def test_any_text_can_be_counted(text: str) -> None:
    assert asked(text) in ("", counted(text))
