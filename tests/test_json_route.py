"""Whatever a request holds, the chat's own routes answer it or refuse it with a sentence."""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai.conversation import Conversation
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart
from starlette.routing import Route

from chat.feedback_route import FEEDBACK_ROUTE, give_feedback
from chat.import_route import IMPORT_ROUTES
from chat.search_box import OPEN_ROUTE, SEARCH_ROUTE
from chat.search_box import ROUTES as SEARCH_ROUTES
from chat.services import open_services
from chat.settings import Settings
from chat.share_route import SHARE_ROUTES
from chat.sidebar import LIST_ROUTE
from chat.sidebar import ROUTES as SIDEBAR_ROUTES
from tests.anything import ANYTHING, TEXT, bodies, objects
from tests.visiting import ANNA, owner, visitor_of

ROUTES = [*SIDEBAR_ROUTES, *SEARCH_ROUTES, *SHARE_ROUTES, *IMPORT_ROUTES]
ROUTES += [Route(FEEDBACK_ROUTE, give_feedback, methods=["PUT"])]
A_CONVERSATION = st.sampled_from(["trip", "missing"])
REQUESTS = st.one_of(
    st.tuples(
        st.just("PATCH"),
        st.just(f"{LIST_ROUTE}/trip"),
        bodies(objects(title=TEXT, place=st.sampled_from(["pinned", "listed", "archived"]), deleted=st.just(False))),
    ),
    st.tuples(
        st.just("PUT"),
        st.just("/parley/feedback/trip/reply"),
        bodies(objects(verdict=st.sampled_from(["up", "down"]), comment=TEXT)),
    ),
    st.tuples(st.just("POST"), st.just(SEARCH_ROUTE), bodies(objects(query=TEXT))),
    st.tuples(st.just("POST"), st.just(OPEN_ROUTE), bodies(objects("entry", conversation=A_CONVERSATION))),
    st.tuples(st.just("POST"), st.just("/parley/import"), bodies(objects("entries", "format", "conversation_id"))),
)
QUERIES = st.dictionaries(
    st.sampled_from(["after", "id", "conversation", "tools", "page", "archived", "q"]),
    (TEXT | ANYTHING.map(str)).map(lambda text: text.encode("utf-8", "replace").decode()),
    max_size=3,
)


@settings(max_examples=4, deadline=None)
@given(st.lists(st.tuples(REQUESTS, QUERIES), min_size=20, max_size=20))
def test_whatever_a_request_holds_it_is_answered_or_refused(
    requests: list[tuple[tuple[str, str, bytes], dict[str, str]]],
) -> None:
    async def ask() -> None:
        with TemporaryDirectory() as folder:
            async with (
                open_services(Settings(database=Path(folder) / "chat.db")) as services,
                visitor_of(services, ROUTES) as anna,
            ):
                messages = [ModelRequest([UserPromptPart("hello")]), ModelResponse([TextPart("hi")])]
                conversation = Conversation(messages=messages, conversation_id="trip")
                await services.store.save(conversation, scope=owner(ANNA))
                for (method, path, body), query in requests:
                    answer = await anna.request(method, path, content=body)
                    assert answer.status_code in (200, 400, 404, 409, 413, 422), (path, body)
                    assert answer.status_code == 200 or answer.json().get("error") or answer.json().get("said")
                    for listed in (LIST_ROUTE, "/parley/shares"):
                        assert (await anna.get(listed, params=query)).status_code in (200, 400), query

    asyncio.run(ask())
