"""The sampled check: one stretch of a log, between two things a live shard has stored, folded again and compared.

Done now and then beside the live shards, it proves all the time what `headrace rebuild --verify` proves once: what is
served is what the log gives. A stretch is bounded, so a check costs a bounded while on any log.
"""

from headrace.contracts.topics import LOG, topic
from headrace.errors import Unusable
from headrace.replay.rebuild import Progress, unwatched
from headrace.replay.sources import Sources
from headrace.replay.states import Start
from headrace.replay.verify import Stretch, Verdict, fold_again

MOST_OFFSETS = 1_000_000


def recheck(
    sources: Sources, stream: str, partition: int, pick: float, progress: Progress = unwatched
) -> Verdict:
    """Check the stretch that `pick` (0 <= pick < 1) chooses: from a snapshot, or the log's start, to the next one.

    The last stretch ends at what scoring has committed. Raises `Unusable` if nothing is there to be checked.
    """
    answered = sources.answered(stream, partition)
    snapshots = [one for one in sources.snapshots(stream, partition) if one.offset <= answered]
    borders = sorted({0, *(one.offset for one in snapshots), answered})
    if len(borders) < 2:
        raise Unusable(f"{stream}/{partition}: nothing has been scored yet")
    wanted = borders[int(pick * (len(borders) - 1))]
    start: Start | None = sources.states.at_or_below(topic(LOG, stream), partition, wanted)
    begin = start.offset if start is not None else 0
    end = min(next(border for border in borders if border > wanted), begin + MOST_OFFSETS)
    stretch = Stretch(stream, partition, end, start)
    verdict, _ = fold_again(
        sources.history, stretch, snapshots=snapshots, rebuilder=sources.rebuilder, progress=progress
    )
    return verdict
