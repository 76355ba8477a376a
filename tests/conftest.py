"""What all tests share."""

import os

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Tests tell nobody that `gradio_client` is used.


@pytest.fixture
def anyio_backend() -> str:
    """Tests marked `anyio` run on asyncio, as the chat does."""
    return "asyncio"
