"""Log records: what is written, and that nobody waits for the writing."""

import io
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from penstock.core.config import LogFormat, LogLevel
from penstock.core.log_lines import JsonFormatter, TextFormatter
from penstock.serve.logs import LogWriter

SECONDS = 120.0
log = logging.getLogger("penstock.test")


@contextmanager
def writing(
    stream: io.StringIO, log_format: LogFormat, level: LogLevel = LogLevel.INFO, **options: int
) -> Iterator[LogWriter]:
    writer = LogWriter(log_format, level, stream, **options)
    writer.start()
    try:
        yield writer
    finally:
        writer.stop()


def test_json_is_one_object_per_line() -> None:
    stream = io.StringIO()
    with writing(stream, LogFormat.JSON):
        log.info("ready %s", "now", extra={"url": "http://x", "models": ["a 1"], "odd": object})
        try:
            raise ValueError("two\nlines")
        except ValueError:
            log.exception("failed")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert list(first) == ["time", "level", "logger", "message", "url", "models", "odd"]
    assert first["message"] == "ready now"
    assert first["level"] == "info"
    assert first["logger"] == "penstock.test"
    assert first["time"].endswith("Z")
    assert first["models"] == ["a 1"]
    assert "ValueError: two\nlines" in second["exception"]


def test_text_is_for_people() -> None:
    stream = io.StringIO()
    with writing(stream, LogFormat.TEXT):
        log.warning("refused", extra={"path": "/a b\n\x1b[31m", "count": 3})
    (line,) = stream.getvalue().splitlines()
    assert line.endswith('WARNING penstock.test: refused path="/a b\\n\\u001b[31m" count=3')


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_time_is_utc_with_milliseconds(formatter: logging.Formatter) -> None:
    record = logging.makeLogRecord({"created": 1.5, "msecs": 500.0, "msg": "x", "name": "n", "levelname": "INFO"})
    assert "1970-01-01T00:00:01.500Z" in formatter.format(record)


def test_level_is_ours_and_other_libraries_warn() -> None:
    stream = io.StringIO()
    with writing(stream, LogFormat.TEXT, LogLevel.DEBUG):
        log.debug("ours")
        logging.getLogger("elsewhere").info("theirs")
        logging.getLogger("elsewhere").warning("their warning")
    text = stream.getvalue()
    assert "ours" in text
    assert "their warning" in text
    assert "theirs" not in text.replace("their warning", "")
    stream = io.StringIO()
    with writing(stream, LogFormat.TEXT, LogLevel.ERROR):
        log.warning("less")
    assert stream.getvalue() == ""


class Blocked(io.StringIO):
    """A stream that nobody reads until `moves` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.moves = threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        assert self.moves.wait(SECONDS)
        return super().write(text)


def test_full_queue_drops_and_counts() -> None:
    stream = Blocked()
    with writing(stream, LogFormat.TEXT, queue_records_max=3) as writer:
        log.info("first")
        assert stream.reached.wait(SECONDS)
        for number in range(10):
            log.info("more %d", number)
        assert writer.dropped == 7
        stream.moves.set()
    assert len(stream.getvalue().splitlines()) == 4


class Broken(io.StringIO):
    """A pipe whose reader has gone."""

    def flush(self) -> None:
        raise BrokenPipeError


def test_broken_pipe_loses_records_and_nothing_else() -> None:
    with writing(Broken(), LogFormat.TEXT) as writer:
        log.info("unheard")
        log.info("unheard as well")
    assert writer.dropped == 2


def test_after_stop_records_go_elsewhere(caplog: pytest.LogCaptureFixture) -> None:
    stream = io.StringIO()
    with writing(stream, LogFormat.TEXT):
        pass
    log.warning("late")
    assert stream.getvalue() == ""
    assert "late" in caplog.text
