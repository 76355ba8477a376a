"""The agent of a chat and the models that answer for it: found, checked at the start, and put together for each run."""

import importlib
import inspect
import sys
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

import platformdirs
from pydantic_ai import DeferredToolRequests
from pydantic_ai.agent import AbstractAgent, WrapperAgent
from pydantic_ai.capabilities import AbstractCapability, ReinjectSystemPrompt
from pydantic_ai.exceptions import UserError
from pydantic_ai.models import Model, infer_model
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import UsageLimits

from chat.abilities import takes_temperature
from chat.agent import build_agent, build_deps
from chat.choices import Choice
from chat.local_model import LocalModel, check_library
from chat.settings import LOCAL_MODEL, Settings
from chat.switches import Switch, SwitchedOff, switches, switches_for
from chat.weights import LocalModelError, fetch_weights

AnyAgent = AbstractAgent[Any, Any]

DepsHook = Callable[[str, str], object | Awaitable[object]]
"""Makes the dependencies of a run, given the owner's id and the conversation's id."""


class AgentError(Exception):
    """An agent or a model that can't be used. The message says why and what to do."""


class RunArguments(TypedDict):
    """What `agent.run_stream_events` is called with. What is missing is left to the agent."""

    model_settings: ModelSettings
    capabilities: list[AbstractCapability[Any]]
    model: NotRequired[Model]
    deps: NotRequired[Any]
    instructions: NotRequired[str]
    output_type: NotRequired[list[Any]]
    usage_limits: NotRequired[UsageLimits]


@dataclass(frozen=True)
class ChatModel:
    """A model that can be chosen."""

    name: str
    """What it is called on the page, in settings and in stored choices."""
    model: Model | None = None
    """The model; `None` when only the agent knows it."""
    notice: str = ""
    """What visitors should know about it, in one or two sentences."""
    own: bool = False
    """Whether it is the agent's own: then the agent is not told which one to use, and may decide as it likes."""


@dataclass(frozen=True)
class ChatAgent:
    """The agent of a chat, and what can be chosen for it."""

    agent: AnyAgent
    models: tuple[ChatModel, ...]
    """The models that can answer. The first one does where nobody chose."""
    deps: DepsHook | None = None

    @property
    def model_name(self) -> str:
        """The name of the default model."""
        return self.models[0].name

    @property
    def notice(self) -> str:
        """What visitors should know about the default model."""
        return self.models[0].notice

    def chosen(self, name: str | None) -> ChatModel:
        """The model with this name; the default when none is chosen, or one that is no longer there."""
        return next((model for model in self.models if model.name == name), self.models[0])

    def switches(self, name: str | None = None) -> list[Switch]:
        """The tools that can be switched off when the model with this name answers.

        None for an embedded model: the built-in agent keeps all of them from it, which isn't known without a run.
        """
        model = self.chosen(name).model
        return [] if isinstance(model, LocalModel) else switches_for(self.agent, model)

    def choice(self, value: object) -> Choice:
        """What a browser sent, as a choice that this agent can follow.

        Raises:
            ValueError: If it has another form, or names a model or a tool that isn't there. The message is a sentence.
        """
        choice = Choice.from_page(value)
        if choice.model not in {None, *(model.name for model in self.models)}:
            raise ValueError(f"There is no model {choice.model!r} here.")
        if unknown := {*choice.tools_off}.difference(switch.name for switch in switches(self.agent)):
            raise ValueError(f"There is no tool {min(unknown)!r} that could be switched off.")
        return choice

    async def run_arguments(self, owner: str, conversation_id: str, choice: Choice = Choice()) -> RunArguments:  # noqa: B008  # It is frozen.
        """How to call the agent for one reply. Raises whatever the hook for dependencies raises."""
        chosen = self.chosen(choice.model)
        # A run continues a conversation from the first message on, of which it is given the end.
        arguments = RunArguments(
            model_settings=_model_settings(chosen.model, choice), capabilities=[ReinjectSystemPrompt()]
        )
        if chosen.model is not None and not chosen.own:
            arguments["model"] = chosen.model
        if (outputs := _with_deferred(self.agent)) is not None:
            arguments["output_type"] = outputs
        if self.deps is not None:
            made = self.deps(owner, conversation_id)
            arguments["deps"] = await made if inspect.isawaitable(made) else made
        if choice.instructions:
            arguments["instructions"] = choice.instructions
        if choice.tools_off:
            arguments["capabilities"].append(SwitchedOff(frozenset(choice.tools_off)))
        return arguments


def choose_agent(settings: Settings) -> ChatAgent:
    """The agent, its models and its dependencies, as the settings name them.

    May fetch the weights of a local model, in the foreground. They are loaded later, and no provider is asked.

    Raises:
        AgentError: If one of them can't be used.
    """
    agent = load_agent(settings.agent) if settings.agent else build_agent()
    deps = load_deps(settings.deps) if settings.deps else None if settings.agent else build_deps
    wanted = dict.fromkeys(settings.models, "CHAT_MODELS")
    if settings.model:
        wanted = {settings.model: "CHAT_MODEL"} | wanted
    if not wanted and agent.model is not None:
        own = load_model(agent.model) if isinstance(agent.model, str) else agent.model
        return ChatAgent(agent, (ChatModel(own.model_name, own, own=True),), deps)
    models = [_chat_model(name, setting) for name, setting in (wanted or {LOCAL_MODEL: "CHAT_MODEL"}).items()]
    # Two ways to write one name, such as `local` and the path of the same weights, are one model.
    return ChatAgent(agent, tuple({model.name: model for model in models}.values()), deps)


def load_agent(reference: str) -> AnyAgent:
    """The agent that `module:attribute` names, or that the callable it names returns.

    The current directory is on the import path.

    Raises:
        AgentError: If the reference has another form, can't be imported, or is no agent.
    """
    with _importing("agent", "CHAT_AGENT", reference):
        found = _named(reference)
        if callable(found) and not isinstance(found, AbstractAgent):
            found = cast("Callable[[], object]", found)()
    if not isinstance(found, AbstractAgent):
        raise AgentError(
            f"{reference!r} is {type(found).__name__}, not an Agent. Let CHAT_AGENT name a pydantic_ai.Agent, "
            "or a callable that returns one."
        )
    return cast("AnyAgent", found)


def load_deps(reference: str) -> DepsHook:
    """The hook for dependencies that `module:attribute` names: a function of the owner's and the conversation's id.

    Raises:
        AgentError: If the reference has another form, can't be imported, or can't be called with two ids.
    """
    with _importing("hook", "CHAT_DEPS", reference):
        found = _named(reference)
    try:
        inspect.signature(cast("Any", found)).bind("owner", "conversation")
    except (TypeError, ValueError) as error:
        raise AgentError(
            f"{reference!r} can't be called with an owner and a conversation. Let CHAT_DEPS name a function "
            "that takes these two ids."
        ) from error
    return cast("DepsHook", found)


def load_model(name: str, setting: str = "CHAT_MODEL") -> Model:
    """The model with this Pydantic AI name, such as `openai:gpt-5`.

    Raises:
        AgentError: If there is no such model, its key is missing, or its provider's package is not installed.
    """
    try:
        return infer_model(name)
    except (UserError, ValueError, ImportError) as error:
        remedy = "Set CHAT_MODEL to another" if setting == "CHAT_MODEL" else f"Take it out of {setting}"
        raise AgentError(f"The model {name!r} can't be used: {_reason(error)}. {remedy}.") from error
    except Exception as error:  # Providers' own clients have error classes of their own for a missing key.
        raise AgentError(f"The model {name!r} can't be used: {_reason(error)}. Check its key.") from error


def _chat_model(name: str, setting: str) -> ChatModel:
    scheme, _, reference = name.partition(":")
    if scheme != LOCAL_MODEL:
        return ChatModel(name, load_model(name, setting))
    try:
        check_library()
        weights = fetch_weights(reference, platformdirs.user_cache_path("parley"))
    except LocalModelError as error:
        raise AgentError(str(error)) from error
    return ChatModel(weights.name, LocalModel(weights), weights.notice)


def _with_deferred(agent: AnyAgent) -> list[Any] | None:
    """The agent's output types and that of a run that pauses for a decision; `None` when they stay as they are.

    Which tools want a decision shows only in a run: a tool can ask for it when it is called. What the model is asked
    for stays the same.
    """
    own: object = agent.output_type
    outputs = list(cast("Sequence[object]", own)) if isinstance(own, list | tuple) else [own]
    while isinstance(agent, WrapperAgent):
        agent = agent.wrapped
    # Pydantic AI allows no other types for one run where a function of the agent's checks its output.
    if DeferredToolRequests in outputs or getattr(agent, "_output_validators", None):
        return None
    return [*outputs, DeferredToolRequests]


def _model_settings(model: Model | None, choice: Choice) -> ModelSettings:
    """What a model can follow of a choice: it may have been made for another one."""
    settings = ModelSettings()
    if choice.thinking is not None:
        settings["thinking"] = choice.thinking  # Pydantic AI leaves it out for a model that can't.
    if choice.temperature is not None and takes_temperature(model, choice.thinking):
        settings["temperature"] = choice.temperature
    return settings


@contextmanager
def _importing(kind: str, setting: str, reference: str) -> Generator[None]:
    module_name, _, attribute = reference.partition(":")
    if not (module_name and attribute):
        raise AgentError(f"{setting} is {reference!r}. Write it as module:attribute, such as my_agent:{kind}.")
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    except Exception as error:  # The person's own code can raise anything while it is imported.
        reason = f"The {kind} {reference!r} can't be imported: {_reason(error)}"
        raise AgentError(f"{reason}. Correct {setting}.") from error


def _named(reference: str) -> object:
    module_name, _, attribute = reference.partition(":")
    found: object = importlib.import_module(module_name)
    for name in attribute.split("."):
        found = getattr(found, name)
    return found


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return text if text and isinstance(error, (UserError, ImportError)) else f"{type(error).__name__}: {text}"
