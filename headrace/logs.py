"""Logs: one JSON object a line on stderr (coloured text on a terminal), from structlog and stdlib loggers alike.

Everything passes one processor that removes what must not be written down: API keys wherever they stand, and the
values of fields that are named like secrets.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

SECRET = re.compile(r"hr_[A-Za-z0-9_-]{20,}")
SECRET_NAMES = frozenset({"authorization", "secret", "password", "token", "api_key", "x-api-key", "key"})
REMOVED = "[removed]"


def configure(service: str, level: str = "info") -> None:
    """Set logging up for this process; call it once, in the composition root. Calling again replaces it."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _stamp(service),
    ]
    on_terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    last: list[Any] = (
        [without_secrets, structlog.dev.ConsoleRenderer()]
        if on_terminal
        else [structlog.processors.format_exc_info, without_secrets, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Our own access log (headrace.web) says it once; uvicorn's start and stop lines are noise beside ours.
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.WARNING)


def without_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Structlog processor: removes API keys from every text, and the values of fields named like secrets."""
    for name, value in event.items():
        if name.lower() in SECRET_NAMES:
            event[name] = REMOVED
        elif isinstance(value, str) and "hr_" in value:
            event[name] = SECRET.sub(REMOVED, value)
        elif isinstance(value, (list, tuple, dict)) and "hr_" in repr(value):
            event[name] = SECRET.sub(REMOVED, repr(value))
    return event


def _stamp(service: str) -> Any:
    def stamp(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["service"] = service
        return event

    return stamp
