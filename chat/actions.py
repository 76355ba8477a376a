"""What a person can do at a message: edit, retry, take back, switch versions, fork."""

from dataclasses import dataclass
from typing import cast

from chat.identity import Owner
from chat.models import ChatAgent
from chat.services import Services
from chat.view import conversation_id_from


class ActionRefused(Exception):
    """Something that can't be done at a message. The message says why."""


@dataclass(frozen=True)
class Action:
    """What a page asks for, whatever it really sent.

    Args:
        do: What is to be done, as `act` names it.
        entry: The entry that it is done at.
        text: What an edited prompt says.
        kind: What is switched: the prompt, or the reply.
        number: The version that is switched to, from 1.
        model: The name of the model that is to answer.
    """

    do: str = ""
    entry: str = ""
    text: str = ""
    kind: str = ""
    number: int = 0
    model: str | None = None

    @classmethod
    def from_page(cls, value: object) -> "Action":
        """An action from what a page sent; what has another form is left out."""
        sent = cast("dict[object, object]", value) if isinstance(value, dict) else {}
        do, text, kind, number, model = (sent.get(name) for name in ("do", "text", "kind", "number", "model"))
        return cls(
            do=do if isinstance(do, str) else "",
            entry=conversation_id_from(sent.get("entry")) or "",
            text=text if isinstance(text, str) else "",
            kind=kind if isinstance(kind, str) else "",
            number=number if isinstance(number, int) else 0,
            model=model if isinstance(model, str) else None,
        )


async def act(services: Services, owner: Owner, conversation_id: str, action: Action, agent: ChatAgent) -> str:
    """Do it, in an owner's conversation; the conversation that is to be shown then.

    Raises:
        ActionRefused: If there is no such action, or no such model.
        PromptRefused: If an edited prompt can't be sent.
        ConversationBusy: If a reply is being written there.
        ConversationMissing: If the owner has no such conversation.
        MessageMissing: If the conversation has no such message, or no such version of it.
        NotNewest: If another turn than the newest was to be taken back.
        DatabaseUnavailable: If the database can't be changed now.
    """
    runs, versions = services.runs, services.versions
    if action.do == "edit":
        await runs.edit(owner, conversation_id, action.entry, action.text, agent)
    elif action.do == "retry":
        if action.model is not None and action.model not in {model.name for model in agent.models}:
            raise ActionRefused(f"There is no model {action.model!r} here. Choose another one.")
        await runs.retry(owner, conversation_id, agent, action.entry or None, action.model)
    elif action.do == "take back":
        await versions.take_back(owner, conversation_id, action.entry)
    elif action.do == "bring back":
        await versions.bring_back(owner, conversation_id)
    elif action.do == "switch":
        kind = "reply" if action.kind == "reply" else "prompt"
        await versions.switch(owner, conversation_id, action.entry, kind, action.number)
    elif action.do == "fork":
        return await versions.fork(owner, conversation_id, action.entry)
    else:
        raise ActionRefused("This page is older than the server. Load it again.")
    return conversation_id
