"""Tools that a person can switch off: which ones an agent has, and how they are kept out of a run."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.capabilities import AbstractCapability, NativeOrLocalTool, ToolSearch
from pydantic_ai.models import Model, ModelRequestContext
from pydantic_ai.native_tools import AbstractNativeTool
from pydantic_ai.tools import Tool, ToolDefinition
from pydantic_ai.toolsets import (
    AbstractToolset,
    CombinedToolset,
    ExternalToolset,
    FunctionToolset,
    PrefixedToolset,
    RenamedToolset,
    WrapperToolset,
)

from chat.abilities import native_tools, takes_tools

ALWAYS_ON = "always_on"
"""Metadata of a tool that can't be switched off, such as in `@agent.tool(metadata={"always_on": True})`."""


@dataclass(frozen=True)
class Switch:
    """What can be switched off: a tool, or a toolset that says only in a run what is in it, such as an MCP server."""

    name: str
    description: str = ""


def switches(agent: AbstractAgent[Any, Any]) -> list[Switch]:
    """What can be switched off in an agent, known without running it.

    A tool that a provider runs and its stand-in in this program are one switch. What an agent hides from a model by
    itself is listed all the same, and what only a function of its own brings into a run is not.
    """
    stand_ins, natives = _natives(agent)
    tools = [switch for toolset in agent.toolsets for switch in _tools(toolset) if switch.name not in stand_ins]
    closed: list[Switch] = []
    for toolset in agent.toolsets:
        toolset.apply(lambda part: closed.append(Switch(part.id)) if part.id and _is_closed(part) else None)
    found = {switch.name: switch for switch in [*map(_native, natives), *tools, *closed]}
    return list(found.values())


def switches_for(agent: AbstractAgent[Any, Any], model: Model | None) -> list[Switch]:
    """What can be switched off when a model answers: without what it can't use anyway."""
    if not takes_tools(model):
        return []
    stand_ins, natives = _natives(agent)
    missing = {tool.unique_id for tool in natives if not isinstance(tool, tuple(native_tools(model)))}
    return [switch for switch in switches(agent) if switch.name not in missing - set(stand_ins.values())]


@dataclass
class SwitchedOff(AbstractCapability[Any]):
    """Keeps tools out of a run, by the names of their switches."""

    names: frozenset[str]

    def get_wrapper_toolset(self, toolset: AbstractToolset[Any]) -> AbstractToolset[Any]:
        """Without whole toolsets: what is switched off is not even connected to."""
        return toolset.visit_and_replace(self._emptied)

    async def prepare_tools(self, ctx: RunContext[Any], tool_defs: list[ToolDefinition]) -> list[ToolDefinition]:
        """Without single tools, and without the stand-ins of a provider's tools."""
        return [tool for tool in tool_defs if _stays(tool.metadata) or not {tool.name, tool.unless_native} & self.names]

    async def prepare_model_request(
        self, ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Without tools that the provider runs."""
        asked = request_context.model_request_parameters
        kept = [tool for tool in asked.native_tools if tool.unique_id not in self.names]
        return replace(request_context, model_request_parameters=replace(asked, native_tools=kept))

    def _emptied(self, toolset: AbstractToolset[Any]) -> AbstractToolset[Any]:
        return FunctionToolset() if _is_closed(toolset) and toolset.id in self.names else toolset


def _natives(agent: AbstractAgent[Any, Any]) -> tuple[dict[str, str], list[AbstractNativeTool]]:
    """The tools that a provider runs, and by the names of their stand-ins, which they stand in for."""
    capabilities: list[AbstractCapability[Any]] = []
    with suppress(NotImplementedError):  # Not every kind of agent has capabilities.
        agent.root_capability.apply(capabilities.append)
    stand_ins: dict[str, str] = {}
    natives: list[AbstractNativeTool] = []
    for capability in capabilities:
        if isinstance(capability, ToolSearch):  # A search among the agent's own tools is no tool to a person.
            continue
        own = [tool for tool in capability.get_native_tools() if isinstance(tool, AbstractNativeTool)]
        natives += own
        if isinstance(capability, NativeOrLocalTool) and own:
            stand_ins |= {switch.name: own[0].unique_id for switch in _local(capability)}
    return stand_ins, natives


def _local(capability: NativeOrLocalTool[Any]) -> Iterable[Switch]:
    match capability.local:
        case Tool(name=name):
            return [Switch(name)]
        case AbstractToolset() as toolset:
            return _tools(toolset)
        case _:
            return []


def _native(tool: AbstractNativeTool) -> Switch:
    return Switch(tool.unique_id, tool.label)


def _tools(toolset: AbstractToolset[Any]) -> Iterator[Switch]:
    match toolset:
        case FunctionToolset():
            yield from (Switch(t.name, t.description or "") for t in toolset.tools.values() if not _stays(t.metadata))
        case ExternalToolset():
            yield from (Switch(t.name, t.description or "") for t in toolset.tool_defs if not _stays(t.metadata))
        case PrefixedToolset():
            for tool in _tools(toolset.wrapped):
                yield replace(tool, name=f"{toolset.prefix}_{tool.name}")
        case RenamedToolset():
            names = {old: new for new, old in toolset.name_map.items()}
            for tool in _tools(toolset.wrapped):
                yield replace(tool, name=names.get(tool.name, tool.name))
        case WrapperToolset():
            yield from _tools(toolset.wrapped)
        case CombinedToolset():
            for part in toolset.toolsets:
                yield from _tools(part)
        case _:
            pass


def _is_closed(toolset: AbstractToolset[Any]) -> bool:
    """Whether only a run shows what is in a toolset."""
    return not isinstance(toolset, FunctionToolset | ExternalToolset)


def _stays(metadata: dict[str, Any] | None) -> bool:
    return bool((metadata or {}).get(ALWAYS_ON))
