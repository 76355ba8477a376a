"""The file of accounts and the command that keeps it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chat.accounts import AccountError, Accounts, add, remove
from tests.browser import ROOT


def command(*arguments: str, typed: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chat.accounts", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        input=f"{typed}\n",
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_keeps_the_file_that_the_setting_names(tmp_path: Path) -> None:
    path = tmp_path / "people"
    assert command("add", "Anna", typed="correct horse", CHAT_AUTH=str(path)).stderr == ""
    assert command("list", CHAT_AUTH=str(path)).stdout == "anna\n"
    assert path.stat().st_mode & 0o077 == 0
    assert "correct horse" not in path.read_text()


def test_the_command_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    path = str(tmp_path / "people")
    for arguments, password, sentence in (
        (["list"], "", "Set CHAT_AUTH to the file of the accounts, or name it with --file."),
        (["--file", path, "add", "anna"], "short", "A password has 8 to 1,000 characters."),
    ):
        ended = command(*arguments, typed=password, CHAT_AUTH="")
        assert (ended.returncode, ended.stderr) == (1, f"{sentence}\n")


def test_a_name_has_one_password_the_newest(tmp_path: Path) -> None:
    path = tmp_path / "people"
    add(path, "anna", "first password")
    before = path.read_text()
    add(path, "Anna", "first password")
    assert len(path.read_text().splitlines()) == 1
    assert path.read_text() != before  # The salt is another.
    remove(path, "anna")
    assert path.read_text() == ""


@pytest.mark.parametrize("name", ["", "a:b", "a\nb", "../x", "a b", "é", "x" * 65, "-x"])
def test_a_name_that_could_be_mistaken_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(AccountError, match="can't be a name"):
        add(tmp_path / "people", name, "correct horse")


@pytest.mark.parametrize("content", [b"anna:secret\n", b"anna:scrypt:short:x\n", b"\xff\xfe", None])
def test_a_file_that_is_none_is_refused_with_a_sentence_that_names_it(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "people"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AccountError, match=f"{path}.*chat.accounts add"):
        Accounts(path)


@pytest.mark.anyio
async def test_nobody_is_let_in_by_a_file_that_became_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "people"
    add(path, "anna", "correct horse")
    accounts = Accounts(path)
    proof = await accounts.check("anna", "correct horse")
    assert proof is not None
    assert accounts.accept("anna", proof)
    path.write_text("garbage")
    assert not accounts.accept("anna", proof)
    assert await accounts.check("anna", "correct horse") is None
