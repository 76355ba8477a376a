"""What a model was told for a turn beside the conversation: its system prompts and instructions.

Pydantic AI keeps instructions in the request that they were sent with. That of a prompt is stored before its run
finds out what they are.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic_ai.messages import ModelMessage, ModelRequest, SystemPromptPart


@dataclass(frozen=True)
class Brief:
    """The system prompts and the instructions that a turn began with."""

    system: tuple[str, ...] = ()
    instructions: str = ""


NO_BRIEF = Brief()


def brief_of(sent: Iterable[ModelMessage]) -> Brief:
    """The brief in the messages that a model was sent."""
    requests = [message for message in sent if isinstance(message, ModelRequest)]
    parts = [part for request in requests for part in request.parts]
    system = tuple(part.content for part in parts if isinstance(part, SystemPromptPart))
    return Brief(system, requests[-1].instructions or "" if requests else "")
