"""Ids as applications have them, and whether an answer is about the ids that were asked about."""

from __future__ import annotations

import functools
import ipaddress
import re
import uuid
from collections.abc import Callable, Mapping
from typing import TypeAlias

#: What names somebody or something. A number and a UUID are taken as their text.
Id: TypeAlias = str | int | uuid.UUID

#: Who is asking, as attributes: `{"user": 4711, "ip": "203.0.113.7"}`. One that is None counts as missing.
Subject: TypeAlias = Mapping[str, Id | None]

#: What the service takes for white space, of which Python takes one character for none.
_BYTE_ORDER_MARK = "\ufeff"

_SURROGATE = re.compile("[\ud800-\udfff]")


def text_of(value: object, what: str) -> str:
    """The id as text. Raises TypeError for what is no id, ValueError for half a character; `what` says whose it is."""
    if isinstance(value, str):
        return value if value.isascii() else _whole(value, what)
    if isinstance(value, int) and not isinstance(value, bool):
        # An IntEnum has a text of its own.
        return int.__repr__(value)
    if isinstance(value, uuid.UUID):
        return str(value)
    raise TypeError(f"{what} must be a str, an int or a UUID, not {type(value).__name__}")


def _whole(text: str, what: str) -> str:
    """Text whose surrogate pairs are characters, as JSON and the service read them."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16") if _SURROGATE.search(text) else text
    except UnicodeDecodeError:
        raise ValueError(f"{what} is no Unicode text: it has half of a surrogate pair") from None


def texts_of(subject: Mapping[str, object]) -> dict[str, str | None]:
    """The attributes as text. Raises TypeError, which names the attribute."""
    return {name: None if value is None else text_of(value, f'subject["{name}"]') for name, value in subject.items()}


def is_key_of(subject: Mapping[str, str | None]) -> Callable[[str], bool]:
    """Whether a key is one by which this subject may be counted."""

    def is_key(key: str) -> bool:
        attribute, _, value = key.partition(":")
        asked = subject.get(attribute)
        if asked is None:
            return False
        return asked == value or (_is_within(asked, value) if attribute == "ip" else trimmed(asked) == value)

    return is_key


def trimmed(text: str) -> str:
    """Without the white space around it, as the service reads it."""
    while (shorter := text.strip().strip(_BYTE_ORDER_MARK)) != text:
        text = shorter
    return text


@functools.lru_cache(maxsize=1024)
def _is_within(address: str, network: str) -> bool:
    """Whether the service may count an address by this network. True for an address that only the service can read."""
    try:
        asked = ipaddress.ip_address(trimmed(address))
        counted = ipaddress.ip_network(network)
    except ValueError:
        return True
    if isinstance(asked, ipaddress.IPv6Address) and isinstance(counted, ipaddress.IPv4Network):
        # An IPv4 address written as IPv6, in any of the ways there are.
        return ipaddress.IPv4Address(int(asked) & 0xFFFF_FFFF) in counted
    return asked in counted
