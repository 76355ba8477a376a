"""Messages become what Gradio shows, and what a person sent becomes messages; nothing is lost in silence."""

import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from inline_snapshot import snapshot
from pydantic_ai import ModelMessage, ModelMessagesTypeAdapter
from pydantic_ai.messages import (
    AudioUrl,
    BinaryContent,
    Citation,
    ContentCitationAnchor,
    DocumentCitationSource,
    DocumentUrl,
    FilePart,
    ImageUrl,
    MarkerCitationAnchor,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    NativeToolCallPart,
    NativeToolReturnPart,
    RetryInfo,
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
    VideoUrl,
    WebCitationSource,
)

from chat.brief import Brief
from chat.file_render import text_file
from chat.markup import SHOWN, SHOWN_ON_DEMAND, TABLE_ROWS
from chat.partial import Partial
from chat.render import (
    LONGEST_PROMPT,
    RULES,
    SHOWN_PROMPT,
    SHOWN_REPLY,
    PromptRefused,
    from_gradio,
    prompt_from,
    prompt_text,
    starts_turn,
    to_gradio,
    to_pairs,
)
from chat.shown import FileLink, GradioMessage, Showing
from chat.tool_render import OUTPUT_TAKEN
from tests.every_part import (
    EVERY_MESSAGE,
    HIDDEN,
    REQUEST_PARTS,
    RESPONSE_PARTS,
    WORKDAY,
    events,
    members,
    missing_samples,
)

ANY_MACHINE = settings(deadline=None, database=None)
"""A slow machine fails no test, and no files are left in the project."""

CALL = ToolCallPart("add", {"a": 1}, tool_call_id="1")
RETURN = ToolReturnPart("add", "the sum", tool_call_id="1")
CALL_SHOWN = '```json\n{\n  "a": 1\n}\n```'
RETURN_SHOWN = "```\nthe sum\n```"
BOTH_SHOWN = f"{CALL_SHOWN}\n\n<small>Result</small>\n\n{RETURN_SHOWN}"

PICTURE = BinaryContent(b"12345", media_type="image/png")


def link_to(entry_id: str, content: BinaryContent) -> FileLink:
    """Where a page would get a file, and what it is called."""
    kind = content.media_type.replace("/", ".")
    return FileLink(f"files/{entry_id}?a&b", kind, len(content.data))


OPERATOR = Showing(show_system=True)
WITH_FILES = Showing(files=link_to)


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
    messages = shown(message, showing=OPERATOR)
    assert messages
    assert all(text_of(each) for each in messages)
    assert {each["metadata"].get("id") for each in messages} == {"e0:0"}
    json.dumps(messages)


def test_a_retry_of_an_old_version_is_shown() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        part = RetryPromptPart("Say it shorter.")  # pyright: ignore[reportDeprecated]
    [message] = shown(request(part))
    assert (message["metadata"].get("title"), text_of(message)) == ("Asked to try again", "```\nSay it shorter.\n```")


def test_what_is_not_for_visitors_is_shown_only_where_that_is_wanted() -> None:
    assert HIDDEN not in json.dumps(shown(*EVERY_MESSAGE))
    hidden = [part for part in REQUEST_PARTS if not shown(request(part))]
    titles = [each["metadata"].get("title") for each in shown(request(*hidden), showing=OPERATOR)]
    assert titles == [
        "System prompt",
        "Tools changed",
        "Capabilities changed",
        "Model settings changed",
        "Instructions changed",
        "Instructions",
    ]


def test_instructions_are_shown_where_they_change() -> None:
    requests = [ModelRequest([UserPromptPart("hello")], instructions=words) for words in ("one", "one", None, "two")]
    messages = shown(*requests, showing=OPERATOR)
    assert [(each["metadata"].get("id"), text_of(each)) for each in messages if each["metadata"].get("title")] == [
        ("e0:instructions", "```\none\n```"),
        ("e3:instructions", "```\ntwo\n```"),
    ]


def test_what_a_turn_was_told_stands_before_its_prompt_where_it_changes() -> None:
    prompt, reply = request(UserPromptPart("hello")), response(TextPart("hi"))
    again = ModelRequest([RETURN], instructions="one")
    briefs = {"e0": Brief(("a", "b"), "one"), "e3": Brief(("a", "b"), "two"), "e5": Brief(("c",), "two")}
    messages = shown(prompt, reply, again, prompt, reply, prompt, showing=replace(OPERATOR, briefs=briefs))
    assert [(each["metadata"].get("id"), text_of(each)) for each in messages if each["metadata"].get("title")] == [
        ("e0:system", "```\na\n```"),
        ("e0:system", "```\nb\n```"),
        ("e0:instructions", "```\none\n```"),
        ("e2:0", RETURN_SHOWN),
        ("e3:instructions", "```\ntwo\n```"),
        ("e5:system", "```\nc\n```"),
    ]
    assert shown(prompt, reply, showing=Showing(briefs=briefs)) == shown(prompt, reply)
    rest = shown(again, turn="e9", live=True, showing=replace(OPERATOR, briefs={"e9": Brief((), "one")}))
    assert [each["metadata"].get("id") for each in rest] == ["e0:0"]


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
    assert ids == ["entry-1:1", "entry-1:1", "entry-2:0", "entry-2:2"]


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


def test_thinking_says_how_long_it_took_each_for_itself() -> None:
    timed = Showing(timings={"e0": {"thinking:0": 3.2, "thinking:1": 75}, "e3": {"thinking:0": 0.04}})
    messages = shown(
        request(UserPromptPart("one")),
        response(ThinkingPart("a")),
        response(ThinkingPart("b"), ThinkingPart("c")),
        request(UserPromptPart("two")),
        response(ThinkingPart("d")),
        showing=timed,
    )
    titles = [message["metadata"].get("title") for message in messages if message["role"] == "assistant"]
    assert titles == ["Thought for 3.2 s", "Thought for 1 min 15 s", "Thinking", "Thought for 0.1 s"]


def test_thinking_is_open_while_nothing_follows_it() -> None:
    timed = Showing(timings={"p": {"thinking:0": 2}})
    [thinking] = shown(response(ThinkingPart("hm")), live=True, turn="p", showing=timed)
    assert thinking["metadata"] == {"title": "Thinking", "status": "pending", "id": "e0:0"}
    [thinking, _] = shown(response(ThinkingPart("hm"), TextPart("So")), live=True, turn="p", showing=timed)
    assert thinking["metadata"] == {"title": "Thought for 2 s", "status": "done", "id": "e0:0"}


# Files and sources


def test_attachments_stand_in_their_order_among_the_words() -> None:
    prompt = UserPromptPart(
        [
            "Look:",
            ImageUrl("https://example.com/a.png"),
            TextContent("at this", metadata=HIDDEN),
            BinaryContent(b"12345", media_type="application/pdf"),
            UploadedFile("f-1", provider_name="openai", media_type="text/csv"),
        ]
    )
    assert spoken(shown(request(prompt), showing=WITH_FILES)) == snapshot(
        [
            ("user", "Look:"),
            ("user", '<a href="https://example.com/a.png">https&#58;//example.com/a.png</a>'),
            ("user", "at this"),
            (
                "user",
                '<a href="files/e0?a&amp;b" download="application.pdf">application.pdf</a> · 5 bytes',
            ),
            ("user", "File f-1 at openai"),
        ]
    )


@pytest.mark.parametrize(
    ("media_type", "html"),
    [
        (
            "image/png",
            snapshot('<a href="files/e0?a&amp;b"><img src="files/e0?a&amp;b" alt="image.png" loading="lazy"></a>'),
        ),
        (
            "audio/wav",
            snapshot("""\
<audio src="files/e0?a&amp;b" controls preload="none"></audio>

<a href="files/e0?a&amp;b" download="audio.wav">audio.wav</a> · 5 bytes\
"""),
        ),
        (
            "video/mp4",
            snapshot("""\
<video src="files/e0?a&amp;b" controls preload="metadata"></video>

<a href="files/e0?a&amp;b" download="video.mp4">video.mp4</a> · 5 bytes\
"""),
        ),
        (
            "application/pdf",
            snapshot('<a href="files/e0?a&amp;b" download="application.pdf">application.pdf</a> · 5 bytes'),
        ),
    ],
)
def test_files_are_shown_from_the_chats_own_address_or_offered_for_download(media_type: str, html: str) -> None:
    part = FilePart(BinaryContent(b"12345", media_type=media_type))
    assert spoken(shown(response(part), showing=WITH_FILES)) == [("assistant", html)]


def test_a_file_that_no_page_can_get_is_named() -> None:
    assert spoken(shown(response(FilePart(PICTURE)))) == [("assistant", "A file (image/png) · *not available here*")]
    [message] = shown(response(FilePart(PICTURE)), live=True)
    assert text_of(message) == "A file (image/png) · *shown once the reply is saved*"


@pytest.mark.parametrize("content", [ImageUrl, VideoUrl, AudioUrl, DocumentUrl])
@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/x.png",
        'https://evil.example/"onload="a.png',
        "javascript:alert(1).png",
        "https://evil.example/![a](b) <img src=c>.png",
        "https://evil.example/$$<img src=c>$$.png",
    ],
)
def test_what_is_elsewhere_is_loaded_only_by_a_click(content: Any, url: str) -> None:
    [message] = shown(request(UserPromptPart([content(url, media_type="image/png")])))
    assert tags_of(text_of(message)) in ([], [("a", ["href"])])
    assert not re.search(r"!\[|\$\$|\]\(", text_of(message))


def tags_of(html: str) -> list[tuple[str, list[str]]]:
    """The tags that a browser finds, each with the names of its attributes."""
    found: list[tuple[str, list[str]]] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, [name for name, _ in attrs]))

    Tags().feed(html)
    return found


def test_names_of_files_and_tools_are_shown_to_the_letter() -> None:
    name = '<img src="https://evil.example/x">_a_ **b** [c](d) `e` $$f$$'
    call = ToolCallPart(name, {}, tool_call_id="1")
    messages = shown(
        response(FilePart(PICTURE), FilePart(BinaryContent(b"1", media_type="text/plain")), call),
        showing=Showing(files=lambda _, content: FileLink("files/1", name, 5)),
    )
    picture, document, tool = text_of(messages[0]), text_of(messages[1]), messages[2]["metadata"].get("title", "")
    assert [tags_of(html) for html in (picture, document, tool)] == [
        [("a", ["href"]), ("img", ["src", "alt", "loading"])],
        [("a", ["href", "download"])],
        [],
    ]
    for html in (picture, re.sub(r"<a [^>]*>", "", document), tool):
        assert not re.search(r" _a_|\*\* |\[c\]|`|\$\$", re.sub(r'alt="[^"]*"', "", html))


def test_cited_text_has_numbers_behind_it_and_its_sources_below() -> None:
    sky = WebCitationSource("https://example.com/sky", title="Sky [1]")
    book = DocumentCitationSource(document_id="b-1", title="A book")
    citations = [
        Citation([sky, book], anchor=ContentCitationAnchor(start=0, end=7)),
        Citation([sky], anchor=ContentCitationAnchor(start=8, end=15)),
        Citation([book], anchor=MarkerCitationAnchor(start=8, end=15)),
        Citation([book]),
    ]
    [message] = shown(response(TextPart("Blue it is, so.", citations=citations)))
    assert text_of(message) == snapshot("""\
Blue it<sup>1, 2</sup> is, so.<sup>1</sup>

<small>Sources: 1. <a href="https://example.com/sky">Sky &#91;1&#93;</a> · 2. A book</small>\
""")


def test_code_is_not_marked_with_citations() -> None:
    citation = Citation([WebCitationSource("https://example.com")], anchor=ContentCitationAnchor(start=4, end=7))
    [message] = shown(response(TextPart("```\nabc\n```", citations=[citation])))
    assert text_of(message).startswith("```\nabc\n```\n\n<small>Sources: 1. ")


def test_speech_is_shown_as_what_its_speaker_said() -> None:
    sound = BinaryContent(b"12345", media_type="audio/wav")
    messages = shown(
        request(SpeechPart(speaker="user", transcript="Hello")),
        response(SpeechPart(speaker="assistant"), SpeechPart(speaker="assistant", transcript="Yes", audio=sound)),
        showing=WITH_FILES,
    )
    assert [(message["role"], text_of(message)[:12].strip()) for message in messages] == [
        ("user", "Hello"),
        ("assistant", "*Speech with"),
        ("assistant", '<audio src="'),
        ("assistant", "Yes"),
    ]


# Tools


def tool_block(text: str, **metadata: Any) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": [{"type": "text", "text": text}],
        "metadata": {"title": "Tool: add", "status": "done", "id": "e0:0"} | metadata,
    }


def result_of(content: Any, **options: Any) -> str:
    """What a tool's block shows of its return."""
    return text_of(shown(request(ToolReturnPart("look", content, tool_call_id="1")), **options)[0])


def native(tool_name: str, args: Any, content: Any) -> GradioMessage:
    call = NativeToolCallPart(tool_name, args, tool_call_id="1", provider_name="openai")
    ended = NativeToolReturnPart(tool_name, content, tool_call_id="1", provider_name="openai")
    [message] = shown(response(call, ended))
    return message


def test_a_tool_call_and_its_return_are_one_block() -> None:
    assert shown(response(CALL), request(RETURN)) == [tool_block(BOTH_SHOWN, log="done")]


def test_a_call_without_a_return_is_pending_while_a_run_is_at_work_and_interrupted_after() -> None:
    assert shown(response(CALL), live=True) == [tool_block(CALL_SHOWN, status="pending")]
    assert shown(response(CALL)) == [tool_block(CALL_SHOWN, log="interrupted")]


def test_a_call_says_how_long_it_runs_and_how_long_it_took() -> None:
    timed = Showing(timings={"p": {"1": 12.34}})
    running = tool_block(CALL_SHOWN, status="pending", log="running", duration=12)
    assert shown(response(CALL), live=True, turn="p", showing=timed) == [running]
    done = tool_block(BOTH_SHOWN, log="done", duration=12.3)
    assert shown(response(CALL), request(RETURN), turn="p", showing=timed) == [done]


@pytest.mark.parametrize("outcome", ["failed", "denied", "interrupted", "retried"])
def test_a_call_that_did_not_succeed_says_how_it_ended(outcome: Any) -> None:
    ended = ToolReturnPart("add", "the sum", tool_call_id="1", outcome=outcome)
    assert shown(response(CALL), request(ended)) == [tool_block(BOTH_SHOWN, log=outcome)]


def test_a_call_that_has_to_be_made_again_says_what_is_wrong_with_it() -> None:
    errors = [{"type": "missing", "loc": ("days", 0), "msg": "Field <b>required</b>", "input": {}}]
    retry = RetryInfo("validation_error", attempt=1, max_retries=3)
    ended = ToolReturnPart("add", errors, tool_call_id="1", outcome="retried", retry=retry)
    [message] = shown(response(CALL), request(ended))
    assert message["metadata"].get("log") == "retried, attempt 1 of 3"
    assert text_of(message).endswith("\n\n- days.0: Field &#60;b&#62;required&#60;/b&#62;")


def test_a_return_belongs_to_the_nearest_call_with_its_id() -> None:
    again = ToolReturnPart("add", "another sum", tool_call_id="1")
    first, second = shown(response(CALL), request(RETURN), response(CALL), request(again))
    assert "the sum" in text_of(first)
    assert "another sum" in text_of(second)


def test_several_calls_at_once_have_a_block_each_in_their_order() -> None:
    calls = [ToolCallPart("add", {"a": number}, tool_call_id=str(number)) for number in range(3)]
    returns = [ToolReturnPart("add", f"sum {number}", tool_call_id=str(number)) for number in (2, 0)]
    messages = shown(response(*calls), request(*returns), live=True)
    assert [message["metadata"].get("status") for message in messages] == ["done", "pending", "done"]
    assert "sum 2" in text_of(messages[2])


def test_a_return_whose_call_is_before_the_window_is_a_block_of_its_own() -> None:
    assert shown(request(RETURN)) == [tool_block(RETURN_SHOWN, log="done")]


def test_arguments_that_are_still_being_written_are_shown_as_they_are() -> None:
    [message] = shown(response(ToolCallPart("add", '{"a": 1, "b', tool_call_id="1")), live=True)
    assert text_of(message) == '```\n{"a": 1, "b\n```'


def test_a_result_is_never_markdown() -> None:
    page = "![x](https://evil.example/x.png) <img src=y>"
    assert result_of(page) == f"```\n{page}\n```"


def test_flat_records_are_a_table() -> None:
    rows = [{"city": "Paris | a", "high": 21.5}, {"city": "Lima", "rain": None}]
    assert result_of(rows) == snapshot("""\
| city | high | rain |
| --- | --- | --- |
| Paris &#124; a | 21.5 | — |
| Lima | — | — |\
""")
    assert result_of(json.dumps(rows)) == result_of(rows)


def test_a_long_table_shows_its_first_rows_and_on_demand_all() -> None:
    text = result_of([{"row": number} for number in range(134)])
    assert text.count("\n| ") == TABLE_ROWS + 1
    assert "*20 of 134 rows.*" in text
    assert '"row": 133' in text.partition("<details>")[2]


@pytest.mark.parametrize("content", [[], {}, [1], [{"a": {}}], [{}], [{"a": 1}, 2], 0, False, {"a": [1]}])
def test_what_is_no_table_is_json(content: Any) -> None:
    fence, *body, end = result_of(content).split("\n")
    assert (fence, json.loads("\n".join(body)), end) == ("```json", content, "```")


def test_a_long_result_is_shortened_says_its_size_and_can_be_unfolded() -> None:
    text = result_of("x" * 30_000)
    start, _, rest = text.partition("\n\n<details><summary>All 30,000 characters</summary>\n\n")
    assert start == f"```text\n{'x' * SHOWN}…\n```"
    assert rest == (
        f"```text\n{'x' * SHOWN_ON_DEMAND}\n```\n\n*… and 10,000 more characters, which are stored too.*\n\n</details>"
    )


def test_files_of_a_result_stand_below_its_block() -> None:
    content = ["A drawing:", PICTURE, ImageUrl("https://example.com/a.png")]
    messages = shown(request(ToolReturnPart("draw", content, tool_call_id="1")), showing=WITH_FILES)
    assert spoken(messages) == snapshot(
        [
            (
                "assistant",
                """\
```
A drawing:
```

*2 files, below.*\
""",
            ),
            (
                "assistant",
                '<a href="files/e0?a&amp;b"><img src="files/e0?a&amp;b" alt="image.png" loading="lazy"></a>',
            ),
            ("assistant", '<a href="https://example.com/a.png">https&#58;//example.com/a.png</a>'),
        ]
    )
    assert {message["metadata"].get("id") for message in messages} == {"e0:0"}


def test_what_has_no_json_is_described() -> None:
    assert "Thing object" in result_of(type("Thing", (), {})())
    assert "ud800" in result_of(["\ud800"])


def test_a_providers_search_shows_its_sources_as_links() -> None:
    sources = [{"url": "https://example.com/a", "title": "A <b>"}, {"uri": "https://example.com/b"}, {"url": "ftp:c"}]
    message = native("web_search", {"query": "sky"}, {"status": "completed", "sources": sources})
    assert message["metadata"].get("title") == "Web search"
    links = text_of(message).partition("<small>Result</small>\n\n")[2].partition("\n\n<details>")[0]
    assert links == snapshot("""\
- <a href="https://example.com/a">A &#60;b&#62;</a>
- <a href="https://example.com/b">https&#58;//example.com/b</a>
- ftp:c\
""")


def test_a_program_that_a_provider_ran_is_shown_with_what_it_printed() -> None:
    message = native("code_execution", {"code": "print(1)"}, {"status": "completed", "logs": ["one", "two"]})
    assert message["metadata"].get("title") == "Code execution"
    assert text_of(message) == snapshot("""\
```python
print(1)
```

<small>Result</small>

```
one
two
```\
""")
    more = native("code_execution", {"code": "1/0"}, {"stdout": "", "stderr": "Error", "return_code": 1})
    assert '"return_code": 1' in text_of(more).partition("<summary>More</summary>")[2]


def test_a_call_of_a_server_is_named_by_the_server_and_its_tool() -> None:
    args = {"action": "call_tool", "tool_name": "route", "tool_args": {"to": "Lima"}}
    message = native("mcp_server:maps", args, {"output": "10,000 km", "error": None})
    assert message["metadata"].get("title") == "maps: route"
    assert text_of(message) == snapshot("""\
```json
{
  "to": "Lima"
}
```

<small>Result</small>

```
10,000 km
```\
""")


def test_an_agent_that_a_tool_ran_is_nested_in_the_tools_block_also_after_it_was_stored() -> None:
    inner = [
        request(UserPromptPart("How much?")),
        response(ThinkingPart("hm"), ToolCallPart("count", {}, tool_call_id="1"), FilePart(PICTURE)),
        request(ToolReturnPart("count", 2, tool_call_id="1")),
        response(TextPart("Two.")),
    ]
    messages = [response(CALL), request(replace(RETURN, metadata=inner))]
    stored = ModelMessagesTypeAdapter.validate_json(ModelMessagesTypeAdapter.dump_json(messages))
    nested = shown(*messages, showing=WITH_FILES)
    assert shown(*stored, showing=WITH_FILES) == nested
    assert [(each["metadata"].get("title"), each["metadata"].get("parent_id")) for each in nested] == [
        ("Tool: add", None),
        ("Asked", "e0:0"),
        ("Thinking", "e0:0"),
        ("Tool: count", "e0:0"),
        ("Answered", "e0:0"),
        ("Answered", "e0:0"),
    ]
    assert len({each["metadata"].get("id") for each in nested}) == len(nested)
    assert {each["metadata"].get("status") for each in nested} == {"done"}
    assert "files/e1?a" in text_of(nested[4])


@pytest.mark.parametrize("metadata", [None, {"row": 1}, [], [1], [{"kind": "request"}], "text"])
def test_other_metadata_of_a_return_is_not_shown(metadata: Any) -> None:
    assert shown(response(CALL), request(replace(RETURN, metadata=metadata))) == [tool_block(BOTH_SHOWN, log="done")]


# Structured output


def output(args: Any, *, tool_name: str = "final_result", answer: str | None = OUTPUT_TAKEN) -> list[GradioMessage]:
    call = response(ToolCallPart(tool_name, args, tool_call_id="1"))
    if answer is None:
        return shown(call, live=True)
    return shown(call, request(ToolReturnPart(tool_name, answer, tool_call_id="1")))


def test_structured_output_is_readable_with_its_json_one_click_away() -> None:
    stops = [{"place": "Paris", "nights": 1}, {"place": "Lima", "nights": 2}]
    record = {"title": "A <trip>", "days": [1, 2], "rain": None, "stops": stops, "budget": {"food": {"a": 1}}}
    assert spoken(output(record)) == snapshot(
        [
            (
                "assistant",
                """\
- **title:** A &#60;trip&#62;
- **days:** 1, 2
- **rain:** —

**stops**

| place | nights |
| --- | --- |
| Paris | 1 |
| Lima | 2 |

- **budget:**
  - **food:**
    - **a:** 1

<details><summary>JSON</summary>

```json
{
  "title": "A <trip>",
  "days": [
    1,
    2
  ],
  "rain": null,
  "stops": [
    {
      "place": "Paris",
      "nights": 1
    },
    {
      "place": "Lima",
      "nights": 2
    }
  ],
  "budget": {
    "food": {
      "a": 1
    }
  }
}
```

</details>\
""",
            )
        ]
    )


def test_output_that_is_no_object_is_shown_without_what_is_around_it() -> None:
    assert spoken(output({"response": ["a", "b"]}))[0][1].startswith("- **1:** a\n- **2:** b\n\n<details>")
    assert spoken(output({"response": 42}))[0][1].startswith("42\n\n<details>")


def test_structured_output_is_readable_as_it_arrives() -> None:
    assert output("", answer=None) == []
    texts = [spoken(output(args, answer=None))[0][1] for args in ('{"title": "A tr', '{"title": "A trip", "days": [1,')]
    assert [text.partition("\n\n<details>")[0] for text in texts] == [
        "- **title:** A tr",
        "- **title:** A trip\n- **days:** 1",
    ]


def test_an_output_tool_is_known_by_its_answer_whatever_it_is_called() -> None:
    assert "title" not in output({"a": 1}, tool_name="trip")[0]["metadata"]
    [refused] = output({"a": 1}, answer="Output tool not used - output failed validation.")
    assert refused["metadata"].get("title") == "Tool: final_result"


# Live and stored


def streamed(messages: Sequence[ModelMessage]) -> list[ModelMessage]:
    """What a run shows that has streamed these messages; it finished those that have no events."""
    written: list[ModelMessage] = []
    partial = Partial()
    for message in messages:
        has_events = list(events([message]))
        if isinstance(message, ModelResponse) or not has_events:
            written.extend(partial.messages())
            partial = Partial()
        for event in has_events:
            partial.apply(event)
        if not has_events:
            written.append(message)
    return [*written, *partial.messages()]


def test_a_whole_turn_is_shown() -> None:
    timed = Showing({"e0": {"thinking:0": 3.24, "nested": 12.7, "web": 2.2}}, files=link_to)
    messages = shown(*WORKDAY, took={"e0": "gpt-5 · 12 s"}, showing=timed)
    assert [(each["metadata"], text_of(each)) for each in messages] == snapshot(
        [
            ({"id": "e0:0"}, "How is the weather?"),
            ({"title": "Thought for 3.2 s", "status": "done", "id": "e1:0"}, "I should **look**."),
            ({"id": "e1:1"}, "I will look it up."),
            (
                {"title": "Tool: forecast", "status": "done", "log": "retried, attempt 1 of 2", "id": "e1:2"},
                """\
```json
{
  "days": "few"
}
```

<small>Result</small>

- days: Input should be a valid integer\
""",
            ),
            (
                {"title": "Tool: ask_forecaster", "status": "done", "log": "done", "duration": 12.7, "id": "e1:3"},
                """\
```json
{
  "city": "Paris"
}
```

<small>Result</small>

```
Sunny.
```\
""",
            ),
            ({"id": "e1:3.0:0", "parent_id": "e1:3", "status": "done", "title": "Asked"}, "How will it be in Paris?"),
            (
                {"title": "Tool: measure", "status": "done", "log": "done", "id": "e1:3.1:0", "parent_id": "e1:3"},
                """\
```json
{
  "city": "Paris"
}
```

<small>Result</small>

```json
21.5
```\
""",
            ),
            ({"id": "e1:3.3:0", "parent_id": "e1:3", "status": "done", "title": "Answered"}, "Sunny."),
            (
                {"title": "Tool: draw", "status": "done", "log": "done", "id": "e1:4"},
                """\
*No arguments.*

<small>Result</small>

```
A drawing:
```

*1 file, below.*\
""",
            ),
            (
                {"id": "e1:4"},
                '<a href="files/e2?a&amp;b"><img src="files/e2?a&amp;b" alt="image.png" loading="lazy"></a>',
            ),
            (
                {"title": "Tool: delete_all", "status": "done", "log": "denied", "id": "e1:5"},
                """\
```json
{
  "really": true
}
```

<small>Result</small>

```
Not today.
```\
""",
            ),
            (
                {"title": "Tool: read", "status": "done", "log": "failed", "id": "e1:6"},
                """\
```json
{
  "page": "<b>"
}
```

<small>Result</small>

```
No <such> page
```\
""",
            ),
            ({"title": "Thinking", "status": "done", "id": "e3:0"}, "*The provider keeps this to itself.*"),
            (
                {"title": "Web search", "status": "done", "log": "done", "duration": 2.2, "id": "e3:1"},
                """\
```json
{
  "query": "sky"
}
```

<small>Result</small>

- <a href="https://example.com/sky">Sky</a>

<details><summary>JSON</summary>

```json
{
  "status": "completed",
  "sources": [
    {
      "type": "url",
      "url": "https://example.com/sky",
      "title": "Sky"
    }
  ]
}
```

</details>\
""",
            ),
            (
                {"title": "Code execution", "status": "done", "log": "done", "id": "e3:3"},
                """\
```python
print(1)
```

<small>Result</small>

```json
1
```\
""",
            ),
            (
                {"title": "maps: route", "status": "done", "log": "done", "id": "e3:5"},
                """\
```json
{
  "to": "Lima"
}
```

<small>Result</small>

```
10,000 km
```\
""",
            ),
            (
                {"id": "e3:7"},
                """\
<audio src="files/e3?a&amp;b" controls preload="none"></audio>

<a href="files/e3?a&amp;b" download="audio.wav">audio.wav</a> · 256 bytes\
""",
            ),
            (
                {"title": "Tool: forecast", "status": "done", "log": "done", "id": "e3:8"},
                """\
```json
{
  "days": 2
}
```

<small>Result</small>

| city | high |
| --- | --- |
| Paris | 21.5 |
| Lima &#124; Peru | — |\
""",
            ),
            (
                {"id": "e5:0"},
                """\
It is warm<sup>1</sup>.

<small>Sources: 1. <a href="https://example.com/sky">Sky</a></small>\
""",
            ),
            (
                {"title": "Asked to try again", "status": "done", "log": "attempt 1 of 1", "id": "e6:0"},
                """\
```
Give the record.
```\
""",
            ),
            (
                {"id": "e7:0"},
                """\
- **place:** Paris
- **days:** 1, 2
- **rain:** —

<details><summary>JSON</summary>

```json
{
  "place": "Paris",
  "days": [
    1,
    2
  ],
  "rain": null
}
```

</details>\
""",
            ),
            ({"id": "e8:took"}, "<small>gpt-5 · 12 s</small>"),
        ]
    )


def test_a_reply_is_shown_live_as_it_is_shown_once_it_is_stored() -> None:
    reply = WORKDAY[1:]
    stored = ModelMessagesTypeAdapter.validate_json(ModelMessagesTypeAdapter.dump_json(reply))
    live = shown(*streamed(reply), live=True, showing=WITH_FILES)
    assert [text_of(message) for message in live] == [
        text_of(message) for message in shown(*stored, showing=WITH_FILES)
    ]
    assert live == shown(*stored, showing=WITH_FILES)


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
    assert ids == ["p1:0", "r1:0", "r1:note", "p2:0", "r2:0", "r2:note"]


def test_what_a_turn_took_stands_at_its_end() -> None:
    conversation = [("p1", request(UserPromptPart("one"))), ("r1", response(TextPart("half")))]
    messages = to_gradio(conversation, notes={"p1": "Stopped."}, took={"p1": "gpt-5 · 2 s", "p2": "never"})
    assert [text_of(message) for message in messages][2:] == ["<small>gpt-5 · 2 s</small>", "*Stopped.*"]
    rest = to_gradio(conversation[1:], took={"p1": "gpt-5 · 2 s"}, turn="p1")
    assert [text_of(message) for message in rest] == ["half", "<small>gpt-5 · 2 s</small>"]


def test_a_turn_starts_where_a_person_says_something() -> None:
    assert starts_turn(request(SystemPromptPart("x"), UserPromptPart("hello")))
    assert starts_turn(request(SpeechPart(speaker="user")))
    assert not starts_turn(request(RETURN))
    assert not starts_turn(response(TextPart("hello")))


def test_the_text_of_a_prompt_leaves_out_attachments() -> None:
    prompt = request(UserPromptPart(["one", ImageUrl("https://example.com/a.png"), "two"]), UserPromptPart("three"))
    assert prompt_text(prompt) == "one\n\ntwo\n\nthree"


def test_an_endless_reply_is_shortened_in_the_view_and_says_by_how_much() -> None:
    [message] = shown(response(TextPart("x" * (SHOWN_REPLY + 1234))))
    assert text_of(message) == "x" * SHOWN_REPLY + "\n\n*… and 1,234 more characters, which are stored and not shown.*"


def test_a_text_file_is_folded_under_its_name_and_no_part_of_what_was_said() -> None:
    words = "a = '```'  # ünder_scored"
    prompt = request(UserPromptPart([text_file("my_*file*.py", words), "Explain it."]))
    [shown_file, said] = shown(prompt)
    assert text_of(said) == prompt_text(prompt) == "Explain it."
    folded = "<details><summary>my&#95;&#42;file&#42;.py · 26 bytes</summary>"
    assert text_of(shown_file) == f"{folded}\n\n````text\n{words}\n````\n\n</details>"
    [stranger] = shown(request(UserPromptPart([TextContent("words", metadata={"file": "x"})])))
    assert text_of(stranger) == "words"


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
        ("thinking", BOTH_SHOWN),
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
