"""The embedded model chats like any other model."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import anyio
import anyio.lowlevel
import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, RunContext
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import CompletedStreamedResponse, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from chat import local_model as module
from chat.local_model import LocalModel, check_library
from chat.weights import LocalModelError, Weights, fetch_weights
from tests.small_model import GGUF, small_weights


@pytest.fixture(scope="session")
def weights() -> Weights:
    return small_weights()


@pytest.fixture(scope="session")
def model(weights: Weights) -> Generator[LocalModel]:
    model = LocalModel(weights)
    yield model
    model.close()


@pytest.fixture(scope="session")
def narrow_model(weights: Weights) -> Generator[LocalModel]:
    """The same with an eighth of the context, so that filling it takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CONTEXT_TOKENS", 1024)
        model = LocalModel(weights)
        model.start()
        asyncio.run(model.ready())
    yield model
    model.close()


THINKING_TEMPLATE = """
{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' and message.reasoning_content %}
{{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}
{%- endif %}{{ message.content + '<|im_end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
"""As much of a thinking model's chat template as llama.cpp needs to tell thoughts from answers."""


@pytest.fixture(scope="session")
def thinking_model(weights: Weights) -> Generator[LocalModel]:
    """SmolLM2 in the manner of Qwen3. What it thinks must be prescribed, it cannot."""
    library = module._xllamacpp()

    def server(params: Any) -> Any:
        params.chat_template = THINKING_TEMPLATE
        return library.Server(params)

    model = LocalModel(Weights(weights.path, "Qwen3-in-name-only", ""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_xllamacpp", lambda: SimpleNamespace(CommonParams=library.CommonParams, Server=server))
        model.start()
        asyncio.run(model.ready())
    yield model
    model.close()


class TestLibrary:
    def test_runs_here(self) -> None:
        check_library()

    @pytest.mark.parametrize(
        ("error", "remedy"),
        [
            ("libgomp.so.1: cannot open shared object file", "apt-get install libgomp1"),
            ("version `GLIBC_2.38' not found", "set CHAT_MODEL to another model"),
        ],
    )
    def test_that_does_not_load_names_the_remedy(
        self, monkeypatch: pytest.MonkeyPatch, error: str, remedy: str
    ) -> None:
        def refuse() -> None:
            raise ImportError(error)

        monkeypatch.setattr(module, "_xllamacpp", refuse)
        with pytest.raises(LocalModelError, match=remedy):
            check_library()

    def test_that_is_missing_names_the_remedy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)  # pyright: ignore
        with pytest.raises(LocalModelError, match="pip install xllamacpp"):
            check_library()


def history(
    turns: int, words: str = "I would like to hear about the sea and the birds above it."
) -> list[ModelMessage]:
    messages: list[ModelMessage] = []
    for number in range(turns):
        messages.append(ModelRequest([UserPromptPart(f"{number}: {words}")]))
        messages.append(ModelResponse([TextPart(f"Gulls are birds of the sea, and this is answer {number}.")]))
    return messages


async def busy_slots(model: LocalModel) -> int:
    """How many requests llama.cpp is working on."""
    await model.ready()
    slots = await model._engine.http.get("/slots")
    return sum(slot["is_processing"] for slot in slots.json())


async def until_busy(model: LocalModel, slots: int) -> None:
    # llama.cpp tells nobody, so it is asked; with a pause, because it answers questions before it does its work.
    with anyio.fail_after(30):
        while await busy_slots(model) != slots:  # noqa: ASYNC110 # there is no event to wait for
            await anyio.sleep(0.05)


ENDLESS = ModelSettings(max_tokens=7000, extra_body={"ignore_eos": True, "temperature": 0})


@pytest.mark.anyio
class TestChat:
    async def test_answers_word_by_word_and_counts_them(self, model: LocalModel) -> None:
        async with Agent(model).run_stream("What is the capital of France?") as run:
            deltas = [delta async for delta in run.stream_text(delta=True, debounce_by=None)]
        assert "Paris" in "".join(deltas)
        assert len(deltas) > 2
        assert run.usage.input_tokens > 50
        assert run.usage.output_tokens >= len(deltas)
        assert run.response.model_name == "SmolLM2-135M-Instruct"

    async def test_answers_at_once_too(self, model: LocalModel) -> None:
        result = await Agent(model).run("What is the capital of Italy?")
        assert "Rome" in result.output
        assert result.usage.output_tokens > 0

    async def test_reads_only_what_is_new(self, model: LocalModel) -> None:
        agent = Agent(model)
        first = await agent.run("What is the capital of France?")
        second = await agent.run("And of Spain?", message_history=first.all_messages())
        assert "Madrid" in second.output
        assert second.usage.cache_read_tokens >= first.usage.input_tokens

    async def test_keeps_what_the_application_said(self, model: LocalModel) -> None:
        recorder = record(model)
        await Agent(recorder, system_prompt="You are a pirate.").run("Hello")
        head = recorder.seen[0]
        assert isinstance(head, ModelRequest)
        assert [part.content for part in head.parts] == ["You are a pirate."]

    async def test_a_dropped_stream_stops_the_model(self, model: LocalModel) -> None:
        async with Agent(model).run_stream("Tell a story.", model_settings=ENDLESS) as run:
            async for _ in run.stream_text(delta=True, debounce_by=None):
                assert await busy_slots(model) == 1
                break
        await until_busy(model, 0)

    @pytest.mark.parametrize("streamed", [True, False])
    async def test_a_cancelled_task_stops_the_model_while_it_still_reads(
        self, model: LocalModel, streamed: bool
    ) -> None:
        async def ask() -> None:
            prompt = f"{streamed} " + "word " * 7000
            if not streamed:
                await Agent(model).run(prompt)
            async with Agent(model).run_stream(prompt) as run:
                await run.get_output()

        task = asyncio.create_task(ask())
        await until_busy(model, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until_busy(model, 0)

    async def test_four_are_answered_at_the_same_time(self, model: LocalModel) -> None:
        all_speak = asyncio.Barrier(4)

        async def ask(country: str) -> str:
            async with Agent(model).run_stream(f"What is the capital of {country}?") as run:
                words = run.stream_text(delta=True, debounce_by=None)
                first = await anext(words)
                await all_speak.wait()
                return first + "".join([word async for word in words])

        with anyio.fail_after(120):
            answers = await asyncio.gather(*map(ask, ["France", "Italy", "Spain", "Germany"]))
        capitals = ["Paris", "Rome", "Madrid", "Berlin"]
        assert [capital in answer for capital, answer in zip(capitals, answers, strict=True)] == [True] * 4

    async def test_more_than_the_context_holds_are_answered_in_turn(self, narrow_model: LocalModel) -> None:
        settings = ModelSettings(max_tokens=8, extra_body={"ignore_eos": True})
        prompts = [f"{number} " + "word " * 280 for number in range(3)]
        agent = Agent(narrow_model)
        results = await asyncio.gather(*(agent.run(prompt, model_settings=settings) for prompt in prompts))
        assert [result.usage.output_tokens for result in results] == [8] * 3

    async def test_one_waiting_for_room_can_be_cancelled(self, narrow_model: LocalModel) -> None:
        agent = Agent(narrow_model)
        async with agent.run_stream("Tell a story.", model_settings=ENDLESS) as run:
            words = run.stream_text(delta=True, debounce_by=None)
            await anext(words)
            waiting = asyncio.create_task(agent.run("Hello"))
            with anyio.fail_after(30):
                while not narrow_model._room._line:
                    await anyio.lowlevel.checkpoint()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert (await agent.run("What is the capital of France?")).output
        assert narrow_model._room._free == 1024

    async def test_a_long_conversation_keeps_answering(self, narrow_model: LocalModel) -> None:
        agent = Agent(narrow_model)
        first = await agent.run("What is the capital of France?", message_history=history(1000))
        assert "Paris" in first.output
        assert 100 < first.usage.input_tokens <= 512
        second = await agent.run("And of Spain?", message_history=first.all_messages())
        assert second.output
        assert second.usage.cache_read_tokens >= first.usage.input_tokens - 10

    async def test_a_conversation_in_any_script_keeps_answering(self, narrow_model: LocalModel) -> None:
        messages = history(50, "我想听听关于大海和海上的鸟的事情。 0123456789 🐦🌊")
        result = await Agent(narrow_model).run("What is the capital of France?", message_history=messages)
        assert result.output
        assert result.usage.input_tokens <= 512

    async def test_a_prompt_too_long_by_itself_is_refused(self, model: LocalModel) -> None:
        with pytest.raises(LocalModelError, match=r"too long .* 7,872 fit .* so shorten it"):
            await Agent(model).run("bird " * 9000)

    async def test_tools_are_left_out(self, model: LocalModel) -> None:
        def weather(city: str) -> str:
            """The weather in a city."""
            raise AssertionError(city)

        recorder = record(model)
        for asked in model, recorder:
            agent = Agent(asked, tools=[weather])
            assert (await agent.run("What is the capital of France?", model_settings={"tool_choice": "auto"})).output
        assert recorder.recorder.parameters.function_tools == []

    async def test_a_conversation_of_another_model_goes_on(self, model: LocalModel) -> None:
        messages: list[ModelMessage] = [
            ModelRequest([UserPromptPart(["Look:", BinaryContent(b"\x89PNG", media_type="image/png")])]),
            ModelResponse([ThinkingPart("A tool may help."), ToolCallPart("look", {"at": "it"}, "1")]),
            ModelRequest([ToolReturnPart("look", "A cat.", "1")]),
            ModelResponse([TextPart("It is a cat.")]),
        ]
        recorder = record(model)
        for asked in model, recorder:
            result = await Agent(asked).run("What is the capital of France?", message_history=messages)
            assert result.output
        said = [getattr(part, "content", None) for message in recorder.seen for part in message.parts]
        assert said[-3:] == [
            "Look:\n[A file of type binary is attached here; this model reads text only.]",
            "It is a cat.",
            "What is the capital of France?",
        ]

    async def test_fills_a_schema(self, model: LocalModel) -> None:
        class City(BaseModel):
            name: str
            country: Literal["France", "Italy"]

        result = await Agent(model, output_type=City).run("Paris is a city in France.")
        assert result.output == City(name="Paris", country="France")

    async def test_thoughts_are_told_from_the_answer(self, thinking_model: LocalModel) -> None:
        thought = ModelSettings(extra_body={"grammar": 'root ::= "<think>\\nHm.\\n</think>\\n\\nParis"'})
        result = await Agent(thinking_model).run("What is the capital of France?", model_settings=thought)
        assert [type(part) for part in result.response.parts] == [ThinkingPart, TextPart]
        assert result.output == "Paris"


class Recorder(WrapperModel):
    """Takes the place of llama.cpp's own model, and keeps what was asked of it."""

    seen: list[ModelMessage]
    parameters: ModelRequestParameters

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        self.seen, self.parameters = messages, model_request_parameters
        answer = ModelResponse([TextPart("Noted.")], model_name=self.model_name)
        yield CompletedStreamedResponse(answer, model_request_parameters=model_request_parameters)


class Recording(LocalModel):
    """A local model that asks a `Recorder`, sharing the loaded weights of another."""

    def __init__(self, model: LocalModel, weights: Weights) -> None:
        super().__init__(weights)
        self._engine = model._engine
        self.wrapped = self.recorder = Recorder(self.wrapped)

    @property
    def seen(self) -> list[ModelMessage]:
        return self.recorder.seen


def record(model: LocalModel, name: str = "SmolLM2-135M-Instruct") -> Recording:
    return Recording(model, Weights(model.weights.path, name, ""))


def tool_turn(number: int) -> list[ModelMessage]:
    return [
        ModelRequest([UserPromptPart(f"{number}: {'Look at the birds above the sea. ' * 4}")]),
        ModelResponse([ToolCallPart("look", {"at": "birds " * 10}, str(number))]),
        ModelRequest([ToolReturnPart("look", "Gulls. " * 10, str(number)), UserPromptPart("(a picture)")]),
        ModelResponse([TextPart("They are gulls.")]),
    ]


@pytest.mark.anyio
class TestTrimming:
    async def test_keeps_whole_turns_with_their_tools(self, narrow_model: LocalModel) -> None:
        recorder = record(narrow_model, "Another")
        messages = [message for number in range(40) for message in tool_turn(number)]
        await Agent(recorder).run("And now?", message_history=messages)
        kept = [message for message in messages if message in recorder.seen]
        assert 0 < len(kept) < len(messages)
        assert len(kept) % 4 == 0
        assert kept == messages[-len(kept) :]

    async def test_keeps_the_system_prompt(self, narrow_model: LocalModel) -> None:
        recorder = record(narrow_model)
        messages = history(200)
        messages[0] = ModelRequest([SystemPromptPart("You are a pirate."), UserPromptPart("Hello")])
        await Agent(recorder).run("And now?", message_history=messages)
        assert recorder.seen[0].parts == messages[0].parts[:1]

    async def test_begins_at_the_same_turn_for_a_while(self, narrow_model: LocalModel) -> None:
        recorder = record(narrow_model, "Another")
        beginnings: list[str] = []
        for turns in range(100, 130):
            await Agent(recorder).run("And now?", message_history=history(turns))
            beginnings.append(str([getattr(part, "content", "") for part in recorder.seen[0].parts]))
        assert len(set(beginnings)) <= 8


async def close_while_answering(weights: Weights) -> None:
    model = LocalModel(weights)
    async with Agent(model).run_stream("Tell a story.", model_settings=ENDLESS) as run:
        words = run.stream_text(delta=True, debounce_by=None)
        await anext(words)
        model.close()
        with pytest.raises(Exception, match=r"onnection|closed|read"):
            async for _ in words:
                pass
    with pytest.raises(LocalModelError, match="is stopped"):
        await Agent(model).run("Hello")


def test_closing_cuts_off_an_answer_on_the_event_loop_that_serves_pages(weights: Weights) -> None:
    uvloop = pytest.importorskip("uvloop", reason="There is no uvloop for this system.")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(close_while_answering(weights))


@pytest.mark.anyio
class TestLifetime:
    async def test_a_file_that_cannot_be_loaded_is_an_error_of_the_request(self, tmp_path: Path) -> None:
        path = tmp_path / "broken.gguf"
        path.write_bytes(GGUF)
        with pytest.raises(LocalModelError, match=r"broken could not be loaded .*: the file is damaged"):
            await Agent(LocalModel(fetch_weights(str(path), tmp_path))).run("Hello")

    async def test_closing_cuts_off_an_answer(self, weights: Weights) -> None:
        await close_while_answering(weights)

    async def test_closing_before_loading_is_possible(self, weights: Weights) -> None:
        model = LocalModel(weights)
        model.close()
        with pytest.raises(LocalModelError, match="is stopped"):
            await model.ready()


FORGETFUL = """
import asyncio, sys, threading
from contextlib import suppress
from pathlib import Path
from pydantic_ai import Agent
from chat.local_model import LocalModel
from chat.weights import Weights

model = LocalModel(Weights(Path(sys.argv[1]), "SmolLM2-135M-Instruct", ""))
spoke = threading.Event()

async def listen():
    async with Agent(model).run_stream("Tell a story.", model_settings={"max_tokens": 7000}) as run:
        async for word in run.stream_text(delta=True, debounce_by=None):
            spoke.set()

def talk():
    with suppress(Exception):  # The model ends with the process, which can be in the middle of a word.
        asyncio.run(listen())

if sys.argv[2] == "loading":
    model.start()
elif sys.argv[2] == "loaded":
    asyncio.run(model.ready())
else:
    # As `launch` does it: the server's thread is a daemon, and the end of the main thread ends the process.
    threading.Thread(target=talk, daemon=True).start()
    spoke.wait()
"""


@pytest.mark.parametrize("moment", ["loading", "streaming", "loaded"])
def test_the_interpreter_ends_cleanly_without_closing(weights: Weights, moment: str) -> None:
    command = [sys.executable, "-W", "error", "-c", FORGETFUL, str(weights.path), moment]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[1])
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_importing_loads_nothing_heavy() -> None:
    heavy = "{'xllamacpp', 'huggingface_hub', 'openai', 'gradio'}"
    code = f"import sys, chat.local_model; print({heavy} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert ended.stdout == "set()\n"
