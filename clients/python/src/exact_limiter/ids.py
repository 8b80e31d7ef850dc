"""Ids as applications have them, and whether a response's keys belong to a request's subject."""

from __future__ import annotations

import functools
import ipaddress
import re
import uuid
from collections.abc import Mapping
from typing import TypeAlias

#: A name of somebody or something. A number and a UUID are sent as text.
Id: TypeAlias = str | int | uuid.UUID

#: Who is asking, as attributes: `{"user": 4711, "ip": "203.0.113.7"}`. None counts as missing.
Subject: TypeAlias = Mapping[str, Id | None]

#: White space to the service, not to Python.
_BYTE_ORDER_MARK = "\ufeff"

_SURROGATE = re.compile("[\ud800-\udfff]")


def text_of(value: object, name: str) -> str:
    """The id as text. Raises TypeError unless it is an id, ValueError for half a surrogate pair; both name it."""
    if isinstance(value, str):
        return value if value.isascii() else _join_surrogates(value, name)
    if isinstance(value, int) and not isinstance(value, bool):
        # An IntEnum overrides `str`.
        return int.__repr__(value)
    if isinstance(value, uuid.UUID):
        return str(value)
    raise TypeError(f"{name} must be a str, an int or a UUID, not {type(value).__name__}")


def _join_surrogates(text: str, name: str) -> str:
    """Text with surrogate pairs as characters, as JSON and the service read them."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16") if _SURROGATE.search(text) else text
    except UnicodeDecodeError:
        raise ValueError(f"{name} must be Unicode text: it has half of a surrogate pair") from None


def texts_of(subject: Mapping[str, object]) -> dict[str, str | None]:
    """The attributes as text. Errors are those of `text_of`, and name the attribute."""
    return {
        # Most attributes are plain text, for which no error message need be made.
        name: value
        if value is None or (type(value) is str and value.isascii())
        else text_of(value, f'subject["{name}"]')
        for name, value in subject.items()
    }


def is_key_of(subject: Mapping[str, str | None], key: str) -> bool:
    """Whether the service may count this subject by the key."""
    attribute, _, value = key.partition(":")
    sent = subject.get(attribute)
    if sent is None:
        return False
    return sent == value or (_is_within(sent, value) if attribute == "ip" else trimmed(sent) == value)


def trimmed(text: str) -> str:
    """Trimmed as the service does it."""
    while (shorter := text.strip().strip(_BYTE_ORDER_MARK)) != text:
        text = shorter
    return text


@functools.lru_cache(maxsize=1024)
def _is_within(address: str, network: str) -> bool:
    """Whether the service may count an address by this network. True if Python can't parse the address."""
    try:
        parsed = ipaddress.ip_address(trimmed(address))
        counted = ipaddress.ip_network(network)
    except ValueError:
        return True
    if isinstance(parsed, ipaddress.IPv6Address) and isinstance(counted, ipaddress.IPv4Network):
        # An IPv4 address embedded in IPv6, mapped or NAT64: both end with it.
        return ipaddress.IPv4Address(int(parsed) & 0xFFFF_FFFF) in counted
    return parsed in counted
