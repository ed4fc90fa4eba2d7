"""What a service's refusal becomes on the caller's side: an error that says whose turn it is.

Services answer errors as RFC 9457 problems; `Busy` and `Unreachable` are worth another try (`Transient`), every other
`ServiceProblem` is for the caller to mend.
"""

from typing import Any

from headrace.errors import HeadraceError, Transient

_SHOWN_REJECTS = 3


class ServiceProblem(HeadraceError):
    """A service refused. `status` is the HTTP status, `problem` the whole problem document.

    Duty: mend the request (4xx), or look at the service's log (5xx).
    """

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.problem = problem
        self.title = str(problem.get("title") or f"HTTP {status}")
        self.detail = str(problem.get("detail") or "")
        super().__init__(_text(self.title, self.detail, problem))


class Busy(Transient):
    """The service asked to wait (429, 503; 409: the same is under way). Duty: try again after `retry_after_seconds`."""

    def __init__(self, status: int, problem: dict[str, Any], retry_after_seconds: float) -> None:
        self.status = status
        self.problem = problem
        self.retry_after_seconds = retry_after_seconds
        detail = problem.get("detail") or problem.get("title") or f"HTTP {status}"
        super().__init__(f"the service is busy: {detail}")


class Unreachable(Transient):
    """Nothing answered at the address. Duty: see `headrace status`, start the services, try again."""


def _text(title: str, detail: str, problem: dict[str, Any]) -> str:
    text = f"{title}: {detail}" if detail and detail != title else title
    changes = problem.get("changes")
    if isinstance(changes, list) and changes:
        text += "".join(f"\n  - {change}" for change in changes)
    rejected = problem.get("rejected")
    if isinstance(rejected, list):
        text += "".join(_line(refusal) for refusal in rejected[:_SHOWN_REJECTS] if isinstance(refusal, dict))
        if len(rejected) > _SHOWN_REJECTS:
            text += f"\n  - and {len(rejected) - _SHOWN_REJECTS} more"
    return text


def _line(refusal: dict[str, Any]) -> str:
    where = f" ({refusal['field']})" if refusal.get("field") else ""
    return f"\n  - line {refusal.get('line')}: {refusal.get('rule')}{where}: {refusal.get('reason')}"
