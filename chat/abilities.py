"""What a model can take, as Pydantic AI's profile of it says: which files, settings and tools."""

from dataclasses import dataclass, replace
from typing import Any, cast, get_args

from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import AudioMediaType, DocumentMediaType, ImageMediaType, VideoMediaType
from pydantic_ai.models import Model, ModelRequestContext
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.profiles import DEFAULT_PROFILE, ModelProfile
from pydantic_ai.settings import ThinkingLevel

TEXT = "text/*"
"""Any text: it can be a part of the prompt itself, so that every model takes it."""

IMAGES: frozenset[str] = frozenset(get_args(ImageMediaType))
AUDIO: frozenset[str] = frozenset(get_args(AudioMediaType))
VIDEOS: frozenset[str] = frozenset(get_args(VideoMediaType))
DOCUMENTS: frozenset[str] = frozenset(kind for kind in get_args(DocumentMediaType) if not kind.startswith("text/"))
OPENAI_AUDIO = frozenset({"audio/wav", "audio/mpeg"})
"""What `OpenAIChatModel` asserts that audio is; the profile has no words for it."""


def accepted_media(model: Model | None) -> frozenset[str]:
    """The media types of the files that a model takes, and `TEXT`. Everything for a model that isn't known (`None`).

    A text file is best sent as text: only some models take a file of type `text/csv`, and all take a sentence.
    """
    first, *others = (_media(served) for served in _served(model))
    return first.intersection(*others)


def takes_tools(model: Model | None) -> bool:
    """Whether a model can call tools."""
    return all(_profile(served).get("supports_tools", True) for served in _served(model))


def takes_thinking(model: Model | None) -> bool:
    """Whether the effort that a model puts into thinking can be chosen."""
    return any(_profile(served).get("supports_thinking", False) for served in _served(model))


def takes_temperature(model: Model | None, thinking: ThinkingLevel | None = None) -> bool:
    """Whether a model takes a temperature when it thinks as much as that. Some take it only when they don't think."""
    return all(_takes_temperature(served, thinking) for served in _served(model))


def native_tools(model: Model | None) -> frozenset[type]:
    """The kinds of tools that a model's provider runs for it."""
    first, *others = (_profile(served).get("supported_native_tools", frozenset[type]()) for served in _served(model))
    return first.intersection(*others)


@dataclass
class OnlySupported(AbstractCapability[Any]):
    """Leaves out optional tools that the model's provider can't run.

    Pydantic AI does that too, but its class for OpenAI's chat models raises before it looks whether they are optional.
    """

    async def prepare_model_request(
        self, ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        asked = request_context.model_request_parameters
        known = tuple(native_tools(request_context.model))
        kept = [tool for tool in asked.native_tools if isinstance(tool, known) or not tool.optional]
        return replace(request_context, model_request_parameters=replace(asked, native_tools=kept))


def _served(model: Model | None) -> list[Model | None]:
    """The models that may answer for one: others have no profile of their own."""
    if isinstance(model, WrapperModel):
        return _served(model.wrapped)
    if isinstance(model, FallbackModel):
        return [served for one in model.models for served in _served(one)]
    return [model]


def _profile(model: Model | None) -> ModelProfile:
    return DEFAULT_PROFILE if model is None else model.profile


def _media(model: Model | None) -> frozenset[str]:
    profile = _profile(model)
    documents = DOCUMENTS & profile.get("supported_document_media_types", DOCUMENTS)
    kinds = [
        (IMAGES, profile.get("supports_image_input", True)),
        (documents, profile.get("supports_document_input", True)),
        (OPENAI_AUDIO if _is_openai_chat(model) else AUDIO, profile.get("supports_audio_file_input", True)),
        (VIDEOS, profile.get("supports_video_input", True)),
    ]
    return frozenset({TEXT}).union(*(types for types, taken in kinds if taken))


def _takes_temperature(model: Model | None, thinking: ThinkingLevel | None) -> bool:
    profile = cast("dict[str, Any]", _profile(model))
    ignored = {*profile.get("openai_unsupported_model_settings", ()), *(model.unsupported_settings if model else ())}
    if "temperature" in ignored or profile.get("anthropic_disallows_sampling_settings"):
        return False
    # Claude refuses a temperature while it thinks, and for OpenAI's models Pydantic AI drops it with a warning.
    exclusive = profile.get("openai_supports_reasoning") or "anthropic_disallows_sampling_settings" in profile
    return not (exclusive and _thinks(profile, thinking))


def _thinks(profile: dict[str, Any], thinking: ThinkingLevel | None) -> bool:
    if profile.get("thinking_always_enabled"):
        return True
    asked = profile.get("thinking_enabled_by_default") if thinking is None else thinking is not False
    return bool(asked and profile.get("supports_thinking"))


def _is_openai_chat(model: Model | None) -> bool:
    # By name: importing the class takes a second, which a chat with another provider need not spend.
    return any(kind.__name__ == "OpenAIChatModel" for kind in type(model).__mro__)
