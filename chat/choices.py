"""What a person chooses for one conversation: the model, and how it answers there."""

import logging
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError, field_validator
from pydantic_ai.settings import ThinkingEffort

from chat.database import Database
from chat.identity import Owner

logger = logging.getLogger(__name__)

LONGEST_INSTRUCTIONS = 10_000
"""Characters of a person's own instructions. They are sent with every message."""


class Choice(BaseModel):
    """What differs from the agent's own way in a conversation. `Choice()` is the default; fields are in page order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = None
    """The name of the model, or `None` for the chat's default, whichever that is at the time."""
    instructions: Annotated[str, Field(max_length=LONGEST_INSTRUCTIONS)] = ""
    """Added to the agent's own instructions."""
    temperature: Annotated[float, Field(strict=True, ge=0, le=1)] | None = None
    """From 0, the same answer each time, to 1, varied: the range that all providers know. `None` for the model's."""
    thinking: StrictBool | ThinkingEffort | None = None
    """The effort of thinking, `False` for as little as the model can, `True` or `None` for the model's own."""
    tools_off: tuple[str, ...] = ()
    """The tools that are switched off, by the names of their switches, in alphabetical order."""

    @field_validator("instructions", mode="after")
    @classmethod
    def _strip(cls, value: str) -> str:
        return value.strip()

    @field_validator("tools_off", mode="after")
    @classmethod
    def _in_order(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(value)))

    @classmethod
    def from_page(cls, value: object) -> "Choice":
        """What a browser sent, if it has the form of a choice. `ChatAgent.choice` also checks the names in it.

        Raises:
            ValueError: If it hasn't. The message is a sentence for the person who chose.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = str(first["loc"][0]) if first["loc"] else ""
            name = where.replace("_", " ") if where.isidentifier() else "choice"
            raise ValueError(f"The {name} can't be used: {first['msg']}.") from error

    def changes(self) -> dict[str, Any]:
        """What differs from the default, by the names of the fields; nothing for the default itself."""
        return self.model_dump(exclude_defaults=True)


class Choices:
    """What owners chose for their conversations, in a database that is open."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, owner: Owner, conversation_id: str) -> Choice:
        """What an owner chose for a conversation; the default where they chose nothing or have no such conversation."""
        row = await self._database.row(
            """SELECT content FROM choice JOIN conversation USING (conversation_id)
            WHERE conversation_id = ? AND scope = ?""",
            (conversation_id, owner),
        )
        if row is None:
            return Choice()
        try:
            return Choice.model_validate_json(row["content"])
        except ValidationError as error:  # Another version's: the conversation goes on without it.
            logger.warning("The settings of conversation %s can't be read: %s", conversation_id, error)
            return Choice()

    async def write(self, owner: Owner, conversation_id: str, choice: Choice) -> bool:
        """Store what an owner chose for a conversation; whether they have that conversation.

        Raises:
            DatabaseUnavailable: If it can't be stored now.
        """
        written = await self._database.change(
            lambda change: change.execute(
                """INSERT INTO choice (conversation_id, content)
                SELECT conversation_id, ? FROM conversation WHERE conversation_id = ? AND scope = ?
                ON CONFLICT (conversation_id) DO UPDATE SET content = excluded.content""",
                (choice.model_dump_json(exclude_defaults=True), conversation_id, owner),
            )
        )
        return written == 1
