"""Messages become what Gradio shows, and what a person sent becomes messages; nothing is lost in silence."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from inline_snapshot import snapshot
from pydantic_ai import ModelMessage
from pydantic_ai.messages import (
    BinaryContent,
    ImageUrl,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    RetryPromptPart,
    SpeechPart,
    SystemPromptPart,
    TextContent,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UploadedFile,
    UserPromptPart,
)

from chat.render import (
    LONGEST_PROMPT,
    RULES,
    SHOWN_PROMPT,
    GradioMessage,
    PromptRefused,
    from_gradio,
    prompt_from,
    prompt_text,
    starts_turn,
    to_gradio,
    to_pairs,
)
from tests.every_part import EVERY_MESSAGE, HIDDEN, REQUEST_PARTS, RESPONSE_PARTS, members, missing_samples

ANY_MACHINE = settings(deadline=None, database=None)
"""A slow machine fails no test, and no files are left in the project."""

CALL = ToolCallPart("add", {"a": 1}, tool_call_id="1")
RETURN = ToolReturnPart("add", "the sum", tool_call_id="1")
CALL_SHOWN = '```json\n{\n  "a": 1\n}\n```'


def shown(*messages: ModelMessage, **options: Any) -> list[GradioMessage]:
    return to_gradio([(f"e{number}", message) for number, message in enumerate(messages)], **options)


def response(*parts: ModelResponsePart) -> ModelResponse:
    return ModelResponse(parts)


def request(*parts: ModelRequestPart) -> ModelRequest:
    return ModelRequest(parts)


def text_of(message: GradioMessage) -> str:
    [content] = message["content"]
    return content["text"]


def spoken(messages: Sequence[GradioMessage]) -> list[tuple[str, str]]:
    return [(message["role"], text_of(message)) for message in messages]


# Every kind of part


def test_every_kind_of_part_has_a_rule() -> None:
    assert missing_samples() == set()
    kinds = {cast("Any", part).part_kind for part in members(ModelRequestPart) | members(ModelResponsePart)}
    assert kinds <= RULES.keys()


@pytest.mark.parametrize("part", [*REQUEST_PARTS, *RESPONSE_PARTS], ids=lambda part: type(part).__name__)
def test_a_part_of_any_kind_is_shown(part: Any) -> None:
    message = request(part) if part in REQUEST_PARTS else response(part)
    messages = shown(message)
    assert messages
    assert all(text_of(each) for each in messages)
    assert {each["metadata"].get("id") for each in messages} == {"e0:0"}
    json.dumps(messages)


def test_a_retry_of_an_old_version_is_shown() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        part = RetryPromptPart("Say it shorter.")  # pyright: ignore[reportDeprecated]
    [message] = shown(request(part))
    assert (message["metadata"].get("title"), text_of(message)) == ("Asked to try again", "Say it shorter.")


def test_what_is_not_for_visitors_is_named_without_its_text() -> None:
    messages = shown(*EVERY_MESSAGE)
    assert HIDDEN not in json.dumps(messages)
    titles = {message["metadata"].get("title") for message in messages if "Not shown" in text_of(message)}
    assert titles == {
        "System prompt",
        "Instructions",
        "Instructions changed",
        "Tools changed",
        "Capabilities changed",
        "Model settings changed",
    }


def test_a_kind_that_is_not_known_is_a_labelled_block_with_its_content() -> None:
    @dataclass
    class Hologram:
        beams: list[int]
        light: bytes = b"\xff"
        part_kind: str = "hologram"

    assert shown(response(cast("Any", Hologram([1])))) == snapshot(
        [
            {
                "role": "assistant",
                "content": [
                    {
                        "type": "text",
                        "text": """\
```json
{
  "beams": [
    1
  ],
  "light": "_w==",
  "part_kind": "hologram"
}
```\
""",
                    }
                ],
                "metadata": {"title": "hologram", "status": "done", "id": "e0:0"},
            }
        ]
    )


def test_the_id_of_a_message_names_its_entry_and_part() -> None:
    messages = to_gradio(
        [
            (
                "entry-1",
                request(SystemPromptPart("x"), UserPromptPart(["look", BinaryContent(b"1", media_type="a/b")])),
            ),
            ("entry-2", response(ThinkingPart("hm"), TextPart(""), TextPart("yes"))),
        ]
    )
    ids = [message["metadata"].get("id") for message in messages]
    assert ids == ["entry-1:0", "entry-1:1", "entry-1:1", "entry-2:0", "entry-2:2"]


def test_text_keeps_its_indentation_and_white_space() -> None:
    text = "    code\n\n  more \n"
    messages = shown(request(UserPromptPart(text)), response(TextPart(text)))
    assert spoken(messages) == [("user", text), ("assistant", text)]


def test_an_empty_reply_shows_nothing() -> None:
    assert shown(response(TextPart("")), response(), request(UserPromptPart(""))) == []


def test_thinking_is_a_folded_block_also_when_the_provider_hides_it() -> None:
    messages = shown(response(ThinkingPart("hm"), ThinkingPart("", signature="s")))
    assert [(message["metadata"].get("title"), text_of(message)) for message in messages] == [
        ("Thinking", "hm"),
        ("Thinking", "*The provider keeps this to itself.*"),
    ]


def test_attachments_are_blocks_beside_the_prompt() -> None:
    prompt = UserPromptPart(
        [
            "Look:",
            ImageUrl("https://example.com/a.png"),
            TextContent("at this", metadata=HIDDEN),
            BinaryContent(b"12345", media_type="application/pdf"),
            UploadedFile("f-1", provider_name="openai", media_type="text/csv"),
        ]
    )
    messages = shown(request(prompt))
    assert [(message["role"], message["metadata"].get("title"), text_of(message)) for message in messages] == snapshot(
        [
            ("user", None, "Look:\n\nat this"),
            ("user", "Attached image/png", "```\nhttps://example.com/a.png\n```"),
            ("user", "Attached application/pdf", "5 bytes"),
            ("user", "Attached text/csv", "File f-1 at openai"),
        ]
    )


def test_speech_is_shown_as_what_its_speaker_said() -> None:
    messages = shown(request(SpeechPart(speaker="user", transcript="Hello")), response(SpeechPart(speaker="assistant")))
    assert spoken(messages) == [("user", "Hello"), ("assistant", "*No transcript.*")]


# Tools


def tool_block(text: str, **metadata: str) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": [{"type": "text", "text": text}],
        "metadata": {"title": "Tool: add", "status": "done", "id": "e0:0"} | metadata,
    }


def test_a_tool_call_and_its_return_are_one_block() -> None:
    assert shown(response(CALL), request(RETURN)) == [tool_block(f"{CALL_SHOWN}\n\nthe sum")]


def test_a_call_without_a_return_is_pending_while_a_run_is_at_work_and_interrupted_after() -> None:
    assert shown(response(CALL), live=True) == [tool_block(CALL_SHOWN, status="pending")]
    assert shown(response(CALL)) == [tool_block(CALL_SHOWN, log="interrupted")]


@pytest.mark.parametrize("outcome", ["failed", "denied", "interrupted", "retried"])
def test_a_call_that_did_not_succeed_says_how_it_ended(outcome: Any) -> None:
    ended = ToolReturnPart("add", "why", tool_call_id="1", outcome=outcome)
    assert shown(response(CALL), request(ended)) == [tool_block(f"{CALL_SHOWN}\n\nwhy", log=outcome)]


def test_a_return_whose_call_is_before_the_window_is_a_block_of_its_own() -> None:
    assert shown(request(RETURN)) == [tool_block("the sum")]


def test_arguments_that_are_still_being_written_are_shown_as_they_are() -> None:
    [message] = shown(response(ToolCallPart("add", '{"a": 1, "b', tool_call_id="1")), live=True)
    assert text_of(message) == '```\n{"a": 1, "b\n```'


@pytest.mark.parametrize("ticks", [0, 1, 3, 4, 11])
def test_a_fence_is_longer_than_any_backticks_in_it(ticks: int) -> None:
    [message] = shown(request(ToolReturnPart("add", {"md": f"{'`' * ticks}\nx"}, tool_call_id="1")))
    fence, *body, end = text_of(message).split("\n")
    assert fence.removesuffix("json") == end == "`" * max(3, ticks + 1)
    assert json.loads("\n".join(body)) == {"md": f"{'`' * ticks}\nx"}


# Notes and prompts


def test_a_note_stands_below_the_turn_that_it_is_about() -> None:
    conversation = [
        ("p1", request(UserPromptPart("one"))),
        ("r1", response(TextPart("half"))),
        ("p2", request(UserPromptPart("two"))),
        ("r2", response(TextPart("hal"))),
    ]
    messages = to_gradio(conversation, notes={"p1": "Stopped.", "p2": "Failed."})
    assert [text_of(message) for message in messages] == ["one", "half", "*Stopped.*", "two", "hal", "*Failed.*"]
    ids = [message["metadata"].get("id") for message in messages]
    assert len(set(ids)) == len(ids)


def test_a_turn_starts_where_a_person_says_something() -> None:
    assert starts_turn(request(SystemPromptPart("x"), UserPromptPart("hello")))
    assert starts_turn(request(SpeechPart(speaker="user")))
    assert not starts_turn(request(RETURN))
    assert not starts_turn(response(TextPart("hello")))


def test_the_text_of_a_prompt_leaves_out_attachments() -> None:
    prompt = request(UserPromptPart(["one", ImageUrl("https://example.com/a.png"), "two"]), UserPromptPart("three"))
    assert prompt_text(prompt) == "one\n\ntwo\n\nthree"


def test_a_long_prompt_is_shortened_in_the_view_and_says_by_how_much() -> None:
    [message] = shown(request(UserPromptPart("x" * (SHOWN_PROMPT + 1234))))
    rest = "\n\n*… and 1,234 more characters, which the model was sent too.*"
    assert text_of(message) == "x" * SHOWN_PROMPT + rest
    [message] = shown(request(UserPromptPart("x" * SHOWN_PROMPT)))
    assert text_of(message) == "x" * SHOWN_PROMPT


# What a person typed


@ANY_MACHINE
@given(st.text(st.characters(exclude_categories=["Cs"])).filter(str.strip))
@example("a\0\u202e\u200f👩🏽‍🚀\r\n\t ")
def test_what_was_typed_is_kept_to_the_character(text: str) -> None:
    assert prompt_from(text) == text


@ANY_MACHINE
@given(st.text(st.sampled_from(" \t\r\n\v\f\x85\u2003\u2028")))
def test_a_blank_prompt_is_refused(text: str) -> None:
    with pytest.raises(PromptRefused, match=r"^Type a message first\.$"):
        prompt_from(text)


@ANY_MACHINE
@given(st.text(), st.characters(categories=["Cs"]), st.text())
@example("x" * 1500, "\udc80", "")
def test_half_a_surrogate_pair_is_refused_with_its_place(before: str, half: str, after: str) -> None:
    text = f"a{before}{half}{after}"
    first = next(place for place, char in enumerate(text, start=1) if 0xD800 <= ord(char) < 0xE000)
    with pytest.raises(PromptRefused, match=f"^Character {first:,} of this message is half of a Unicode character "):
        prompt_from(text)


def test_a_prompt_that_is_too_long_is_refused_with_its_length() -> None:
    longest = "x" * LONGEST_PROMPT
    assert prompt_from(longest) == longest
    with pytest.raises(PromptRefused) as refused:
        prompt_from(longest + "x")
    assert str(refused.value) == "This message has 4,000,001 characters; at most 4,000,000 can be sent."


# What Gradio apps keep


def dicts(*turns: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in turns]


def parts(messages: Sequence[ModelMessage]) -> list[tuple[str, str]]:
    return [(part.part_kind, str(cast("Any", part).content)) for message in messages for part in message.parts]


@ANY_MACHINE
@given(st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.text(min_size=1))))
def test_dicts_of_text_become_messages_and_come_back(turns: list[tuple[str, str]]) -> None:
    messages = from_gradio(dicts(*turns))
    assert spoken(shown(*messages)) == turns
    kinds = [message.kind for message in messages]
    assert all(one != following for one, following in pairwise(kinds))


@ANY_MACHINE
@given(st.lists(st.tuples(st.text(), st.text())))
def test_pairs_of_text_become_messages_and_come_back(pairs: list[tuple[str, str]]) -> None:
    messages = from_gradio(pairs)
    assert parts(messages) == [part for user, bot in pairs for part in (("user-prompt", user), ("text", bot))]
    assert to_pairs(messages) == pairs


def test_pairs_with_one_side_missing_become_messages_and_come_back() -> None:
    pairs: list[tuple[str | None, str | None]] = [(None, "Welcome!"), ("hello", "hi"), ("bye", None)]
    messages = from_gradio(pairs)
    assert parts(messages) == [
        ("text", "Welcome!"),
        ("user-prompt", "hello"),
        ("text", "hi"),
        ("user-prompt", "bye"),
    ]
    assert to_pairs(messages) == pairs


def test_what_the_page_shows_of_a_turn_with_a_tool_becomes_messages() -> None:
    page = shown(request(UserPromptPart("add")), response(ThinkingPart("hm"), CALL, TextPart("1")), request(RETURN))
    assert parts(from_gradio(page)) == [
        ("user-prompt", "add"),
        ("thinking", "hm"),
        ("thinking", f"{CALL_SHOWN}\n\nthe sum"),
        ("text", "1"),
    ]


def test_pairs_leave_out_everything_but_prompts_and_replies() -> None:
    turn = [request(UserPromptPart("add")), response(TextPart("Let me see."), CALL), request(RETURN)]
    assert to_pairs([*turn, response(ThinkingPart("hm"), TextPart("One."))]) == [("add", "Let me see.\n\nOne.")]


def test_a_system_message_becomes_a_system_prompt() -> None:
    messages = from_gradio(dicts(("system", HIDDEN), ("user", "hello")))
    assert parts(messages) == [("system-prompt", HIDDEN), ("user-prompt", "hello")]
    assert len(messages) == 1


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"path": "{}", "orig_name": "holiday.png"}, "[holiday.png]"),
        ({"path": "{}"}, "[secret.txt]"),
        ({"type": "file", "file": {"path": "{}"}, "alt_text": None}, "[secret.txt]"),
        ({"path": "C:\\Users\\me\\secret.txt"}, "[secret.txt]"),
        (("{}",), "[secret.txt]"),
        (("{}", "alternative"), "[secret.txt]"),
        ([{"type": "text", "text": "see"}, {"file": {"path": "{}"}}], "see\n\n[secret.txt]"),
        ({}, "[file]"),
        (5, "[int]"),
        (None, "[NoneType]"),
    ],
)
def test_a_file_that_a_client_names_is_never_read(tmp_path: Path, content: Any, text: str) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the server's own")

    def with_path(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("{}", str(secret))
        if isinstance(value, dict):
            return {key: with_path(item) for key, item in cast("dict[str, Any]", value).items()}
        return type(value)(map(with_path, value)) if isinstance(value, list | tuple) else value

    assert parts(from_gradio(dicts(("user", with_path(content))))) == [("user-prompt", text)]
