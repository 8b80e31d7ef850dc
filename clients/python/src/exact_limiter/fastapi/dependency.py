"""The dependency of a limited route: who is asking, by which policy and at which cost."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from fastapi import Depends
from starlette.requests import HTTPConnection

from ..charge import Charge
from ..decision import Cost, Decision
from ..errors import InvalidRequestError
from ..ids import Id
from ..visitors import (
    address_of,
    attribute_text,
    checked_cost,
    checked_policy,
    name_of,
    reply_of_denial,
    reply_of_refusal,
    require_functions,
    without_port,
)
from .denials import rate_limited
from .middleware import SCOPE_KEY, Refund, Sender

if TYPE_CHECKING:
    from . import RateLimit

PolicyOption: TypeAlias = str | Callable[..., str | Awaitable[str]]
CostOption: TypeAlias = Cost | Callable[..., Cost | Awaitable[Cost]]
UserOption: TypeAlias = Callable[..., Id | Awaitable[Id | None] | None]
AddressOption: TypeAlias = Callable[..., str | Awaitable[str | None] | None]
AttributesOption: TypeAlias = Callable[..., Mapping[str, Id | None] | Awaitable[Mapping[str, Id | None]]]

_NOTHING: Mapping[str, object] = {}


class Dependency:
    """
    What `rate_limit("chat")` makes. Equal if the options are: FastAPI then calls it once per request, and
    `app.dependency_overrides` finds it.

    Each option that is a function becomes a dependency of this one. A constant does not: a dependency is a large part
    of a request's cost.
    """

    def __init__(
        self,
        rate_limit: RateLimit,
        policy: PolicyOption,
        cost: CostOption,
        user: UserOption | None,
        address: AddressOption | None,
        attributes: AttributesOption | None,
        refund: Refund | None,
        release_after_response: bool,
    ) -> None:
        if refund is not None and (not callable(refund) or inspect.iscoroutinefunction(refund)):
            raise TypeError("refund must be a plain function of the status: refund=lambda status: status >= 500")
        require_functions(policy, user=user, address=address, attributes=attributes)
        self.rate_limit = rate_limit
        #: None if a function returns it.
        self._policy = policy if isinstance(policy, str) else None
        self._cost = None if callable(cost) else checked_cost(cost, "cost")
        self._attributes = attributes
        self._has_plain_subject = address is None and attributes is None
        self._refund = refund
        self._release_after_response = release_after_response
        options = {"policy": policy, "cost": cost, "user": user, "address": address, "attributes": attributes}
        functions = {name: function for name, function in options.items() if callable(function)}
        shown = f'rate_limit("{policy}")' if isinstance(policy, str) else f"rate_limit({name_of(policy)})"
        self._origins = {
            name: f"the value that {name_of(function)} returns to {shown}" for name, function in functions.items()
        }
        self._of_request = [(name, function) for name, function in functions.items() if _takes_request(function)]
        self.__signature__ = _signature(
            {name: function for name, function in functions.items() if not _takes_request(function)}
        )
        costs = cost if callable(cost) or isinstance(cost, int) else frozenset(cost.items())
        self._options = (rate_limit, policy, costs, user, address, attributes, refund, release_after_response)
        self._hash = hash(self._options)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dependency) and self._options == other._options

    def __hash__(self) -> int:
        return self._hash

    async def __call__(self, connection: HTTPConnection, **values: Any) -> Charge:
        for name, function in self._of_request:
            value = function(connection)
            values[name] = await value if inspect.isawaitable(value) else value
        policy = checked_policy(values["policy"], self._origins["policy"]) if self._policy is None else self._policy
        cost = checked_cost(values["cost"], self._origins["cost"]) if self._cost is None else self._cost
        subject = self._subject_of(connection, policy, values)
        sender: Sender | None = connection.scope.get(SCOPE_KEY)
        # A mounted application handles exceptions by itself, so the handler of the outer one never sees a denial.
        if sender is None or sender.app is not connection.scope.get("app"):
            raise RuntimeError("The application has no rate limits installed: call rate_limit.install(app).")
        charge = Charge(await self._decide(policy, subject, cost), self.rate_limit.limiter, subject)
        sender.headers.extend(charge.decision.headers.items())
        if self._refund is not None or self._release_after_response:
            sender.change_at_end(charge, self._refund, release=self._release_after_response)
        # As `connection.state` does it, which would also make an object.
        connection.scope.setdefault("state", {})["rate_limit"] = charge
        return charge

    async def _decide(self, policy: str, subject: Mapping[str, str | None], cost: Cost) -> Decision:
        if not self.rate_limit.enabled:
            return _admission_without_charge(policy, cost)
        try:
            decision = await self.rate_limit.limiter.consume(policy, subject, cost=cost)
        except InvalidRequestError as error:
            raise self._refused(policy, subject, error, cost if "cost" in self._origins else None) from error
        if not decision.allowed:
            raise rate_limited(reply_of_denial(decision, self.rate_limit.public_body), decision)
        return decision

    def _subject_of(self, connection: HTTPConnection, policy: str, values: Mapping[str, Any]) -> dict[str, str | None]:
        user = values.get("user")
        if self._has_plain_subject and (user is None or (type(user) is str and user.isascii())):
            return {"user": user, "ip": client_address(connection, self.rate_limit.trusted_proxies)}
        subject = {"user": user, "ip": values.get("address")}
        others = values.get("attributes", _NOTHING)
        if not isinstance(others, Mapping):
            raise TypeError(f"{name_of(self._attributes)} must return a mapping, not {type(others).__name__}")
        for name, value in others.items():
            if value is not None:
                subject[name] = value
        address = subject["ip"]
        if address is None or address == "":
            subject["ip"] = client_address(connection, self.rate_limit.trusted_proxies)
        elif isinstance(address, str):
            subject["ip"] = without_port(address)
        try:
            return {
                # Most attributes are plain text, for which no error message need be made.
                name: value
                if value is None or (type(value) is str and value.isascii())
                else attribute_text(value, self._origin_of(name, others), name)
                for name, value in subject.items()
            }
        except InvalidRequestError as error:
            raise self._refused(policy, subject, error) from error

    def _origin_of(self, attribute: str, others: Mapping[str, object]) -> str:
        """Names the function that returned the attribute."""
        if others.get(attribute) is not None:
            return self._origins["attributes"]
        return self._origins["address" if attribute == "ip" else attribute]

    def _refused(
        self,
        policy: str,
        subject: Mapping[str, object],
        error: InvalidRequestError,
        cost_of_visitor: Cost | None = None,
    ) -> Exception:
        limiter = self.rate_limit.limiter
        return rate_limited(reply_of_refusal(limiter, policy, subject, error, cost_of_visitor=cost_of_visitor))


def _admission_without_charge(policy: str, cost: Cost) -> Decision:
    return Decision(
        allowed=True,
        id=None,
        policy=policy,
        cost=cost,
        replayed=False,
        degraded=False,
        retry_after_seconds=None,
        limits=(),
    )


def _takes_request(function: Callable[..., object]) -> bool:
    """
    Whether the only parameter is `request`, without an annotation, which a lambda can't have. FastAPI would take it for
    a parameter of the query.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:
        # Some built-in functions have no signature.
        return False
    empty = inspect.Parameter.empty
    return [(one.name, one.annotation, one.default) for one in parameters] == [("request", empty, empty)]


def _signature(functions: Mapping[str, Callable[..., object]]) -> inspect.Signature:
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("connection", keyword, annotation=HTTPConnection)]
    for name, function in functions.items():
        parameters.append(inspect.Parameter(name, keyword, default=Depends(function), annotation=object))
    return inspect.Signature(parameters)


def client_address(connection: HTTPConnection, trusted_proxies: int) -> str:
    """The visitor's address, as the outermost of your `trusted_proxies` saw it."""
    forwarded = connection.headers.getlist("X-Forwarded-For") if trusted_proxies > 0 else ()
    return address_of(forwarded, connection.client.host if connection.client else None, trusted_proxies)
