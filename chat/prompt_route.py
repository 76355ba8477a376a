"""Serving what a prompt says to its owner, to be edited: a page shows it as Markdown, and only the first part of it."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from chat.identity import owner_of
from chat.render import prompt_text
from chat.runs import MessageMissing
from chat.services import Services

PROMPT_ROUTE = "/parley/prompts/{conversation:path}/{entry}"


async def serve_prompt(request: Request) -> Response:
    """The text of a prompt, without what is attached to it; 404 for what is missing and for what is somebody else's."""
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
            return JSONResponse({"text": prompt_text(prompt.message)}, headers=headers)
    return Response("Not found.", 404, headers, "text/plain")
