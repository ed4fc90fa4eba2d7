"""Errors that name the caller's duty.

Three kinds are enough for a host to decide: `Poison` (reject this record and go on), `Transient` (retry the batch),
`Fatal` (exit and be restarted). Everything else a library raises is mapped to one of them where it is caught.
"""


class HeadraceError(Exception):
    """Base of every error Headrace raises on purpose; its text is meant for a person."""


class Poison(HeadraceError):
    """The record itself is bad. Duty: reject it with `rule` and the text as the reason; do not retry."""

    def __init__(self, reason: str, *, rule: str, field: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.rule = rule
        self.field = field


class Transient(HeadraceError):
    """Something outside is away for now. Duty: abort, rewind, and try the same batch again."""


class Fatal(HeadraceError):
    """This process cannot go on safely. Duty: exit; a supervisor starts it again."""


class Unusable(HeadraceError):
    """What the caller handed over (a contract, a specification, a setting) cannot be used. Duty: mend and resubmit.

    `where` is a path into the document (`model.steps[1].parameters.lr`), empty if the whole is meant.
    """

    def __init__(self, reason: str, *, where: str = "") -> None:
        super().__init__(f"{where}: {reason}" if where else reason)
        self.reason = reason
        self.where = where
