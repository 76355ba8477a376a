"""What went wrong while a reply was written, as one sentence for the person who reads the chat.

The text of an error is for the log: it may hold addresses, keys or a customer's data. Only its class decides what a
visitor reads.
"""

import logging
import os

from pydantic_ai.exceptions import (
    AgentRunError,
    ConcurrencyLimitExceeded,
    ContentFilterError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelNotFoundError,
    ModelOverloadedError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestTimeout,
    ModelServerError,
    ModelTimeoutError,
    ModelUnavailableError,
    OutputTokenLimitExceeded,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
    UserError,
)

from chat.weights import LocalModelError

_SENTENCES: tuple[tuple[type[Exception], str], ...] = (
    (ModelAuthenticationError, "The model's provider did not accept this chat's key."),
    (ModelNotFoundError, "The model's provider does not have the model that this chat asks for."),
    (ModelContextWindowExceededError, "This conversation has become too long for the model. Start a new chat."),
    (ModelQuotaExceededError, "This chat has used up what it may spend at the model's provider."),
    (ModelOverloadedError, "The model is overloaded. Try again in a minute."),
    (ModelTimeoutError, "The model did not answer in time."),
    (ModelRequestTimeout, "The model did not answer in time."),
    (ModelUnavailableError, "The model is not available at the moment. Try again in a minute."),
    (ModelServerError, "The model's provider has a problem. Try again in a minute."),
    (ModelConnectionError, "The connection to the model was lost."),
    (ContentFilterError, "The model's provider refused to answer this because of its content."),
    (OutputTokenLimitExceeded, "The reply became longer than the model may write."),
    (UsageLimitExceeded, "This reply has reached the limit that is set for its use of the model."),
    (ConcurrencyLimitExceeded, "The model is asked too much at the moment. Try again in a minute."),
    (UnexpectedModelBehavior, "The model answered in a form that the agent can't use."),
    (UserError, "The agent is not set up correctly."),
)

_SECRET_NAMES = ("KEY", "TOKEN", "SECRET", "PASSWORD")
_SHORTEST_SECRET = 8


def sentence_for(error: BaseException) -> str:
    """What a visitor reads about `error`."""
    if isinstance(error, LocalModelError):
        return str(error)
    if isinstance(error, ModelRateLimitError):
        return f"The model is asked too much at the moment. {_when(error.retry_after)}"
    for kind, sentence in _SENTENCES:
        if isinstance(error, kind):
            return sentence
    if isinstance(error, ModelHTTPError):
        return f"The model's provider refused the request ({error.status_code})."
    if isinstance(error, ModelAPIError) and isinstance(error.__cause__, ValueError):  # Its answer was no JSON.
        return sentence_for(UnexpectedModelBehavior(""))
    if isinstance(error, ModelAPIError):
        return "The model's provider could not be asked."
    if isinstance(error, AgentRunError):
        return "The agent could not finish its reply."
    return f"The agent ran into a problem ({type(error).__name__})."


def log_failure(logger: logging.Logger, error: BaseException, conversation_id: str) -> None:
    """The details, for the person who runs the chat: one line for what a provider said, a traceback for code."""
    from_provider = isinstance(error, AgentRunError | LocalModelError)
    logger.error(
        "The reply in conversation %s failed: %s: %s",
        conversation_id,
        type(error).__name__,
        error,
        exc_info=None if from_provider else error,
    )


class SecretsFilter(logging.Filter):
    """Keeps the values of secret environment variables out of the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._without_secrets(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = self._without_secrets(logging.Formatter().formatException(record.exc_info))
        return True

    def _without_secrets(self, text: str) -> str:
        for name, value in os.environ.items():
            if name.endswith(_SECRET_NAMES) and len(value) >= _SHORTEST_SECRET:
                text = text.replace(value, f"[{name}]")
        return text


def _when(retry_after: float | None) -> str:
    if retry_after is None:
        return "Try again in a minute."
    seconds = max(1, round(retry_after))
    return f"Try again in {seconds:,} second{'s' if seconds > 1 else ''}."
