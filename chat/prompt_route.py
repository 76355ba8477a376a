"""Serving what a prompt says to its owner, to be edited or sent again: a page shows it as Markdown, not always all."""

from typing import Any

from pydantic_ai.conversation_store import ConversationEntry
from pydantic_ai.messages import BinaryContent, TextContent
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from chat.attachments import attached
from chat.file_render import is_text_file, text_in_file
from chat.file_route import file_path
from chat.files import file_of
from chat.identity import owner_of
from chat.render import prompt_text
from chat.runs import MessageMissing
from chat.services import Services

PROMPT_ROUTE = "/parley/prompts/{conversation:path}/{entry}"


async def serve_prompt(request: Request) -> Response:
    """The `text` of a prompt, and the `files` that are attached to it, each with its `name`.

    A text file has its `text`, another one the `url`, seen from the page, and the `type`. 404 for what is missing and
    for what is somebody else's.
    """
    services: Services = request.state.services
    owner = owner_of(request)
    headers = {"cache-control": "no-store"}
    conversation = request.path_params["conversation"]
    record = None if owner is None else await services.store.read_owned(conversation, owner)
    if record is not None:
        try:
            prompt = await services.runs.prompt(record, request.path_params["entry"])
        except MessageMissing:
            pass
        else:
            files = _files(record.conversation_id, prompt)
            return JSONResponse({"text": prompt_text(prompt.message), "files": files}, headers=headers)
    return Response("Not found.", 404, headers, "text/plain")


def _files(conversation_id: str, prompt: ConversationEntry) -> list[dict[str, Any]]:
    """What a page can attach again. A file that lies elsewhere was never attached on one."""
    files: list[dict[str, Any]] = []
    for item in attached(prompt.message):
        if isinstance(item, BinaryContent):
            if (file := file_of(item)) is not None:
                url = file_path(conversation_id, prompt.id, file)
                files.append({"name": file.name, "url": url, "type": file.media_type})
        elif isinstance(item, TextContent) and is_text_file(item):
            name, words = text_in_file(item)
            files.append({"name": name, "text": words})
    return files
