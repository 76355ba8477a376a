"""What a chat server holds open from its start to its end."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from chat.changes import Changes
from chat.choices import Choices
from chat.database import Database
from chat.deletions import Deletions
from chat.exports import Exports
from chat.feedback import Feedback
from chat.files import Files
from chat.imports import Imports
from chat.journal import Journal
from chat.library import Library
from chat.limits import Limits, limits_from
from chat.runs import Runs
from chat.search import Search
from chat.sessions import Sessions
from chat.settings import Settings
from chat.shares import Shares
from chat.store import SQLiteConversationStore
from chat.titles import Titles
from chat.versions import Versions


@dataclass(frozen=True)
class Services:
    """The open parts of a chat server. `title` is the name of the chat."""

    title: str
    database: Database
    store: SQLiteConversationStore
    files: Files
    library: Library
    deletions: Deletions
    choices: Choices
    journal: Journal
    changes: Changes
    limits: Limits
    runs: Runs
    titles: Titles
    exports: Exports
    imports: Imports
    versions: Versions
    shares: Shares
    sessions: Sessions
    feedback: Feedback
    search: Search

    async def end_runs(self) -> None:
        """End what pages and models are streaming, saving it, so that connections close. Can be called twice."""
        self.changes.close()
        self.titles.close()
        await self.runs.close()


@asynccontextmanager
async def open_services(settings: Settings, *, public: bool = False) -> AsyncGenerator[Services, None]:
    """Open the database, recover what a killed server left, and close everything at the end.

    Args:
        settings: What its owner decided.
        public: Whether others than those on this machine can reach the chat.

    Raises:
        DatabaseError: If the database can't be used.
    """
    async with Database(settings.database) as database:
        store, journal, changes = SQLiteConversationStore(database), Journal(database), Changes()
        choices = Choices(database)
        files = Files(database)
        limits = limits_from(settings, database, public=public)
        runs = Runs(
            store,
            files,
            journal,
            choices,
            changes,
            limits,
            timeout=settings.timeout,
            max_runs=settings.max_runs,
            history=settings.history,
            history_bytes=int(settings.history_mb * 1_000_000),
        )
        library, deletions = Library(database), Deletions(store, runs, changes)
        feedback = Feedback(database, store)
        services = Services(
            settings.title,
            database,
            store,
            files,
            library,
            deletions,
            choices,
            journal,
            changes,
            limits,
            runs,
            Titles(store, library, choices, runs, changes),
            Exports(database, files, feedback, show_system=settings.show_system),
            Imports(database, store, largest=int(settings.max_import_mb * 1_000_000)),
            Versions(database, store, runs, changes),
            Shares(database, store),
            Sessions(database, runs),
            feedback,
            Search(database),
        )
        await runs.recover()
        deletions.keep_erasing()
        services.search.keep_indexing()
        try:
            yield services
        finally:
            await services.search.close()
            await deletions.close()
            await services.end_runs()
