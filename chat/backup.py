"""Snapshots of the conversations in another place, and the newest of them restored where the database is gone.

A snapshot is a copy of the whole database as it was at one moment, made by SQLite on a connection of its own beside
the one that writes, and checked before it is kept. Its name says when it was made, of which database (`lineage`), by
which server (`writer`), and its checksum: what is damaged or half there never becomes the database.

Nobody waits for a backup. What goes wrong with it is said, and tried again.
"""

import hashlib
import logging
import os
import re
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from chat.backup_place import Place, PlaceError
from chat.database import BUSY_SECONDS, DatabaseError, check_header
from chat.weights import within

KEPT = 5
"""Snapshots that are kept."""

EVERY_SECONDS = 60.0
"""The shortest time between two snapshots."""

SHARE_OF_TIME = 20
"""Making snapshots takes at most one part in so many of a server's time: they are the rarer the longer they take."""

LOOK_SECONDS = 1.0
"""How often is looked for changes."""

CLOSE_SECONDS = 8.0
"""How long a server that ends may take for the last snapshot."""

LISTING_SECONDS = 30.0
"""How long a server that starts waits for the list of snapshots."""

_TIME = "%Y%m%dT%H%M%S%f"

_LOGGER = logging.getLogger(__name__)


class BackupError(Exception):
    """Why there is no backup, or nothing to restore from it. The message names the remedy."""


@dataclass(frozen=True, order=True)
class Snapshot:
    """What the name of a snapshot says of it. The newest is the greatest."""

    made: datetime
    lineage: str
    writer: str
    sha256: str

    @classmethod
    def from_name(cls, name: str) -> Self | None:
        """The snapshot of that name; `None` for what else is in its place."""
        match = re.fullmatch(r"parley-(\d{8}T\d{12})-([0-9a-f]{16})-([0-9a-f]{16})-([0-9a-f]{64})\.db", name)
        if match is None:
            return None
        try:
            made = datetime.strptime(match[1], _TIME).replace(tzinfo=UTC)
        except ValueError:
            return None
        return cls(made, *match.groups()[1:])

    @property
    def name(self) -> str:
        """The file's."""
        return f"parley-{self.made.strftime(_TIME)}-{self.lineage}-{self.writer}-{self.sha256}.db"


@dataclass(frozen=True)
class Standing:
    """When the newest snapshot was made, if that is known, and whether newer ones can't be made at the moment."""

    newest: datetime | None = None
    failing: bool = False


class Backup:
    """Keeps snapshots of a database in a place."""

    def __init__(self, database: Path, place: Place, every: float = EVERY_SECONDS) -> None:
        self.standing = Standing()
        self._database = database
        self._place = place
        self._every = every
        self._work_prefix = f".{database.name}.work-"
        self._writer = secrets.token_hex(8)
        self._found: set[Snapshot] | None = None  # What was there when this server came.
        self._seen: int | None = None  # The database's version in the newest snapshot.
        self._said = ""
        self._rival = False
        self._stopping = threading.Event()
        # A daemon: a network that doesn't answer can't hold up the end.
        self._thread = threading.Thread(target=self._run, name="parley-backup", daemon=True)

    def restore(self) -> datetime | None:
        """Make the newest snapshot the database, if there is none yet; when it was made.

        `None` when there is a database, or no snapshot.

        Raises:
            BackupError: If the place can't be reached, holds no whole snapshot, or the newest is of a newer version.
        """
        for leftover in self._database.parent.glob(f"{self._work_prefix}*"):  # Of a server that was killed.
            shutil.rmtree(leftover, ignore_errors=True)
        if self._database.exists():
            return None
        try:
            snapshots = within(LISTING_SECONDS, self._listed)
        except (PlaceError, TimeoutError) as error:
            raise BackupError(
                f"There is no {self._database}, and the backup can't be asked for it: {error} "
                "Start again when it can, or unset CHAT_BACKUP to begin with no conversations."
            ) from error
        self._found = set(snapshots)
        self._database.parent.mkdir(parents=True, exist_ok=True)
        for snapshot in sorted(snapshots, reverse=True):
            if self._restored(snapshot):
                self.standing = Standing(snapshot.made)
                return snapshot.made
        if snapshots:
            raise BackupError(
                f"No snapshot in {self._place.name} is whole. Put one there that is, or set CHAT_BACKUP to another."
            )
        return None

    def start(self) -> None:
        """Begin to make snapshots, of a database that is open."""
        self._thread.start()

    def close(self) -> None:
        """Make a last snapshot, unless nothing changed since the newest."""
        if not self._thread.is_alive():
            return
        self._stopping.set()
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            _LOGGER.warning(
                "The newest changes are not in the backup: %s did not take them within %.0f seconds.",
                self._place.name,
                CLOSE_SECONDS,
            )

    def _restored(self, snapshot: Snapshot) -> bool:
        with self._work() as directory:
            try:
                file = self._place.fetch(snapshot.name, Path(directory))
            except PlaceError as error:
                raise BackupError(f"The backup can't be restored: {error} Start again when it can.") from error
            if _sha256(file) != snapshot.sha256 or not _is_whole(file):
                _LOGGER.warning("The snapshot %s is damaged, and an older one is restored.", snapshot.name)
                return False
            try:
                check_header(file)
            except DatabaseError as error:
                reason = str(error).replace(f"{directory}/", "")
                raise BackupError(f"The newest snapshot in {self._place.name} can't be restored: {reason}") from error
            # The write-ahead log of a database that is gone would be taken for that of this one.
            for name in ("-wal", "-shm"):
                self._database.with_name(self._database.name + name).unlink(missing_ok=True)
            with file.open("rb+") as written:
                os.fsync(written.fileno())
            file.replace(self._database)
        return True

    def _run(self) -> None:
        due, stopping = 0.0, False
        with closing(_connect(self._database)) as connection:
            while not stopping:
                stopping = self._stopping.wait(LOOK_SECONDS)
                if stopping or time.monotonic() >= due:
                    began = time.monotonic()
                    took = self._look(connection)
                    due = began + max(self._every, SHARE_OF_TIME * took) if took else 0.0

    def _look(self, connection: sqlite3.Connection) -> float:
        """Make a snapshot if something changed; the seconds that it kept the disk busy, none when there was no need."""
        began = time.monotonic()
        try:
            [version] = connection.execute("PRAGMA data_version").fetchone()
            if version == self._seen:
                return 0.0
            with self._work() as directory:
                file = Path(directory) / "snapshot.db"
                connection.execute("VACUUM INTO ?", (str(file),))
                if not _is_whole(file):
                    raise BackupError("The snapshot that was made is damaged: check the disk of the database.")
                [lineage] = connection.execute("SELECT id FROM lineage").fetchone()
                sha256, took = _sha256(file), time.monotonic() - began
                self._keep(file, lineage, sha256)
            self._seen = version
        except (BackupError, PlaceError, sqlite3.Error, OSError) as error:
            self._fail(str(error))
            return time.monotonic() - began
        if self._said:
            _LOGGER.warning("The backup works again.")
            self._said = ""
        return took

    def _keep(self, file: Path, lineage: str, sha256: str) -> None:
        snapshots = self._listed()
        if any(snapshot.lineage != lineage for snapshot in snapshots):
            raise BackupError(
                f"{self._place.name} has the snapshots of another database. Set CHAT_BACKUP to a place of its own."
            )
        if self._found is None:
            self._found = set(snapshots)
        mine = sorted(each for each in snapshots if each in self._found or each.writer == self._writer)
        self._look_for_rival(set(snapshots) - set(mine))
        if not mine or mine[-1].sha256 != sha256:
            made = datetime.now(UTC)
            if snapshots:  # Whatever this machine's clock says.
                made = max(made, max(snapshots).made + timedelta(milliseconds=1))
            mine.append(Snapshot(made, lineage, self._writer, sha256))
            self._place.put(file, mine[-1].name, [snapshot.name for snapshot in mine[:-KEPT]])
        self.standing = Standing(mine[-1].made)

    def _look_for_rival(self, others: set[Snapshot]) -> None:
        if others and not self._rival:
            _LOGGER.warning(
                "Another server keeps snapshots of this database in %s too, with other conversations. Nothing of it is "
                "overwritten, but only the newest snapshot is restored: stop one of the two.",
                self._place.name,
            )
        self._rival = bool(others)

    def _fail(self, reason: str) -> None:
        self.standing = Standing(self.standing.newest, failing=True)
        if reason != self._said:  # Once, and not each minute.
            _LOGGER.warning("The conversations are not backed up: %s It is tried again each minute.", reason)
            self._said = reason

    def _listed(self) -> Sequence[Snapshot]:
        return [snapshot for name in self._place.names() if (snapshot := Snapshot.from_name(name))]

    def _work(self) -> TemporaryDirectory[str]:
        # Beside the database, so that a rename is one step.
        return TemporaryDirectory(prefix=self._work_prefix, dir=self._database.parent)


def _connect(database: Path) -> sqlite3.Connection:
    uri = f"{database.as_uri()}?mode=rw"
    # It only reads; SQLite refuses `VACUUM INTO` to a connection that says so.
    return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)


def _is_whole(file: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)]
    except sqlite3.Error:
        return False


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
