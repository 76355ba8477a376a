"""All that an agent does in one conversation is shown while it happens as it is shown afterwards."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot

from chat.decisions import Decision
from chat.file_render import text_file
from chat.identity import Owner
from chat.models import ChatAgent, ChatModel
from chat.runs import Run
from chat.services import Services, open_services
from chat.settings import Settings
from chat.shown import GradioMessage
from chat.view import View, watch
from tests.workday import agent

pytestmark = pytest.mark.anyio

ANNA = Owner("visitor:anna")


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    async with open_services(Settings(database=tmp_path / "chat.db")) as services:
        yield services


def lines(messages: list[GradioMessage]) -> list[str]:
    """What is shown, a message in a line, without ids and without what depends on the clock."""
    shown: list[str] = []
    for message in messages:
        metadata, text = message["metadata"], message["content"][0]["text"]
        title = re.sub(r"[\d.]+ s$", "? s", metadata.get("title", ""))
        nested = "> " if "parent_id" in metadata else ""
        said = re.sub(r"parley/files/[^\"]+", "FILE", text)
        said = re.sub(r" · [\d.]+ s<", " · ? s<", said)
        shown.append(" | ".join(filter(None, [f"{nested}{message['role']}", title, metadata.get("log", ""), said])))
    return shown


def whole(messages: list[GradioMessage]) -> list[str]:
    """The same without what stands below a turn: that is said once it has ended."""
    return lines(
        [message for message in messages if not message["metadata"].get("id", "").endswith((":took", ":note"))]
    )


async def followed(services: Services, run: Run, monkeypatch: pytest.MonkeyPatch) -> tuple[View, View]:
    """All of a reply while it is not saved yet, and what is shown once it is."""
    seen = asyncio.Event()
    save = services.store.save

    async def save_then(*arguments: Any, **options: Any) -> Any:
        await seen.wait()
        return await save(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(services.store, "save", save_then)
        views: list[View] = []
        async for view in watch(services, ANNA, run.conversation_id):
            views.append(view)
            if view.phase == "saving":
                seen.set()
    return next(view for view in reversed(views) if view.phase == "saving"), views[-1]


async def test_what_is_shown_while_it_happens_is_shown_afterwards(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    workday = ChatAgent(agent, (ChatModel("gpt-5", own=True),))
    prompt = [text_file("wishes.md", "No museums."), "Plan two days in Lisbon."]
    run = await services.runs.send(ANNA, None, prompt, workday)
    _, paused = await followed(services, run, monkeypatch)
    assert [call.tool for call in paused.pending] == ["book", "book"]
    hotel, boat = paused.pending
    decisions = [
        Decision(
            id=hotel.id,
            fingerprint=hotel.fingerprint,
            verdict="approve",
            arguments='{"what": "inn", "nights": 2, "for_whom": "Ann"}',
        ),
        Decision(id=boat.id, fingerprint=boat.fingerprint, verdict="deny", text="She gets seasick."),
    ]
    assert paused.token is not None
    run = await services.runs.decide(ANNA, run.conversation_id, paused.token, decisions, workday)
    live, stored = await followed(services, run, monkeypatch)
    assert whole(list(live.messages)) == whole(list(stored.messages))
    assert lines(list(stored.messages)) == snapshot(
        [
            """\
user | <details><summary>wishes.md · 11 bytes</summary>

```text
No museums.
```

</details>\
""",
            "user | Plan two days in Lisbon.",
            "assistant | Thought for ? s | Two days in Lisbon for Ann: the weather, what is open, a map.",
            """\
assistant | I will look around first.

""",
            """\
assistant | Web search | done | ```json
{
  "query": "two days in Lisbon"
}
```

<small>Result</small>

- <a href="https://example.com/lisbon">Two days in Lisbon</a>
- <a href="https://example.com/trams">The trams of Alfama</a>

<details><summary>JSON</summary>

```json
{
  "status": "completed",
  "sources": [
    {
      "type": "url",
      "url": "https://example.com/lisbon",
      "title": "Two days in Lisbon"
    },
    {
      "type": "url",
      "url": "https://example.com/trams",
      "title": "The trams of Alfama"
    }
  ]
}
```

</details>\
""",
            """\
assistant | Code execution | done | ```python
print(2 * 84 + 45)
```

<small>Result</small>

```json
213
```\
""",
            """\
assistant | Tool: forecast | retried, attempt 1 of 1 | ```json
{
  "days": "two"
}
```

<small>Result</small>

- days: Input should be a valid integer, unable to parse string as an integer\
""",
            """\
assistant | Tool: ask_guide | done | ```json
{
  "about": "the castle"
}
```

<small>Result</small>

```
The castle is open until **nine**.
```\
""",
            "> assistant | Asked | Tell me about the castle.",
            """\
> assistant | Tool: opening_hours | done | ```json
{
  "of": "castle"
}
```

<small>Result</small>

```json
{
  "opens": "09:00",
  "closes": "21:00"
}
```\
""",
            "> assistant | Answered | The castle is open until **nine**.",
            """\
assistant | Tool: draw_map | done | ```json
{
  "of": "Lisbon"
}
```

<small>Result</small>

```
A map of Lisbon.
```

*1 file, below.*\
""",
            'assistant | <a href="FILE"><img src="FILE" alt="map.png" loading="lazy"></a>',
            """\
assistant | Tool: read_page | failed | ```json
{
  "address": "https://example.com/closed"
}
```

<small>Result</small>

```
The page is gone.
```\
""",
            "assistant | Earlier messages, summarised | Ann wants two days in Lisbon. A map is drawn.",
            "assistant | Thought for ? s | *The provider keeps this to itself.*",
            """\
assistant | maps: route | done | ```json
{
  "to": "Belém"
}
```

<small>Result</small>

```
6.2 km, 18 minutes
```\
""",
            """\
assistant | Image generation | done | *No arguments.*

<small>Result</small>

```json
{
  "status": "completed",
  "size": "480x150"
}
```\
""",
            'assistant | <a href="FILE"><img src="FILE" alt="view.png" loading="lazy"></a>',
            """\
assistant | Tool: forecast | done | ```json
{
  "days": 2
}
```

<small>Result</small>

| day | sky | high |
| --- | --- | --- |
| 1 | sunny | 21.5 |
| 2 | windy | 22.5 |\
""",
            """\
assistant | Tool: book | done | ```json
{
  "what": "hotel",
  "nights": 2,
  "for_whom": "Ann"
}
```

<small>Approved with</small>

```json
{
  "what": "inn",
  "nights": 2,
  "for_whom": "Ann"
}
```

<small>Result</small>

```
Booked for Ann: inn, 2 nights.
```\
""",
            """\
assistant | Tool: book | denied | ```json
{
  "what": "boat",
  "nights": 1,
  "for_whom": "Ann"
}
```

<small>Result</small>

```
She gets seasick.
```\
""",
            """\
assistant | <audio src="FILE" controls preload="none"></audio>

<a href="FILE" download="lisbon.wav">lisbon.wav</a> · 8.04 kB\
""",
            "assistant | Lisbon it is.",
            """\
assistant | The trams climb to Alfama<sup>1</sup>, and \\(d = v \\cdot t\\) says that Belém is 18 minutes away.

<small>Sources: 1. <a href="https://example.com/trams">The trams of Alfama</a></small>\
""",
            "assistant | Asked to try again | attempt 1 of 1 | - Invalid JSON: expected value at line 1 column 1",
            """\
assistant | - **city:** Lisbon
- **days:** Alfama and the castle, Belém
- **cost:** 213

**sights**

| sight | open |
| --- | --- |
| Castle | until 21:00 |
| Tower | until 18:30 |

<details><summary>JSON</summary>

```json
{
  "city": "Lisbon",
  "days": [
    "Alfama and the castle",
    "Belém"
  ],
  "cost": 213,
  "sights": [
    {
      "sight": "Castle",
      "open": "until 21:00"
    },
    {
      "sight": "Tower",
      "open": "until 18:30"
    }
  ]
}
```

</details>\
""",
            "assistant | <small>gpt-5 · 12.8k in (1.8k cached), 600 out · $0.02 · ? s</small>",
        ]
    )
