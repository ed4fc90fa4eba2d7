"""The drift file: what people say about false alarms, by stream. Read once, at start; only people write it."""

from pathlib import Path

from headrace.errors import Unusable
from services.monitor.domain.tolerance import Tolerance, Tolerances, read_wishes
from services.monitor.rulebook import document


def load(path: Path, default: Tolerance) -> Tolerances:
    """What holds for each stream; `default` for all, if there is no file.

    Raises `Unusable` if it cannot be read as that.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Tolerances((), default)
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"the drift file cannot be read: {error}", where=path.name) from None
    try:
        return Tolerances(read_wishes(document(text, where="")), default)
    except Unusable as error:
        raise Unusable(str(error), where=path.name) from None
