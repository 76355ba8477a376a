"""The process: what is checked before anything is created, what is open while it serves, and how it ends."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

import gradio as gr
from filelock import FileLock, Timeout
from starlette.middleware import Middleware
from starlette.types import ASGIApp

from chat.accounts import AccountError, Accounts
from chat.api_route import API
from chat.attachments import Attaching
from chat.backup import Backup, BackupError
from chat.backup_place import PlaceError, place_at
from chat.database import Database, DatabaseError, check_header
from chat.doors import JOIN, RUN, Doors, Uploads
from chat.edge import SPACES_FRAME, Edge, Hosts
from chat.exposure import is_exposed
from chat.failures import SecretsFilter
from chat.hugging_face import HuggingFace
from chat.identify import Identify, Ways
from chat.import_route import IMPORT
from chat.local_model import LocalModel
from chat.login import Login
from chat.memory import hand_back_large_memory
from chat.message_box import upload_folder
from chat.models import AgentError, choose_agent
from chat.policy import PagePolicy, Policy
from chat.render import LONGEST_PROMPT
from chat.services import Services, open_services
from chat.settings import Settings
from chat.share import is_wanted, open_link
from chat.summary import is_paid
from chat.theme import THEME
from chat.ui import HEAD, ROUTES, ChatPage

if TYPE_CHECKING:
    from chat.mcp_tools import Tools

logger = logging.getLogger(__name__)

SWITCH_SECONDS = 0.0005
"""How long the database's threads wait for Python while pages are served. Its own 5 ms, for each statement of each
transaction, held up fifty people who sent at once for seconds."""

UNLIMITED = (
    "Others can reach this chat, and nothing limits what they may spend on its model. "
    "Set CHAT_TOTAL_LIMITS, for example to dollars_per_day=10, or leave it unset."
)

SPACE_PROXIES = "127.0.0.1,::1,10.0.0.0/8"
"""The addresses that requests come from in a Space."""

CLOSE_SECONDS = 1
"""How long connections may take to close once what they stream has ended."""


BODY_BYTES = 1_000_000
"""What a request's body may have beside what a person sends with it."""

FORM_BYTES = 10_000
"""What a login form may have."""

TEXT_BYTES = 6 * LONGEST_PROMPT + BODY_BYTES
"""What a call's body may have: a prompt in JSON has at most six bytes for a character of it."""


class StartError(Exception):
    """Why the chat can't start, in one sentence that names the remedy."""


class Server:
    """A chat with its agent, ready to serve.

    Raises:
        StartError: If the agent or its model can't be used. Nothing has been created or changed then.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        try:
            check_header(settings.database)
            self._agent = choose_agent(settings)
            accounts = Accounts(settings.auth) if settings.auth else None
            self._backup = None if settings.backup is None else Backup(settings.database, place_at(settings.backup))
        except (AgentError, DatabaseError, AccountError, PlaceError) as error:
            raise StartError(error) from error
        _quieten_gradio()
        _trust_proxies()
        folder, largest = upload_folder(), int(settings.max_file_mb * 1_000_000)
        self._uploads = Uploads(folder)
        self._attaching = Attaching(folder, largest, settings.max_files, self._uploads.has)
        self._hosts = Hosts(_bound_name(), [*settings.allowed_hosts, *_space_hosts()])
        frames = [SPACES_FRAME] if _space_hosts() else []
        self._policy = Policy(head=HEAD, image_hosts=settings.image_hosts, frames=frames)
        hugging_face = HuggingFace.from_space() if accounts is None else None
        self._ways = Ways(accounts, hugging_face is not None, self._is_local)
        self._login = Login(settings.title, self._ways, hugging_face)
        signs_in = accounts is not None or hugging_face is not None
        self.demo = ChatPage(self._agent, settings, self._attaching, signs_in=signs_in)
        self._tools = _tools(settings.title) if settings.mcp else None
        self._lock = FileLock(f"{settings.database}.lock")
        self._services: Services | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM, then save what is being written and close.

        Raises:
            StartError: If the port is taken or the database can't be used.
        """
        if _is_reloading(self.demo):
            return
        sys.setswitchinterval(SWITCH_SECONDS)
        hand_back_large_memory()
        _set_up_logging()
        set_up_tracing()
        port = _wanted_port()
        self._claim_database()
        try:
            self._launch(port)
            # What was imported stays: to look through it for garbage holds everybody up for 0.2 s. And a reply that
            # begins makes so many objects that Python's own 700 mean a collection for each of its steps.
            gc.freeze()
            gc.set_threshold(10_000)
            stopped = _on_signal()  # Before anybody is told that it serves, and may tell it to stop.
            if self._backup:
                self._backup.start()
            self._announce()
            if is_wanted(self._settings):
                open_link(self.demo, self._hosts.add, _say)
            while not stopped.wait(1):  # In steps, so that Windows delivers the signal.
                pass
        finally:
            self._close()
            if self._backup:
                self._backup.close()
            self._lock.release()

    def _claim_database(self) -> None:
        path = self._settings.database
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
        except Timeout as error:
            raise StartError(
                f"{path} is open in another running chat. Stop that one, or set CHAT_DATABASE to another file."
            ) from error
        except OSError as error:
            raise StartError(
                f"{path} can't be used as the database: {error.strerror}. "
                "Make its directory writable, or set CHAT_DATABASE to another file."
            ) from error
        try:
            if self._backup and (made := self._backup.restore()):
                print(f"Restored:      the snapshot of {made:%Y-%m-%d %H:%M} UTC", flush=True)
            asyncio.run(_open_once(Database(path)))
        except (BackupError, DatabaseError) as error:
            self._lock.release()
            raise StartError(error) from error

    def _launch(self, port: int | None) -> None:
        try:
            self.demo.launch(
                server_port=port,
                prevent_thread_lock=True,
                share=False,
                quiet=True,
                app_kwargs={
                    "lifespan": self._lifespan,
                    "middleware": [Middleware(PagePolicy, policy=self._policy)],
                    "routes": [*ROUTES, *self._login.routes, *([self._tools.route] if self._tools else [])],
                    "docs_url": None,
                    "redoc_url": None,
                },
                theme=THEME,
                head=HEAD,
                footer_links=[],
                show_error=False,
                enable_monitoring=False,
                mcp_server=False,
                run_history=False,
                ssr_mode=False,
                pwa=False,
                max_threads=1_000,
                max_file_size=int(self._settings.max_file_mb * 1_000_000),
                state_session_capacity=1_000,
            )
        except OSError as error:
            raise StartError(_taken(port)) from error
        self.demo.server.config.timeout_graceful_shutdown = CLOSE_SECONDS

    @asynccontextmanager
    async def _lifespan(self, app: Any) -> AsyncGenerator[dict[str, Any], None]:
        app.middleware_stack = self._guarded(app)
        local = [served.model for served in self._agent.models if isinstance(served.model, LocalModel)]
        if local and local[0] is self._agent.models[0].model:
            local[0].start()  # Loads beside the first page. Others load when they are first asked.
        exposed = is_exposed(self._settings)
        async with open_services(self._settings, public=exposed) as self._services:
            if exposed and not (self._settings.auth or self._services.limits.bound_spending) and self._is_paid():
                logger.warning(UNLIMITED)
            self._loop = asyncio.get_running_loop()
            async with self._tools.open() if self._tools else nullcontext():
                yield {
                    "services": self._services,
                    "agent": self._agent,
                    "attaching": self._attaching,
                    "backup": self._backup,
                }
        for model in local:
            model.close()

    def _guarded(self, app: Any) -> ASGIApp:
        """Gradio's app behind ours. Around its own middleware, which would give any site's page what it asks for."""
        doors = Doors(
            app.middleware_stack,
            functions=lambda: app.get_blocks().fns,
            uploads=self._uploads,
            reloads=bool(os.environ.get("GRADIO_WATCH_DIRS")),
        )
        files = self._attaching.size * self._attaching.count
        imports = int(self._settings.max_import_mb * 1_000_000) + BODY_BYTES
        limits = {
            "": files + BODY_BYTES,
            JOIN: TEXT_BYTES,
            RUN: TEXT_BYTES,
            API: TEXT_BYTES,
            IMPORT: imports,
            "/login": FORM_BYTES,
        }
        return Edge(Identify(doors, ways=self._ways), hosts=self._hosts, policy=self._policy, limits=limits)

    def _is_local(self) -> bool:
        """Whether nobody else than the person at this computer can reach the chat."""
        return self._settings.local and self._hosts.are_this_computers and not is_exposed(self._settings)

    def _announce(self) -> None:
        print(f"Chat:          {self.demo.local_url}")
        print(f"Model:         {self._agent.model_name}")
        if self._settings.backup is not None:
            print(f"Backup:        {self._settings.backup}")
        print(f"Conversations: {self._settings.database}", flush=True)

    def _is_paid(self) -> bool:
        return any(is_paid(served.model) for served in self._agent.models)

    def _close(self) -> None:
        if self._services is not None and self._loop is not None and self._loop.is_running():
            ending = asyncio.run_coroutine_threadsafe(self._services.end_runs(), self._loop)
            with suppress(TimeoutError):
                ending.result(timeout=3)
        self.demo.close(verbose=False)


def _say(line: str) -> None:
    print(line, flush=True)


def _tools(title: str) -> "Tools":
    try:
        from chat.mcp_tools import Tools
    except ImportError as error:
        raise StartError('CHAT_MCP needs another library: pip install "mcp>=2.3,<3". Or unset it.') from error
    return Tools(title)


async def _open_once(database: Database) -> None:
    async with database:
        pass


def _quieten_gradio() -> None:
    """Keep Gradio from adding up its newest 10,000 events, with pandas, after each one of them: nobody looks at it."""
    os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(sys.maxsize))
    os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")


def _trust_proxies() -> None:
    """On a Space, believe its proxies from which address a visitor comes; elsewhere only this computer's are."""
    if _space_hosts():
        os.environ.setdefault("FORWARDED_ALLOW_IPS", SPACE_PROXIES)


def _wanted_port() -> int | None:
    """The port that was asked for, free; `None` leaves the choice to Gradio.

    Gradio takes the next one when it is taken, which is not where its owner will look for it.
    """
    wanted = os.environ.get("GRADIO_SERVER_PORT")
    if not wanted:
        return None
    if not wanted.isdecimal() or int(wanted) > 65535:
        raise StartError(f"GRADIO_SERVER_PORT is {wanted!r}. Set it to a number up to 65535.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_bound_name(), int(wanted)))
        except OSError as error:
            raise StartError(_taken(wanted)) from error
    return int(wanted)


def _bound_name() -> str:
    return os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1")


def _space_hosts() -> list[str]:
    """The names of the Space that this runs in, if it does; with a domain of its own it has several."""
    return [name.strip() for name in os.environ.get("SPACE_HOST", "").split(",") if name.strip()]


def _taken(port: object) -> str:
    return f"Port {port} is taken. Set GRADIO_SERVER_PORT to another, or stop what uses it."


def _is_reloading(demo: gr.Blocks) -> bool:
    return demo._is_running_in_reload_thread  # pyright: ignore[reportPrivateUsage]  # `gradio app.py` runs the file again in a thread that must not serve


def _on_signal() -> threading.Event:
    """What SIGINT and SIGTERM set from now on."""
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return stopped


def _set_up_logging() -> None:
    """Warnings and worse on the terminal, without the values of secrets."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(SecretsFilter())


def set_up_tracing() -> None:
    """Trace the agent's runs, and the database's statements beside them. Nothing is sent without a Logfire token."""
    try:
        import logfire  # Optional: see the README.
    except ImportError:
        return
    # A trace of a client's, as MCP clients name one, is not ours to go on with.
    logfire.configure(
        send_to_logfire="if-token-present", console=False, service_name="parley", distributed_tracing=False
    )
    logfire.instrument_pydantic_ai()
