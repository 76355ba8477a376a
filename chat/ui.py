"""The page: a `gr.ChatInterface` whose events send to, stop and watch conversations.

Every event is one request, whatever the conversation's length: what a page shows travels to it, never back. What it
sends of itself (the conversation's id, how much it shows) is a hint; the store decides, in the owner's scope.

The `status` component carries the state of the page. Its script (`page.js`) keeps the address, listens to the
server's announcements and asks for a new watch when what the page shows is no longer true: after a change in another
tab, a lost connection or a restart.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing, suppress
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any, cast

import gradio as gr
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from chat.abilities import accepted_media
from chat.actions import Action, ActionRefused, act
from chat.api_events import add_endpoints
from chat.api_route import API_ROUTES
from chat.attachments import Attaching, Limits, Sent, prompt_of
from chat.backup_line import BACKUP_ROUTE, backup_line, first_line
from chat.choice_form import choice_form
from chat.choices import Choice
from chat.database import DatabaseError, DatabaseUnavailable
from chat.decisions import DecisionRefused, decisions_from_page
from chat.export_route import EXPORT_ROUTES
from chat.feedback_route import FEEDBACK_ROUTE, give_feedback
from chat.file_route import FILE_ROUTE, serve_file
from chat.health import HEALTH_ROUTE, health
from chat.identity import Owner, owner_of
from chat.import_route import IMPORT_ROUTES
from chat.kinds import chooser_kinds, kinds_text, takes_sound
from chat.limits import Left, LimitReached
from chat.message_box import fetch_nothing, message_box
from chat.models import ChatAgent
from chat.prompt_route import PROMPT_ROUTE, serve_prompt
from chat.render import GradioMessage, PromptRefused
from chat.runs import ConversationBusy, ConversationMissing, MessageMissing, Run, ShuttingDown
from chat.search_box import ROUTES as SEARCH_ROUTES
from chat.services import Services
from chat.settings import Settings
from chat.share_route import SHARE_ROUTES
from chat.sidebar import ROUTES as SIDEBAR_ROUTES
from chat.sidebar import render_sidebar
from chat.versions import NotNewest
from chat.view import KEEPALIVE_SECONDS, ShownTurn, Span, View, conversation_id_from, watch

_HERE = Path(__file__).parent
_PARTS = (
    ("style", "page.css"),
    ("style", "menu.css"),
    ("script", "menu.js"),
    ("style", "sidebar.css"),
    ("style", "limits.css"),
    ("style", "search.css"),
    ("script", "kept.js"),
    ("script", "scroll.js"),
    ("script", "choices.js"),
    ("script", "decisions.js"),
    ("script", "attachments.js"),
    ("style", "message_bar.css"),
    ("script", "message_bar.js"),
    ("script", "sidebar.js"),
    ("style", "exchange.css"),
    ("script", "exchange.js"),
    ("style", "backup.css"),
    ("script", "backup.js"),
    ("style", "images.css"),
    ("script", "images.js"),
    ("style", "account.css"),
    ("script", "account.js"),
    ("style", "keyboard.css"),
    ("script", "keyboard.js"),
    ("style", "spoken.css"),
    ("script", "spoken.js"),
    ("style", "touch.css"),
    ("script", "search.js"),
    ("script", "page.js"),
)
HEAD = "".join(
    f"<{tag}>{(_HERE / name).read_text(encoding='utf-8')}</{tag}>"
    # Not as Gradio's `css`, which puts its container before every selector, also before `body`.
    for tag, name in _PARTS
)
"""What the page's head holds beside Gradio's own."""

UPLOADS_KEPT = 6 * 3600
"""Seconds that an uploaded file is kept for a message. What was sent is in the database.

It isn't removed when it was sent: the same file of the same name, attached by somebody else, is the same upload.
"""

UPLOADS_CHECKED = 600
"""Seconds between two looks for uploads that are older."""

LOOK_SECONDS = 0.01
"""How often Gradio looks whether somebody has sent something. Its own millisecond is 4 % of a core day and night, for
each reply almost half of what the server computes; this is 5 ms more until the first word.

What it looks for beside that, each ten milliseconds, are bars of progress: here there are none.
"""

CONTINUE = "Continue exactly where you stopped."

NO_COOKIE = "Your browser keeps no cookies for this page, so it can't know which conversations are yours. Allow them."

EARLY = "The message before is still on its way. Send this one in a moment."

LATEX = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
]
"""What is shown as a formula. A single dollar is not: it begins more prices than formulas."""

_TOLD = ("accepted", "refused", "decided", "acted", "failed", "opened")
"""What of the state that a page sent is told back to it: how it knows which of its requests was answered."""

SKIP = cast("Any", (gr.skip(), gr.skip()))  # pyright: ignore[reportUnknownMemberType]  # Gradio leaves it open

Status = dict[str, Any]
Frame = tuple[Status, list[GradioMessage]]
"""What an event paints: the status and the chatbot's messages."""


class Refused(Exception):
    """Something a visitor asked for that can't be done now. The message says why."""


_EXPECTED = (
    Refused,
    PromptRefused,
    DecisionRefused,
    ActionRefused,
    ConversationBusy,
    ConversationMissing,
    MessageMissing,
    NotNewest,
    ShuttingDown,
    LimitReached,
    DatabaseError,
)


class ChatPage(gr.ChatInterface):
    """The chat with an agent, as a Gradio app. Its services come from the server's lifespan state."""

    def __init__(self, agent: ChatAgent, settings: Settings, attaching: Attaching, *, signs_in: bool) -> None:
        self._agent = agent
        self._settings = settings
        self._attaching = attaching
        self._signs_in = signs_in
        self._watching: dict[tuple[Owner, str | None], object] = {}
        self._beside: set[asyncio.Task[None]] = set()
        super().__init__(  # pyright: ignore[reportUnknownMemberType]  # Gradio leaves a list's items open
            self.converse,
            chatbot=_chatbot(agent, settings),
            # What any of the models takes; the page's script offers what the chosen one does.
            textbox=message_box(frozenset[str]().union(*(accepted_media(each.model) for each in agent.models))),
            delete_cache=(UPLOADS_CHECKED, UPLOADS_KEPT),
            title=settings.title,
            examples=list(settings.examples) or None,
            cache_examples=False,  # Spaces turn it on, and would ask the model before anybody came.
            concurrency_limit=None,
            show_progress="hidden",
            fill_width=True,
            analytics_enabled=False,
        )
        with self:
            # Gradio's own history asks the browser's storage, which a page inside another site's may not even touch.
            self.saved_conversations.unrender()
            render_sidebar(signs_in=self._signs_in)
        # Not on the page itself, which would be longer by them.
        with self.route("Programs", "/programs", show_in_navbar=False):
            add_endpoints()
        for function in self.fns.values():
            for block in function.inputs:
                fetch_nothing(block)
        # One place for all tabs: every event is a short one or a watch, which ends with its run.
        self.queue(default_concurrency_limit=None, max_size=None, api_open=False)
        self._queue.sleep_when_free, self._queue.progress_update_sleep_when_free = LOOK_SECONDS, 1

    def get_config_file(self) -> Any:
        """The page's configuration, without Gradio's heartbeat.

        It would hold one of the six connections that a browser has for a host, for each tab, to keep `gr.State`. The
        chat has none: those of `gr.ChatInterface` are not used.
        """
        config = super().get_config_file()
        config["connect_heartbeat"] = False
        return config

    # What Gradio calls `_setup_events` wires some twelve chained requests for a message; here each action is one.
    def _setup_events(self) -> None:
        self.status = gr.HTML(
            # Not yet any of a view's phases: the first one that is painted must be seen as a change.
            value={**_status(View(None)), "phase": "loading"},
            html_template="<p role='status' aria-live='polite'>${value.notice || ''}</p>"
            "<p>${value.spent || ''}${value.left || ''}</p>",
            js_on_load="parley.start(props, trigger, watch)",
            apply_default_css=False,
            elem_id="status",
        )
        self._render_decisions()
        self._render_message_bar()
        self._render_backup_line()
        newest = gr.Button("Newest messages", size="sm", elem_id="newest")
        self.choice = gr.HTML(
            value=self._chosen(Choice()),
            html_template="${value.form}",
            js_on_load="parleyChoices.start(element, props, trigger); parleyAttachments.follow(props, watch)",
            apply_default_css=False,
            elem_id="choice",
        )
        # Both are there at any time; the style shows the one that fits the phase.
        self.textbox.stop_btn = True
        page, frame = self.status, [self.status, self.chatbot]  # The status first: the page then knows what comes.
        # What they yield is as the components send it: Gradio would copy and check all of it twice for each update.
        as_it_is: dict[str, Any] = {"show_progress": "hidden", "postprocess": False}
        quiet: dict[str, Any] = {"api_visibility": "private", "queue": True, **as_it_is}
        # The browser paints what was typed by itself; the server's first frame confirms it or takes it back.
        self.textbox.submit(
            None,
            [self.textbox, self.chatbot],
            [self.textbox, self.chatbot],
            js="(message, messages) => parley.typed(message, messages)",
            trigger_mode="multiple",
            api_visibility="private",
        )
        self.textbox.submit(
            self.converse,
            [self.textbox, page],
            frame,
            js="(message, status) => parley.sending(message, status)",
            trigger_mode="multiple",  # A second message while one is answered is told so, not swallowed.
            api_name="chat",
            api_visibility="undocumented",
            concurrency_limit=None,
            **as_it_is,
        )
        self.textbox.change(None, [self.textbox], None, js="(box) => parley.attached(box)", api_visibility="private")
        page.clear(None, [self.textbox], [self.textbox], js="(box) => parley.boxed(box)", api_visibility="private")
        self.load(self.watch, [page], frame, js="(status) => parley.opened(status)", **quiet)
        briefly: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
        self.choice.input(self.choose, [self.choice, page], [self.choice], trigger_mode="always_last", **briefly)
        page.select(self.choice_of, [page], [self.choice], trigger_mode="always_last", **briefly)
        newest.click(None, None, None, js="() => parley.newest()", api_visibility="private")
        page.apply(
            self.watch, [page], frame, js="(status) => parley.watching(status)", trigger_mode="multiple", **quiet
        )
        self.message_bar.submit(
            self.act, [page], frame, js="(status) => parley.acting(status)", trigger_mode="multiple", **quiet
        )
        page.submit(
            self.decide,
            [page],
            frame,
            js="(status) => parley.deciding(status)",
            trigger_mode="multiple",
            api_name="page_decide",
            **quiet,
        )
        self.chatbot.example_select(self.example, [page], frame, **quiet)
        self.chatbot.option_select(self.option, [page], frame, **quiet)
        self.textbox.stop(self.stop, [page], None, api_name="page_stop", **briefly)

    def _render_decisions(self) -> None:
        """The place of the form for calls that wait, above the message box; `decisions.js` fills it."""
        column = cast("gr.Column", self.chatbot.parent)
        with column:
            gr.HTML(
                value="",
                html_template="<section id='decisions-form' aria-label='Waiting for your decision' hidden></section>",
                apply_default_css=False,
                js_on_load=None,
                elem_id="decisions",
            )
        column.children.insert(column.children.index(self.chatbot) + 1, column.children.pop())

    def _render_message_bar(self) -> None:
        """What `message_bar.js` does its actions with, and the place of what it says above the message box."""
        column = cast("gr.Column", self.chatbot.parent)
        models = [model.name for model in self._agent.models]
        with column:
            self.message_bar = gr.HTML(
                value="",
                html_template=(
                    "<p id='taken-back' hidden>What was taken back is kept."
                    "<button type='button'>Bring it back</button></p>"
                ),
                js_on_load=f"parleyMessageBar.trigger = trigger; parley.acts(element, {json.dumps(models)})",
                apply_default_css=False,
                elem_id="message-bar",
            )
        column.children.insert(column.children.index(self.chatbot) + 1, column.children.pop())

    def _render_backup_line(self) -> None:
        line = first_line(self._settings)
        if line is not None:
            gr.HTML(
                value=line,
                html_template="<p>${value}</p>",
                js_on_load="parleyBackup.start(props)" if self._settings.backup else None,
                apply_default_css=False,
                elem_id="backup",
            )

    def _chosen(self, choice: Choice) -> dict[str, object]:
        """The form of what is chosen, and what can then be attached, which the page's script goes by.

        The server checks what is attached all the same.
        """
        accepted = accepted_media(self._agent.chosen(choice.model).model)
        attachable = {
            "kinds": kinds_text(accepted),
            "endings": chooser_kinds(accepted),
            "sound": takes_sound(accepted),
            "largest": self._attaching.size,
        }
        return {"form": choice_form(self._agent, choice), "attachable": attachable}

    async def converse(self, message: object, status: Status, request: gr.Request) -> AsyncGenerator[Frame, None]:
        """Send a message, to the conversation of `status` or to a new one, and stream it as it becomes.

        The message is a text, or a dict with `text` and `files` that were uploaded.

        Yields the messages that the page shows, and the state of the conversation: `conversation` is its id, `phase`
        is `idle` once the reply is complete and saved.
        """
        status = _status_from(status)
        try:
            run = await self._send(Sent.from_page(message), status, request)
        except _EXPECTED as error:
            gr.Warning(str(error), title="Not sent")
            status["refused"] = status.get("sent")
        else:
            status |= {"conversation": run.conversation_id, "accepted": status.get("sent")}
        async with aclosing(self.watch(status, request)) as frames:
            async for frame in frames:
                yield frame

    async def watch(self, status: Status, request: gr.Request) -> AsyncGenerator[Frame, None]:
        """Stream a conversation while a reply is being written in it; then, and without one, show it as it is."""
        status = _status_from(status)
        try:
            services, owner = _services(request), _owner(request)
        except Refused as error:
            yield _status(View(None, notice=str(error))), []
            return
        # A page shows one conversation: its newest watch ends the ones before.
        key, mine = (owner, request.session_hash), object()
        self._watching[key] = mine
        try:
            view = None
            span, show_system = Span.from_page(status.get("span")), self._settings.show_system
            await self._show_version(services, owner, status, span)
            async for view in watch(services, owner, status.get("conversation"), span, show_system=show_system):
                if self._watching.get(key) is not mine:
                    yield SKIP  # What an event yields last is painted once more when it ends.
                    return
                yield _status(view, status), list(view.messages)
            if view is not None and view.conversation and view.last is None:
                self._do_beside(services.runs.prepare(owner, view.conversation))
        except DatabaseError as error:
            yield _status(View(None, notice=str(error)), status), []
        finally:
            if self._watching.get(key) is mine:
                del self._watching[key]

    async def _show_version(self, services: Services, owner: Owner, status: Status, span: Span) -> None:
        """Have the version shown that has the message a page asks for by its address, unless another is written."""
        if span.around is None:
            return
        with suppress(ConversationBusy, ConversationMissing, MessageMissing, DatabaseUnavailable):
            await services.versions.show(owner, _conversation(status), span.around)

    async def example(self, status: Status, request: gr.Request, data: gr.SelectData) -> AsyncGenerator[Frame, None]:
        """Send the example that was clicked."""
        async with aclosing(self.converse(str(data.value["text"]), status, request)) as frames:
            async for frame in frames:
                yield frame

    async def act(self, status: Status, request: gr.Request) -> AsyncGenerator[Frame, None]:
        """Do what was chosen at a message: the `action` of `status`."""
        status = _status_from(status)
        status["opened"] = status["failed"] = None
        try:
            services, owner = _services(request), _owner(request)
            action = Action.from_page(status.get("action"))
            shown = await act(services, owner, _conversation(status), action, self._agent)
            status["conversation"] = status["opened"] = shown
            if shown and (run := services.runs.of(owner, shown)) is not None:
                self._begun(services, run)
        except _EXPECTED as error:
            gr.Warning(str(error), title="Not done")
            status["failed"] = True
        async with aclosing(self.watch(status, request)) as frames:
            async for frame in frames:
                yield frame

    async def decide(self, status: Status, request: gr.Request) -> AsyncGenerator[Frame, None]:
        """Have the turn that paused go on with what was decided: the `decisions` of `status`."""
        status = _status_from(status)
        try:
            services, owner = _services(request), _owner(request)
            made = _status_from(status.get("decisions"))
            decisions = decisions_from_page(made.get("calls"))
            token = str(made.get("token"))
            self._begun(
                services, await services.runs.decide(owner, _conversation(status), token, decisions, self._agent)
            )
        except _EXPECTED as error:
            gr.Warning(str(error), title="Not decided")
        async with aclosing(self.watch(status, request)) as frames:
            async for frame in frames:
                yield frame

    async def option(self, status: Status, request: gr.Request, data: gr.SelectData) -> AsyncGenerator[Frame, None]:
        """Do what the button under the last message says."""
        status = _status_from(status)
        if data.value == "retry":
            chosen = self.act({**status, "action": {"do": "retry"}}, request)
        else:
            chosen = self.converse(CONTINUE, status, request)
        async with aclosing(chosen) as frames:
            async for frame in frames:
                yield frame

    async def stop(self, status: Status, request: gr.Request) -> None:
        """End the reply that is being written in the conversation of `status`, keeping what it has."""
        try:
            services, owner = _services(request), _owner(request)
            run = services.runs.of(owner, _conversation(_status_from(status)))
        except _EXPECTED as error:
            gr.Warning(str(error), title="Not stopped")
            return
        if run is not None:
            run.stop()

    async def choose(self, value: object, status: Status, request: gr.Request) -> dict[str, object]:
        """Store what was chosen for the conversation of `status`, if there is one yet; the form for it."""
        sent, status = _status_from(value), _status_from(status)
        try:
            services, owner = _services(request), _owner(request)
            choice = self._agent.choice(sent.get("chosen"))
            if status.get("conversation"):
                await services.choices.write(owner, _conversation(status), choice)
        except (ValueError, *_EXPECTED) as error:
            gr.Warning(str(error), title="Not changed")
            return await self.choice_of(status, request)
        return self._chosen(choice)

    async def choice_of(self, status: Status, request: gr.Request) -> dict[str, object]:
        """The form of what is chosen for the conversation of `status`."""
        conversation, owner = _status_from(status).get("conversation"), owner_of(cast("Request", request.request))
        choice = Choice()
        if conversation and owner:
            with suppress(DatabaseError, ConversationMissing):
                choice = await _services(request).choices.read(owner, _conversation(status))
        return self._chosen(choice)

    async def _send(self, sent: Sent, status: Status, request: gr.Request) -> Run:
        services, owner = _services(request), _owner(request)
        if status.get("early"):
            raise Refused(EARLY)
        conversation = _conversation(status) if status.get("conversation") else None
        choice = self._first_choice(status) if conversation is None else None
        limits = await self._limits(services, owner, conversation, choice) if sent.files else None
        prompt = await prompt_of(sent, limits)
        run = await services.runs.send(owner, conversation, prompt, self._agent, choice)
        if conversation is None:
            self._do_beside(self._give_title(services, run, sent.title))
        else:
            self._begun(services, run)
        return run

    def _begun(self, services: Services, run: Run) -> None:
        """A reply that is being written; its conversation may get its title after it."""
        if self._settings.titles:
            services.titles.begin(run, self._agent)

    async def _give_title(self, services: Services, run: Run, prompt: str) -> None:
        await services.library.title_from_prompt(run.owner, run.conversation_id, prompt)
        services.changes.announce_listing(run.owner, run.conversation_id)
        self._begun(services, run)

    def _first_choice(self, status: Status) -> Choice:
        """What is chosen on a page that shows no conversation yet, for the one that its message begins."""
        try:
            return self._agent.choice(status.get("choice") or {})
        except ValueError as error:
            raise Refused(str(error)) from error

    async def _limits(
        self, services: Services, owner: Owner, conversation: str | None, choice: Choice | None
    ) -> Limits:
        """What can be attached to a message: what the conversation's model takes."""
        if conversation is not None:
            choice = await services.choices.read(owner, conversation)
        return self._attaching.limits(owner, self._agent.chosen(choice and choice.model).model)

    def _do_beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that the page doesn't wait for, and that can be left undone."""

        async def do() -> None:
            with suppress(DatabaseUnavailable):
                await work

        task = asyncio.create_task(do())
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)


async def announcements(request: Request) -> Response:
    """Server-sent events for an open page: which of its owner's conversations changed, and at first how `c` is."""
    owner = owner_of(request)
    if owner is None:
        return Response(status_code=403)
    services: Services = request.state.services
    shown = conversation_id_from(request.query_params.get("c"))

    async def events() -> AsyncGenerator[str, None]:
        with services.changes.follow(owner, shown) as followed:
            token = await services.runs.token(owner, shown) if shown else None
            if shown and await services.library.see(owner, shown):
                services.changes.announce_listing(owner, shown)
            yield f"data: {json.dumps({shown or '': token})}\n\n"
            async for news in followed:
                yield f"data: {json.dumps(news)}\n\n" if news else ":\n\n"  # A comment, which no page acts on.

    return StreamingResponse(
        events(), media_type="text/event-stream", headers={"cache-control": "no-store", "x-accel-buffering": "no"}
    )


ROUTES = [
    Route("/parley/announcements", announcements),
    Route(FILE_ROUTE, serve_file),
    Route(PROMPT_ROUTE, serve_prompt),
    Route(FEEDBACK_ROUTE, give_feedback, methods=["PUT"]),
    Route(HEALTH_ROUTE, health),
    *EXPORT_ROUTES,
    *SIDEBAR_ROUTES,
    Route(BACKUP_ROUTE, backup_line),
    *IMPORT_ROUTES,
    *SHARE_ROUTES,
    *SEARCH_ROUTES,
    *API_ROUTES,
]


def _services(request: gr.Request) -> Services:
    return cast("Request", request.request).state.services


def _owner(request: gr.Request) -> Owner:
    owner = owner_of(cast("Request", request.request))
    if owner is None:
        raise Refused(NO_COOKIE)
    return owner


def _conversation(status: Status) -> str:
    conversation_id = conversation_id_from(status.get("conversation"))
    if not conversation_id:
        raise ConversationMissing
    return conversation_id


def _status_from(value: object) -> Status:
    """The state that a page sent: a dict, whatever a client really sent."""
    return dict(cast("Status", value)) if isinstance(value, dict) else {}


def _status(view: View, sent: Status | None = None) -> Status:
    """The state of a page that shows `view`, after an event of which the page had sent the state `sent`."""
    sent = sent or {}
    return {
        "conversation": view.conversation,
        "token": view.token,
        "phase": view.phase,
        "notice": escape(view.notice),
        "spent": escape(view.spent),
        "left": _left(view.left),
        "first": view.first,
        "last": view.last,
        "target": view.target,
        "counts": view.counts,
        "pending": [asdict(call) for call in view.pending],
        "turns": [_turn(shown) for shown in view.turns],
        "taken_back": view.taken_back,
        **{name: _told(sent.get(name)) for name in _TOLD},
        "keepalive": KEEPALIVE_SECONDS,
    }


def _told(value: object) -> object:
    """What a page marked a request with: a number, a word or a flag. Anything else would not survive the way back."""
    if isinstance(value, str):
        return conversation_id_from(value)
    return value if isinstance(value, int | float) and abs(value) < 2**53 else None


def _turn(shown: ShownTurn) -> dict[str, Any]:
    said = {} if shown.rating is None else {"verdict": shown.rating.verdict, "comment": shown.rating.comment}
    return {**asdict(shown.turn), "prompt_at": shown.prompt_at, "reply_at": shown.reply_at, "rating": said}


def _left(left: Left | None) -> str:
    """What a visitor may still use, as HTML: the style shows it on the pointer's way until it is little."""
    return "" if left is None else f"<span class='{'left low' if left.low else 'left'}'>{escape(left.text)}</span>"


def _chatbot(agent: ChatAgent, settings: Settings) -> gr.Chatbot:
    return gr.Chatbot(
        show_label=False,
        label="Conversation",
        container=False,
        layout="bubble",
        scale=1,
        height="100%",
        autoscroll=False,  # It lays out the whole page at each update; the page's script follows the end for less.
        placeholder=_welcome(agent, settings),
        latex_delimiters=cast("Any", LATEX),
        buttons=["copy"],
        feedback_options=None,
        elem_id="conversation",
    )


def _welcome(agent: ChatAgent, settings: Settings) -> str:
    lines = [f"# {settings.title}", settings.description, f"<small>Answers come from {agent.model_name}.</small>"]
    return "\n\n".join([*lines, f"<small>{agent.notice}</small>"] if agent.notice else lines)
