"""Tool calls: each one block that folds, with its status, how long it took, its arguments and its result.

What a tool returned is never Markdown: it can come from anywhere, as a web page does. Files that it returned stand
below its block, in the open. So does what an output tool was called with: it is the reply.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from pydantic_ai import ModelMessage, ModelMessagesTypeAdapter
from pydantic_ai.messages import BaseToolCallPart, BaseToolReturnPart, NativeToolCallPart, NativeToolReturnPart
from pydantic_core import from_json, to_json

from chat.file_render import file, is_file
from chat.markup import code, details, inert, json_text, link, outline, value
from chat.shown import Answer, GradioMessage, Place, block, text

OUTPUT_TOOL = "final_result"
"""What Pydantic AI calls an output tool: this, or this and the name of one of several types after an underscore."""

OUTPUT_TAKEN = "Final result processed."
"""What Pydantic AI answers to the call of an output tool that ended a run, whatever the tool is called."""

WAITING = "waiting for your decision"

EDITED = "parley_edited_arguments"
"""In the metadata of a return: what the person had the tool called with instead of the call's arguments."""

OUTPUT_FIELDS = ("logs", "stdout", "stderr", "output", "error")
"""What the providers call that which a program printed or a server answered."""

PRINTED = (*OUTPUT_FIELDS, "status", "type")
"""The fields of such a result that its block shows, or that say what the block says."""

MOST_SOURCES = 20
"""Sources of a search that are listed."""


def tool_call(part: BaseToolCallPart[Any], place: Place) -> Iterable[GradioMessage]:
    """A call with its return, if it has one."""
    if _is_output(part, place):
        yield from _output(part)
        return
    shown = block("assistant", _title(part), _arguments(part))
    if place.answer is None:
        if not place.live and part.tool_call_id in place.showing.waiting:
            shown["metadata"]["log"] = WAITING
        else:
            _set_status(shown, "running" if place.live else "interrupted", place)
        yield shown
    else:
        returned = place.answer.part
        if (edited := _fields(returned.metadata).get(EDITED)) is not None:
            shown["content"][0]["text"] += f"\n\n<small>Approved with</small>\n\n{code(json_text(edited), 'json')}"
        shown["content"][0]["text"] += f"\n\n<small>Result</small>\n\n{_result(returned)}"
        _set_status(shown, _status(returned), place)
        yield shown
        yield from _files(place.answer, place)


def tool_return(part: BaseToolReturnPart[Any], place: Place) -> Iterable[GradioMessage]:
    """A return whose call is before the messages that are shown."""
    if not place.answered:
        shown = block("assistant", _title(part), _result(part))
        _set_status(shown, _status(part), place)
        yield shown
        yield from _files(Answer(place.entry_id, part), place)


def nested_messages(part: BaseToolReturnPart[Any]) -> Sequence[ModelMessage]:
    """The messages of an agent that a tool ran, when the tool handed them over.

    Messages do not tell by themselves which run was started by which call. A tool tells with the metadata of its
    return, which no model is sent: `return ToolReturn(result.output, metadata=result.new_messages())`.
    """
    metadata: object = part.metadata
    if not isinstance(metadata, list) or not metadata:
        return ()
    try:  # As JSON, since that is what is left of them once they were stored.
        return ModelMessagesTypeAdapter.validate_json(to_json(cast("object", metadata), bytes_mode="base64"))
    except ValueError:
        return ()


def feedback(content: object) -> str:
    """Why a model has to try again: a sentence, or where its arguments are wrong."""
    lines = [_error_line(_fields(error)) for error in _items(content)]
    return "\n".join(lines) if lines and all(lines) else value(content)


def _error_line(error: Mapping[str, object]) -> str:
    if "msg" not in error:
        return ""
    where = ".".join(map(str, cast("Sequence[object]", error.get("loc") or ())))
    said = str(error["msg"])
    return f"- {inert(f'{where}: {said}' if where else said)}"


def _set_status(shown: GradioMessage, status: str, place: Place) -> None:
    metadata = shown["metadata"]
    running = status == "running"
    if running:
        metadata["status"] = "pending"
    if not running or place.seconds is not None:  # Before it runs, its arguments are being written.
        metadata["log"] = status
    if place.seconds is not None:
        metadata["duration"] = int(place.seconds) if running else max(0.1, round(place.seconds, 1))


def _status(part: BaseToolReturnPart[Any]) -> str:
    retry = getattr(part, "retry", None)
    if part.outcome == "retried" and retry is not None and retry.attempt:
        return f"retried, attempt {retry.attempt} of {retry.max_retries}"
    return "done" if part.outcome == "success" else part.outcome


def _title(part: BaseToolCallPart[Any] | BaseToolReturnPart[Any]) -> str:
    if not isinstance(part, NativeToolCallPart | NativeToolReturnPart):
        return f"Tool: {inert(part.tool_name)}"
    kind, _, label = part.tool_name.partition(":")
    if not label:
        return inert(kind.replace("_", " ").capitalize())
    called = _mcp(part)[0] if isinstance(part, NativeToolCallPart) else ""
    return f"{inert(label)}: {inert(called)}" if called else inert(label)


def _mcp(part: NativeToolCallPart[Any]) -> tuple[str, object]:
    """The tool that a server is to run, and what with."""
    args = part.args_as_dict()
    return str(args.get("tool_name") or args.get("action") or ""), args.get("tool_args")


def _arguments(part: BaseToolCallPart[Any]) -> str:
    # Pydantic AI makes an object of arguments that are cut short or still being written; here they stay as they are.
    args = part.args if isinstance(part.args, str) and part.args else part.args_as_json_str()
    if isinstance(part, NativeToolCallPart):
        known = part.args_as_dict()
        if isinstance(program := known.get("code"), str):
            return code(program, "python")
        if part.tool_name.startswith("mcp_server:") and "action" in known:
            args = json_text(_mcp(part)[1] or {})
    return "*No arguments.*" if args == "{}" else code(_set_out(args))


def _set_out(args: str) -> str:
    """JSON, set out when it is whole."""
    try:
        return json_text(from_json(args))
    except ValueError:
        return args


def _result(part: BaseToolReturnPart[Any]) -> str:
    content: object = part.content
    if part.outcome == "retried":
        return feedback(content)
    files, rest = _split(content)
    if not files:
        return _data(part, content)
    below = "*1 file, below.*" if len(files) == 1 else f"*{len(files)} files, below.*"
    return below if rest is None else f"{_data(part, rest)}\n\n{below}"


def _data(part: BaseToolReturnPart[Any], content: object) -> str:
    if content is None or content == "":
        return "*Nothing.*"
    if isinstance(part, NativeToolReturnPart):
        return _native_result(content)
    return value(content)


def _split(content: object) -> tuple[list[object], object]:
    """The files of a result, and what else is in it."""
    if is_file(content):
        return [content], None
    items = _items(content)
    files = [item for item in items if is_file(item)]
    rest = [item for item in items if not is_file(item)]
    return files, rest[0] if len(rest) == 1 else rest or None


def _files(answer: Answer, place: Place) -> Iterable[GradioMessage]:
    files, _ = _split(answer.part.content)
    at = Place(place.showing, answer.entry_id, live=place.live)
    for item in files:
        yield text("assistant", file(item, at))


def _native_result(content: object) -> str:
    """What a provider's own tool returned: the text or the sources in it, and on demand what else there is."""
    if isinstance(content, str):
        return value(content)
    if printed := _printed(content):
        rest = {name: field for name, field in _fields(content).items() if field and name not in PRINTED}
        return f"{printed}\n\n{details('More', code(json_text(rest), 'json'))}" if rest else printed
    if sources := _sources(content):
        return f"{sources}\n\n{details('JSON', code(json_text(content), 'json'))}"
    return value(content)


def _printed(content: object) -> str | None:
    """What a program printed or a server answered."""
    fields = _fields(content)
    pieces = [piece for name in OUTPUT_FIELDS for piece in (_items(fields.get(name)) or [fields.get(name)])]
    printed = "\n".join(piece.rstrip() for piece in pieces if isinstance(piece, str) and piece.strip())
    return code(printed) if printed else None


def _sources(content: object) -> str | None:
    """The pages that a search found, as links."""
    fields = _fields(content)
    pages = map(_fields, _items(fields.get("sources") or fields.get("results") or content))
    links = [
        f"- {link(url, str(page.get('title') or '') or None)}"
        for page in pages
        if isinstance(url := page.get("url") or page.get("uri"), str)
    ]
    if len(links) > MOST_SOURCES:
        links = [*links[:MOST_SOURCES], f"- *and {len(links) - MOST_SOURCES} more*"]
    return "\n".join(links) or None


def _is_output(part: BaseToolCallPart[Any], place: Place) -> bool:
    if isinstance(part, NativeToolCallPart):
        return False
    if place.answer is not None:
        return place.answer.part.outcome == "success" and place.answer.part.content == OUTPUT_TAKEN
    return place.live and (part.tool_name == OUTPUT_TOOL or part.tool_name.startswith(f"{OUTPUT_TOOL}_"))


def _output(part: BaseToolCallPart[Any]) -> Iterable[GradioMessage]:
    raw = part.args if isinstance(part.args, str) else json_text(part.args or {})
    try:
        content: object = from_json(raw, allow_partial="trailing-strings")
    except ValueError:  # Nothing of it can be read yet.
        content = {}
    fields = _fields(content)
    if list(fields) == ["response"]:  # Around what isn't an object by itself.
        content = fields["response"]
    if raw:
        yield text("assistant", f"{outline(content)}\n\n{details('JSON', code(raw))}".lstrip())


def _items(content: object) -> list[object]:
    return cast("list[object]", content) if isinstance(content, list) else []


def _fields(content: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", content) if isinstance(content, Mapping) else {}
