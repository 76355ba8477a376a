"""Conversations in a list, for pages and programs alike: what marks one there, and what can be changed about it."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator
from pydantic.json_schema import SkipJsonSchema

from chat.identity import Owner
from chat.library import Listed, Place
from chat.services import Services
from chat.title_text import LONGEST_NAME, one_line

LARGEST_CHANGE = 100_000
"""Bytes of a change: more than the longest title that is worth shortening."""

Sign = Literal["writing", "waiting", "unread"]


class ChangeRefused(Exception):
    """A change that can't be made. The message says why."""


def _clean(title: object) -> object:
    return one_line(title, LONGEST_NAME) if isinstance(title, str) else title


class Change(BaseModel):
    """What is changed about a conversation: one of these."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"minProperties": 1, "maxProperties": 1})

    title: Annotated[str, BeforeValidator(_clean)] | SkipJsonSchema[None] = None
    place: Place | SkipJsonSchema[None] = None
    deleted: bool | SkipJsonSchema[None] = None

    @model_validator(mode="after")
    def _is_one(self) -> "Change":
        if len(self.model_fields_set) != 1 or None in (getattr(self, name) for name in self.model_fields_set):
            raise ValueError("Change one thing at a time: the title, the place, or whether it is deleted.")
        return self


async def make_change(services: Services, owner: Owner, conversation_id: str, change: Change) -> bool:
    """Make a change and announce it; whether the owner has the conversation.

    Raises:
        ChangeRefused: If a title has nothing in it that can be seen.
        ConversationBusy: If a reply that is being written in a conversation to delete does not stop.
        DatabaseUnavailable: If the database can't be changed now.
    """
    if change.deleted is not None:
        act = services.deletions.delete if change.deleted else services.deletions.restore
        return await act(owner, conversation_id)
    if change.place is not None:
        made = await services.library.move(owner, conversation_id, change.place)
    else:
        if not change.title:
            raise ChangeRefused("A title needs at least one letter. Type one, or press Escape to keep the old one.")
        made = await services.library.rename(owner, conversation_id, change.title)
    if made:
        services.changes.announce_listing(owner, conversation_id)
    return made


def sign_of(listed: Listed, writing: set[str]) -> Sign | None:
    """The most pressing thing to know about a conversation that is not being looked at.

    Args:
        listed: The conversation.
        writing: The owner's conversations in which a reply is being written.
    """
    if listed.conversation_id in writing:
        return "writing"
    if listed.waits:
        return "waiting"
    return "unread" if listed.unread else None
