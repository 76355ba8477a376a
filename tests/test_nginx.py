"""The chat under a path behind a real nginx, set up with the lines of docs/deploy.md."""

import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser import ROOT, Chat, ask, open_page, replies
from tests.test_attachments import PNG, payload

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed: apt-get install nginx-light")


@pytest.fixture
def site(start_chat: Callable[..., Chat], tmp_path: Path) -> Iterator[str]:
    """The address of the chat behind nginx."""
    chat = start_chat("--agent", "tests.scripted:agent", GRADIO_ROOT_PATH="/chat")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    [rule] = re.findall(r"```nginx\n(.*?)```", (ROOT / "docs/deploy.md").read_text(encoding="utf-8"), re.DOTALL)
    assert "http://127.0.0.1:7860/" in rule
    temporary = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(
        f"pid {tmp_path}/nginx.pid; error_log {tmp_path}/error.log; events {{}}\n"
        f"http {{ access_log off; {temporary} server {{ listen 127.0.0.1:{port};\n"
        f"{rule.replace('http://127.0.0.1:7860', chat.url)} }} }}\n"
    )
    assert NGINX is not None
    command = [NGINX, "-p", str(tmp_path), "-c", str(configuration), "-e", str(tmp_path / "error.log")]
    subprocess.run(command, check=True)  # It returns when it listens.
    yield f"http://127.0.0.1:{port}/chat/"
    subprocess.run([*command, "-s", "stop"], check=True)


def test_a_conversation_and_its_files_work_under_a_path_behind_nginx(site: str, visitor: BrowserContext) -> None:
    elsewhere: list[str] = []
    visitor.on("request", lambda request: elsewhere.append(request.url) if not _is_under(request.url, site) else None)
    page = open_page(visitor, site)
    page.locator("#message input[type=file]").set_input_files([payload("red.png", PNG, "image/png")])
    expect(page.locator("#message .thumbnail-wrapper")).to_have_count(1)
    ask(page, "echo behind nginx")
    assert replies(page)[-1].startswith("behind nginx")
    assert page.url.startswith(f"{site}?c=")
    image = page.locator(".user-row img").first
    assert image.evaluate("async (img) => (await img.decode(), img.naturalWidth)") == 10
    # What another tab writes is announced to this one.
    other = open_page(visitor, page.url)
    ask(other, "echo from another tab")
    expect(page.locator("#conversation")).to_contain_text("from another tab")
    page.reload()
    expect(page.locator("#conversation")).to_contain_text("behind nginx")
    assert elsewhere == []


def _is_under(url: str, site: str) -> bool:
    return url.startswith((site, "data:", "blob:"))
