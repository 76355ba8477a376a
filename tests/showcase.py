"""An agent that says what looks well on a picture of the chat: `python app.py --agent tests.showcase:agent`."""

import asyncio
import re
from collections.abc import AsyncIterator

from pydantic_ai import Agent, ModelMessage
from pydantic_ai.messages import ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel

WORD_SECONDS = 0.01

TRIP = "A weekend in Lisbon for two, by tram"
CODE = "And add up what we spent, by day, from costs.csv?"

WEEKEND = """Sunny on both days. This fits into **two day passes**:

| | Saturday | Sunday |
|---|---|---|
| Morning | Alfama on foot | Tram 15 to Belém |
| Afternoon | Tram 28 to Estrela | LX Factory |
| Evening | Fado in Mouraria | Sunset at Graça |

Bring good shoes: the old town is *all* hills.
"""

SUM = """Pandas does it in one line:

```python
import pandas as pd

costs = pd.read_csv("costs.csv", parse_dates=["day"])
print(costs.groupby("day")["euro"].sum())
```
"""

BEFORE = {
    "What a database index does": 0,
    "Names for a small bakery": 1,
    "A haiku about the sea": 1,
    "Rewrite my cover letter": 4,
    "Why the sky is blue": 5,
    "Gifts for a friend who cooks": 40,
}
"""What was asked before, and how many days ago."""


async def _script(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, object]]:
    prompt = next(
        part.content for part in reversed(messages[-1].parts) if isinstance(part, UserPromptPart | ToolReturnPart)
    )
    if prompt == TRIP:
        for word in ("Two days, ", "no car. ", "First the weather, ", "then the trams."):
            await asyncio.sleep(10 * WORD_SECONDS)
            yield {0: DeltaThinkingPart(content=word)}
        yield {1: DeltaToolCall(name="forecast", json_args='{"city": "Lisbon", "days": 2}', tool_call_id="forecast")}
        return
    said = SUM if prompt == CODE else WEEKEND if isinstance(prompt, list) else "Here you are."
    for word in re.findall(r"\S*\s*", said):
        await asyncio.sleep(WORD_SECONDS)
        yield word


agent = Agent(FunctionModel(stream_function=_script, model_name="gpt-5"), name="showcase")  # pyright: ignore[reportArgumentType]


@agent.tool_plain
async def forecast(city: str, days: int) -> list[dict[str, object]]:
    """The weather of the next days."""
    await asyncio.sleep(0.4)
    return [{"city": city, "day": day + 1, "sky": "sunny", "high": 24 + day} for day in range(days)]
