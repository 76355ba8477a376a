"""The agent that answers. Edit this file to make the chat yours, or name your own agent with `CHAT_AGENT`."""

from datetime import datetime
from importlib.util import find_spec
from typing import Any
from zoneinfo import ZoneInfo

from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai.capabilities import PrepareTools, WebFetch, WebSearch
from pydantic_ai.native_tools import WebFetchTool, WebSearchTool
from pydantic_ai.tools import ToolDefinition

from chat.abilities import OnlySupported

INSTRUCTIONS = "You are a helpful assistant. Answer clearly and briefly, in the language of the question."


def build_agent() -> Agent[Any, str]:
    """The built-in agent. Its model is the one of the settings."""
    return Agent(
        name="parley",
        instructions=[INSTRUCTIONS, today],
        tools=[current_time],
        capabilities=[
            # The provider does these where it can; elsewhere this program, if it has the package; else nobody.
            WebSearch(native=WebSearchTool(optional=True), local="duckduckgo" if find_spec("ddgs") else False),
            WebFetch(native=WebFetchTool(optional=True), local=bool(find_spec("markdownify"))),
            OnlySupported(),
            PrepareTools(unless_embedded),
        ],
    )


def build_deps(owner: str, conversation_id: str) -> object:
    """What the tools find in `ctx.deps`, made for each reply. It may be `async`, and is the place for a look-up."""
    return None


def today(ctx: RunContext[Any]) -> str:
    """The date, without the time: what changes at every reply would keep providers from reusing a long prompt."""
    now = datetime.now().astimezone()
    return "" if is_embedded(ctx) else f"Today is {now:%A, %Y-%m-%d}, in the server's time zone ({now:%Z})."


def current_time(zone: str | None = None) -> str:
    """The date and time now, in an IANA time zone such as Europe/Paris, or in the server's when none is given."""
    try:
        return f"{datetime.now().astimezone(ZoneInfo(zone) if zone else None):%A, %Y-%m-%d %H:%M:%S %Z (UTC%z)}"
    except (LookupError, ValueError, OSError) as error:
        raise ModelRetry(f"There is no time zone {zone!r}.") from error


def unless_embedded(ctx: RunContext[Any], tools: list[ToolDefinition]) -> list[ToolDefinition]:
    """No tools for the embedded model: it is too small to use them well, and a web page is too long for it."""
    return [] if is_embedded(ctx) else tools


def is_embedded(ctx: RunContext[Any]) -> bool:
    return ctx.model.system == "local"
