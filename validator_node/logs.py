"""Structured logs: one JSON object a line in a rotated file, or readable lines on a terminal.

The lines are for people, so what strangers said is made `printable` in them; JSON has its own
escapes. A log that cannot be written (a full disk, a closed terminal) is lost line by line: it must
not end the node, nor fill the terminal with trace backs.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import structlog

from protocol.text import printable
from validator_node.errors import ConfigError
from validator_node.files import os_words

LOG_BYTES = 16 * 1024 * 1024
LOG_FILES = 4


def configure(path: Path | None, level: int = logging.INFO) -> None:
    """Send the log to `path`, or to standard error if it is None.

    Raises `ConfigError` when the file cannot be opened.
    """
    renderers: list[structlog.types.Processor]
    handler: logging.Handler
    if path is None:
        handler = _Terminal(sys.stderr)
        renderers = [escaped, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    else:
        handler = _log_file(path)
        renderers = [structlog.processors.JSONRenderer()]
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("libp2p").setLevel(logging.ERROR)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def escaped(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Make every text of a log event printable; only a trace back keeps its lines."""
    return {
        printable(name): printable(value, lines=name == "exception")
        if isinstance(value, str)
        else value
        for name, value in event.items()
    }


class _Lossy(logging.Handler):
    """A handler that loses a line rather than writing about it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Say nothing about an output that is full or closed."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class _Terminal(_Lossy, logging.StreamHandler):  # type: ignore[type-arg]
    pass


class _LogFile(_Lossy, RotatingFileHandler):
    pass


def _log_file(path: Path) -> logging.Handler:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _LogFile(path, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"log file {path}: {os_words(error)}") from error
    except ValueError as error:
        raise ConfigError(f"log file {str(path)!r}: is no path: {error}") from error
