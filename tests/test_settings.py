"""Each setting comes from the command line, else the environment, else `.env`, else its default."""

import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import platformdirs
import pytest
from pydantic import ValidationError

from chat.settings import Settings, SettingsError, read_settings


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory, and an environment without settings that is put back afterwards."""
    monkeypatch.chdir(tmp_path)
    without = {name: value for name, value in os.environ.items() if not name.startswith("CHAT_")}
    with mock.patch.dict(os.environ, without, clear=True):
        yield tmp_path


def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(directory: Path) -> None:
    assert read_settings([]).title == "Parley"
    (directory / ".env").write_text("CHAT_TITLE=from the file\n")
    assert read_settings([]).title == "from the file"
    os.environ["CHAT_TITLE"] = "from the environment"
    assert read_settings([]).title == "from the environment"
    assert read_settings(["--title", "from the flag"]).title == "from the flag"


def test_every_setting_can_be_given_as_a_variable_and_as_a_flag(directory: Path) -> None:
    values = {
        "model": "openai:gpt-5",
        "agent": "my_agent:agent",
        "models": "openai:gpt-5, local",
        "deps": "my_agent:deps",
        "database": str(directory / "chat.db"),
        "backup": str(directory / "backup"),
        "share": "true",
        "title": "My chat",
        "description": "Ask me.",
        "examples": "One?| Two, or three? |",
        "timeout": "12.5",
        "max_runs": "3",
        "history": "50",
        "history_mb": "1.5",
        "max_file_mb": "2.5",
        "max_files": "4",
        "max_import_mb": "50",
        "allowed_hosts": "chat.example.org, *.example.net",
        "image_hosts": "images.example.org",
        "auth": str(directory / "people"),
        "local": "false",
        "mcp": "true",
        "titles": "false",
        "show_system": "true",
        "visitor_limits": "messages_per_day=20, runs=off",
        "address_limits": "visitors_per_hour=5",
        "total_limits": "dollars_per_day=2.5",
        "reply_limits": "off",
    }
    expected = {
        **values,
        "database": directory / "chat.db",
        "models": ("openai:gpt-5", "local"),
        "examples": ("One?", "Two, or three?"),
        "share": True,
        "timeout": 12.5,
        "max_runs": 3,
        "history": 50,
        "history_mb": 1.5,
        "max_file_mb": 2.5,
        "max_files": 4,
        "max_import_mb": 50,
        "allowed_hosts": ("chat.example.org", "*.example.net"),
        "image_hosts": ("images.example.org",),
        "auth": directory / "people",
        "local": False,
        "mcp": True,
        "titles": False,
        "show_system": True,
    }
    assert values.keys() == Settings.model_fields.keys()
    flags = [word for name, value in values.items() for word in as_flag(name.replace("_", "-"), value)]
    assert read_settings(flags).model_dump() == expected
    os.environ.update({f"CHAT_{name.upper()}": value for name, value in values.items()})
    assert read_settings([]).model_dump() == expected


def as_flag(name: str, value: str) -> tuple[str, ...]:
    if value in ("true", "false"):
        return (f"--{name}" if value == "true" else f"--no-{name}",)
    return (f"--{name}", value)


def test_the_file_also_holds_the_keys_of_providers(directory: Path) -> None:
    (directory / ".env").write_text("PROVIDER_OF_MINE_API_KEY=from the file\nSET_BEFORE=from the file\n")
    os.environ["SET_BEFORE"] = "from the environment"
    read_settings([])
    assert os.environ["PROVIDER_OF_MINE_API_KEY"] == "from the file"
    assert os.environ["SET_BEFORE"] == "from the environment"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--max-runs", "0"], "The setting CHAT_MAX_RUNS (--max-runs) is not usable: Input should be greater than or "),
        (["--max-runs", "many"], "The setting CHAT_MAX_RUNS (--max-runs) is not usable: Input should be a valid integ"),
        (["--timeout", "-1"], "The setting CHAT_TIMEOUT (--timeout) is not usable: Input should be greater than 0"),
        (["--title", ""], "The setting CHAT_TITLE (--title) is not usable: String should have at least 1 character"),
    ],
)
def test_a_wrong_value_is_refused_with_the_setting_it_is_for(arguments: list[str], sentence: str) -> None:
    with pytest.raises(SettingsError) as flag:
        read_settings(arguments)
    assert str(flag.value).startswith(sentence)
    os.environ[f"CHAT_{arguments[0][2:].replace('-', '_').upper()}"] = arguments[1]
    with pytest.raises(SettingsError) as variable:
        read_settings([])
    assert str(variable.value) == str(flag.value)


def test_help_lists_every_setting_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_settings(["--help"])
    assert ended.value.code == 0
    helped = "".join(capsys.readouterr().out.split())
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in helped
        assert field.description is not None
        assert "".join(field.description.split()) in helped
        values = field.default if isinstance(field.default, tuple) else (field.default,)
        for value in values:
            assert value is None or "".join(str(value).split()) in helped


def test_an_unknown_flag_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_settings(["--colour", "red"])
    assert ended.value.code == 2
    assert "--colour" in capsys.readouterr().err


def test_conversations_are_kept_in_the_users_data_directory_and_not_where_the_program_is_started(
    directory: Path,
) -> None:
    database = read_settings([]).database
    assert database == platformdirs.user_data_path("parley") / "chat.db"
    assert directory not in database.parents


def test_a_database_is_found_from_where_the_program_was_started_wherever_it_goes(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(directory / "home"))
    monkeypatch.setenv("USERPROFILE", str(directory / "home"))
    assert read_settings(["--database", "here.db"]).database == directory / "here.db"
    assert read_settings(["--database", "~/here.db"]).database == directory / "home" / "here.db"


@pytest.mark.parametrize("empty", ["", " | "])
def test_examples_can_be_none(empty: str) -> None:
    os.environ["CHAT_EXAMPLES"] = empty
    assert read_settings([]).examples == ()


@pytest.mark.parametrize("empty", ["", " , "])
def test_no_models_to_choose_from_is_no_list_of_them(empty: str) -> None:
    os.environ["CHAT_MODELS"] = empty
    assert read_settings([]).models == ()


def test_settings_do_not_change() -> None:
    settings = read_settings([])
    with pytest.raises(ValidationError, match="frozen"):
        settings.title = "another"  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    "name", ["https://chat.example.org", "chat.example.org:8080", "*", "a b", "chat.example.org/x"]
)
def test_a_host_that_is_no_name_is_refused_with_a_sentence(directory: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=r"CHAT_ALLOWED_HOSTS.*is no host's name"):
        read_settings(["--allowed-hosts", name])
