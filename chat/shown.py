"""The shapes of what a `gr.Chatbot` shows, and what a rule needs to know to make them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired, TypedDict

from pydantic_ai.messages import BaseToolReturnPart, BinaryContent

from chat.brief import Brief

Role = Literal["user", "assistant", "system"]


class Text(TypedDict):
    """Gradio's text content. A bare string would go through `inspect.cleandoc` and lose its indentation."""

    type: Literal["text"]
    text: str


class Metadata(TypedDict, total=False):
    """Gradio's message metadata. With a `title` the message is a block that folds; `id` is `<entry id>:<part>`.

    Beside the title stand `log` and, in seconds, `duration`. A block whose status is `pending` is open and spins.
    `parent_id` names the block that this one is nested in.
    """

    id: str
    title: str
    log: str
    duration: float
    status: Literal["pending", "done"]
    parent_id: str


class Option(TypedDict):
    """A button under the last message."""

    value: str
    label: str


class GradioMessage(TypedDict):
    """One message of a `gr.Chatbot`."""

    role: Role
    content: list[Text]
    metadata: Metadata
    options: NotRequired[list[Option]]


@dataclass(frozen=True)
class FileLink:
    """Where a page gets a file, and what it is told of it: messages may be loaded without their files' bytes."""

    url: str
    name: str
    size: int


def nowhere(entry_id: str, content: BinaryContent) -> FileLink | None:
    """No page can get the file: it is named only."""
    return None


@dataclass(frozen=True)
class Showing:
    """What messages do not say themselves.

    Args:
        timings: By the entry that began a turn, the seconds of its parts: by tool call id, and of its nth thinking by
            `thinking:n`, from 0.
        files: Where a page gets a file of an entry; `None` when it can't, as while the entry is not stored.
        show_system: Whether visitors see system prompts, instructions and changes of settings.
        waiting: The tool calls that wait for a decision, by id.
        briefs: What the model was told for a turn, by the entry that began it.
    """

    timings: Mapping[str, Mapping[str, float]] = field(default_factory=dict[str, Mapping[str, float]])
    files: Callable[[str, BinaryContent], FileLink | None] = nowhere
    show_system: bool = False
    waiting: Collection[str] = ()
    briefs: Mapping[str, Brief] = field(default_factory=dict[str, Brief])


@dataclass(frozen=True)
class Answer:
    """A tool's return, and the entry that it is in."""

    entry_id: str
    part: BaseToolReturnPart[Any]


@dataclass(frozen=True)
class Place:
    """Where a part stands, for the rule that shows it.

    Args:
        showing: What messages do not say themselves.
        entry_id: The entry that the part is in.
        live: Whether a run is at work on it.
        newest: Whether it is the last of what a run has written so far.
        seconds: How long it took, or takes so far.
        answer: The return of the call that it is.
        answered: Whether it is the return of a call that is shown; it is part of that one's block.
    """

    showing: Showing
    entry_id: str
    live: bool = False
    newest: bool = False
    seconds: float | None = None
    answer: Answer | None = None
    answered: bool = False


def text(role: Role, content: str) -> GradioMessage:
    """A message in the open."""
    return {"role": role, "content": [{"type": "text", "text": content}], "metadata": {}}


def block(role: Role, title: str, content: str) -> GradioMessage:
    """A message that is folded under its title."""
    message = text(role, content)
    message["metadata"] = {"title": title, "status": "done"}
    return message
