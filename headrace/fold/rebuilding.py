"""Which records make a rebuilt model: contracts, its own deployment, and the data that is not left out.

With nothing left out this gives the very model that was deployed (a law, and tested as one): other models on the
stream do not touch it, and a freeze is what a rebuild undoes.
"""

from headrace.contracts.events import ContractAdopted, Control, LogRecord
from headrace.fold.edits import both, controlling, leaving_out
from headrace.fold.log import Edit
from headrace.fold.parts import Rebuild


def edit_of(rebuild: Rebuild, partition: int) -> Edit:
    """The log that makes the model, as an edit of the log that is."""

    def control(record: Control, offset: int) -> LogRecord | None:
        return record if isinstance(record, ContractAdopted) or offset == rebuild.since else None

    return both(controlling(control), leaving_out(rebuild.without, partition))
