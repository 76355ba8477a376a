"""The chat as tools for other agents, over MCP, where `CHAT_MCP` says so.

Each call acts for whoever the request's cookie names, or for the person at this computer: see `chat.identify`. What
waits for a decision is not decided here: an approval is a person's, and who calls is a model.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from inspect import Parameter, isasyncgenfunction
from itertools import count
from typing import Any, get_args, get_origin

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import ToolAnnotations
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from chat import api
from chat.api_route import STATUS
from chat.endpoints import ENDPOINTS, ReplyUnknown, with_signature
from chat.identify import TOOLS

LEFT_OUT = ("decide",)

READING = ("about", "list", "read", "follow", "search", "export")
"""Those that change nothing."""

NOBODY = (
    "This chat doesn't know for whom you call. Its cookie has to be among the headers that your client is set up with: "
    "docs/api.md of the chat says how."
)

Call = Context[Any, Request]


class Tools:
    """An MCP server with the chat's endpoints, as an ASGI app. It keeps nothing between two calls.

    Args:
        title: The name of the chat.
    """

    def __init__(self, title: str) -> None:
        server: MCPServer[Any] = MCPServer(title, log_level="WARNING", subscriptions=False)
        for name, function in ENDPOINTS.items():
            if name not in LEFT_OUT:
                hints = ToolAnnotations(read_only_hint=name in READING, destructive_hint=name == "delete")
                server.add_tool(_offered(function), name=name, annotations=hints)
        # Which hosts and pages may ask is decided at the edge.
        server.streamable_http_app(
            stateless_http=True, transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False)
        )
        self._manager = server.session_manager
        self.route = Route(TOOLS, self, methods=["POST"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._manager.handle_request(scope, receive, send)

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """Answer calls, until the end of the block."""
        async with self._manager.run():
            yield


def _offered(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function as MCP calls it. Of a reply that grows it answers the last one, and tells that it grows."""

    async def at_once(ctx: Call, **arguments: object) -> Any:
        return await function(_caller(ctx), **arguments)

    async def grown(ctx: Call, **arguments: object) -> Any:
        answers: AsyncGenerator[BaseModel] = function(_caller(ctx), **arguments)
        steps, last = count(1), None
        async with aclosing(answers):
            async for answer in answers:
                last = answer
                await ctx.report_progress(next(steps))
        return last

    act = grown if isasyncgenfunction(function) else at_once

    async def tool(ctx: Call, **arguments: object) -> Any:
        try:
            return await act(ctx, **arguments)
        except api.NoVisitor as error:
            raise ToolError(NOBODY) from error
        except ValidationError as error:
            raise ToolError(f"This call can't be used: {error.errors(include_url=False)[0]['msg']}.") from error
        except (ReplyUnknown, *STATUS) as error:
            raise ToolError(str(error)) from error

    return with_signature(tool, function, Parameter("ctx", Parameter.POSITIONAL_OR_KEYWORD, annotation=Call), _last)


def _last(hint: Any) -> Any:
    """The type of the last answer, where several come."""
    return get_args(hint)[0] if get_origin(hint) is AsyncIterator else hint


def _caller(ctx: Call) -> api.Caller:
    request = ctx.request_context.request
    if request is None:
        raise api.NoVisitor
    return api.caller_of(request)
