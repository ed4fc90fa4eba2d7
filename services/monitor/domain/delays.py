"""Label delays in a histogram of fixed buckets: exact below 16 ms, then eight a doubling (6 % wide on average).

Integer arithmetic only, so that a delay falls into the same bucket on every machine and histograms merge exactly.
"""

from headrace.contracts.statistics import Delay

EXACT_BELOW = 16


def bucket(delay_ms: int) -> int:
    """The bucket of a delay; those below 0 count as 0."""
    if delay_ms < EXACT_BELOW:
        return max(delay_ms, 0)
    shift = delay_ms.bit_length() - 4
    return shift * 8 + (delay_ms >> shift)


def bucket_range(index: int) -> tuple[int, int]:
    """The delays of a bucket, in milliseconds: from (inclusive), to (exclusive)."""
    if index < EXACT_BELOW:
        return index, index + 1
    shift = index // 8 - 1
    low = (index - shift * 8) << shift
    return low, low + (1 << shift)


def add(delay: Delay, delay_ms: int) -> None:
    """Count one label's delay."""
    delay.count += 1
    delay.sum_ms += delay_ms
    if delay_ms < 0:
        delay.early += 1
    index = bucket(delay_ms)
    delay.buckets[index] = delay.buckets.get(index, 0) + 1


def quantile_ms(delay: Delay, q: float) -> float | None:
    """The delay that a share `q` of labels did not exceed, to within its bucket; None without labels."""
    if delay.count == 0:
        return None
    rank = q * (delay.count - 1)
    below = 0
    low = high = 0
    for index, count in sorted(delay.buckets.items()):
        low, high = bucket_range(index)
        if below + count > rank:
            return low + (high - 1 - low) * (rank - below) / count
        below += count
    return float(high - 1)
