"""The tools of an agent can be listed without a run, and each of them kept out of one."""

from typing import Any

import pytest
from pydantic_ai import Agent, ModelMessage, ModelResponse, RunContext, TextPart
from pydantic_ai.capabilities import NativeTool, WebSearch
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.native_tools import AbstractNativeTool, CodeExecutionTool, WebSearchTool
from pydantic_ai.profiles import ModelProfile
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import AbstractToolset, ExternalToolset, FunctionToolset, ToolsetTool

from chat.switches import ALWAYS_ON, Switch, SwitchedOff, switches, switches_for

Kinds = frozenset[type[AbstractNativeTool]]


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def look_up(query: str) -> str:
    """Look something up."""
    return query


class Server(AbstractToolset[Any]):
    """Says only in a run what is in it, as an MCP server does."""

    def __init__(self) -> None:
        self.connections = 0
        self._tools = FunctionToolset[Any]([add])

    @property
    def id(self) -> str:
        return "calculator"

    async def __aenter__(self) -> "Server":
        self.connections += 1
        return self

    async def get_tools(self, ctx: RunContext[Any]) -> dict[str, ToolsetTool[Any]]:
        return await self._tools.get_tools(ctx)

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        return await self._tools.call_tool(name, tool_args, ctx, tool)


async def offered(agent: Agent[Any, Any], *off: str, native: Kinds = frozenset()) -> set[str]:
    """The tools that a model is offered when some are switched off; those of the kinds `native` its provider runs."""
    seen: list[str] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        seen.extend(tool.name for tool in info.function_tools)
        seen.extend(tool.unique_id for tool in info.model_request_parameters.native_tools)
        return ModelResponse([TextPart("Done.")])

    model = FunctionModel(answer, profile=ModelProfile(supported_native_tools=native))
    await agent.run("hello", model=model, capabilities=[SwitchedOff(frozenset(off))])
    assert len(seen) == len(set(seen))
    return set(seen)


def names(agent: Agent[Any, Any]) -> list[str]:
    return [switch.name for switch in switches(agent)]


@pytest.mark.anyio
async def test_a_function_is_listed_with_its_description_and_kept_out() -> None:
    agent = Agent(tools=[add, look_up])
    assert switches(agent) == [Switch("add", "Add two numbers."), Switch("look_up", "Look something up.")]
    assert await offered(agent) == {"add", "look_up"}
    assert await offered(agent, "add") == {"look_up"}


@pytest.mark.anyio
async def test_toolsets_are_listed_under_the_names_that_the_model_reads() -> None:
    external = ExternalToolset[Any]([ToolDefinition(name="ask", description="Ask a person.")])
    inner = FunctionToolset[Any]([add]).prefixed("math").filtered(lambda ctx, tool: True)
    renamed = FunctionToolset[Any]([look_up]).renamed({"search": "look_up"})
    agent = Agent(toolsets=[external, inner, renamed])
    assert names(agent) == ["ask", "math_add", "search"]
    assert await offered(agent) == {"ask", "math_add", "search"}
    for name in names(agent):
        assert name not in await offered(agent, name)


@pytest.mark.anyio
async def test_a_toolset_that_shows_its_tools_only_in_a_run_is_one_switch_and_not_connected_to_when_it_is_off() -> None:
    for wrap in (lambda server: server, lambda server: server.prefixed("far")):
        server = Server()
        agent = Agent(toolsets=[wrap(server)], tools=[look_up])
        assert names(agent) == ["look_up", "calculator"]
        assert await offered(agent, "calculator") == {"look_up"}
        assert server.connections == 0
        assert len(await offered(agent)) == 2
        assert server.connections == 1


@pytest.mark.anyio
async def test_a_tool_that_the_provider_runs_is_kept_out() -> None:
    agent = Agent(capabilities=[NativeTool(CodeExecutionTool())], tools=[add])
    native = Kinds({CodeExecutionTool})
    assert switches(agent)[0] == Switch("code_execution", "Code Execution")
    assert await offered(agent, native=native) == {"code_execution", "add"}
    assert await offered(agent, "code_execution", native=native) == {"add"}


@pytest.mark.anyio
async def test_a_tool_of_the_provider_and_its_stand_in_here_are_one_switch() -> None:
    agent = Agent(capabilities=[WebSearch(local=look_up)])
    assert names(agent) == ["web_search"]
    assert await offered(agent, native=Kinds({WebSearchTool})) == {"web_search"}
    assert await offered(agent) == {"look_up"}
    for native in (Kinds({WebSearchTool}), Kinds()):
        assert await offered(agent, "web_search", native=native) == set()


@pytest.mark.anyio
async def test_a_tool_that_must_stay_is_not_listed_and_stays() -> None:
    agent = Agent(tools=[look_up])
    agent.tool_plain(metadata={ALWAYS_ON: True})(add)
    assert names(agent) == ["look_up"]
    assert await offered(agent, "add", "look_up") == {"add"}


@pytest.mark.anyio
async def test_what_is_not_there_is_switched_off_in_vain() -> None:
    assert await offered(Agent(tools=[add]), "gone") == {"add"}


def test_a_model_is_listed_only_what_it_can_use() -> None:
    agent = Agent(capabilities=[WebSearch(local=look_up), NativeTool(CodeExecutionTool(optional=True))])

    def listed(**profile: Any) -> list[str]:
        model = TestModel(profile=ModelProfile(**profile))  # pyright: ignore[reportArgumentType]
        return [switch.name for switch in switches_for(agent, model)]

    assert listed() == ["web_search", "code_execution"]
    assert listed(supported_native_tools=frozenset()) == ["web_search"]
    assert listed(supports_tools=False) == []
