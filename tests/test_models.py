"""The settings name an agent, its models and its dependencies; what a person chooses decides how a run is called."""

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from openai import AsyncOpenAI
from pydantic_ai import Agent, ModelResponse, RunContext
from pydantic_ai.capabilities import SelectModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.providers.openai import OpenAIProvider

from chat import models as module
from chat.agent import build_agent, build_deps
from chat.choices import Choice
from chat.local_model import LocalModel
from chat.models import AgentError, ChatAgent, ChatModel, choose_agent, load_agent, load_deps, load_model
from chat.settings import Settings
from chat.weights import LocalModelError, Weights
from tests.provider import KEY, Provider, running_provider

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
    return Settings(**{"model": None, "models": (), "agent": None, "deps": None} | values)


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


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture
async def client(provider: Provider) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=provider.url, api_key=KEY) as client:
        yield client


@pytest.fixture
def online(client: AsyncOpenAI) -> OpenAIChatModel:
    """A model that is asked over HTTP."""
    return OpenAIChatModel("test", provider=OpenAIProvider(openai_client=client))


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
    assert (chosen.agent.name, chosen.models[0].own, chosen.model_name, chosen.notice) == ("mine", True, "my-model", "")
    assert weights == []


def test_a_model_that_is_set_replaces_the_one_of_the_agent(write: Write, weights: list[str]) -> None:
    chosen = choose_agent(settings(agent=f"{write(AGENT)}:agent", model="test"))
    assert (chosen.agent.name, type(chosen.models[0].model), chosen.model_name) == ("mine", TestModel, "test")
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
    [model] = chosen.models
    assert model.model is not None
    assert model.model.model_name == "small"


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


# Several models


def test_the_listed_models_can_be_chosen_and_the_first_answers_where_nobody_chose(weights: list[str]) -> None:
    chosen = choose_agent(settings(models=("test", "local", "local:/m.gguf")))
    assert [model.name for model in chosen.models] == ["test", "small"]
    assert [chosen.chosen(name).name for name in (None, "small", "gone")] == ["test", "small", "test"]
    assert (chosen.model_name, chosen.notice, chosen.chosen("small").notice) == ("test", "", "It is small.")


def test_the_model_comes_before_the_listed_ones_and_once_only(weights: list[str]) -> None:
    chosen = choose_agent(settings(model="local", models=("test", "local")))
    assert [model.name for model in chosen.models] == ["small", "test"]
    assert weights == [""]


def test_listed_models_take_the_place_of_the_agents_own(write: Write) -> None:
    chosen = choose_agent(settings(agent=f"{write(AGENT)}:agent", models=("test",)))
    assert [(model.name, model.own) for model in chosen.models] == [("test", False)]


def test_a_listed_model_that_cannot_be_used_is_refused_at_the_start_with_its_name() -> None:
    with pytest.raises(AgentError, match=r"^The model 'nonsense' can't be used: .*\. Take it out of CHAT_MODELS\.$"):
        choose_agent(settings(models=("test", "nonsense")))


def test_a_listed_model_whose_key_is_missing_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(AgentError, match=r"'openai:gpt-5' can't be used: .*OPENAI_API_KEY"):
        choose_agent(settings(models=("test", "openai:gpt-5")))


# Dependencies


def test_a_hook_for_dependencies_is_loaded_from_a_module_in_the_current_directory(write: Write) -> None:
    name = write("def find(owner, conversation_id):\n    return owner, conversation_id\n")
    assert load_deps(f"{name}:find")("ann", "c") == ("ann", "c")


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("hook = 5", "'{}:hook' can't be called with an owner and a conversation. Let CHAT_DEPS name a function"),
        ("def hook(owner): ...", "'{}:hook' can't be called with an owner and a conversation. Let CHAT_DEPS name a "),
        ("1/0", "The hook '{}:hook' can't be imported: ZeroDivisionError: division by zero. Correct CHAT_DEPS."),
    ],
)
def test_what_is_not_a_hook_is_refused_with_the_reason(write: Write, source: str, sentence: str) -> None:
    name = write(source)
    assert refusal(load_deps, f"{name}:hook").startswith(sentence.replace("{}", name))


def test_a_hook_of_another_form_is_refused_with_the_right_one() -> None:
    assert (
        refusal(load_deps, "my_hook") == "CHAT_DEPS is 'my_hook'. Write it as module:attribute, such as my_agent:hook."
    )


def test_an_agent_of_ones_own_has_the_dependencies_of_its_own_hook_or_none(write: Write) -> None:
    hook = write("def find(owner, conversation_id):\n    return 5\n") + ":find"
    agent = f"{write(AGENT)}:agent"
    assert choose_agent(settings(agent=agent)).deps is None
    for own in (agent, None):
        found = choose_agent(settings(agent=own, model="test", deps=hook)).deps
        assert found is not None
        assert found("ann", "c") == 5
    assert choose_agent(settings(model="test")).deps is build_deps


@pytest.mark.anyio
async def test_a_run_gets_the_dependencies_that_the_hook_makes_for_its_owner_and_conversation(
    online: OpenAIChatModel, provider: Provider
) -> None:
    def plain(owner: str, conversation_id: str) -> str:
        return f"{owner}/{conversation_id}"

    async def awaited(owner: str, conversation_id: str) -> str:
        return plain(owner, conversation_id)

    for hook in (plain, awaited):
        agent = Agent(online, deps_type=str)

        @agent.tool
        def whose(ctx: RunContext[str]) -> str:
            return f"{ctx.deps}"

        assert await reply(ChatAgent(agent, (ChatModel("test"),), hook), prompt="call whose {}") == (
            "Some words |The tool said: ann/c"
        )


@pytest.mark.anyio
async def test_what_the_hook_raises_is_what_the_run_fails_with() -> None:
    def hook(owner: str, conversation_id: str) -> None:
        raise LookupError(owner)

    with pytest.raises(LookupError, match="ann"):
        await ChatAgent(Agent("test"), (ChatModel("test"),), hook).run_arguments("ann", "c")


# What a person chose


@pytest.mark.anyio
async def test_the_chosen_model_is_asked_with_the_chosen_temperature_and_instructions(
    online: OpenAIChatModel, provider: Provider
) -> None:
    agent = ChatAgent(Agent(instructions="Be kind."), (ChatModel("a", TestModel()), ChatModel("b", online)))
    await reply(agent, Choice(model="b", temperature=0.25, instructions="Rhyme."), prompt="chosen")
    body = provider.answered("chosen").body
    assert (body["model"], body["temperature"]) == ("test", 0.25)
    said = [message["content"] for message in body["messages"] if message["role"] == "system"]
    assert said == ["Be kind.", "Rhyme."]


@pytest.mark.anyio
async def test_without_a_choice_the_run_is_the_agents_own(online: OpenAIChatModel, provider: Provider) -> None:
    own = Agent(online, instructions="Be kind.", model_settings={"temperature": 0.5})
    await reply(ChatAgent(own, (ChatModel("test", online, own=True),)), prompt="unchosen")
    body = provider.answered("unchosen").body
    assert (body["temperature"], body["messages"][0]["content"]) == (0.5, "Be kind.")
    assert "reasoning_effort" not in body


@pytest.mark.anyio
async def test_an_agent_that_selects_its_models_itself_goes_on_doing_so(
    online: OpenAIChatModel, provider: Provider
) -> None:
    agent = Agent(TestModel(), capabilities=[SelectModel(lambda ctx: online)])
    await reply(ChatAgent(agent, (ChatModel("own", TestModel(), own=True),)), prompt="selected")
    assert provider.answered("selected").body["model"] == "test"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "choice", "temperature", "effort"),
    [
        ("gpt-4o", Choice(thinking="high", temperature=0.5), 0.5, None),
        ("gpt-5.1", Choice(thinking="high", temperature=0.5), None, "high"),
        ("gpt-5.1", Choice(thinking=False, temperature=0.5), 0.5, "none"),
        ("gpt-5.1", Choice(temperature=0.5), 0.5, None),
        ("o3", Choice(temperature=0.5), None, None),
    ],
)
async def test_a_model_is_sent_only_what_it_takes_of_temperature_and_thinking(
    client: AsyncOpenAI, provider: Provider, name: str, choice: Choice, temperature: float | None, effort: str | None
) -> None:
    model = OpenAIChatModel(name, provider=OpenAIProvider(openai_client=client))
    await reply(ChatAgent(Agent(), (ChatModel(name, model),)), choice, prompt="taken")
    body = provider.answered("taken").body
    assert (body.get("temperature"), body.get("reasoning_effort")) == (temperature, effort)


@pytest.mark.anyio
async def test_a_tool_that_is_switched_off_is_not_offered_to_the_model(
    online: OpenAIChatModel, provider: Provider
) -> None:
    agent = Agent(online)

    @agent.tool_plain
    def add(a: int, b: int) -> int:
        return a + b

    @agent.tool_plain
    def subtract(a: int, b: int) -> int:
        return a - b

    await reply(ChatAgent(agent, (ChatModel("test"),)), Choice(tools_off=("add",)), prompt="switched off")
    offered = [tool["function"]["name"] for tool in provider.answered("switched off").body["tools"]]
    assert offered == ["subtract"]


def test_what_a_browser_chooses_has_to_be_there() -> None:
    agent = ChatAgent(build_agent(), (ChatModel("a"), ChatModel("b")))
    chosen = agent.choice({"model": "b", "tools_off": ["web_search"]})
    assert chosen == Choice(model="b", tools_off=("web_search",))
    with pytest.raises(ValueError, match=r"^There is no model 'c' here\.$"):
        agent.choice({"model": "c"})
    with pytest.raises(ValueError, match=r"^There is no tool 'add' that could be switched off\.$"):
        agent.choice({"tools_off": ["web_search", "add"]})
    with pytest.raises(ValueError, match=r"^The temperature can't be used: "):
        agent.choice({"temperature": "hot"})


def test_no_switches_are_shown_for_the_embedded_model() -> None:
    embedded = LocalModel(Weights(Path("none.gguf"), "Qwen3-0.6B", ""))
    agent = ChatAgent(build_agent(), (ChatModel("small", embedded), ChatModel("test", TestModel())))
    assert agent.switches("small") == []
    assert "current_time" in [switch.name for switch in agent.switches("test")]
    embedded.close()


async def reply(agent: ChatAgent, choice: Choice | None = None, *, prompt: str) -> str:
    """What the agent answers, with all that it said, to a run called as the chat calls it."""
    arguments = await agent.run_arguments("ann", "c", choice or Choice())
    async with agent.agent.run_stream_events(prompt, infer_name=False, **arguments) as events:
        async for _ in events:
            pass
        said = [message.text for message in events.new_messages() if isinstance(message, ModelResponse)]
    return "|".join(text for text in said if text)
