"""The agent that answers. Edit `build_agent` to make the chat yours, or name your own agent with `CHAT_AGENT`."""

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import platformdirs
from pydantic_ai import Agent
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.exceptions import UserError
from pydantic_ai.models import Model, infer_model

from chat.local_model import LocalModel, check_library
from chat.settings import LOCAL_MODEL, Settings
from chat.weights import LocalModelError, fetch_weights

INSTRUCTIONS = "You are a helpful assistant. Answer clearly and briefly, in the language of the question."

AnyAgent = AbstractAgent[Any, Any]


@dataclass(frozen=True)
class ChatAgent:
    """The agent of a chat, and which model answers for it."""

    agent: AnyAgent
    model: Model | None
    """The model that is used instead of the agent's own, or `None`."""
    model_name: str
    notice: str = ""
    """What visitors should know about the model, in one or two sentences."""


class AgentError(Exception):
    """An agent or a model that can't be used. The message says why and what to do."""


def choose_agent(settings: Settings) -> ChatAgent:
    """The agent and the model that the settings name. May fetch the weights of a local model, in the foreground.

    Raises:
        AgentError: If either can't be used.
    """
    agent = load_agent(settings.agent) if settings.agent else build_agent()
    name = settings.model or (None if agent.model is not None else LOCAL_MODEL)
    if name is None:
        own = load_model(agent.model) if isinstance(agent.model, str) else cast("Model", agent.model)
        return ChatAgent(agent, None, own.model_name)
    scheme, _, reference = name.partition(":")
    if scheme != LOCAL_MODEL:
        return ChatAgent(agent, load_model(name), name)
    try:
        check_library()
        weights = fetch_weights(reference, platformdirs.user_cache_path("parley"))
    except LocalModelError as error:
        raise AgentError(str(error)) from error
    return ChatAgent(agent, LocalModel(weights), weights.name, weights.notice)


def build_agent() -> AnyAgent:
    """The built-in agent. Its model is the one of the settings."""
    return Agent(instructions=INSTRUCTIONS, name="parley")


def load_agent(reference: str) -> AnyAgent:
    """The agent that `module:attribute` names, or that the callable it names returns.

    The current directory is on the import path.

    Raises:
        AgentError: If the reference has another form, can't be imported, or is no agent.
    """
    module_name, colon, attribute = reference.partition(":")
    if not (module_name and colon and attribute):
        raise AgentError(f"CHAT_AGENT is {reference!r}. Write it as module:attribute, such as my_agent:agent.")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found: object = importlib.import_module(module_name)
        for name in attribute.split("."):
            found = getattr(found, name)
        if callable(found) and not isinstance(found, AbstractAgent):
            found = cast("Callable[[], object]", found)()
    except Exception as error:  # The person's own code can raise anything while it is imported.
        raise AgentError(f"The agent {reference!r} can't be imported: {_reason(error)}. Correct CHAT_AGENT.") from error
    if not isinstance(found, AbstractAgent):
        raise AgentError(
            f"{reference!r} is {type(found).__name__}, not an Agent. Let CHAT_AGENT name a pydantic_ai.Agent, "
            "or a callable that returns one."
        )
    return cast("AnyAgent", found)


def load_model(name: str) -> Model:
    """The model with this Pydantic AI name, such as `openai:gpt-5`.

    Raises:
        AgentError: If there is no such model, its key is missing, or its provider's package is not installed.
    """
    try:
        return infer_model(name)
    except (UserError, ValueError, ImportError) as error:
        raise AgentError(f"The model {name!r} can't be used: {_reason(error)}. Set CHAT_MODEL to another.") from error
    except Exception as error:  # Providers' own clients have error classes of their own for a missing key.
        raise AgentError(f"The model {name!r} can't be used: {_reason(error)}. Check its key.") from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return text if text and isinstance(error, (UserError, ImportError)) else f"{type(error).__name__}: {text}"
