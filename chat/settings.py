"""Settings: one frozen object, read once when the program starts.

A value comes from the command line, else from the environment, else from `.env`, else from its default. A `.env` file
is put into the environment first, so that the keys of model providers can live in it beside the `CHAT_` settings.
"""

import re
from pathlib import Path
from typing import Annotated, Any

import platformdirs
from dotenv import load_dotenv
from pydantic import AfterValidator, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, CliImplicitFlag, CliSettingsSource, NoDecode, SettingsConfigDict

from chat.allowance import (
    ADDRESS,
    OWN_REPLY,
    REPLY,
    TOTAL,
    VISITOR,
    AddressAllowance,
    ReplyAllowance,
    TotalAllowance,
    VisitorAllowance,
)

LOCAL_MODEL = "local"
"""The model that needs no key and no network: see `chat.local_model`."""


class SettingsError(Exception):
    """A setting that can't be used. The message names the setting and what it takes."""


class Settings(BaseSettings):
    """What the person who runs the chat decides. Each field is `CHAT_<NAME>` and `--<name>`."""

    model_config = SettingsConfigDict(
        env_prefix="CHAT_",
        extra="ignore",
        frozen=True,
        cli_prog_name="app.py",
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_implicit_flags=True,
    )

    model: str | None = Field(
        default=None,
        description="The model that answers: any Pydantic AI name (openai:gpt-5, anthropic:claude-sonnet-4-5, "
        "ollama:qwen3 ...), or local, local:/path/to/model.gguf, local:<hub repo>/<file>.gguf. "
        f"When not set: the agent's own model, and {LOCAL_MODEL} for the built-in agent.",
    )
    agent: str | None = Field(
        default=None,
        description="Your agent as module:attribute, an Agent or a callable that returns one. "
        "When not set: the built-in agent of chat/agent.py.",
    )
    models: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Models that visitors can choose from, in each conversation: names as for the model, separated by "
        "commas. The model comes first, and answers where nothing was chosen; when it is not set, the first of these.",
    )
    deps: str | None = Field(
        default=None,
        description="What makes your agent's dependencies, as module:attribute: a function, plain or async, of the "
        "owner's id and the conversation's id. When not set: none, and build_deps of chat/agent.py for the built-in "
        "agent.",
    )
    database: Path = Field(
        default=platformdirs.user_data_path("parley") / "chat.db",
        description="The SQLite file that keeps the conversations.",
    )
    backup: str | None = Field(
        default=None,
        description="Where snapshots of the database are kept, and restored from when it is gone: a directory, or a "
        "private dataset as hf://datasets/<owner>/<name> with HF_TOKEN. When not set: nowhere.",
    )
    share: CliImplicitFlag[bool] = Field(
        default=False, description="Also open a public link to the chat, as GRADIO_SHARE=true does."
    )
    title: str = Field(default="Parley", min_length=1, description="The name of the chat, shown above it.")
    description: str = Field(
        default="Ask anything. Your conversation is saved as you go.",
        description="The sentence that an empty chat shows.",
    )
    examples: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(
            "What is the capital of France?",
            "Write a haiku about the sea.",
            "Explain what a database index does.",
            "Give me three names for a small bakery.",
        ),
        description="Prompts that an empty chat offers, separated by |. Empty for none.",
    )
    timeout: float = Field(
        default=300, gt=0, description="Seconds after which a reply that is still being written is ended."
    )
    max_runs: int = Field(
        default=64, ge=1, description="How many replies are written at the same time; the others wait their turn."
    )

    history: int = Field(
        default=200,
        ge=1,
        description="How many of a conversation's newest messages the model is given, up to twice as many while it "
        "goes on; all of them are kept.",
    )
    history_mb: float = Field(
        default=30,
        ge=0,
        description="How many megabytes of a conversation's newest files the model is given with them. Of older files "
        "it is told the name; those of the newest message are always sent.",
    )
    max_file_mb: float = Field(
        default=20, gt=0, description="The largest file that can be attached to a message, in megabytes."
    )
    max_files: int = Field(default=10, ge=1, description="How many files can be attached to a message.")
    max_import_mb: float = Field(
        default=100, gt=0, description="The largest file that can be imported, unpacked, in megabytes."
    )
    titles: bool = Field(
        default=True,
        description="Whether the model that answered first is also asked for the conversation's title. An embedded "
        "model never is.",
    )
    show_system: bool = Field(
        default=False,
        description="Whether visitors see what only the model is meant to read: system prompts, instructions and "
        "changes of tools.",
    )
    visitor_limits: Annotated[str, AfterValidator(VisitorAllowance.check())] = Field(
        default="",
        description="What each visitor may use, as name=number or name=off, separated by commas: "
        f"{', '.join(VisitorAllowance.names())}. off for no limits. "
        f"When not set: none, or, where others can reach the chat, {VISITOR}.",
    )
    address_limits: Annotated[str, AfterValidator(AddressAllowance.check())] = Field(
        default="",
        description="What all visitors from one network address may use who have not signed in, written in the same "
        f"way: {', '.join(AddressAllowance.names())}. "
        f"When not set: none, or, where others can reach the chat, {ADDRESS}.",
    )
    total_limits: Annotated[str, AfterValidator(TotalAllowance.check())] = Field(
        default="",
        description="What all visitors together may use, written in the same way: "
        f"{', '.join(TotalAllowance.names())}. "
        f"When not set: none, or, where others can reach the chat, {TOTAL}.",
    )
    reply_limits: Annotated[str, AfterValidator(ReplyAllowance.check())] = Field(
        default="",
        description=f"What one reply may use, written in the same way: {', '.join(ReplyAllowance.names())}. "
        f"When not set: {OWN_REPLY}, or, where others can reach the chat, {REPLY}.",
    )

    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Names by which others reach the chat, through a proxy or a tunnel, separated by commas; "
        "*.example.org stands for all below it. Known by themselves: this computer's, a Space's and a share link's.",
    )
    auth: Path | None = Field(
        default=None,
        description="The file of those who may use the chat, made by `python -m chat.accounts add NAME`. "
        "When not set: everybody who reaches it.",
    )
    local: bool = Field(
        default=True,
        description="Whether the person at this computer is one person in all browsers, without signing in, while "
        "nobody else can reach the chat.",
    )
    mcp: CliImplicitFlag[bool] = Field(
        default=False,
        description="Whether other agents can use the chat's conversations as tools, over MCP, each as its owner. "
        'It needs `pip install "mcp>=2.3,<3"`.',
    )
    image_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Hosts whose images are shown in messages, separated by commas; others' are links to click, as "
        "an image's address can carry a conversation away.",
    )

    @field_validator("examples", mode="before")
    @classmethod
    def _split_examples(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(example.strip() for example in value.split("|") if example.strip())

    @field_validator("allowed_hosts", "image_hosts")
    @classmethod
    def _check_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not re.fullmatch(r"(\*\.)?[A-Za-z0-9_.-]+", name):
                raise ValueError(f"{name!r} is no host's name; give names such as chat.example.org, without a port")
        return value

    @field_validator("models", "allowed_hosts", "image_hosts", mode="before")
    @classmethod
    def _split_names(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(name.strip() for name in value.split(",") if name.strip())

    @field_validator("auth", mode="before")
    @classmethod
    def _none_for_empty(cls, value: Any) -> Any:
        return None if value == "" else value  # As a path it would be the directory.

    @field_validator("database", "auth")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value and value.expanduser().absolute()


def read_settings(arguments: list[str]) -> Settings:
    """The settings for a program started with `arguments` (without the program's name).

    Raises:
        SettingsError: If a value has the wrong form.
        SystemExit: After `--help`, and for an unknown flag, as argparse does.
    """
    load_dotenv(Path.cwd() / ".env", override=False)
    command_line: CliSettingsSource[Settings] = CliSettingsSource(Settings, cli_parse_args=arguments)
    try:
        return Settings(_cli_settings_source=command_line)  # pyright: ignore[reportCallIssue]  # dataclass_transform hides the settings' own arguments
    except ValidationError as error:
        raise SettingsError(_sentence(error)) from error


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    return f"The setting CHAT_{name.upper()} (--{name.replace('_', '-')}) is not usable: {first['msg']}."
