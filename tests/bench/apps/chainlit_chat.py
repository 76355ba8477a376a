"""A Chainlit chat with the agent, as its documentation writes one: `chainlit run tests/bench/apps/chainlit_chat.py`.

Earlier messages, as many as `BENCH_EARLIER` says, are sent when the chat starts.
"""

import os

import chainlit as cl
from pydantic_ai import ModelMessage

from tests.bench.apps.model import agent, earlier, history

COUNT = int(os.environ.get("BENCH_EARLIER", "0"))


@cl.on_chat_start
async def start() -> None:
    """Show the earlier messages, and keep them for the model."""
    cl.user_session.set("history", history(COUNT))
    for prompt, answer in earlier(COUNT):
        await cl.Message(prompt, type="user_message").send()
        await cl.Message(answer).send()


@cl.on_message
async def reply(message: cl.Message) -> None:
    """Stream the reply as Pydantic AI gathers it by default, for a tenth of a second."""
    messages: list[ModelMessage] = cl.user_session.get("history")
    shown = cl.Message("")
    async with agent.run_stream(message.content, message_history=messages) as result:
        async for token in result.stream_text(delta=True):
            await shown.stream_token(token)
    await shown.update()
    cl.user_session.set("history", result.all_messages())
