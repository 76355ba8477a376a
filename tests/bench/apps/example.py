"""Pydantic AI's own chat example, from the published package, with the scripted agent.

    python -m tests.bench.apps.example <port> <earlier messages> <directory for its database> <node_modules>

Its page and script are the published ones, but for the addresses of three libraries: they come from this server, out of
npm's packages, so that the network's speed is not measured and none is needed.
"""

import os
import re
import sqlite3
import sys
from pathlib import Path

os.environ.setdefault("OPENAI_API_KEY", "unused")  # The example names an OpenAI model before we replace it.

import uvicorn
from fastapi.responses import FileResponse, Response
from pydantic_ai import ModelMessagesTypeAdapter
from pydantic_ai_examples import chat_app
from starlette.routing import Route

from tests.bench.apps.model import agent, history

LIBRARIES = {
    "bootstrap": "bootstrap/dist/css/bootstrap.min.css",
    "typescript": "typescript/lib/typescript.js",
    "marked": "marked/lib/marked.esm.js",
}


def main(port: int, count: int, directory: Path, modules: Path) -> None:
    """Serve it from a new database with `count` earlier messages."""
    database = directory / "messages.sqlite"
    _seed(database, count)
    connect = chat_app.Database.connect
    chat_app.Database.connect = lambda: connect(database)
    chat_app.agent = agent
    chat_app.app.router.routes[:0] = [
        Route("/", lambda request: _localised("chat_app.html", "text/html")),
        Route("/chat_app.ts", lambda request: _localised("chat_app.ts", "text/plain")),
        Route("/library/{name}", lambda request: FileResponse(modules / LIBRARIES[request.path_params["name"]])),
    ]
    uvicorn.run(chat_app.app, port=port, log_level="warning")


def _seed(path: Path, count: int) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE messages (id INT PRIMARY KEY, message_list TEXT)")
        messages = history(count)
        turns = [ModelMessagesTypeAdapter.dump_json(messages[index : index + 2]) for index in range(0, count, 2)]
        database.executemany("INSERT INTO messages (message_list) VALUES (?)", [(turn,) for turn in turns])
    database.close()


def _localised(name: str, media_type: str) -> Response:
    text = (chat_app.THIS_DIR / name).read_text(encoding="utf-8")
    for library in LIBRARIES:
        text = re.sub(rf"https://[^\s'\"]*\b{library}\b[^\s'\"]*", f"/library/{library}", text)
    text = re.sub(r'integrity="[^"]*"', "", text)  # Of the CDN's minified file; npm has the same one as it was written.
    return Response(text, media_type=media_type)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
