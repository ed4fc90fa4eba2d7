"""The streams ingest serves: each with the cleanser compiled from the contract it follows now."""

from collections.abc import Callable, Mapping

from headrace.contracts.cleanse import Cleanser
from headrace.contracts.events import StreamAnnounced
from headrace.contracts.stream import from_dict
from headrace.errors import Fatal


class Streams:
    """Cleansers by stream, compiled when first asked for and again when the registry announces a new version.

    announced: asked anew each time, as a follower replaces its dictionary.
    """

    def __init__(self, announced: Callable[[], Mapping[str, StreamAnnounced]]) -> None:
        self._announced = announced
        self._compiled: dict[str, tuple[StreamAnnounced, Cleanser]] = {}

    def names(self) -> list[str]:
        """The streams there are."""
        return list(self._announced())

    def find(self, stream: str) -> Cleanser | None:
        """The cleanser of the stream's contract as it is now; None if there is no such stream."""
        announcement = self._announced().get(stream)
        if announcement is None:
            return None
        held = self._compiled.get(stream)
        if held is None or held[0] is not announcement:
            held = self._compiled[stream] = (announcement, Cleanser(from_dict(announcement.contract)))
        return held[1]

    def get(self, stream: str) -> Cleanser:
        """Like `find` for a stream that must be there. Raises `Fatal` if the registry took it back."""
        cleanser = self.find(stream)
        if cleanser is None:
            raise Fatal(f"stream {stream} has left the registry while its inbox is read")
        return cleanser
