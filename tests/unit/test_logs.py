"""Where log lines go: to structlog if it is configured, otherwise to the standard logger."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import stamina
import structlog
from stamina.instrumentation import get_on_retry_hooks, set_on_retry_hooks
from structlog.testing import capture_logs

from chromasync.errors import ServerUnreachable
from chromasync.events import Event
from chromasync.logs import LOGGER, get_logger
from chromasync.retries import log_own_retries

log = get_logger()


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Structlog as nobody has configured it, and the hooks of stamina as they were."""
    structlog.reset_defaults()
    log_own_retries.cache_clear()
    set_on_retry_hooks(None)
    yield
    structlog.reset_defaults()
    log_own_retries.cache_clear()
    set_on_retry_hooks(None)


def failing(error: Exception) -> None:
    """A call that is repeated once."""
    waits = {"wait_initial": 0, "wait_max": 0, "wait_jitter": 0}

    @stamina.retry(on=type(error), attempts=2, **waits)
    def call() -> None:
        raise error

    with pytest.raises(type(error)):
        call()


def test_a_line_reaches_the_standard_logger(caplog: pytest.LogCaptureFixture) -> None:
    """It has the event, its fields as text and as data, and the place that logged it."""
    with caplog.at_level(logging.INFO, LOGGER):
        log.info(Event.LEADS, term=3, called_back=0)
    (record,) = caplog.records
    assert record.getMessage() == "leads term=3 called_back=0"
    assert (record.name, record.levelname) == ("chromasync", "INFO")
    assert record.__dict__["fields"] == {"term": 3, "called_back": 0}
    assert record.filename == "test_logs.py"


def test_a_text_with_percent_signs_is_no_format(caplog: pytest.LogCaptureFixture) -> None:
    """Names may hold whatever the logging module would replace."""
    log.warning(Event.RENAME_REFUSED, name="100%s")
    assert caplog.messages == ["a rename was refused name=100%s"]


def test_the_traceback_goes_along(caplog: pytest.LogCaptureFixture) -> None:
    """`exception` logs the exception that is handled."""
    try:
        int("here")
    except ValueError:
        log.exception(Event.TASK_FAILED)
    assert "ValueError: invalid literal" in caplog.text


def test_below_the_level_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The program decides what it wants to see; by default these are warnings."""
    log.info(Event.LEADS)
    log.debug(Event.LEADS)
    log.error(Event.HELD)
    assert caplog.messages == ["held"]


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_a_configured_structlog_gets_the_lines(
    level: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Then nothing goes to the standard logger, so that no line comes twice."""
    with capture_logs() as lines:
        getattr(log, level)(Event.LEADS, term=3)
    assert lines == [{"event": "leads", "term": 3, "log_level": level}]
    assert caplog.records == []


def test_own_retries_are_logged_and_not_printed(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """The default of the retry library would print them; repetitions are limited."""
    log_own_retries()
    for _ in range(3):
        failing(ServerUnreachable("It is away.", side="primary"))
    assert capsys.readouterr() == ("", "")
    assert caplog.messages == ["trying again attempt=2 in_seconds=0.0 because=It is away."]


def test_a_configured_structlog_gets_own_retries_as_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The command line puts the line of the retry library into words of its own."""
    log_own_retries()
    with capture_logs() as lines:
        failing(ServerUnreachable("It is away.", side="primary"))
    assert [line["event"] for line in lines] == ["stamina.retry_scheduled"]
    assert caplog.records == []


def test_retries_of_the_program_stay_as_they_were(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """What others repeat goes where it went before, and hooks that they have set stay."""
    log_own_retries()
    failing(KeyError("theirs"))
    assert "stamina.retry_scheduled" in capsys.readouterr().out
    assert caplog.records == []
    seen: list[int] = []
    set_on_retry_hooks([lambda details: seen.append(details.retry_num)])
    hooks = get_on_retry_hooks()
    log_own_retries.cache_clear()
    log_own_retries()
    assert get_on_retry_hooks() == hooks
    failing(ServerUnreachable("It is away.", side="primary"))
    assert seen == [1]
