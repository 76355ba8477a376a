"""An MCP server of the tests' own, over stdio: it adds numbers and draws. It holds a lock as long as it runs."""

import base64
import sys

from filelock import FileLock
from mcp.server import MCPServer
from mcp.types import ImageContent, TextContent

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAoAAAAKCAIAAAACUFjqAAAAEklEQVR4nGP4z8CAB+GTG8HSALfKY52fTcuYAAAAAElFTkSuQmCC"
)
"""What it draws."""

server = MCPServer("drawing")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def draw(what: str) -> list[TextContent | ImageContent]:
    """Draw something."""
    picture = ImageContent(type="image", data=base64.b64encode(PNG).decode(), mime_type="image/png")
    return [TextContent(type="text", text=f"A drawing of a {what}."), picture]


@server.tool()
def fail() -> str:
    """Never work."""
    raise ValueError("The pen is dry.")


if __name__ == "__main__":
    with FileLock(sys.argv[1]):
        server.run("stdio")
