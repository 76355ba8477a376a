"""A conversation becomes a test of its agent, whose tools are answered from the record."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_ai import Agent, ModelMessage, ModelRetry
from pydantic_ai.conversation import Conversation
from pydantic_ai.messages import (
    BinaryContent,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from chat.cases import MISSING, NotRecorded, RecordedCall, Replay, Turn, dataset_yaml, main, replay
from chat.export_route import EXPORT_ROUTES
from chat.models import ChatAgent, ChatModel
from chat.services import open_services
from chat.settings import Settings
from tests.browser import ROOT
from tests.every_part import NOON, WORKDAY
from tests.scripted import agent as scripted
from tests.scripted import sent
from tests.visiting import ANNA, owner, visitor_of

pytestmark = pytest.mark.anyio

AGENT = ChatAgent(scripted, (ChatModel("scripted"),))
PICTURE = BinaryContent.narrow_type(BinaryContent(bytes(range(256)), media_type="image/png", identifier="cat.png"))


def prompt(*content: Any) -> ModelRequest:
    return ModelRequest([UserPromptPart(content[0] if len(content) == 1 else list(content), timestamp=NOON)])


def called(tool: str, arguments: dict[str, Any], result: Any) -> list[ModelMessage]:
    return [
        ModelResponse([ToolCallPart(tool, arguments, tool_call_id="1")], timestamp=NOON),
        ModelRequest([ToolReturnPart(tool, result, tool_call_id="1", timestamp=NOON)]),
    ]


CHAT: list[ModelMessage] = [
    prompt("tool"),
    *called("add", {"a": 19, "b": 23}, 42),
    ModelResponse([TextPart("The sum is 42.")], timestamp=NOON),
    prompt("files", PICTURE),
    ModelResponse([TextPart("…")], timestamp=NOON),
    prompt("never answered"),
]


def inputs_of(text: str) -> tuple[Replay, list[str]]:
    [case] = yaml.safe_load(text)["cases"]
    return Replay.model_validate(case["inputs"]), case["expected_output"]


async def test_a_conversation_is_a_case_that_people_can_read(tmp_path: Path) -> None:
    async with open_services(Settings(database=tmp_path / "chat.db")) as services:
        await services.store.save(Conversation(messages=CHAT[:4], conversation_id="c"), scope=owner(ANNA))
        await services.library.title_from_prompt(owner(ANNA), "c", "Añadir: 19 + 23")
        async with visitor_of(services, EXPORT_ROUTES) as visitor:
            answer = await visitor.get("/parley/export/c?as=case")
    assert answer.headers["content-type"] == "application/yaml"
    assert (
        answer.text
        == """\
name: 'Añadir: 19 + 23'
cases:
- name: 'Añadir: 19 + 23'
  inputs:
    turns:
    - prompt: tool
      calls:
      - tool: add
        arguments:
          a: 19
          b: 23
        result: 42
  expected_output:
  - The sum is 42.
evaluators:
- EqualsExpected
"""
    )


async def test_an_agent_that_answers_as_it_did_passes() -> None:
    inputs, expected = inputs_of(dataset_yaml("A chat", CHAT))
    replies = await replay(AGENT, inputs)
    assert replies[0] == expected[0]
    assert replies[1].startswith("cat.png image/png 256 ")  # It was given the file.
    assert len(replies) == len(expected) == 2


async def test_no_tool_is_run_and_nobody_is_asked() -> None:
    turn = Turn(
        prompt="approve",
        calls=[
            RecordedCall(
                tool="send_mail",
                arguments={"to": "ann@example.com", "text": "Hello <b>Ann</b> {{value}}", "copies": 1},
                result="From the record.",
            )
        ],
    )
    before = list(sent)
    assert await replay(AGENT, Replay(turns=[turn])) == ["success: From the record."]
    assert sent == before


async def test_each_call_is_answered_once_the_one_with_the_same_arguments_first() -> None:
    asked = iter([{"n": 2}, {"n": 1}, {"n": 9}])

    async def call_all(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        if (arguments := next(asked, None)) is not None:
            yield {0: DeltaToolCall(name="look", json_args=str(arguments).replace("'", '"'))}
        else:
            returned = [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]
            yield ", ".join(str(part.content) for part in returned)

    agent = Agent(FunctionModel(stream_function=call_all))

    @agent.tool_plain
    def look(n: int) -> str:  # pyright: ignore[reportUnusedFunction]
        raise ModelRetry("It is not run.")

    calls = [RecordedCall(tool="look", arguments={"n": n}, result=f"result {n}") for n in (1, 2, 3)]
    chat = ChatAgent(agent, (ChatModel("looker"),))
    assert await replay(chat, Replay(turns=[Turn(prompt="Look.", calls=calls)])) == ["result 2, result 1, result 3"]


async def test_a_call_that_is_not_in_the_record_is_named() -> None:
    with pytest.raises(NotRecorded, match="The agent called 'add' with"):
        await replay(AGENT, Replay(turns=[Turn(prompt="tool")]))


def test_everything_that_an_agent_does_can_be_in_a_case() -> None:
    inputs, expected = inputs_of(dataset_yaml("A day", WORKDAY))
    assert [call.tool for call in inputs.turns[0].calls] == [
        "forecast",
        "ask_forecaster",
        "draw",
        "delete_all",
        "read",
        "forecast",
    ]
    assert expected == ['{"place":"Paris","days":[1,2],"rain":null}']


@pytest.fixture
def case(tmp_path: Path) -> Path:
    pytest.importorskip("pydantic_evals", reason="optional")
    file = tmp_path / "chat.yaml"
    file.write_text(dataset_yaml("A chat", CHAT[:4]), encoding="utf-8")
    return file


def test_one_command_runs_a_case_and_says_how_it_went(case: Path) -> None:
    command = [sys.executable, "-m", "chat.cases", str(case), "--agent", "tests.scripted:agent"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "100.0%" in ran.stdout


def test_a_case_with_another_reply_fails_and_shows_it(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case.write_text(case.read_text(encoding="utf-8").replace("is 42.", "is 43."), encoding="utf-8")
    assert main([str(case), "--agent", "tests.scripted:agent"]) == 1
    assert "The sum is 42." in capsys.readouterr().out


def test_without_what_runs_it_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pydantic_evals", None)
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "chat.yaml")])
    assert ended.value.code == MISSING
