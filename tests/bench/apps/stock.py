"""Gradio's own chat with the agent, written the way its guide does: `gr.ChatInterface` around a generator.

python -m tests.bench.apps.stock <port> <earlier messages> [--each-token]

`--each-token` switches off that Pydantic AI gathers tokens for a tenth of a second (`debounce_by`), its default.
"""

import sys
from collections.abc import AsyncGenerator
from typing import Any

import gradio as gr
from pydantic_ai import ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart

from tests.bench.apps.model import agent, earlier


async def answer(text: str, history: list[dict[str, Any]]) -> AsyncGenerator[str, None]:
    """The reply so far, again and again."""
    gathered = None if "--each-token" in sys.argv else 0.1
    async with agent.run_stream(text, message_history=[_message(item) for item in history]) as result:
        async for so_far in result.stream_text(debounce_by=gathered):
            yield so_far


def _message(item: dict[str, Any]) -> ModelMessage:
    content = item["content"]
    text = content if isinstance(content, str) else "".join(part["text"] for part in content)
    if item["role"] == "user":
        return ModelRequest(parts=[UserPromptPart(text)])
    return ModelResponse(parts=[TextPart(text)])


def main(port: int, count: int) -> None:
    """Serve it, with `count` earlier messages as the chatbot's first value."""
    value: list[Any] = []
    for prompt, reply in earlier(count):
        value += [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]
    chatbot = gr.Chatbot(value, elem_id="conversation", scale=1)
    chat = gr.ChatInterface(answer, chatbot=chatbot, title="Stock", save_history=True, analytics_enabled=False)
    chat.launch(server_port=port, quiet=True, ssr_mode=False)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
