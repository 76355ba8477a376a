"""What a reply took is said in one line, and what isn't known is never said to be zero."""

from decimal import Decimal
from typing import Any

import pytest
from inline_snapshot import snapshot
from pydantic_ai import ModelMessage, ModelMessagesTypeAdapter, ModelResponse, RequestUsage, RunUsage
from pydantic_ai.messages import ModelRequest, ModelRequestAttempt, TextPart, ToolReturnPart, UserPromptPart

from chat.render import to_gradio
from chat.summary import Took, lines_by_turn, spent, took, usage_of
from tests.every_part import NOON, WORKDAY

LOCAL = {"model_name": "small", "provider_name": "openai", "provider_url": "http://127.0.0.1:9/v1"}
UNKNOWN = {"model_name": "mystery", "provider_name": "mystery"}
GPT = {"model_name": "gpt-5", "provider_name": "openai"}


def response(*, tokens: int = 1000, cost: Decimal | None = None, **about: Any) -> ModelResponse:
    usage = RequestUsage(input_tokens=tokens, output_tokens=tokens, cost=cost) if tokens else RequestUsage()
    return ModelResponse([TextPart("yes")], usage=usage, timestamp=NOON, **about)


def line(*messages: ModelMessage, seconds: float | None = None) -> str:
    return took(messages, seconds).line()


def test_a_turn_is_the_sum_of_its_responses() -> None:
    assert took(WORKDAY, 3.21) == snapshot(
        Took(
            models=("gpt-5",),
            input_tokens=7100,
            cached_tokens=800,
            output_tokens=440,
            cost=Decimal("0.012375"),
            seconds=3.21,
        )
    )
    assert line(*WORKDAY, seconds=3.21) == snapshot("gpt-5 · 7.1k in (800 cached), 440 out · $0.012 · 3.2 s")


def test_the_price_is_pydantic_ais_own() -> None:
    reply = response(**GPT)
    assert took([reply]).cost == reply.cost().total_price
    assert took([response(cost=Decimal("0.5"), **GPT)]).cost == Decimal("0.5")


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (response(**UNKNOWN), "mystery · 1k in, 1k out · cost unknown"),
        (response(tokens=0, **GPT), "gpt-5 · cost unknown"),
        (response(**LOCAL), "small · 1k in, 1k out"),
        (response(**{**LOCAL, "provider_url": "http://localhost:11434/v1"}), "small · 1k in, 1k out"),
        (response(**{**LOCAL, "provider_url": "http://[::1]:80"}), "small · 1k in, 1k out"),
        (response(**{**LOCAL, "provider_url": "https://models.example"}), "small · 1k in, 1k out · cost unknown"),
        (response(**{**LOCAL, "provider_url": "http://["}), "small · 1k in, 1k out · cost unknown"),
        (response(model_name="scripted"), "scripted · 1k in, 1k out"),
        (response(model_name="test", provider_name="test"), "test · 1k in, 1k out"),
        (response(cost=Decimal(0), **GPT), "gpt-5 · 1k in, 1k out · $0.00"),
        (response(), "1k in, 1k out"),
        (response(tokens=0), ""),
    ],
)
def test_a_cost_is_said_where_somebody_may_bill_for_it(reply: ModelResponse, said: str) -> None:
    assert line(reply) == said


def test_a_cost_that_is_known_in_part_is_said_to_be_at_least_that() -> None:
    priced = response(cost=Decimal("0.25"), **GPT)
    assert line(priced, response(**UNKNOWN)).endswith(" · at least $0.25")
    cut = response(cost=Decimal("0.25"), state="interrupted", **GPT)
    assert line(cut).endswith(" · at least $0.25")
    assert line(priced, response(**LOCAL)).endswith(" · $0.25")


def test_attempts_that_failed_are_in_the_sum() -> None:
    def attempt(usage: RequestUsage | None) -> ModelRequestAttempt:
        return ModelRequestAttempt(
            model_name="gpt-5", outcome="error", timestamp=NOON, duration=NOON - NOON, usage=usage
        )

    known = attempt(RequestUsage(input_tokens=500, cost=Decimal("0.25")))
    reply = response(cost=Decimal("0.5"), failed_attempts=[known], **GPT)
    assert line(reply) == "gpt-5 · 1.5k in, 1k out · $0.75"
    reply = response(cost=Decimal("0.5"), failed_attempts=[attempt(None)], **GPT)
    assert line(reply) == "gpt-5 · 1k in, 1k out · at least $0.50"


def test_an_agent_that_a_tool_ran_is_in_the_sum() -> None:
    inner = [response(model_name="small-one", provider_name="test")]
    result = ModelRequest([ToolReturnPart("ask", "yes", tool_call_id="1", metadata=inner)])
    assert line(response(model_name="scripted"), result) == "scripted, small-one · 2k in, 2k out"


def test_a_stored_turn_took_what_it_took() -> None:
    stored = ModelMessagesTypeAdapter.validate_json(ModelMessagesTypeAdapter.dump_json(WORKDAY))
    assert took(stored) == took(WORKDAY)


@pytest.mark.parametrize(
    ("total", "said"),
    [
        (Took(input_tokens=999, output_tokens=1), "999 in, 1 out"),
        (Took(input_tokens=12_345, output_tokens=999_499), "12.3k in, 999k out"),
        (Took(input_tokens=1_234_567, output_tokens=999_500), "1.23M in, 1M out"),
        (Took(cost=Decimal("0.00001")), "under $0.0001"),
        (Took(cost=Decimal("0.00413")), "$0.0041"),
        (Took(cost=Decimal("0.12")), "$0.12"),
        (Took(cost=Decimal("1234.5")), "$1,234.50"),
        (Took(seconds=0.01), "0.1 s"),
        (Took(seconds=9.96), "10 s"),
        (Took(seconds=59.6), "1 min 0 s"),
        (Took(models=("a*b*", "c")), "a&#42;b&#42;, c"),
    ],
)
def test_numbers_are_said_in_a_few_characters(total: Took, said: str) -> None:
    assert total.line() == said


def test_each_turn_that_a_providers_model_replied_to_has_its_line_below_it() -> None:
    at_home = {"provider_name": "openai", "provider_url": "http://127.0.0.1:1234/v1"}
    conversation: list[tuple[str, ModelMessage]] = [
        ("r0", response(model_name="before", **at_home)),
        ("p1", ModelRequest([UserPromptPart("one")])),
        ("r1", response(model_name="one", **at_home)),
        ("p2", ModelRequest([UserPromptPart("two")])),
        ("r2", response(model_name="two", **at_home)),
        ("r3", response(model_name="three", **at_home)),
        ("p3", ModelRequest([UserPromptPart("three")])),
        ("p4", ModelRequest([UserPromptPart("four")])),
        ("r4", response(model_name="scripted", provider_name="function")),
    ]
    lines = lines_by_turn(conversation, {"p1": 2, "p3": 5})
    assert lines == {"p1": "one · 1k in, 1k out · 2 s", "p2": "two, three · 2k in, 2k out"}
    texts = [message["content"][0]["text"] for message in to_gradio(conversation, took=lines)]
    assert texts == [
        *("yes", "one", "yes", f"<small>{lines['p1']}</small>"),
        *("two", "yes", "yes", f"<small>{lines['p2']}</small>", "three", "four", "yes"),
    ]


def test_a_conversation_took_the_usage_that_is_stored_with_it() -> None:
    usage = RunUsage(requests=3, input_tokens=1500, cache_read_tokens=500, output_tokens=20, cost=Decimal("0.75"))
    assert spent(usage).line() == "1.5k in (500 cached), 20 out · $0.75"
    assert spent(RunUsage(input_tokens=10)).line() == "10 in, 0 out"


def test_a_conversation_has_an_unknown_cost_once_one_of_its_replies_has() -> None:
    priced, unknown = response(cost=Decimal("0.25"), **GPT), response(**UNKNOWN)
    usage = usage_of([response(**LOCAL), response(model_name="scripted")])
    assert spent(usage).line() == "2k in, 2k out"
    usage += usage_of([priced], RunUsage(input_tokens=1000, cost=Decimal("0.25")))
    assert spent(usage).line() == "3k in, 2k out · $0.25"
    for _ in range(2):
        usage += usage_of([priced, unknown], RunUsage(input_tokens=1000, cost=Decimal("0.25")))
    assert spent(usage).line() == "5k in, 2k out · at least $0.75"
    assert spent(usage_of([unknown])).line() == "1k in, 1k out · cost unknown"
    cut = response(tokens=0, state="interrupted", **GPT)
    assert spent(usage_of([cut], RunUsage(requests=1))).line() == "cost unknown"


def test_another_programs_total_is_at_least_what_is_known_of_it() -> None:
    assert spent(RunUsage(cost=Decimal("0.25"), unmeasured_requests=1)).line() == "at least $0.25"
    assert spent(RunUsage(input_tokens=10, unmeasured_requests=1)).line() == "10 in, 0 out"
