"""The chat for programs that use `gradio_client`: named endpoints with typed arguments, which answer with JSON.

They do what `chat.api_route` does over HTTP. A caller is who its cookie says, as a page is: see `docs/api.md`.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import aclosing, contextmanager
from dataclasses import is_dataclass
from datetime import datetime
from inspect import Parameter, isasyncgenfunction, isclass
from types import UnionType
from typing import Annotated, Any, TypedDict, Union, cast, get_args, get_origin

import gradio as gr
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from chat import api
from chat.api_route import STATUS
from chat.endpoints import ENDPOINTS, ReplyUnknown, arguments_of, with_signature


def add_endpoints() -> None:
    """Offer them, in the `gr.Blocks` that are open."""
    for name, function in ENDPOINTS.items():
        gr.api(_offered(function), api_name=name, concurrency_limit=None)  # pyright: ignore[reportUnknownMemberType, reportPrivateImportUsage]  # Gradio leaves it open


def _offered(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function as Gradio calls it: with arguments of any form, refusals that are told, and answers that are JSON."""
    model = arguments_of(function)

    def called(request: gr.Request, sent: tuple[object, ...]) -> Any:
        arguments = model.model_validate(dict(zip(model.model_fields, sent, strict=False)))
        caller = api.caller_of(cast("Request", request.request))
        return function(caller, **{name: getattr(arguments, name) for name in model.model_fields})

    async def at_once(request: gr.Request, *sent: object) -> Any:
        with _refusals():
            answer: BaseModel | None = await called(request, sent)
        return None if answer is None else answer.model_dump(mode="json")

    async def growing(request: gr.Request, *sent: object) -> AsyncGenerator[Any]:
        with _refusals():
            answers: AsyncGenerator[BaseModel] = called(request, sent)
            async with aclosing(answers):
                async for answer in answers:
                    yield answer.model_dump(mode="json")

    request = Parameter("request", Parameter.POSITIONAL_OR_KEYWORD, annotation=gr.Request)
    return with_signature(growing if isasyncgenfunction(function) else at_once, function, request, _json_type)


@contextmanager
def _refusals() -> Generator[None]:
    """Tell the caller why something can't be done, in a sentence."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise gr.Error(f"This call can't be used: {place}: {first['msg']}.", print_exception=False) from None
    except (ReplyUnknown, *STATUS) as error:
        raise gr.Error(str(error), print_exception=False) from None


def _json_type(hint: Any, *, inside: bool = False) -> Any:
    """A type as JSON has it. Gradio describes no models, nor what contains itself: what is inside them is left open."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is datetime:
        return str
    if origin in (AsyncIterator, Annotated):
        return _json_type(arguments[0], inside=inside)
    if origin in (Union, UnionType):
        return Union[tuple(_json_type(each, inside=inside) for each in arguments)]  # noqa: UP007  # of a tuple
    if origin is list:
        return list[_json_type(arguments[0], inside=True)]
    if not isclass(hint) or not (issubclass(hint, BaseModel) or is_dataclass(hint)):
        return hint
    if inside or not issubclass(hint, BaseModel):
        return dict[str, Any]
    fields = {name: _json_type(field.annotation, inside=True) for name, field in hint.model_fields.items()}
    return TypedDict(hint.__name__, fields)  # pyright: ignore[reportArgumentType]  # made of a model
