"""The chat in a frame of another site, as on Spaces: over https, third parties' cookies kept apart or not at all."""

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Playwright, expect

from tests.browser import Chat, browser_path
from tests.test_nginx import NGINX

SPACE = "somebody-parley.hf.space"
FRAMES = "https://huggingface.co"
"""The site whose page shows the Space."""

pytestmark = pytest.mark.skipif(
    NGINX is None or shutil.which("openssl") is None, reason="nginx or openssl is not installed"
)


@pytest.fixture
def https(start_chat: Callable[..., Chat], tmp_path: Path) -> Iterator[int]:
    """The port of both sites, which a browser finds by their names."""
    chat = start_chat("--agent", "tests.scripted:agent", SPACE_HOST=SPACE)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    certificate = [
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        tmp_path / "key",
        "-out",
        tmp_path / "certificate",
    ]
    subprocess.run(["openssl", "req", *certificate, "-subj", f"/CN={SPACE}"], check=True, capture_output=True)
    configuration = tmp_path / "nginx.conf"
    temporary = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    tls = f"listen 127.0.0.1:{port} ssl; ssl_certificate {tmp_path}/certificate; ssl_certificate_key {tmp_path}/key;"
    page = f'<iframe src="https://{SPACE}/" width=1100 height=700></iframe>'
    configuration.write_text(
        f"pid {tmp_path}/nginx.pid; error_log {tmp_path}/error.log; events {{}}\n"
        f"http {{ access_log off; {temporary}\n"
        f"server {{ {tls} server_name huggingface.co evil.example; default_type text/html; return 200 '{page}'; }}\n"
        f"server {{ {tls} server_name {SPACE}; location / {{ proxy_pass {chat.url}; proxy_http_version 1.1;\n"
        "proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto $scheme; proxy_buffering off; } } }\n"
    )
    command = [str(NGINX), "-p", str(tmp_path), "-c", str(configuration), "-e", str(tmp_path / "error.log")]
    subprocess.run(command, check=True)
    yield port
    subprocess.run([*command, "-s", "stop"], check=True)


@pytest.fixture
def apart(playwright: Playwright, https: int) -> Iterator[Browser]:
    """A browser that gives third parties no cookies but partitioned ones."""
    names = ", ".join(f"MAP {name} 127.0.0.1:{https}" for name in ("huggingface.co", "evil.example", SPACE))
    browser = playwright.chromium.launch(
        executable_path=browser_path(playwright),
        args=[
            "--no-sandbox",
            "--disable-gpu",
            "--test-third-party-cookie-phaseout",
            f"--host-resolver-rules={names}",
            # A context's `ignore_https_errors` begins each request anew until Chromium gives up one of them.
            "--ignore-certificate-errors",
        ],
    )
    yield browser
    browser.close()


def test_a_chat_in_another_sites_frame_keeps_its_conversations_and_no_other_site_can_show_it(apart: Browser) -> None:
    context = apart.new_context(viewport={"width": 1200, "height": 800})
    page = context.new_page()
    page.goto(FRAMES)
    chat = page.frame_locator("iframe")
    expect(chat.locator("body")).to_have_attribute("data-phase", "idle")
    chat.locator("#message textarea").fill("echo in a frame")
    chat.locator("#message textarea").press("Enter")
    expect(chat.locator("#conversation .bot.message").last).to_contain_text("in a frame")
    expect(chat.locator("body")).to_have_attribute("data-phase", "idle")
    [cookie] = context.cookies(f"https://{SPACE}")
    assert (cookie["name"], cookie["secure"], cookie["partitionKey"]) == ("__Host-parley_visitor", True, FRAMES)

    page.reload()
    expect(chat.locator("#conversations a", has_text="echo in a frame")).to_have_count(1)

    alone = context.new_page()  # Another partition, another visitor.
    alone.goto(f"https://{SPACE}")
    expect(alone.locator("body")).to_have_attribute("data-phase", "idle")
    expect(alone.locator("#conversations a")).to_have_count(0)

    foreign = context.new_page()
    foreign.goto("https://evil.example")
    expect(foreign.frame_locator("iframe").locator("#message")).to_have_count(0)
    assert not any(frame.url.startswith(f"https://{SPACE}") for frame in foreign.frames[1:])
