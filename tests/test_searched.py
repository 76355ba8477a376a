"""What a page shows of a message is found, and nothing else: no system prompt, and no data of files."""

import base64
import json
from hashlib import sha512

import pytest
from pydantic_ai import ModelMessage
from pydantic_ai.messages import (
    BinaryContent,
    DocumentUrl,
    ModelRequest,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from chat import render
from chat.file_render import text_file
from chat.searched import MOST, RULES, text_of
from chat.store import message_json
from tests.every_part import EVERY_MESSAGE, HIDDEN, WORKDAY


def found(message: ModelMessage) -> str:
    return text_of(message_json(message))


def test_each_kind_that_is_shown_has_a_rule() -> None:
    assert RULES.keys() == render.RULES.keys()


def test_of_every_kind_of_message_what_visitors_see_is_found_and_the_rest_is_not() -> None:
    text = "\n".join(map(found, EVERY_MESSAGE + WORKDAY))
    for seen in (
        *("plain text", "text with data", "apple", "https://example.com/report.pdf", "file-1", "spoken", "loaded", "ü"),
        *("Answer in one word.", "what was said", "let me see", "The sky is blue.", "search_tools", "maths", "look"),
        *('{"at": "unfinished', "web_search", "print(1)", "10,000 km", "Lima | Peru", "final_result", "Not today."),
        *("How will it be in Paris?", "21.5"),  # said by the agent that a tool ran
    ):
        assert seen in text, seen
    for hidden in (HIDDEN, "signature", "encrypted", "AAECAwQF", "input_tokens"):
        assert hidden not in text, hidden


def test_arguments_are_found_however_the_provider_sends_them() -> None:
    for args in ({"to": "Zoë", "copies": 12}, '{"to": "Zo\\u00eb", "copies": 12}'):
        assert found(ModelResponse([ToolCallPart("send_mail", args)])) == "send_mail\nto\nZoë\ncopies\n12"


def test_files_are_found_by_their_names() -> None:
    picture = BinaryContent(b"\x89PNG" * 1000, media_type="image/png", identifier="holiday.png")
    prompt: list[object] = [text_file("notes.txt", "buy milk"), picture, DocumentUrl("https://example.com/a.pdf")]
    text = found(ModelRequest([UserPromptPart(prompt)]))  # pyright: ignore[reportArgumentType]
    assert "notes.txt" in text
    assert "buy milk" in text
    assert text.endswith("holiday.png\nhttps://example.com/a.pdf")
    returned = ToolReturnPart("draw", ["Here:", picture], tool_call_id="1")
    assert found(ModelRequest([returned])) == "Here:\nholiday.png"


@pytest.mark.parametrize("in_lines", [False, True])
def test_base64_in_a_text_is_not_found_and_what_stands_around_it_is(in_lines: bool) -> None:
    data = sha512(b"").digest() * 50
    encoded = base64.encodebytes(data).decode() if in_lines else base64.b64encode(data).decode()
    text = found(ModelResponse([TextPart(f"before data:image/png;base64,{encoded} after")]))
    assert text.split() == ["before", "data:image/png;base64,", "after"]


def test_a_long_word_is_not_taken_for_base64() -> None:
    assert found(ModelResponse([ThinkingPart("x" * 1000)])) == "x" * 1000


def test_a_kind_that_this_version_does_not_know_is_found_by_its_texts() -> None:
    row = {"parts": [{"part_kind": "hologram", "scene": ["a castle", {"depth": 3}], "on": True}], "kind": "response"}
    assert text_of(json.dumps(row)) == "part_kind\nhologram\nscene\na castle\ndepth\n3\non"


@pytest.mark.parametrize(
    "row",
    [
        "{}",
        '{"parts": [{"part_kind": "text"}, {"part_kind": "tool-call"}, {"part_kind": "user-prompt"}]}',
        '{"parts": [{"part_kind": "tool-return", "content": ' + "[" * 300 + "]" * 300 + "}]}",
    ],
)
def test_a_row_of_an_unusual_form_is_no_error(row: str) -> None:
    assert text_of(row) == ""


def test_of_a_huge_message_the_first_hundred_pages_are_found() -> None:
    text = found(ModelResponse([TextPart("word " * 100_000), TextPart("end")]))
    assert len(text) == MOST
