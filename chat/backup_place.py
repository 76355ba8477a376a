"""Where snapshots of the conversations are kept: a directory, or a private dataset on the model hub.

A file appears in its place whole or not at all, under a name that is never used again.
"""

import errno
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from chat.weights import hub_endpoint, one_line

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")

ADDRESS = re.compile(r"hf://datasets/(?P<repo>[\w.-]+/[\w.-]+)/?")
FORMS = "a directory, or hf://datasets/<owner>/<name>"

LEFTOVER_SECONDS = 3600.0
"""The age of a half written file that no server can still be writing."""

FORGET_SECONDS = 3600.0
"""How often the history of a dataset is rewritten without what was dropped from it."""


class PlaceError(Exception):
    """A place that can't be used now. The message says why, and what to do."""


class Place(Protocol):
    """Where snapshots are kept. Its methods wait for disks and networks, and raise `PlaceError`."""

    @property
    def name(self) -> str:
        """As people name it."""
        ...

    def names(self) -> Sequence[str]:
        """The names of the files that are there."""
        ...

    def put(self, file: Path, name: str, drop: Sequence[str]) -> None:
        """Keep a copy of `file` as `name`, then no longer what `drop` names."""
        ...

    def fetch(self, name: str, directory: Path) -> Path:
        """A copy of what is kept as `name`, in `directory`."""
        ...


def place_at(address: str) -> Place:
    """The place that the setting `CHAT_BACKUP` names. Nothing is looked at yet.

    Raises:
        PlaceError: If it names none.
    """
    if match := ADDRESS.fullmatch(address):
        return Dataset(match["repo"])
    if "://" in address:
        raise PlaceError(f"{address} is no place for a backup. Set CHAT_BACKUP to {FORMS}.")
    return Directory(Path(address).expanduser().absolute())


class Directory:
    """A directory, best on another disk. Only the user who runs the chat can read what is in its files."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = str(path)

    def names(self) -> Sequence[str]:
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            return [entry.name for entry in self._path.iterdir()]
        except OSError as error:
            raise self._error(error) from error

    def put(self, file: Path, name: str, drop: Sequence[str]) -> None:
        part = self._path / f".{name}.part"
        try:
            self._sweep()
            with file.open("rb") as source, os.fdopen(os.open(part, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
                copy.flush()
                os.fsync(copy.fileno())
            part.replace(self._path / name)
            self._sync()
            for dropped in drop:
                (self._path / dropped).unlink(missing_ok=True)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise self._error(error) from error

    def fetch(self, name: str, directory: Path) -> Path:
        try:
            return Path(shutil.copyfile(self._path / name, directory / name))
        except OSError as error:
            raise self._error(error) from error

    def _sweep(self) -> None:
        for part in self._path.glob(".parley-*.part"):
            if time.time() - part.stat().st_mtime > LEFTOVER_SECONDS:
                part.unlink(missing_ok=True)

    def _sync(self) -> None:
        """Have the disk keep the new name also if the machine stops now."""
        if os.name == "nt":  # Directories can't be opened there.
            return
        descriptor = os.open(self._path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _error(self, error: OSError) -> PlaceError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return PlaceError(f"The disk that holds {self.name} is full. Free some space there.")
        return PlaceError(
            f"{self.name} can't be used ({error.strerror or error}). Make it writable, or set CHAT_BACKUP to another."
        )


class Dataset:
    """A private dataset on the model hub, made when it is missing. The token is that of `HF_TOKEN`."""

    def __init__(self, repo: str) -> None:
        self._repo = repo
        self.name = f"hf://datasets/{repo}"
        self._hub: HfApi | None = None
        self._forgotten: float | None = None

    def names(self) -> Sequence[str]:
        return self._asked(lambda hub: hub.list_repo_files(self._repo, repo_type="dataset"))

    def put(self, file: Path, name: str, drop: Sequence[str]) -> None:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        self._asked(
            lambda hub: hub.create_commit(
                self._repo,
                [CommitOperationAdd(name, file), *(CommitOperationDelete(dropped) for dropped in drop)],
                commit_message="A snapshot of the conversations",
                repo_type="dataset",
            )
        )
        if drop and (self._forgotten is None or time.monotonic() - self._forgotten > FORGET_SECONDS):
            self._asked(self._forget)
            self._forgotten = time.monotonic()

    def fetch(self, name: str, directory: Path) -> Path:
        def download(hub: "HfApi") -> str:
            return hub.hf_hub_download(self._repo, name, repo_type="dataset", local_dir=directory)  # pyright: ignore[reportUnknownMemberType] # bare tqdm in it

        return Path(self._asked(download))

    def _forget(self, hub: "HfApi") -> None:
        """Take what was dropped out of the dataset's history too: it holds conversations that were deleted since."""
        kept = set(hub.list_repo_files(self._repo, repo_type="dataset"))
        files = hub.list_lfs_files(self._repo, repo_type="dataset")
        dropped = [file for file in files if file.filename.startswith("parley-") and file.filename not in kept]
        if dropped:
            hub.permanently_delete_lfs_files(self._repo, dropped, rewrite_history=True, repo_type="dataset")
        hub.super_squash_history(self._repo, repo_type="dataset")

    def _asked(self, ask: "Callable[[HfApi], T]") -> T:
        from huggingface_hub.errors import HfHubHTTPError

        try:
            if self._hub is None:
                self._hub = self._opened()
            return ask(self._hub)
        except PlaceError:
            raise
        except HfHubHTTPError as error:
            if error.response.status_code in (401, 403, 404):
                raise PlaceError(
                    f"The hub refuses {self.name} ({error.response.status_code}). Set HF_TOKEN to a token that may "
                    "write to it."
                ) from error
            raise PlaceError(f"The hub failed to serve {self.name} ({one_line(error)}).") from error
        except Exception as error:  # The library passes on its HTTP client's errors, and its transfer extension's.
            raise PlaceError(f"{self.name} can't be reached ({one_line(error.__cause__ or error)}).") from error

    def _opened(self) -> "HfApi":
        # Imported here: it takes a quarter of a second, and most chats have another place or none.
        from huggingface_hub import HfApi
        from huggingface_hub.errors import RepositoryNotFoundError
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
        hub = HfApi(endpoint=hub_endpoint(), token=os.environ.get("HF_TOKEN"))
        try:
            private = hub.dataset_info(self._repo).private
        except RepositoryNotFoundError:
            hub.create_repo(self._repo, repo_type="dataset", private=True, exist_ok=True)
            private = hub.dataset_info(self._repo).private
        if not private:
            raise PlaceError(f"{self.name} is public: anybody could read the conversations. Make it private.")
        return hub
