"""One prediction and its label, with the SDK: run it beside `headrace up` after `headrace demo --flights 5000`.

HEADRACE_API_KEY=hr_... python examples/predict_and_learn.py
"""

import os
import time

from headrace.client import Client

STREAM = "flights"


def main() -> None:
    with Client(key=os.environ["HEADRACE_API_KEY"]) as client:
        now_ms = time.time_ns() // 1_000_000
        flight = {
            "flight": f"UA1545-EWR-{now_ms}",
            "scheduled": now_ms,
            "carrier": "UA",
            "origin": "EWR",
            "dest": "IAH",
            "distance": 1400,
            "hour": 17,
            "precip": 0.1,
        }
        prediction = client.predict(STREAM, flight)
        print(
            f"late with probability {prediction['score']:.3f}, says {prediction['model']} v{prediction['version']}"
        )

        client.label(STREAM, flight["flight"], True, at=now_ms + 1)
        print(
            "and now it has learnt that it was late:",
            client.metrics(STREAM)["total"]["labels"],
            "labels so far",
        )


if __name__ == "__main__":
    main()
