"""Taking what a page says of a reply."""

from typing import Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from chat.feedback import LONGEST_COMMENT, Opinion, ReplyMissing
from chat.identity import Owner
from chat.json_route import TooLarge, answer, body_of
from chat.services import Services

FEEDBACK_ROUTE = "/parley/feedback/{conversation:path}/{entry}"

LARGEST_BODY = 8 * LONGEST_COMMENT
"""Bytes of a request: what the longest comment can take as JSON, and more."""


class FeedbackRefused(Exception):
    """Feedback that can't be kept. The message says why."""


async def give_feedback(request: Request) -> Response:
    """Keep what the owner says of the reply that `entry` begins: the request's body is an `Opinion`.

    404 for what is missing and for what is somebody else's.
    """
    services: Services = request.state.services

    async def given(owner: Owner) -> dict[str, Any]:
        named = request.path_params
        await services.feedback.give(owner, named["conversation"], named["entry"], await _opinion(request))
        return {}

    return await answer(request, given, {ReplyMissing: 404, FeedbackRefused: 400})


async def _opinion(request: Request) -> Opinion:
    try:
        return Opinion.model_validate_json(await body_of(request, LARGEST_BODY))
    except TooLarge as error:
        raise FeedbackRefused(f"A comment may have at most {LONGEST_COMMENT:,} characters. Shorten it.") from error
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"]
        raise FeedbackRefused(f"This feedback can't be read: {reason}.") from error
