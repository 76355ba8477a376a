"""What went wrong is one sentence for the reader, and the details are for the log, without secrets."""

import logging
from typing import Any

import pytest
from inline_snapshot import snapshot
from pydantic_ai import exceptions
from pydantic_ai.exceptions import AgentRunError, ModelAPIError, ModelHTTPError, ModelRateLimitError, UserError

from chat.failures import SecretsFilter, log_failure, sentence_for
from chat.weights import LocalModelError

DETAILS = "https://internal.example/?key=sk-secret"


def build(kind: type[AgentRunError]) -> AgentRunError:
    """An error of this class, with details in all that it holds."""
    made: Any = kind
    if issubclass(kind, ModelHTTPError):
        return made(418, DETAILS, body=DETAILS)
    if issubclass(kind, exceptions.ModelRequestTimeout):
        return made(DETAILS, 5)
    return made(DETAILS, DETAILS) if issubclass(kind, ModelAPIError) else made(DETAILS)


def kinds_of(base: type[AgentRunError]) -> list[type[AgentRunError]]:
    """The class and those below it that `pydantic_ai.exceptions` defines, also the private ones that it raises."""
    below = [kind for subclass in base.__subclasses__() for kind in kinds_of(subclass)]
    return [kind for kind in (base, *below) if kind.__module__ == exceptions.__name__]


def test_each_kind_of_error_of_a_run_has_its_sentence() -> None:
    public = [kind for kind in map(vars(exceptions).get, exceptions.__all__) if kind in kinds_of(AgentRunError)]
    assert {kind.__name__: sentence_for(build(kind)) for kind in public} == snapshot(
        {
            "AgentRunError": "The agent could not finish its reply.",
            "RunCancelled": "The agent could not finish its reply.",
            "RunTimedOut": "The agent could not finish its reply.",
            "SuspendedResponseExpired": "The agent could not finish its reply.",
            "UsageLimitExceeded": "This reply has reached the limit that is set for its use of the model.",
            "ConcurrencyLimitExceeded": "The model is asked too much at the moment. Try again in a minute.",
            "UnexpectedModelBehavior": "The model answered in a form that the agent can't use.",
            "ContentFilterError": "The model's provider refused to answer this because of its content.",
            "OutputTokenLimitExceeded": "The reply became longer than the model may write.",
            "IncompleteToolCall": "The reply became longer than the model may write.",
            "ModelAPIError": "The model's provider could not be asked.",
            "ModelRateLimitError": "The model is asked too much at the moment. Try again in a minute.",
            "ModelQuotaExceededError": "This chat has used up what it may spend at the model's provider.",
            "ModelUnavailableError": "The model is not available at the moment. Try again in a minute.",
            "ModelOverloadedError": "The model is overloaded. Try again in a minute.",
            "ModelServerError": "The model's provider has a problem. Try again in a minute.",
            "ModelConnectionError": "The connection to the model was lost.",
            "ModelTimeoutError": "The model did not answer in time.",
            "ModelRequestRejectedError": "The model's provider could not be asked.",
            "ModelContextWindowExceededError": "This conversation has become too long for the model. Start a new chat.",
            "ModelAuthenticationError": "The model's provider did not accept this chat's key.",
            "ModelNotFoundError": "The model's provider does not have the model that this chat asks for.",
            "ModelRequestTimeout": "The model did not answer in time.",
            "ModelHTTPError": "The model's provider refused the request (418).",
        }
    )


@pytest.mark.parametrize("kind", kinds_of(AgentRunError), ids=lambda kind: kind.__name__)
def test_no_sentence_gives_the_details_away(kind: type[AgentRunError]) -> None:
    error = build(kind)
    assert DETAILS in str(error)
    sentence = sentence_for(error)
    assert DETAILS not in sentence
    assert "sk-" not in sentence
    assert "\n" not in sentence
    assert sentence.endswith(".")


@pytest.mark.parametrize(
    ("category", "status"),
    [
        (exceptions.ModelRateLimitError, 429),
        (exceptions.ModelAuthenticationError, 401),
        (exceptions.ModelQuotaExceededError, 402),
        (exceptions.ModelContextWindowExceededError, 400),
        (exceptions.ModelOverloadedError, 529),
        (exceptions.ModelNotFoundError, 404),
        (exceptions.ModelServerError, 500),
    ],
)
def test_an_http_error_reads_like_its_category(category: Any, status: int) -> None:
    over_http = ModelHTTPError.for_category(category, status_code=status, model_name="m", body=DETAILS)
    assert sentence_for(over_http) == sentence_for(build(category))


@pytest.mark.parametrize(
    ("retry_after", "when"),
    [
        (None, "in a minute"),
        (0.2, "in 1 second"),
        (20, "in 20 seconds"),
        (7200.4, "in 7,200 seconds"),
    ],
)
def test_a_rate_limit_says_when_to_try_again(retry_after: float | None, when: str) -> None:
    error = ModelRateLimitError("m", DETAILS, retry_after=retry_after)
    assert sentence_for(error) == f"The model is asked too much at the moment. Try again {when}."


def test_a_retry_after_header_is_named() -> None:
    error = ModelHTTPError.for_category(
        ModelRateLimitError, status_code=429, model_name="m", headers={"Retry-After": "30"}
    )
    assert sentence_for(error) == "The model is asked too much at the moment. Try again in 30 seconds."


def test_an_error_in_the_agents_own_code_is_named_by_its_class_only() -> None:
    assert sentence_for(KeyError(DETAILS)) == "The agent ran into a problem (KeyError)."
    assert (
        sentence_for(ExceptionGroup(DETAILS, [ValueError(DETAILS)])) == "The agent ran into a problem (ExceptionGroup)."
    )
    assert sentence_for(UserError(DETAILS)) == "The agent is not set up correctly."


def test_the_embedded_models_own_sentence_is_shown_as_it_is() -> None:
    assert sentence_for(LocalModelError("The weights are gone. Start again.")) == "The weights are gone. Start again."


# The log


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def test_the_log_has_the_details_and_a_traceback_for_the_agents_own_code(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("tests")
    log_failure(logger, raised(ValueError("details")), "c")
    log_failure(logger, raised(ModelAPIError("m", "refused")), "c")
    code, provider = caplog.records
    assert code.getMessage() == "The reply in conversation c failed: ValueError: details"
    assert code.exc_info is not None
    assert provider.getMessage() == "The reply in conversation c failed: ModelAPIError: refused"
    assert provider.exc_info is None


def filtered(message: str, *args: object, error: Exception | None = None) -> str:
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    record = logging.LogRecord("tests", logging.ERROR, __file__, 1, message, args, exc_info)
    assert SecretsFilter().filter(record)
    return logging.Formatter("%(message)s").format(record)


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "HF_TOKEN", "MY_SECRET", "DB_PASSWORD"])
def test_the_values_of_secret_variables_are_kept_out_of_messages_and_tracebacks(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "hunter2hunter2")
    line = filtered("sent %s with %d%%", "hunter2hunter2", 5, error=raised(ValueError("key hunter2hunter2 refused")))
    assert line.startswith(f"sent [{name}] with 5%\n")
    assert line.endswith(f"\nValueError: key [{name}] refused")
    assert "hunter2hunter2" not in line


def test_other_variables_and_short_values_stay_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORT_KEY", "on")
    monkeypatch.setenv("CHAT_TITLE", "conversation")
    assert filtered("conversation is %s", "on") == "conversation is on"
