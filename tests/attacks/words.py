"""What is written in a conversation, in a real browser: none of it runs, and nothing is asked of another host.

The words are a person's, the model's, a tool's result, a title and a file's name. Each has an address of its own at a
server that stands for everybody else's and notes who comes, and a number that it would leave on the page if it ran.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from playwright.sync_api import BrowserContext, Page, expect

from tests.attacks.stage import Case
from tests.browser import Chat

RUN = "(window.ran=window.ran||[]).push({n})"

WORDS = (
    "<script>{run}</script>",
    "<SCRIPT SRC={url}></SCRIPT>",
    "<img src=x onerror={run}>",
    '<img src="{url}">',
    '<img srcset="{url} 2x">',
    "<picture><source srcset={url}><img src=x></picture>",
    "<svg onload={run}></svg>",
    "<svg><image href={url} xlink:href={url}></image><use href={url}#x></use></svg>",
    "<svg><script>{run}</script></svg>",
    "<svg><animate onbegin={run} attributeName=x dur=1s></svg>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror={run}&gt;'>",
    "<math href='javascript:{run}'>x</math>",
    "<iframe src=javascript:{run}></iframe>",
    "<iframe src={url}></iframe>",
    "<iframe srcdoc='&lt;script&gt;parent.{run}&lt;/script&gt;'></iframe>",
    "<object data={url}></object><embed src={url}>",
    "<video src={url} poster={url} autoplay></video><audio src={url} autoplay></audio>",
    "<video><track src={url} default></video>",
    "<link rel=stylesheet href={url}><link rel=prefetch href={url}><link rel=dns-prefetch href={url}>",
    "<meta http-equiv=refresh content='0;url={url}'>",
    "<base href={url}>",
    "<form action={url}><button autofocus onfocus={run}>x</button></form>",
    "<input autofocus onfocus={run}>",
    "<details open ontoggle={run}>x</details>",
    "<body onload={run}>",
    "<style>@import '{url}'; body {{ background: url({url}) }}</style>",
    "<div style='background-image:url({url})'>x</div>",
    "<p style=\"background:url('{url}')\" onmouseover={run}>x</p>",
    "<table background={url}><tr><td background={url}>x</table>",
    "<a href='javascript:{run}'>x</a>",
    "<a href='{url}' ping='{url}'>x</a>",
    "<template><script>{run}</script></template>",
    "<noscript><p title='</noscript><img src=x onerror={run}>'>",
    "<dialog open onclose={run}>x</dialog><button popovertarget=x>x</button>",
    "<a id=parley></a><a id=parley name=start href={url}></a><img name=getElementById>",
    "![x]({url})",
    "![x](<{url}> 'x\" onerror=\"{run}')",
    "[![x]({url})]({url})",
    "[x](javascript:{run})",
    "[x](JaVaScRiPt&#58;{run})",
    "[x](data:text/html,<script>{run}</script>)",
    "[x][y]\n\n[y]: javascript:{run}",
    "<javascript:{run}>",
    "![x][y]\n\n[y]: {url}",
    "```html\n<img src=x onerror={run}>\n```",
    '```"><img src=x onerror={run}>\nx\n```',
    "```mermaid\ngraph TD; A[\"<img src='{url}' onerror='{run}'>\"] --> B; click B href \"javascript:{run}\"\n```",
    "$$\\href{{javascript:{run}}}{{x}} \\includegraphics{{{url}}} \\htmlStyle{{background:url({url})}}{{x}}$$",
    "\\(\\url{{javascript:{run}}}\\)",
    "| a |\n|---|\n| <img src={url} onerror={run}> |",
    "${{{run}}} {{{{{run}}}}} {{{{{{{run}}}}}}}",
    "<gradio-app src={url}></gradio-app><script type=module src={url}></script>",
    "&lt;img src=x onerror={run}&gt;",
    "\u202e<img src=x onerror={run}>\u0000",
    "<<img src=x onerror={run}>",
    "<img src='x' `onerror={run}`>",
    "<!--><img src=x onerror={run}>-->",
    "<![CDATA[><img src=x onerror={run}>]]>",
    "<details><summary>x</summary><img src={url}></details>",
)

LEFT = """() => [...document.querySelectorAll("body *")].flatMap((each) => [
    ...(/^(script|iframe|object|embed|base|meta|link)$/i.test(each.tagName) && each.closest(".message")
        ? [each.outerHTML] : []),
    ...[...each.attributes].filter(({ name, value }) => each.closest(".message, #conversations") &&
        (/^on/i.test(name) ||
        (/^(xlink:)?href$|action$/i.test(name)
            && /^\\s*(javascript|vbscript):/i.test(value)))).map(() => each.outerHTML),
])"""
"""What is in messages that could run."""


@contextmanager
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """A server of somebody else's: its address, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        do_POST = do_GET  # noqa: N815  # the library's name

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def cases(visitor: BrowserContext, chat: Chat) -> Iterator[Case]:
    """All words in all places; a page is loaded for every few of them."""
    page = visitor.new_page()
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.goto(chat.url)
    expect(page.locator("body")).to_have_attribute("data-phase", "idle")
    with elsewhere() as (url, asked):
        written = [words.format(run=RUN.format(n=number), url=f"{url}/{number}") for number, words in enumerate(WORDS)]
        seen: list[str] = []
        for first in range(0, len(written), AT_ONCE):
            few = written[first : first + AT_ONCE]
            page.goto(f"{chat.url}/?c={_write(page, chat, few)}")
            expect(page.locator("#conversation .bot.message").last).to_be_visible()
            expect(page.locator("body")).to_have_attribute("data-phase", "idle")
            links = page.locator("#conversation .message a")
            links.evaluate_all(
                "all => all.forEach(each => each.dispatchEvent(new MouseEvent('mouseover', {bubbles: true})))"
            )
            seen += [str(each) for each in page.evaluate(LEFT)]
            seen += [f"ran {number}" for number in page.evaluate("window.ran || []")]
            assert page.url.startswith(chat.url), page.url
        yield Case("no dialog", " ".join(dialogs))
        yield Case("nothing is left that could run", " ".join(seen)[:600])
        for number, words in enumerate(WORDS):
            there = [path for path in asked if path.lstrip("/").startswith(str(number))]
            ran = [each for each in seen if each == f"ran {number}"]
            yield Case(words, " ".join([*there, *ran]))
        yield Case("nobody else was asked for anything", " ".join(asked))


AT_ONCE = 10


def _write(page: Page, chat: Chat, few: list[str]) -> str:
    """A conversation with these words in all places, from an import; its id."""
    ask = page.request
    functions = {each["api_name"]: each["id"] for each in ask.get(f"{chat.url}/config").json()["dependencies"]}
    session = uuid4().hex
    prompt = f"tool {uuid4()}"
    body = {"data": [prompt, {}], "fn_index": functions["chat"], "session_hash": session}
    assert ask.post(f"{chat.url}/gradio_api/queue/join", data=body).ok
    painted = ask.get(f"{chat.url}/gradio_api/queue/data?session_hash={session}").text()
    [conversation, *_] = re.findall(r'"conversation": ?"([^"]+)"', painted)
    exported = ask.get(f"{chat.url}/parley/export/{quote(conversation)}?as=json").text()
    words = json.dumps("\n\n".join(few))[1:-1]
    changed = exported.replace("I will add them. ", words).replace("The sum is 42.", words)
    changed = changed.replace('"content":42', f'"content":"{words}"').replace('"content": 42', f'"content": "{words}"')
    changed = changed.replace(prompt, words).replace(conversation, str(uuid4()))
    answer = ask.post(f"{chat.url}/parley/import", data=changed, headers={"content-type": "application/json"})
    assert answer.ok, answer.text()
    [imported] = answer.json()["conversations"]
    title = {"title": few[0]}
    assert ask.patch(f"{chat.url}/parley/conversations/{imported}", data=title).ok
    return imported
