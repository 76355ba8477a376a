"""The settings name an agent and a model; what can't be used is said in one sentence."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

from chat import agent as module
from chat.agent import AgentError, ChatAgent, build_agent, choose_agent, load_agent, load_model
from chat.settings import Settings
from chat.weights import LocalModelError

Write = Callable[[str], str]

AGENT = """
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel
agent = Agent(TestModel(model_name="my-model"), name="mine")
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a module of the person's own into the current directory; gives its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write_module(source: str) -> str:
        name = f"module_of_{abs(hash((tmp_path, source)))}"
        (tmp_path / f"{name}.py").write_text(source)
        return name

    return write_module


def settings(**values: Any) -> Settings:
    return Settings(**{"model": None, "agent": None} | values)


def refusal(call: Callable[[str], object], reference: str) -> str:
    with pytest.raises(AgentError) as caught:
        call(reference)
    return str(caught.value)


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of the embedded model, which is not loaded here."""
    asked: list[str] = []

    def fetch_weights(reference: str, cache: Path) -> SimpleNamespace:
        asked.append(reference)
        return SimpleNamespace(name="small", notice="It is small.")

    monkeypatch.setattr(module, "check_library", lambda: None)
    monkeypatch.setattr(module, "fetch_weights", fetch_weights)
    monkeypatch.setattr(module, "LocalModel", lambda weights: TestModel(model_name=weights.name))
    return asked


# Agents


def test_an_agent_is_loaded_from_a_module_in_the_current_directory(write: Write) -> None:
    agent = load_agent(f"{write(AGENT)}:agent")
    assert (agent.name, isinstance(agent, Agent)) == ("mine", True)


def test_a_callable_is_called_for_its_agent(write: Write) -> None:
    name = write(f"{AGENT}\ndef make():\n    return agent\nclass Agents:\n    make = staticmethod(make)\n")
    assert load_agent(f"{name}:make").name == "mine"
    assert load_agent(f"{name}:Agents.make").name == "mine"


@pytest.mark.parametrize("reference", ["my_agent", "my_agent:", ":agent", ""])
def test_a_reference_of_another_form_is_refused_with_the_right_one(reference: str) -> None:
    assert refusal(load_agent, reference) == (
        f"CHAT_AGENT is {reference!r}. Write it as module:attribute, such as my_agent:agent."
    )


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("agent = 5", "'{}:agent' is int, not an Agent. Let CHAT_AGENT name a pydantic_ai.Agent, or a callable that "),
        ("def agent():\n    return 'no'", "'{}:agent' is str, not an Agent. Let CHAT_AGENT name a pydantic_ai.Agent"),
        ("", "The agent '{}:agent' can't be imported: AttributeError: module '{}' has no attribute 'agent'. Correct "),
        ("import no_such", "The agent '{}:agent' can't be imported: No module named 'no_such'. Correct CHAT_AGENT."),
        ("1/0", "The agent '{}:agent' can't be imported: ZeroDivisionError: division by zero. Correct CHAT_AGENT."),
        ("agent = (", "The agent '{}:agent' can't be imported: SyntaxError: '(' was never closed"),
        ("def agent(needed): ...", "The agent '{}:agent' can't be imported: TypeError: agent() missing 1 required "),
    ],
)
def test_what_is_not_an_agent_is_refused_with_the_reason(write: Write, source: str, sentence: str) -> None:
    name = write(source)
    said = refusal(load_agent, f"{name}:agent")
    assert said.startswith(sentence.replace("{}", name))
    assert "\n" not in said


def test_a_module_that_is_not_there_is_refused() -> None:
    assert refusal(load_agent, "no_such_module:agent") == (
        "The agent 'no_such_module:agent' can't be imported: No module named 'no_such_module'. Correct CHAT_AGENT."
    )


# Models


def test_a_model_of_a_provider_is_loaded_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-real-key")
    model = load_model("openai:gpt-5")
    assert (model.model_name, model.system) == ("gpt-5", "openai")


def test_a_missing_key_is_refused_with_the_variable_that_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    said = refusal(load_model, "openai:gpt-5")
    assert said.startswith("The model 'openai:gpt-5' can't be used: ")
    assert "OPENAI_API_KEY" in said
    assert "\n" not in said


@pytest.mark.parametrize("name", ["nobody:model", "no-such-model", ""])
def test_an_unknown_model_is_refused_with_its_name(name: str) -> None:
    said = refusal(load_model, name)
    assert said.startswith(f"The model {name!r} can't be used: ")
    assert said.endswith("Set CHAT_MODEL to another.")


# Both together


def test_an_agent_of_ones_own_keeps_its_model_when_none_is_set(write: Write, weights: list[str]) -> None:
    chosen = choose_agent(settings(agent=f"{write(AGENT)}:agent"))
    assert (chosen.agent.name, chosen.model, chosen.model_name, chosen.notice) == ("mine", None, "my-model", "")
    assert weights == []


def test_a_model_that_is_set_replaces_the_one_of_the_agent(write: Write, weights: list[str]) -> None:
    chosen = choose_agent(settings(agent=f"{write(AGENT)}:agent", model="test"))
    assert (chosen.agent.name, type(chosen.model), chosen.model_name) == ("mine", TestModel, "test")
    assert weights == []


def test_an_agent_of_ones_own_whose_models_key_is_missing_is_refused_at_the_start(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    name = write("from pydantic_ai import Agent\nagent = Agent('openai:gpt-5', defer_model_check=True)\n")
    said = refusal(lambda reference: choose_agent(settings(agent=reference)), f"{name}:agent")
    assert "OPENAI_API_KEY" in said


@pytest.mark.parametrize(
    ("model", "reference"),
    [(None, ""), ("local", ""), ("local:/m.gguf", "/m.gguf"), ("local:a/b/c.gguf", "a/b/c.gguf")],
)
def test_the_embedded_model_answers_by_default_and_when_it_is_named(
    weights: list[str], model: str | None, reference: str
) -> None:
    chosen = choose_agent(settings(model=model))
    assert weights == [reference]
    assert (chosen.model_name, chosen.notice) == ("small", "It is small.")
    assert chosen.model is not None
    assert chosen.model.model_name == "small"


def test_an_agent_without_a_model_gets_the_embedded_one(write: Write, weights: list[str]) -> None:
    name = write("from pydantic_ai import Agent\nagent = Agent(name='bare')\n")
    chosen = choose_agent(settings(agent=f"{name}:agent"))
    assert (chosen.agent.name, chosen.model_name, weights) == ("bare", "small", [""])


def test_an_embedded_model_that_cannot_be_had_is_refused_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def check_library() -> None:
        raise LocalModelError("A library is missing. Install it.")

    monkeypatch.setattr(module, "check_library", check_library)
    with pytest.raises(AgentError, match=r"^A library is missing\. Install it\.$"):
        choose_agent(settings())


def test_the_built_in_agent_leaves_its_model_to_the_settings() -> None:
    agent = build_agent()
    assert (agent.name, agent.model) == ("parley", None)
    assert isinstance(ChatAgent(agent, None, "").agent, Agent)
