"""The README's promises that a machine can check."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

from chat.settings import Settings
from chat.weights import QWEN_FILE, QWEN_REPO
from tests.browser import ROOT, START_SECONDS

README = (ROOT / "README.md").read_text(encoding="utf-8")
SPACE = yaml.safe_load(README.split("---\n")[1])


def test_its_python_examples_run_as_they_stand(tmp_path: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert examples
    for example in examples:
        ran = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{example}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        assert (ran.returncode, ran.stdout) == (0, "2 1 1\n"), ran.stderr


def test_its_table_lists_every_setting() -> None:
    listed = set(re.findall(r"\| `CHAT_(\w+)` \| `--([\w-]+)` \|", README))
    assert listed == {(name.upper(), name.replace("_", "-")) for name in Settings.model_fields}


def test_the_space_gets_the_gradio_that_is_pinned() -> None:
    pinned = re.search(r"^gradio==(.+)$", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned is not None
    assert SPACE["sdk_version"] == pinned[1]


def test_the_space_starts_the_program_with_the_python_that_is_checked_and_the_weights_that_it_asks_for() -> None:
    assert (SPACE["sdk"], SPACE["hf_oauth"]) == ("gradio", True)
    assert (ROOT / SPACE["app_file"]).is_file()
    checked = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pyright"]["pythonVersion"]
    assert SPACE["python_version"] == checked
    assert SPACE["preload_from_hub"] == [f"{QWEN_REPO} {QWEN_FILE}"]
    assert len(SPACE["short_description"]) <= 60  # The hub refuses longer ones.


def test_the_design_says_where_every_module_belongs() -> None:
    said = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    modules = {path.stem for path in (ROOT / "chat").glob("*.py")} - {"__init__"}
    assert modules - set(re.findall(r"`(\w+)`", said)) == set()
