"""The chats that Parley is measured beside and that need environments of their own.

    python -m tests.bench.peers

installs them in `.bench/`, or in the directory that `BENCH_PEERS` names. A peer that isn't there is left out.
"""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
DIRECTORY = Path(os.environ.get("BENCH_PEERS", ROOT / ".bench"))
"""Where the peers' environments are."""

PYTHON_PACKAGES = {"examples": ["pydantic-ai-examples>=2,<3"], "chainlit": ["chainlit>=2,<3", "pydantic-ai-slim>=2,<3"]}
"""What is installed in each peer's virtual environment."""

NPM_PACKAGES = ["bootstrap@5.3.3", "typescript@5.6.3", "marked@15.0.0"]
"""What the page of Pydantic AI's example takes from CDNs."""

NODE_MODULES = DIRECTORY / "npm" / "node_modules"


def python(name: str) -> Path:
    """The interpreter of a peer's environment, which may not exist."""
    return DIRECTORY / name / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def versions(name: str, *packages: str) -> dict[str, str]:
    """The versions of packages in a peer's environment; without those that aren't there."""
    interpreter = python(name)
    if not interpreter.exists():
        return {}
    listed = subprocess.run([interpreter, "-m", "pip", "list", "--format=json"], capture_output=True, check=True)
    return {item["name"]: item["version"] for item in json.loads(listed.stdout) if item["name"] in packages}


def install() -> None:
    """Install all peers."""
    for name, packages in PYTHON_PACKAGES.items():
        print(f"Installing {', '.join(packages)} …", flush=True)
        venv.create(DIRECTORY / name, with_pip=True)
        subprocess.run([python(name), "-m", "pip", "install", "--quiet", *packages], check=True)
    NODE_MODULES.parent.mkdir(parents=True, exist_ok=True)
    print(f"Installing {', '.join(NPM_PACKAGES)} …", flush=True)
    subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--silent", *NPM_PACKAGES], cwd=NODE_MODULES.parent, check=True
    )


if __name__ == "__main__":
    try:
        install()
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        sys.exit(f"Not all peers could be installed: {error}")
