"""What programs send and get: the shapes of `docs/api.md`, from which the OpenAPI description is made."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from chat.decisions import MOST_DECISIONS, Decision, PendingCall
from chat.library import Place
from chat.listing import Sign
from chat.render import LONGEST_PROMPT
from chat.search import LONGEST_QUERY

LONGEST_NAME = 200
"""Characters of an id, of a token, or of a model's name."""

LONGEST_PATH = 4_096
"""Characters of an upload's path."""

MOST_FILES = 1_000
"""Files that can be named with a message. How many the chat takes is a setting."""

Position = Annotated[int, Field(ge=0, lt=2**53)]
"""A number that JSON carries whole wherever it is read."""

State = Literal["complete", "writing", "waiting", "stopped", "failed", "interrupted"]
"""How a message is: `waiting` is a reply with calls that wait for a decision, `complete` one that is whole."""


class About(BaseModel):
    """What this chat is: its `title`, and the `models` that can be chosen, the default first."""

    title: str
    models: list[str]


class ListedConversation(BaseModel):
    """A conversation in a list. `at` is when it was last active; `sign` is the most pressing thing about it."""

    id: str
    title: str
    at: datetime
    place: Place
    sign: Sign | None


class Listing(BaseModel):
    """A page of the list: pinned ones first, then the most recently active. `more` asks for the next page."""

    conversations: list[ListedConversation]
    more: str | None


class Detail(BaseModel):
    """A piece of what a step holds, such as the arguments of a call."""

    label: str
    text: str


class Step(BaseModel):
    """What was done beside what was said: thinking, a tool call, a text file. `steps` is what an agent did inside."""

    title: str
    details: list[Detail]
    steps: list["Step"]


class File(BaseModel):
    """A file. `address` follows the chat's own address; `None` while the file is not stored."""

    name: str
    media_type: str
    size: int
    address: str | None


class Message(BaseModel):
    """What was said by one side in one turn. `text` is Markdown; `note` says why a reply isn't whole."""

    id: str
    role: Literal["user", "assistant"]
    text: str
    steps: list[Step]
    files: list[File]
    state: State
    note: str | None


class Conversation(BaseModel):
    """A conversation and some of its messages, oldest first.

    `earlier` is the `before` that asks for those before them. `pending` are calls that wait for a decision, and `token`
    names the state that they wait in.
    """

    id: str
    title: str
    at: datetime
    place: Place
    sign: Sign | None
    messages: list[Message]
    earlier: int | None
    pending: list[PendingCall]
    token: str


class Reply(BaseModel):
    """A reply. When its `state` is `waiting`, `pending` and `token` are what a decision needs."""

    conversation: str
    state: State
    message: Message
    pending: list[PendingCall]
    token: str


class Upload(BaseModel):
    """A file that was uploaded: its `path` as the upload was answered, and its name. Gradio's `FileData` is one too."""

    path: Annotated[str, Field(max_length=LONGEST_PATH)]
    orig_name: Annotated[str, Field(max_length=LONGEST_PATH)] | None = None


Uploaded = Annotated[list[Upload], Field(max_length=MOST_FILES)]


class Prompt(BaseModel):
    """A message to send. `model` chooses one of the chat's, for a new conversation only."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[str, Field(max_length=LONGEST_PROMPT)]
    model: Annotated[str, Field(max_length=LONGEST_NAME)] | None = None
    files: Uploaded = []


class Decided(BaseModel):
    """One decision for each call that waits, and the `token` that came with these."""

    model_config = ConfigDict(extra="forbid")

    token: Annotated[str, Field(max_length=LONGEST_NAME)]
    decisions: Annotated[list[Decision], Field(max_length=MOST_DECISIONS)]


class Stopped(BaseModel):
    """Whether a reply was being written, which is now told to end. What it has is kept."""

    stopped: bool


class SearchQuery(BaseModel):
    """What to search: words, the last of which may be only begun."""

    model_config = ConfigDict(extra="forbid")

    query: Annotated[str, Field(max_length=LONGEST_QUERY)]


class Hit(BaseModel):
    """A stored message that was found, as its id, and the text around what was found."""

    message: str
    snippet: str


class Finding(BaseModel):
    """A conversation that was found: by its title when it has no hits, else by some of its messages."""

    id: str
    title: str
    at: datetime
    hits: list[Hit]


class Findings(BaseModel):
    """What a search found: by title first, then the newest."""

    conversations: list[Finding]


class Exported(BaseModel):
    """A conversation as a file: its `text`, or the bytes of a zip as `base64`."""

    name: str
    media_type: str
    text: str | None = None
    base64: str | None = None


class Problem(BaseModel):
    """Why something can't be done, in a sentence."""

    error: str


class Started(BaseModel):
    """The event `started`: the message is stored as the entry `prompt`, and is being answered."""

    conversation: str
    prompt: str


class TextSoFar(BaseModel):
    """The event `text`: the reply's text from the character `at` on. It replaces what was there, if there was any."""

    at: int
    text: str


class StepBegun(BaseModel):
    """The event `step`: the reply's step with this number, from 0, has this title now."""

    number: int
    title: str


ReplyEvent = Started | TextSoFar | StepBegun | Reply | Problem | None
"""What is told of a reply while it is written. `None` only says that the connection lives."""
