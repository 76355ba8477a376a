"""What a reply took: models, tokens, cost and time, in one line.

Prices are Pydantic AI's own. A cost that is not known is said to be unknown, never zero; nothing is said of the cost
of a model that nobody bills: one that runs on this machine, or inside the program as the models for tests do.
"""

from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import urlsplit

from pydantic_ai import ModelMessage, ModelResponse, RunUsage
from pydantic_ai.messages import BaseToolReturnPart
from pydantic_ai.models import Model
from pydantic_ai.usage import RequestUsage

from chat.markup import inert, seconds_text
from chat.render import starts_turn
from chat.tool_render import nested_messages

Number = TypeVar("Number", Decimal, float)

UNPRICED = "unpriced_responses"
"""In the details of a conversation's usage: how many of its responses have a cost that isn't known."""

WITHOUT_PROVIDER = (None, "function", "test")
"""What Pydantic AI's models that run in the program name as their provider."""


@dataclass(frozen=True)
class Took:
    """What one reply, or several together, took.

    Args:
        models: The names of the models that answered.
        input_tokens: Tokens that were read, the cached ones included.
        cached_tokens: How many of them came from the provider's cache.
        output_tokens: Tokens that were written.
        cost: US dollars, as far as prices are known; `None` when none is.
        unpriced: Whether some of it has a cost that is not known.
        seconds: From the prompt to the end of the reply; `None` when nobody noted it.
    """

    models: tuple[str, ...] = ()
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost: Decimal | None = None
    unpriced: bool = False
    seconds: float | None = None

    def __add__(self, other: "Took") -> "Took":
        return Took(
            models=tuple(dict.fromkeys((*self.models, *other.models))),
            input_tokens=self.input_tokens + other.input_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost=_sum(self.cost, other.cost),
            unpriced=self.unpriced or other.unpriced,
            seconds=_sum(self.seconds, other.seconds),
        )

    def line(self) -> str:
        """All of it for a reader, as Markdown: `gpt-5 · 1.2k in (800 cached), 340 out · $0.0041 · 3.2 s`."""
        pieces = [inert(", ".join(self.models)), self._tokens(), self._cost(), self._time()]
        return " · ".join(piece for piece in pieces if piece)

    def _tokens(self) -> str:
        if not self.input_tokens and not self.output_tokens:
            return ""
        cached = f" ({_count(self.cached_tokens)} cached)" if self.cached_tokens else ""
        return f"{_count(self.input_tokens)} in{cached}, {_count(self.output_tokens)} out"

    def _cost(self) -> str:
        if self.cost is None:
            return "cost unknown" if self.unpriced else ""
        return f"{'at least ' if self.unpriced else ''}{_dollars(self.cost)}"

    def _time(self) -> str:
        return "" if self.seconds is None else seconds_text(self.seconds)


def took(messages: Iterable[ModelMessage], seconds: float | None = None) -> Took:
    """What a turn took, with the agents that its tools ran as far as its messages hold them."""
    total = Took()
    for response in responses_in(messages):
        total += _of_response(response)
    return total if seconds is None else total + Took(seconds=seconds)


def spent(usage: RunUsage) -> Took:
    """What a conversation took so far, by the usage that is stored with it: what was tried again is in it too.

    It holds no times. Of a conversation that another program stored it may not be known whether all costs are in it.
    """
    return Took(
        input_tokens=usage.input_tokens,
        cached_tokens=usage.cache_read_tokens,
        output_tokens=usage.output_tokens,
        cost=usage.cost,
        unpriced=bool(usage.details.get(UNPRICED) or (usage.cost is not None and usage.unmeasured_requests)),
    )


def usage_of(messages: Iterable[ModelMessage], known: RunUsage | None = None) -> RunUsage:
    """What a run is to add to its conversation's usage.

    Args:
        messages: What the run has written.
        known: What the run says that it used; `None` when it can't say, and its responses count.
    """
    responses = [message for message in messages if isinstance(message, ModelResponse)]
    usage = RunUsage() if known is None else copy(known)
    if known is None:
        for response in responses:
            usage.incr(response.usage)
        usage.requests += len(responses)
    if unpriced := sum(_of_response(response).unpriced for response in responses):
        usage.details = {**usage.details, UNPRICED: unpriced}
    return usage


def lines_by_turn(messages: Iterable[tuple[str, ModelMessage]], seconds: Mapping[str, float]) -> dict[str, str]:
    """The line of each turn that a provider's model replied to, by the entry that began it: what `to_gradio` takes.

    What a model that runs in the program says of its tokens is a guess, and nobody pays for it: it has no line.

    Args:
        messages: Each with its entry's id, oldest first.
        seconds: What the turns took, by the entry that began them.
    """
    turns: dict[str, list[ModelMessage]] = {}
    turn: str | None = None
    for entry_id, message in messages:
        turn = entry_id if starts_turn(message) else turn
        if turn is not None:
            turns.setdefault(turn, []).append(message)
    lines = {turn: took(parts, seconds.get(turn)).line() for turn, parts in turns.items() if _is_measured(parts)}
    return {turn: line for turn, line in lines.items() if line}


def _is_measured(messages: Iterable[ModelMessage]) -> bool:
    return any(response.provider_name not in WITHOUT_PROVIDER for response in responses_in(messages))


def responses_in(messages: Iterable[ModelMessage]) -> Iterator[ModelResponse]:
    """The responses of models in messages, and those of agents that tools ran as far as the messages hold them."""
    for message in messages:
        if isinstance(message, ModelResponse):
            yield message
        for part in message.parts:
            if isinstance(part, BaseToolReturnPart):
                yield from responses_in(nested_messages(part))


def _of_response(response: ModelResponse) -> Took:
    attempts = response.failed_attempts or []
    usages = [response.usage, *(attempt.usage for attempt in attempts if attempt.usage is not None)]
    cost = _sum(price_of(response), *(usage.cost for usage in usages[1:]))
    billed = is_billed(response)
    unmeasured = response.state == "interrupted" or len(usages) <= len(attempts)
    return Took(
        models=(response.model_name,) if response.model_name else (),
        input_tokens=sum(usage.input_tokens for usage in usages),
        cached_tokens=sum(usage.cache_read_tokens for usage in usages),
        output_tokens=sum(usage.output_tokens for usage in usages),
        cost=cost,
        unpriced=billed and (cost is None or unmeasured),
    )


def price_of(response: ModelResponse) -> Decimal | None:
    """US dollars; `None` when they are not known."""
    usage: RequestUsage = response.usage
    if usage.cost is not None:
        return usage.cost
    if not usage.has_values():  # A reply that was cut before its usage came: its price would be zero.
        return None
    try:
        return response.cost().total_price
    except (
        Exception
    ):  # Prices are data that comes from elsewhere: whatever is wrong with it costs a number, not a page.
        return None


def is_billed(response: ModelResponse) -> bool:
    """Whether somebody else may ask money for a response."""
    return _bills(response.provider_name, response.provider_url)


def is_paid(model: Model | None) -> bool:
    """Whether somebody else may ask money for what a model answers; also when it isn't known (`None`)."""
    return model is None or _bills(model.system, model.base_url)


def _bills(provider: str | None, url: str | None) -> bool:
    if provider in WITHOUT_PROVIDER:
        return False
    host = _host(url or "")
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _sum(*numbers: Number | None) -> Number | None:
    """The sum of those that are known; `None` when none is."""
    known = [number for number in numbers if number is not None]
    return sum(known[1:], known[0]) if known else None


def _count(tokens: int) -> str:
    if tokens < 1_000:
        return str(tokens)
    return f"{tokens / 1_000:.3g}k" if tokens < 999_500 else f"{tokens / 1_000_000:.3g}M"


def _dollars(cost: Decimal) -> str:
    """US dollars, to the cent; less than ten cents to two digits."""
    if 0 < cost < Decimal("0.0001"):
        return "under $0.0001"
    return f"${cost:,.2f}" if not 0 < cost < Decimal("0.1") else f"${float(cost):.2g}"
