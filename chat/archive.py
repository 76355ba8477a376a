"""The file that keeps a conversation outside of the database: JSON, lossless, with a version number.

It holds what the store and the tables beside it hold of one conversation: its record, and the entries of all of its
versions, those before others first. Messages are Pydantic AI's own JSON. In a file that stands alone their files are in
them, as base64; in a zip they are light, as in the database (`chat.files`), and the files lie beside.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic_ai import RunUsage

from chat.feedback import LONGEST_COMMENT, Verdict
from chat.journal import OutcomeKind
from chat.library import Place

FORMAT = "parley-conversation"
VERSION = 1
"""Goes up when an older program could no longer read the file as it is meant."""

FILES_FOLDER = "files/"
"""Where a zip keeps files: each once, as its content's SHA-256 in hexadecimal and an ending that tells its type."""

Id = Annotated[str, Field(min_length=1, max_length=200)]


class ArchivedOutcome(BaseModel):
    """How the turn that an entry began ended, when not well."""

    model_config = ConfigDict(frozen=True)

    kind: OutcomeKind
    sentence: Annotated[str, Field(max_length=2_000)]


class ArchivedTiming(BaseModel):
    """How long the turn that an entry began took, in seconds, and its parts: see `chat.timing`."""

    model_config = ConfigDict(frozen=True)

    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    parts: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}


class ArchivedFeedback(BaseModel):
    """What the owner said of the reply that an entry begins, and which model wrote it: see `chat.feedback`."""

    model_config = ConfigDict(frozen=True)

    verdict: Verdict
    comment: Annotated[str, Field(max_length=LONGEST_COMMENT)] = ""
    model: str | None = None
    at: AwareDatetime


class ArchivedEntry(BaseModel):
    """One message: `parent` is the id of the entry before it, `None` for the first."""

    model_config = ConfigDict(frozen=True)

    id: Id
    parent: Id | None
    message: dict[str, Any]
    outcome: ArchivedOutcome | None = None
    timing: ArchivedTiming | None = None
    feedback: ArchivedFeedback | None = None


class ArchivedConversation(BaseModel):
    """What is kept of a conversation beside its entries. `head` is the newest entry of the version that is shown."""

    model_config = ConfigDict(frozen=True)

    format: Literal["parley-conversation"] = FORMAT
    version: int = VERSION
    id: Id
    title: str | None = None
    head: Id | None = None
    branches: tuple[Id, ...] = ()
    """The newest entries of the other versions, the one that was left first at the beginning."""
    usage: RunUsage = Field(default_factory=RunUsage)
    deferred_tool_requests: dict[str, Any] | None = None
    """The calls that wait for a decision, as Pydantic AI's `DeferredToolRequests`."""
    choice: dict[str, Any] = {}
    forked_from: str | None = None
    forked_at: str | None = None
    updated_at: AwareDatetime
    place: Place = "listed"


def opening(conversation: ArchivedConversation) -> str:
    """The file up to its entries. They follow with commas between them, and then `CLOSING`."""
    return conversation.model_dump_json()[:-1] + ',"entries":[\n'


def entry_line(
    entry_id: str, parent_id: str | None, message_json: str, beside: Mapping[str, BaseModel | None] | None = None
) -> str:
    """One entry: its message's JSON as it is, and what else is known of it."""
    fields = [f'"id":{json.dumps(entry_id)}', f'"parent":{json.dumps(parent_id)}', f'"message":{message_json}']
    fields += [f'"{name}":{known.model_dump_json()}' for name, known in (beside or {}).items() if known is not None]
    return f"{{{','.join(fields)}}}"


CLOSING = "\n]}\n"
