"""How a log record is written, text or JSON: the same by the server and by every process that it starts."""

from __future__ import annotations

import json
import logging
import os
import time

__all__ = ["FORMAT_VARIABLE", "JsonFormatter", "TextFormatter", "formatter_of", "log_to_stderr"]

# The setting's own, by which the server tells its children.
FORMAT_VARIABLE = "PENSTOCK_LOG_FORMAT"
# What every record has; the rest came with `extra` and is what the record is about.
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, then whatever came with `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record."""
        entry: dict[str, object] = {
            "time": _time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {key: value for key, value in _extras(record).items() if key not in entry}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """One line per record for a person: time, level, logger, message, key=value."""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record; the stack of an exception follows on lines of its own."""
        extras = "".join(f" {key}={_quote(value)}" for key, value in _extras(record).items())
        line = f"{_time_of(record)} {record.levelname:<7} {record.name}: {record.getMessage()}{extras}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def formatter_of(log_format: str) -> logging.Formatter:
    """Return what writes records in a format: a LogFormat, as children know it without reading settings."""
    return JsonFormatter() if log_format == "json" else TextFormatter()


def log_to_stderr() -> None:
    """Write all records as the server does, each with the process id: for processes that it starts."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter_of(os.environ.get(FORMAT_VARIABLE, "text")))
    handler.addFilter(_add_pid)
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _add_pid(record: logging.LogRecord) -> bool:
    record.pid = record.process
    return True


def _time_of(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"


def _extras(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in record.__dict__.items() if key not in _STANDARD}


def _quote(value: object) -> str:
    # A client's bytes may be among the values: nothing of them starts a line or colours the terminal.
    text = str(value)
    plain = text.isprintable() and text and not any(character in text for character in " \"'=")
    return text if plain else json.dumps(text)
