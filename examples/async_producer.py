"""Many observations a second from asyncio: NDJSON bodies, one after the other, so that their order is kept.

HEADRACE_API_KEY=hr_... python examples/async_producer.py STREAM < observations.ndjson
"""

import asyncio
import os
import sys
from itertools import islice

from headrace.client import AsyncClient

BODY_LINES = 2_000


async def main(stream: str) -> None:
    lines = (line.strip() for line in sys.stdin.buffer if line.strip())
    async with AsyncClient(key=os.environ["HEADRACE_API_KEY"]) as client:
        while body := list(islice(lines, BODY_LINES)):
            receipt = await client.publish(stream, body, "observations")
            for refusal in receipt.rejected:
                print(
                    f"line {refusal.line}: {refusal.rule} {refusal.field}: {refusal.reason}", file=sys.stderr
                )
            print(f"{receipt.accepted} are in the log")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
