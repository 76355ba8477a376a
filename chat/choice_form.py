"""The form in which a person chooses how a conversation is answered, as HTML. Pure; all that is written is escaped."""

from collections.abc import Iterable
from html import escape
from typing import get_args

from pydantic_ai.settings import ThinkingEffort

from chat.abilities import takes_temperature, takes_thinking
from chat.choices import LONGEST_INSTRUCTIONS, Choice
from chat.models import ChatAgent
from chat.switches import Switch


def choice_form(agent: ChatAgent, choice: Choice) -> str:
    """A summary that names the model and counts what else differs from the default, and the form that it unfolds.

    Each field is named as in `Choice`, so that what the form holds is what `ChatAgent.choice` takes. What the chosen
    model can't do is not offered.
    """
    chosen = agent.chosen(choice.model)
    fields = [
        _models([model.name for model in agent.models], chosen.name),
        _instructions(choice.instructions),
        _temperature(choice.temperature) if takes_temperature(chosen.model, choice.thinking) else "",
        _thinking(choice.thinking) if takes_thinking(chosen.model) else "",
        _tools(agent.switches(choice.model), choice.tools_off),
    ]
    changed = len([name for name in choice.changes() if name != "model"])
    more = f" <b>{changed} changed</b>" if changed else ""
    return f"<details><summary>{escape(chosen.name)}{more}</summary><form>{''.join(fields)}</form></details>"


def _models(names: Iterable[str], chosen: str) -> str:
    options = "".join(_option(name, name, selected=name == chosen) for name in names)
    return f'<label>Model<select name="model">{options}</select></label>'


def _instructions(instructions: str) -> str:
    return (
        f'<label>Instructions of your own<textarea name="instructions" rows="3" maxlength="{LONGEST_INSTRUCTIONS}" '
        f'placeholder="Sent with each message of this conversation">{escape(instructions)}</textarea></label>'
    )


def _temperature(temperature: float | None) -> str:
    value = "" if temperature is None else f"{temperature:g}"
    return (
        "<label>Temperature, from 0 (the same each time) to 1 (varied)"
        f'<input name="temperature" type="number" min="0" max="1" step="0.1" value="{value}" '
        'placeholder="The model&#39;s own"></label>'
    )


def _thinking(thinking: object) -> str:
    now = {None: "", True: "", False: "off"}.get(thinking, thinking) if isinstance(thinking, bool | None) else thinking
    efforts = [("", "The model's own"), ("off", "As little as it can"), *((it, it) for it in get_args(ThinkingEffort))]
    options = "".join(_option(value, label, selected=value == now) for value, label in efforts)
    return f'<label>Thinking<select name="thinking">{options}</select></label>'


def _tools(switches: Iterable[Switch], tools_off: Iterable[str]) -> str:
    off = {*tools_off}
    boxes = "".join(
        f'<label title="{escape(switch.description)}"><input type="checkbox" name="tool" value="{escape(switch.name)}"'
        f"{'' if switch.name in off else ' checked'}> {escape(switch.name)}</label>"
        for switch in switches
    )
    return f"<fieldset><legend>Tools</legend>{boxes}</fieldset>" if boxes else ""


def _option(value: str, label: str, *, selected: bool) -> str:
    return f'<option value="{escape(value)}"{" selected" if selected else ""}>{escape(label)}</option>'
