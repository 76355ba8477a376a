"""An agent whose tools are those of an MCP server, which it runs: what it calls is said in the prompt, as JSON."""

import json
import os
import sys
from collections.abc import AsyncIterator

from fastmcp.client.transports import StdioTransport
from pydantic_ai import Agent, ModelMessage
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

LOCK = "DRAWING_SERVER_LOCK"
"""The environment variable that names the file which the server locks."""


async def _call(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    last = messages[-1].parts[-1]
    if isinstance(last, ToolReturnPart):
        yield f"It was {last.outcome}."
        return
    name, _, args = str(getattr(last, "content", "")).partition(" ")
    yield {0: DeltaToolCall(name=name, json_args=args or json.dumps({}), tool_call_id=f"call-{len(messages)}")}


_server = StdioTransport(sys.executable, ["-m", "tests.drawing_server", os.environ.get(LOCK, os.devnull)])

agent = Agent(
    FunctionModel(stream_function=_call, model_name="caller"),
    name="caller",
    toolsets=[MCPToolset(_server, id="drawing", init_timeout=60)],  # A busy machine takes its time to start it.
)
