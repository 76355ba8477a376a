"""The message box: Gradio's, for text and files, with checks of our own behind it.

Gradio's class isn't extended: each class of a component gets a stub file written beside its source.
"""

from pathlib import Path
from typing import Annotated, Any, cast

import gradio as gr
from gradio.blocks import Block
from gradio.data_classes import FileData, GradioModel
from gradio.utils import get_upload_folder
from pydantic import Field, WithJsonSchema, model_validator

from chat.kinds import endings, takes_sound
from chat.render import LONGEST_PROMPT


class SentMessage(GradioModel):
    """What a client sends as a message. A program may send the bare text."""

    # Not checked here: half a Unicode character is to be refused with a sentence.
    text: Annotated[Any, WithJsonSchema({"type": "string"})] = ""
    files: list[FileData] = Field(default_factory=list[FileData])

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"text": value} if isinstance(value, str) else value


def message_box(accepted: frozenset[str]) -> gr.MultimodalTextbox:
    """The box, for text and for files of the accepted media types."""
    box = gr.MultimodalTextbox(
        show_label=False,
        label="Message",
        placeholder="Write a message",
        container=False,
        autofocus=True,
        lines=1,
        max_lines=12,
        max_plain_text_length=LONGEST_PROMPT,  # Longer text that is pasted would become a file.
        sources=["upload", "microphone"] if takes_sound(accepted) else ["upload"] if accepted else [],
        file_types=endings(accepted),
        file_count="multiple",
        submit_btn=True,
        stop_btn=True,
        elem_id="message",
    )
    box.data_model = SentMessage
    # Gradio's checks the names' endings, and its refusal never reaches the page's script.
    box.preprocess = cast("Any", _as_sent)
    return box


def fetch_nothing(block: Block) -> None:
    """Keep a component from what Gradio does with an address that a client names as a file's path: fetch it."""
    block.async_move_resource_to_block_cache = _stay


def upload_folder() -> Path:
    """Where Gradio keeps what was uploaded."""
    return Path(get_upload_folder())


def _as_sent(payload: SentMessage | None) -> dict[str, Any]:
    return {} if payload is None else payload.model_dump()


async def _stay(url_or_file_path: str | Path | None) -> str | None:
    """Leave a file where it is.

    Raises:
        gr.Error: If it isn't one.
    """
    if not Path(url_or_file_path or "/").is_absolute():
        raise gr.Error("Only files that were uploaded can be sent.", print_exception=False)
    return None if url_or_file_path is None else str(url_or_file_path)
