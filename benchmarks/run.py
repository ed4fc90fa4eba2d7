"""`make bench`: speed against the bare River loop, Faust and Quix Streams, in one run on one machine.

Contestants take turns for some rounds and medians are compared, as a machine's speed wanders. Prints one JSON object
and writes it to benchmarks/results/latest.json; what was not asked for (`--only rebuild`) keeps its last figures there.
Only loopback is used.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import contest, ingest_http, monitor, rebuild
from benchmarks.workload import MODELS, labelled
from headrace.broker import EmbeddedBroker

EVENTS = {"logistic": 120_000, "tree": 60_000, "arf10": 8_000}
FAUST_EVENTS = 15_000
QUIX_EVENTS = 250_000  # it commits every five seconds, so a short log would be one step
QUIX_REQUIREMENTS = ("quixstreams==3.28.1", "river==0.26.1")

say = Console(stderr=True).print


def main() -> None:
    """Run what was asked for and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--only", nargs="*", default=["scoring", "faust", "quix", "http", "rebuild", "monitor"]
    )
    parser.add_argument(
        "--output", type=Path, default=contest.ROOT / "benchmarks" / "results" / "latest.json"
    )
    asked = parser.parse_args()
    results: dict[str, Any] = json.loads(asked.output.read_text("utf-8")) if asked.output.exists() else {}
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        home = Path(folder)
        if "rebuild" in asked.only:
            results["rebuild"] = {
                "at": time.strftime("%F"),
                **rebuild.measure(home, rebuild.EVENTS, asked.rounds),
            }
        if "monitor" in asked.only:
            results["monitor"] = {"at": time.strftime("%F"), **monitor.measure(asked.rounds)}
        broker = EmbeddedBroker(home / "kafka")
        try:
            bootstrap = broker.start().bootstrap_servers
            if {"scoring", "faust", "quix"} & set(asked.only):
                results |= run(bootstrap, home, asked.rounds, asked.only)
            if "http" in asked.only:
                say("HTTP")
                results["wait_for_prediction"] = ingest_http.measure_waiting(bootstrap, home / "waiting")
                results["ingest"] = ingest_http.measure_events(bootstrap, home / "events")
        finally:
            broker.stop()
    if "scoring" in asked.only:
        results["machine"] = {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "at": time.strftime("%F"),
        }
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    asked.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(results))


def run(bootstrap: str, home: Path, rounds: int, only: list[str]) -> dict[str, Any]:
    """Everything around the scoring service."""
    found: dict[str, Any] = {}
    quix = quix_python() if "quix" in only else ""
    for model in MODELS:
        count = EVENTS[model]
        rates: dict[str, list[float]] = {}
        sizes: dict[str, float] = {}
        for turn in range(rounds):
            say(f"{model}, round {turn + 1} of {rounds}")
            rates.setdefault("river", []).append(river(model, count))
            if "scoring" in only:
                keep(rates, sizes, "headrace", compete(bootstrap, home, model, count, "headrace", ""))
            if "faust" in only and model == "logistic":
                keep(
                    rates,
                    sizes,
                    "faust",
                    compete(bootstrap, home, model, FAUST_EVENTS, "faust", sys.executable),
                )
            if "quix" in only and model == "logistic":
                keep(rates, sizes, "quix", compete(bootstrap, home, model, QUIX_EVENTS, "quix", quix))
        found[model] = summary(rates, sizes)
        say(found[model])
    return found


def keep(
    rates: dict[str, list[float]], sizes: dict[str, float], name: str, measured: contest.Measured
) -> None:
    """Collect one round."""
    rates.setdefault(name, []).append(measured.rate)
    sizes[name] = max(sizes.get(name, 0.0), measured.rss_mb)


def summary(rates: dict[str, list[float]], sizes: dict[str, float]) -> dict[str, Any]:
    """Medians, all rounds, and Headrace's ratio to each."""
    medians = {name: statistics.median(found) for name, found in rates.items()}
    ratios = {
        f"to_{name}": round(medians["headrace"] / rate, 3)
        for name, rate in medians.items()
        if name != "headrace" and "headrace" in medians
    }
    return {
        "events_per_second": {name: round(rate) for name, rate in medians.items()},
        "rounds": {name: [round(rate) for rate in found] for name, found in rates.items()},
        "ratios": ratios,
        "peak_rss_mb": {name: round(size) for name, size in sizes.items()},
    }


def river(model: str, count: int) -> float:
    """The bare loop, in a process of its own like the others."""
    command = [sys.executable, "-m", "benchmarks.river_loop", model, str(count)]
    done = subprocess.run(command, cwd=contest.ROOT, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout)["events_per_second"])


def compete(bootstrap: str, home: Path, model: str, count: int, who: str, python: str) -> contest.Measured:
    """Fill a log, run a contestant over it, measure."""
    stream = contest.fill(bootstrap, labelled(count), model)
    if who == "headrace":
        command, environment = contest.headrace(bootstrap, stream, home)
    else:
        script = {"faust": "faust_agent.py", "quix": "quix_app.py"}[who]
        command, environment = contest.other(python, script, bootstrap, stream, model), {}
    log = home / f"{who}.log"
    try:
        with contest.process(command, log, **environment) as child:
            return contest.measure(bootstrap, stream, count, child)
    except RuntimeError as error:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        raise SystemExit(f"{who} on {model}: {error}\n{tail}") from None
    finally:
        contest.forget(bootstrap, stream)


def quix_python() -> str:
    """An environment for Quix Streams, whose pins clash with ours; kept for the next run."""
    folder = contest.ROOT / "benchmarks" / ".quix"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        say("making an environment for Quix Streams")
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *QUIX_REQUIREMENTS], check=True)
        (folder / "complete").touch()
    return str(python)


if __name__ == "__main__":
    main()
