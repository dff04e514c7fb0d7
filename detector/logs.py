"""Logs: text for people on a terminal, else a JSON object per line; secrets never shown, repeats rationed.

configure(settings.log, secrets(settings))
log = for_stream(logging.getLogger(__name__), "hosts")
log.warning("refused a record", extra={"topic": "hosts", "partition": 3})
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, TextIO

from .settings_sections import Log

HIDDEN = "********"
REPEAT_S = 60.0  # of one message of one stream, so that a fault per record does not fill a disk
REPEATS = 5  # are let through before the rest of that time is only counted
MOST_MESSAGES = 1000  # remembered, so that messages made of data cannot fill memory
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "suppressed"}
_ASSIGNED = re.compile(
    r"([\w.-]*(?:password|secret|token)[\w.-]*[\"']?\s*[=:]\s*[\"']?)([^\s\"',}]+)", re.IGNORECASE
)


def configure(
    log: Log,
    secrets: Iterable[str] = (),
    *,
    output: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Send all logs to standard error (or `output`) as the settings say; a second call replaces the first."""
    output = output or sys.stderr
    as_json = log.format == "json" or (log.format == "auto" and not output.isatty())
    handler = _Handler(output)
    handler.setFormatter(JsonFormatter(secrets) if as_json else TextFormatter(secrets))
    handler.addFilter(Ration(clock))
    root = logging.getLogger()
    for other in [other for other in root.handlers if isinstance(other, _Handler)]:
        root.removeHandler(other)
    root.addHandler(handler)
    root.setLevel(log.level.upper())
    for noisy in ("jax", "jax._src", "numba", "absl"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)


def for_stream(logger: logging.Logger, stream: str) -> logging.LoggerAdapter[logging.Logger]:
    """A logger whose every line names the stream."""
    return _StreamLogger(logger, {"stream": stream})


class _StreamLogger(logging.LoggerAdapter[logging.Logger]):
    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, to be found again."""


class _Formatter(logging.Formatter):
    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__()
        known = sorted({text for text in secrets if text}, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, known))) if known else None

    def hide(self, text: str) -> str:
        """The text without any known secret, nor what is assigned to a name that sounds like one."""
        text = self._secrets.sub(HIDDEN, text) if self._secrets else text
        return _ASSIGNED.sub(rf"\1{HIDDEN}", text)

    def parts(self, record: logging.LogRecord) -> dict[str, Any]:
        """The fields that were given beside the message."""
        fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if getattr(record, "suppressed", 0):
            fields["suppressed"] = record.suppressed  # type: ignore[attr-defined]
        return {key: self._hidden(value) for key, value in fields.items()}

    def _hidden(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, float)):
            return value
        return self.hide(str(value))

    def trace(self, record: logging.LogRecord) -> str:
        """The traceback, if there is one."""
        return self.hide(self.formatException(record.exc_info)) if record.exc_info else ""


class JsonFormatter(_Formatter):
    """One JSON object per line: time (RFC 3339, UTC), level, logger, message, then the fields given."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self.hide(record.getMessage()),
            **self.parts(record),
        }
        if trace := self.trace(record):
            line["exception"] = trace
        return json.dumps(line, ensure_ascii=False)


class TextFormatter(_Formatter):
    """`12:00:00 warning hosts: refused a record (topic=hosts, partition=3)`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the traceback under it."""
        fields = self.parts(record)
        stream = fields.pop("stream", None)
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        text = f"{moment} {record.levelname.lower()} {f'{stream}: ' if stream else ''}"
        text += self.hide(record.getMessage())
        if fields:
            text += f" ({', '.join(f'{key}={value}' for key, value in fields.items())})"
        trace = self.trace(record)
        return f"{text}\n{trace}" if trace else text


class Ration(logging.Filter):
    """Lets a few repeats of a message through, then one per REPEAT_S that says how many were left out.

    Messages repeat when logger, level, text before its arguments, and stream are the same.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[tuple[Any, ...], list[float]] = {}  # since, how many, left out

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is to be written."""
        key = (record.name, record.levelno, str(record.msg), getattr(record, "stream", None))
        now = self._clock()
        seen = self._seen.get(key)
        if seen is None or now - seen[0] >= REPEAT_S:
            left_out = int(seen[2]) if seen else 0
            if len(self._seen) >= MOST_MESSAGES:
                self._seen.clear()
            self._seen[key] = [now, 1, 0]
            record.suppressed = left_out
            return True
        seen[1] += 1
        if seen[1] <= REPEATS:
            return True
        seen[2] += 1
        return False
