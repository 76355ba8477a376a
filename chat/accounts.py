"""The people who may sign in: a file of names and password hashes, and the command that keeps it.

    python -m chat.accounts add NAME     (asks for the password; a name that is there gets the new one)
    python -m chat.accounts remove NAME
    python -m chat.accounts list

The file is the one that CHAT_AUTH names, or `--file`. Each line is `name:scrypt:<salt>:<hash>`. It is read again when
it changes, and whoever is removed or gets another password is signed out.
"""

import argparse
import asyncio
import base64
import getpass
import hashlib
import hmac
import os
import re
import secrets
import sys
import tempfile
from pathlib import Path

from chat.settings import SettingsError, read_settings

LONGEST_PASSWORD = 1_000
"""Characters of a password."""

SHORTEST_PASSWORD = 8

AT_ONCE = 2
"""Passwords that are checked at the same time: each takes 32 MB and a tenth of a second."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
_LINE = re.compile(r"([^:]+):scrypt:([A-Za-z0-9+/=]{24}):([A-Za-z0-9+/=]{44})")


class AccountError(Exception):
    """Why an account, or the file of them, can't be used; one sentence that names the remedy."""


class Accounts:
    """The accounts in a file.

    Raises:
        AccountError: If the file can't be read, or a line of it is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = _stamp(path)
        self._lines = _read(path)
        self._free = asyncio.Semaphore(AT_ONCE)
        self._nobody = _hash_line("", secrets.token_hex())

    async def check(self, name: str, password: str) -> str | None:
        """The proof that somebody showed the right password, or `None`; a name that isn't there takes as long."""
        line = self._current().get(folded(name))
        async with self._free:
            right = await asyncio.to_thread(_matches, line or self._nobody, password)
        return _fingerprint(line) if line is not None and right else None

    def accept(self, name: str, proof: str) -> bool:
        """Whether what somebody showed when they signed in would still let them in."""
        line = self._current().get(name)
        return line is not None and hmac.compare_digest(_fingerprint(line), proof)

    def _current(self) -> dict[str, str]:
        stamp = _stamp(self._path)
        if stamp != self._stamp:
            try:
                self._lines = _read(self._path)
            except AccountError:
                self._lines = {}  # Nobody is let in by a file that can't be read.
            self._stamp = stamp
        return self._lines


def folded(name: str) -> str:
    """A name as it is kept: people write their own in several ways."""
    return name.strip().lower()


def add(path: Path, name: str, password: str) -> None:
    """Add an account, or give one another password.

    Raises:
        AccountError: If the name or the password can't be used, or the file can't be read or written.
    """
    if not _NAME.fullmatch(name := folded(name)):
        raise AccountError(
            f"{name!r} can't be a name. Use up to 64 of a-z, 0-9, dot, @, hyphen and underscore, with a letter or "
            "digit first."
        )
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise AccountError(f"A password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD:,} characters.")
    lines = _read(path) if path.exists() else {}
    _write(path, {**lines, name: _hash_line(name, password)})


def remove(path: Path, name: str) -> None:
    """Remove an account. What it wrote stays in the database.

    Raises:
        AccountError: If there is none, or the file can't be read or written.
    """
    lines = _read(path)
    if lines.pop(folded(name), None) is None:
        raise AccountError(f"There is no account {name!r} in {path}.")
    _write(path, lines)


def _read(path: Path) -> dict[str, str]:
    """The lines of the file, by name."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise AccountError(
            f"The accounts in {path} can't be read: {reason}. Make the file with "
            f"`python -m chat.accounts add NAME`, or set CHAT_AUTH to another one."
        ) from error
    lines: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        found = _LINE.fullmatch(line)
        if found:
            lines[found[1]] = line
        elif line.strip():
            raise AccountError(f"Line {number} of {path} is no account. Make one with `python -m chat.accounts add`.")
    return lines


def _write(path: Path, lines: dict[str, str]) -> None:
    """Replace the file at once, readable by its owner only."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write("".join(f"{line}\n" for line in lines.values()))
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise AccountError(f"{path} can't be written: {error.strerror}. Make its directory writable.") from error


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _hash_line(name: str, password: str) -> str:
    salt = secrets.token_bytes(16)
    return f"{name}:scrypt:{base64.b64encode(salt).decode()}:{base64.b64encode(_scrypt(password, salt)).decode()}"


def _matches(line: str, password: str) -> bool:
    *_, salt, expected = line.split(":")
    if len(password) > LONGEST_PASSWORD:
        password = ""
    return hmac.compare_digest(_scrypt(password, base64.b64decode(salt)), base64.b64decode(expected))


def _scrypt(password: str, salt: bytes) -> bytes:
    data = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(data, salt=salt, n=2**15, r=8, p=1, maxmem=2**26, dklen=32)


def _fingerprint(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()


def _main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m chat.accounts", description="The people who may sign in.")
    parser.add_argument("--file", type=Path, help="the file; when not given, the one that CHAT_AUTH names")
    commands = parser.add_subparsers(dest="command", required=True)
    for command, text in (("add", "add one, or give one another password"), ("remove", "remove one")):
        commands.add_parser(command, help=text).add_argument("name")
    commands.add_parser("list", help="say who they are")
    chosen = parser.parse_args(arguments)
    path = chosen.file or read_settings([]).auth
    if path is None:
        raise AccountError("Set CHAT_AUTH to the file of the accounts, or name it with --file.")
    if chosen.command == "add":
        add(path, chosen.name, _asked_password())
    elif chosen.command == "remove":
        remove(path, chosen.name)
    else:
        sys.stdout.write("".join(f"{name}\n" for name in sorted(_read(path))))


def _asked_password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise AccountError("The two are not the same. Try again.")
    return password


if __name__ == "__main__":
    try:
        _main(sys.argv[1:])
    except (AccountError, SettingsError) as error:
        sys.exit(str(error))
