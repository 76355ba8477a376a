"""What one reply may use, enforced in its run: as Pydantic AI's limits, and beside those that an agent has itself."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pydantic_ai import RunContext, RunUsage
from pydantic_ai.capabilities import AbstractCapability, ValidatedToolArgs, WrapToolExecuteHandler
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.usage import UsageLimits

from chat.allowance import ReplyAllowance


class ReplyLimits(UsageLimits):
    """Ends a run before it asks its model again, and never takes back a reply that is whole.

    Pydantic AI's own limits of tokens and cost also end it after its last response, whose words have been read by then.
    """

    def __init__(self, reply: ReplyAllowance) -> None:
        super().__init__(request_limit=reply.requests, tool_calls_limit=reply.tool_calls)
        dollars = None if reply.dollars is None else Decimal(str(reply.dollars))
        self._before = UsageLimits(request_limit=None, total_tokens_limit=reply.tokens, cost_limit=dollars)

    def check_before_request(self, usage: RunUsage) -> None:
        super().check_before_request(usage)
        self._before.check_before_request(usage)


@dataclass
class AlsoLimited(AbstractCapability[Any]):
    """Holds a run to the limits also where its agent tells Pydantic AI others: the stricter ones end it."""

    limits: ReplyLimits
    _running: int = field(default=0, init=False)

    async def before_model_request(
        self, ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        self.limits.check_before_request(ctx.usage)
        return request_context

    async def wrap_tool_execute(
        self,
        ctx: RunContext[Any],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: ValidatedToolArgs,
        handler: WrapToolExecuteHandler,
    ) -> Any:
        self.limits.check_before_tool_call(ctx.usage + RunUsage(tool_calls=self._running + 1))
        self._running += 1
        try:
            return await handler(args)
        finally:
            self._running -= 1
