"""What the figures were measured on: the machine and the versions, without anything that names the one or its owner."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from tests.bench import peers

_PACKAGES = ("gradio", "pydantic-ai-slim")


def machine() -> str:
    """Cores, processor, memory and system, as one sentence."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores of {_processor()}, {memory:.0f} GiB of memory, {_system()}"


def versions(browser: str) -> str:
    """The versions of what takes part, as one sentence; `browser` is Chromium's, or nothing where it has no part."""
    named = [f"Python {platform.python_version()}", *(_installed(name) for name in _PACKAGES)]
    named += [f"{name} {number}" for name, number in peers.versions("chainlit", "chainlit").items()]
    named += [f"{name} {number}" for name, number in peers.versions("examples", "pydantic-ai-examples").items()]
    return ", ".join([*named, f"Chromium {browser}"] if browser else named)


def _installed(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"no {name}"


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        for line in listed.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _system() -> str:
    if sys.platform == "linux":
        try:
            return platform.freedesktop_os_release()["PRETTY_NAME"]
        except (OSError, KeyError):
            pass
    return f"{platform.system()} {platform.release()}"
