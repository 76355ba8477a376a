"""What a model can take is what Pydantic AI knows about it."""

from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.models import Model, infer_model
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.profiles import ModelProfile

from chat.abilities import (
    AUDIO,
    DOCUMENTS,
    IMAGES,
    OPENAI_AUDIO,
    TEXT,
    VIDEOS,
    accepted_media,
    takes_temperature,
    takes_thinking,
    takes_tools,
)
from chat.local_model import LocalModel
from chat.weights import Weights

EVERYTHING = IMAGES | AUDIO | VIDEOS | DOCUMENTS | {TEXT}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-real-key")


def claude(**profile: Any) -> Model:
    """A model with the profile of one of Anthropic's."""
    return TestModel(profile={"anthropic_disallows_sampling_settings": False, "supports_thinking": True, **profile})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("model", [None, TestModel(), FunctionModel(lambda *_: None), WrapperModel(TestModel())])  # pyright: ignore[reportArgumentType]
def test_a_model_of_which_nothing_is_known_takes_every_kind_of_file(model: Model | None) -> None:
    assert accepted_media(model) == EVERYTHING


@pytest.mark.parametrize("weights", ["SmolLM2-135M-Instruct", "Qwen3-0.6B", "another"])
def test_the_embedded_model_takes_text_only(weights: str) -> None:
    model = LocalModel(Weights(Path("none.gguf"), weights, ""))
    assert accepted_media(model) == {TEXT}
    assert takes_tools(model) == (weights != "SmolLM2-135M-Instruct")
    model.close()


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("openai:gpt-5", IMAGES | DOCUMENTS | {TEXT}),
        ("openai-chat:gpt-4o", IMAGES | DOCUMENTS | {TEXT}),
        ("openai-chat:gpt-4o-audio-preview", IMAGES | DOCUMENTS | OPENAI_AUDIO | {TEXT}),
    ],
)
def test_a_providers_model_takes_what_its_profile_says(name: str, taken: frozenset[str]) -> None:
    assert accepted_media(infer_model(name)) == taken


def test_only_the_documents_that_the_profile_names_are_taken() -> None:
    profile = ModelProfile(supported_document_media_types=frozenset({"application/pdf", "text/plain"}))
    assert accepted_media(TestModel(profile=profile)) & DOCUMENTS == {"application/pdf"}


def test_of_models_that_stand_in_for_each_other_only_what_all_take_is_sent() -> None:
    blind = TestModel(profile=ModelProfile(supports_image_input=False, supports_tools=False))
    both = WrapperModel(FallbackModel(TestModel(), blind))
    assert accepted_media(both) == EVERYTHING - IMAGES
    assert not takes_tools(both)


@pytest.mark.parametrize(
    ("name", "without", "off", "high"),
    [
        ("openai:gpt-4o", True, True, True),
        ("openai:gpt-5", False, False, False),
        ("openai:gpt-5.1", True, True, False),
        ("openai:o3", False, False, False),
    ],
)
def test_openais_models_take_no_temperature_while_they_think(name: str, without: bool, off: bool, high: bool) -> None:
    model = infer_model(name)
    assert [takes_temperature(model, thinking) for thinking in (None, False, "high")] == [without, off, high]
    assert takes_thinking(model) == (name != "openai:gpt-4o")


def test_claude_takes_no_temperature_while_it_thinks_and_newer_ones_never_do() -> None:
    assert [takes_temperature(claude(), thinking) for thinking in (None, False, "low")] == [True, True, False]
    assert not takes_temperature(claude(anthropic_disallows_sampling_settings=True))


def test_a_model_whose_api_has_no_temperature_takes_none() -> None:
    class WithoutTemperature(TestModel):
        unsupported_settings = frozenset({"temperature"})

    assert not takes_temperature(WithoutTemperature())
