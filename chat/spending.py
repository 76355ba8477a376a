"""What a turn is counted as having used: tokens, and millionths of a US dollar.

Prices are Pydantic AI's own. Where one is not known, and somebody may have to be paid, each token counts as
`UNKNOWN_PRICE`. A response whose provider told no usage, as of one that was stopped, is counted by the length of what
was read and written: stopping a reply makes it no cheaper.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

from pydantic_ai import ModelMessage, ModelResponse, RunUsage
from pydantic_ai.messages import BaseToolCallPart, BaseToolReturnPart, TextContent

from chat.summary import is_billed, price_of, responses_in

UNKNOWN_PRICE = 10
"""Millionths of a dollar for a token whose price is not known: ten dollars for a million."""

CHARACTERS_A_TOKEN = 4
"""About so many in English; where they are fewer, there are more tokens than are counted."""

FILE_CHARACTERS = 4_000
"""What a file is counted as: about a thousand tokens, as an image."""


@dataclass(frozen=True)
class Spending:
    """Tokens, and millionths of a US dollar."""

    tokens: int = 0
    micros: int = 0

    def __add__(self, other: "Spending") -> "Spending":
        return Spending(self.tokens + other.tokens, self.micros + other.micros)

    def at_least(self, other: "Spending") -> "Spending":
        """The larger of each."""
        return Spending(max(self.tokens, other.tokens), max(self.micros, other.micros))


def micros(dollars: float | Decimal) -> int:
    """Millionths of a dollar."""
    return round(dollars * 1_000_000)


def spending_of(
    messages: Sequence[ModelMessage],
    usage: RunUsage | None = None,
    given: Iterable[ModelMessage] = (),
    *,
    cut: bool = False,
) -> Spending:
    """What a turn used.

    Args:
        messages: What it added to the conversation.
        usage: What its run counted. It holds what agents in its tools used, as far as they told the run.
        given: What the model was given before them.
        cut: Whether it was ended from outside; its provider may then have read all of it and said nothing.
    """
    responses = list(responses_in(messages))
    guess = Spending()
    if cut or not all(map(_is_measured, responses)):
        tokens = _tokens([*given, *messages])
        guess = Spending(tokens, tokens * UNKNOWN_PRICE)
    spent = Spending()
    for response in responses:
        spent += _spending(response) if _is_measured(response) else _unmeasured(response, guess)
    if usage is not None:
        spent = spent.at_least(Spending(usage.total_tokens, micros(usage.cost or 0)))
    return spent if responses or not cut else guess


def spending_beside(usage: RunUsage, *, paid: bool) -> Spending:
    """What was used beside a conversation; `paid` as `summary.is_paid` says of its model."""
    unknown = usage.total_tokens * UNKNOWN_PRICE if paid else 0
    return Spending(usage.total_tokens, unknown if usage.cost is None else micros(usage.cost))


def _spending(response: ModelResponse) -> Spending:
    attempts = [attempt.usage for attempt in response.failed_attempts or [] if attempt.usage is not None]
    tokens = sum(usage.total_tokens for usage in (response.usage, *attempts))
    if not is_billed(response):
        return Spending(tokens)
    price = price_of(response)
    own = response.usage.total_tokens * UNKNOWN_PRICE if price is None else micros(price)
    others = sum(usage.total_tokens * UNKNOWN_PRICE if usage.cost is None else micros(usage.cost) for usage in attempts)
    return Spending(tokens, own + others)


def _unmeasured(response: ModelResponse, guess: Spending) -> Spending:
    return _spending(response).at_least(guess if is_billed(response) else Spending(guess.tokens))


def _is_measured(response: ModelResponse) -> bool:
    """Whether its provider told all of its usage: of one that is cut it tells nothing, or what it had read."""
    usage = response.usage
    return response.state != "interrupted" and usage.has_values() and not usage.unmeasured_requests


def _tokens(messages: Iterable[ModelMessage]) -> int:
    """About how many tokens messages have."""
    return sum(_characters(part) for message in messages for part in message.parts) // CHARACTERS_A_TOKEN


def _characters(part: Any) -> int:
    if isinstance(part, BaseToolCallPart):
        return len(part.args_as_json_str())
    if isinstance(part, BaseToolReturnPart):
        return len(part.model_response_str())
    content: object = getattr(part, "content", "")
    items = cast("list[object]", content) if isinstance(content, list | tuple) else [content]
    return sum(map(_length, items))


def _length(item: object) -> int:
    text = item.content if isinstance(item, TextContent) else item
    return len(text) if isinstance(text, str) else FILE_CHARACTERS
