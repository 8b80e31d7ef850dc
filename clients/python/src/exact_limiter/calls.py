"""Requests to the service, as values: no I/O here."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import quote

from .decision import Cost
from .errors import InvalidField, InvalidRequestError
from .ids import Id, Subject, is_key_of, text_of, texts_of, trimmed

#: The longest body that the service reads, except for batches.
_MAX_BODY_BYTES = 8 * 1024


@dataclass(frozen=True)
class Layer:
    """Inline limits and the key that they count by: `Layer("login", "203.0.113.7", ["5/minute"])`."""

    name: str
    key: Id
    limits: Sequence[str]


def _is_any_key(_: str) -> bool:
    return True


@dataclass(slots=True)
class Call:
    """
    One request, the same in every attempt: the idempotency key makes retries safe. Never changed, and not frozen only
    because a frozen class takes three times as long to make.
    """

    method: str
    path: str
    body: bytes
    idempotency_key: str | None = None
    #: The client generated the key for this call, so nobody else has sent it.
    has_new_key: bool = False
    #: 2 if the call was sent before: a consume that waits for room is one call, with one key, until it is admitted.
    first_attempt: int = 1
    #: The response must repeat the policy, the cost and the id, and may have only keys for which `is_key` is true.
    policy: str = ""
    cost: Cost = 1
    #: The decision that a settle or a release is about.
    id: str | None = None
    subject: object = None
    is_key: Callable[[str], bool] = _is_any_key

    def to_change(self, op: str, **fields: str | Cost) -> Call:
        """Turns a consume into a settle or a release of the same policy and subject."""
        kept = {name: value for name, value in json.loads(self.body).items() if name != "cost"}
        path = self.path.replace("consume", op)
        body = _encode({**kept, **fields})
        return replace(self, path=path, body=body, idempotency_key=None, has_new_key=False, **_repeated(fields))

    @property
    def as_check(self) -> Call:
        """A check of the same policy, subject and cost."""
        return replace(self, path=self.path.replace("consume", "check"), idempotency_key=None, has_new_key=False)


def consume_call(policy: str, subject: Subject, cost: Cost, idempotency_key: Id | None) -> Call:
    return _call("consume", policy, subject, _key_of(idempotency_key), cost=_cost_of(cost))


def check_call(policy: str, subject: Subject, cost: Cost) -> Call:
    return _call("check", policy, subject, cost=_cost_of(cost))


def settle_call(policy: str, subject: Subject, id: Id, cost: Cost) -> Call:
    return _call("settle", policy, subject, id=text_of(id, "id"), cost=_cost_of(cost))


def release_call(policy: str, subject: Subject, id: Id) -> Call:
    return _call("release", policy, subject, id=text_of(id, "id"))


def consume_inline_call(layers: Sequence[Layer], cost: Cost, idempotency_key: Id | None) -> Call:
    return _inline_call("consume", layers, _key_of(idempotency_key), cost=_cost_of(cost))


def check_inline_call(layers: Sequence[Layer], cost: Cost) -> Call:
    return _inline_call("check", layers, cost=_cost_of(cost))


def settle_inline_call(layers: Sequence[Layer], id: Id, cost: Cost) -> Call:
    return _inline_call("settle", layers, id=text_of(id, "id"), cost=_cost_of(cost))


def release_inline_call(layers: Sequence[Layer], id: Id) -> Call:
    return _inline_call("release", layers, id=text_of(id, "id"))


def forget_inline_call(key: Id) -> Call:
    return Call("DELETE", f"/v1/inline/keys/{quote(text_of(key, 'key'), safe='')}", b"")


def policies_call() -> Call:
    return Call("GET", "/v1/policies", b"")


def inline_switch_call() -> Call:
    """A check that succeeds only if inline limits are switched on."""
    return check_inline_call([Layer("limit", "health", ["1/second"])], 1)


#: An idempotency key, and whether it is new.
_Key = tuple[str | None, bool]
_NO_KEY: _Key = (None, False)


def _call(op: str, policy: str, subject: Subject, key: _Key = _NO_KEY, **fields: str | Cost) -> Call:
    texts = texts_of(subject)
    body = _encode({"policy": policy, "subject": texts, **fields})
    is_key, repeated = partial(is_key_of, texts), _repeated(fields)
    return Call("POST", f"/v1/{op}", body, *key, policy=policy, subject=texts, is_key=is_key, **repeated)


def _inline_call(op: str, layers: Sequence[Layer], key: _Key = _NO_KEY, **fields: str | Cost) -> Call:
    texts = [text_of(layer.key, f'the key of layer "{layer.name}"') for layer in layers]
    encoded = [
        {"name": layer.name, "key": text, "limits": list(layer.limits)}
        for layer, text in zip(layers, texts, strict=True)
    ]
    body = _encode({"layers": encoded, **fields})
    keys = {f"inline/{trimmed(text)}" for text in texts}
    path, repeated = f"/v1/inline/{op}", _repeated(fields)
    return Call("POST", path, body, *key, policy="inline", subject=keys, is_key=keys.__contains__, **repeated)


def _repeated(fields: Mapping[str, str | Cost]) -> dict[str, Any]:
    """The fields that the response must repeat."""
    return {"cost": fields.get("cost", 1), "id": fields.get("id")}


def _cost_of(cost: Cost) -> Cost:
    """The cost as JSON can encode it. A copy: the caller may change its mapping."""
    return dict(cost) if isinstance(cost, Mapping) else cost


def _key_of(key: Id | None) -> _Key:
    """The key as text; a new one if there is none."""
    if key is None:
        return _new_uuid(), True
    text = text_of(key, "idempotency_key")
    # Checked here, in the service's words: a header can't carry every string.
    if not re.fullmatch(r"[A-Za-z0-9._~:-]{1,128}", text):
        mistake = InvalidField("/idempotency_key", "must be 1 to 128 of A-Z a-z 0-9 . _ ~ : -")
        raise InvalidRequestError(400, "The request has a mistake.", [mistake])
    return text, False


def _new_uuid() -> str:
    """As `str(uuid.uuid4())`, in half the time."""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


#: Made once: `json.dumps` makes an encoder for each call.
_to_json = json.JSONEncoder(separators=(",", ":")).encode


def _encode(body: object) -> bytes:
    """Raises InvalidRequestError above the service's limit: sent anyway, it would look like an outage."""
    encoded = _to_json(body).encode()
    if len(encoded) > _MAX_BODY_BYTES:
        raise InvalidRequestError(413, "The request is above 8 KiB.")
    return encoded
