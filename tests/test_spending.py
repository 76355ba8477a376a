"""What a turn used is counted also when its price, or its usage, is not known."""

from decimal import Decimal

from pydantic_ai import ModelMessage, RunUsage
from pydantic_ai.messages import BinaryContent, ModelRequest, ModelResponse, TextPart, ToolReturnPart, UserPromptPart
from pydantic_ai.usage import RequestUsage

from chat.spending import FILE_CHARACTERS, UNKNOWN_PRICE, Spending, spending_of

PROMPT = ModelRequest(parts=[UserPromptPart("x" * 4_000)])


def reply(usage: RequestUsage | None = None, **known: str) -> ModelResponse:
    return ModelResponse(parts=[TextPart("y" * 400)], usage=usage or RequestUsage(), **known)  # pyright: ignore


def test_a_known_price_is_taken() -> None:
    usage = RequestUsage(input_tokens=100, output_tokens=10, cost=Decimal("0.0025"))
    assert spending_of([reply(usage, provider_name="openai")]) == Spending(110, 2_500)


def test_tokens_without_a_price_count_ten_dollars_for_a_million() -> None:
    usage = RequestUsage(input_tokens=100, output_tokens=10)
    assert spending_of([reply(usage, provider_name="mine")]) == Spending(110, 110 * UNKNOWN_PRICE)


def test_a_model_on_this_machine_costs_tokens_and_no_money() -> None:
    usage = RequestUsage(input_tokens=100, output_tokens=10)
    here = reply(usage, provider_name="openai", provider_url="http://127.0.0.1:8080/v1")
    assert spending_of([here]) == Spending(110, 0)


def test_a_reply_that_was_stopped_before_its_usage_came_counts_by_the_length_of_what_was_read_and_written() -> None:
    stopped = reply(provider_name="openai", state="interrupted")
    assert spending_of([stopped], given=[PROMPT]) == Spending(1_100, 1_100 * UNKNOWN_PRICE)


def test_a_reply_that_was_stopped_before_its_first_word_counts_as_read() -> None:
    assert spending_of([], RunUsage(), [PROMPT], cut=True) == Spending(1_000, 1_000 * UNKNOWN_PRICE)
    assert spending_of([], RunUsage(), [PROMPT]) == Spending()


def test_what_agents_in_tools_used_counts_as_far_as_the_run_was_told() -> None:
    usage = RequestUsage(input_tokens=100, output_tokens=10, cost=Decimal("0.0025"))
    told = RunUsage(requests=2, input_tokens=300, output_tokens=30, cost=Decimal("0.0075"))
    assert spending_of([reply(usage, provider_name="openai")], told) == Spending(330, 7_500)


def test_a_file_counts_as_about_a_thousand_tokens_whatever_its_size() -> None:
    image = BinaryContent(b"0" * 5_000_000, media_type="image/png")
    given: list[ModelMessage] = [
        ModelRequest(parts=[UserPromptPart([image, "x" * 400]), ToolReturnPart("look", {"found": "z" * 388}, "call")])
    ]
    stopped = reply(provider_name="openai", state="interrupted")
    assert spending_of([stopped], given=given).tokens == FILE_CHARACTERS // 4 + 300
