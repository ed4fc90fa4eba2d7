"""What `up`, `status` and `doctor` show."""

from typing import Any

from headrace.cli import processes, supervision, system
from headrace.cli.doctor import Finding
from headrace.cli.following import Live, behind
from headrace.cli.home import SERVICES, Home, read_json
from headrace.cli.output import Output
from headrace.client import Client, calls
from headrace.client.problems import ServiceProblem
from headrace.errors import HeadraceError

MARKS = {"ok": "ok  ", "note": "note", "bad": "BAD "}
STYLES = {"ok": "green", "note": "yellow", "bad": "red"}


def show_key(output: Output, secret: str) -> None:
    """The first key, at the one moment when it can be seen."""
    output.say(f"Your API key (role admin), shown this once: {secret}", style="bold")
    output.say("The command line keeps its own. More keys: headrace key create NAME --role producer")


def show_started(home: Home, output: Output, started: system.Started) -> None:
    """What `up` did, and what to do next."""
    run = started.run
    output.answer(
        {
            "home": str(home.path),
            "bootstrap": run.bootstrap,
            "embedded": run.embedded,
            "services": {name: {"pid": one.pid, "url": one.url} for name, one in run.services.items()},
            "supervisor": run.supervisor.pid if run.supervisor is not None else None,
            "started": started.started,
            "kept": started.kept,
            **({"admin_key": started.admin_key} if started.admin_key else {}),
        }
    )
    output.say()
    kind = "Apache Kafka (embedded)" if run.embedded else "Kafka"
    output.table(
        ("", "address", "pid"),
        [
            (kind, run.bootstrap, ""),
            *((name, run.services[name].url, str(run.services[name].pid)) for name in SERVICES),
        ],
    )
    output.next(
        "headrace demo                                    a year of real flights",
        "headrace stream create --from FILE --label COLUMN   a stream of your own",
        "headrace status                                  what runs, and how well",
    )


def collect_status(home: Home) -> dict[str, Any]:
    """The whole state as one document. well: everything that should run does."""
    run = home.load()
    ready = system.ready_now(home, run)
    histories = read_json(home.supervision_file)
    services = []
    for name in SERVICES:
        known = run.services.get(name)
        alive = known is not None and processes.is_alive(known.pid, known.mark)
        well, reason = ready.get(name, (False, ""))
        services.append(
            {
                "service": name,
                "pid": known.pid if known is not None and alive else None,
                "url": known.url if known is not None else None,
                "ready": alive and well,
                "reason": reason if alive else "is not running",
                "memory_mb": processes.memory_mb(known.pid) if known is not None and alive else None,
                **_history(histories.get(name)),
            }
        )
    broker = (
        system.broker_state(home, run)
        if run.bootstrap
        else {"bootstrap": "", "ready": False, "embedded": True}
    )
    broker |= _history(histories.get(supervision.BROKER))
    supervisor = {
        "pid": run.supervisor.pid if run.supervisor is not None else None,
        "ready": system.supervised(run),
    }
    up = broker["ready"] and supervisor["ready"] and all(service["ready"] for service in services)
    streams: list[dict[str, Any]] = []
    if broker["ready"] and ready.get("registry", (False, ""))[0] and home.key():
        with Client(home.addresses(), key=home.key(), timeout_seconds=5.0, patience_seconds=2.0) as client:
            streams = _streams(client, run.bootstrap, estimated=ready.get("monitor", (False, ""))[0])
    return {
        "well": up,
        "home": str(home.path),
        "broker": broker,
        "services": services,
        "supervisor": supervisor,
        "streams": streams,
    }


def _history(known: Any) -> dict[str, Any]:
    """What the supervisor tells of one process: the same members whether or not it has ever ended."""
    known = known if isinstance(known, dict) else {}
    return {
        "restarts": int(known.get("restarts", 0)),
        "ends_in_a_row": int(known.get("ends_in_a_row", 0)),
        "last_end": {name: known.get(name) for name in ("ended_at", "exit_code", "reason")}
        if known.get("ended_at")
        else None,
    }


def _trouble(one: dict[str, Any]) -> str:
    """Why a process is not well, and what the supervisor has seen of it."""
    seen = supervision.told({**(one["last_end"] or {}), "ends_in_a_row": one["ends_in_a_row"]})
    return "; ".join(part for part in (one.get("reason", ""), seen) if part)


def _streams(client: Client, bootstrap: str, *, estimated: bool) -> list[dict[str, Any]]:
    """estimated: whether the monitor can be asked for what it estimates."""
    from headrace.cli.streams import every

    streams = []
    for one in every(client, "registry", "/v1/streams", "streams"):
        name = str(one["stream"])
        try:
            live = Live(client.metrics(name))
            lag = behind(bootstrap, name, live)
        except HeadraceError as error:
            reason = (
                "no shard yet" if isinstance(error, ServiceProblem) and error.status == 404 else str(error)
            )
            streams.append({"stream": name, "reason": reason})
            continue
        counts = (
            "observations",
            "predictions",
            "labels",
            "outcomes",
            "expired",
            "pending",
            "duplicates",
            "refused",
        )
        champion = live.champion()
        entry: dict[str, Any] = {"stream": name, "lag": lag}
        streams.append(
            entry
            | {
                "offsets": {
                    number: part.get("offset") for number, part in live.document.get("partitions", {}).items()
                },
                **{count: live.count(count) for count in counts},
                "champion": champion.get("model"),
                "version": champion.get("version"),
                "estimate": _estimate(client, name, champion) if estimated else None,
                "models": [
                    {
                        "model": model.get("model"),
                        "role": model.get("role"),
                        **model.get("metrics", {}).get("overall", {}),
                    }
                    for model in live.total.get("models") or []
                ],
            }
        )
    return streams


def _estimate(client: Client, stream: str, champion: dict[str, Any]) -> dict[str, Any] | None:
    """The champion's quality in the newest window, before labels; None if it is not estimated."""
    try:
        found: dict[str, Any] = client.get("monitor", f"{calls.stream_path(stream, 'quality')}?limit=1")
    except HeadraceError:
        return None
    named = (champion.get("model"), champion.get("version"))
    return next((one["estimate"] for one in found["models"] if (one["model"], one["version"]) == named), None)


def show_status(output: Output, report: dict[str, Any]) -> None:
    """The state as tables."""
    broker = report["broker"]
    rows = [
        (
            "broker",
            broker.get("bootstrap") or "-",
            str(broker.get("pid") or "-"),
            "yes" if broker["ready"] else _no(_trouble(broker)),
            _megabytes(broker.get("memory_mb")),
        )
    ]
    for one in report["services"]:
        state = "yes" if one["ready"] else _no(_trouble(one))
        rows.append(
            (one["service"], one["url"] or "-", str(one["pid"] or "-"), state, _megabytes(one["memory_mb"]))
        )
    watcher = report["supervisor"]
    rows.append(("supervisor", "-", str(watcher["pid"] or "-"), "yes" if watcher["ready"] else "no", "-"))
    output.table(("", "address", "pid", "ready", "memory"), rows)
    if report["streams"]:
        output.say()
        output.table(
            ("stream", "predictions", "outcomes", "pending", "lag", "model", "live quality"),
            [_stream_row(one) for one in report["streams"]],
        )
    if not report["well"]:
        output.next("headrace up starts what is missing; headrace doctor says what is wrong")
    elif not report["streams"]:
        output.next("No stream yet: headrace demo, or headrace stream create --from FILE --label COLUMN")


def _stream_row(one: dict[str, Any]) -> tuple[Any, ...]:
    if "reason" in one:
        return (one["stream"], "-", "-", "-", "-", "-", one["reason"])
    champion: dict[str, Any] = next((model for model in one["models"] if model.get("role") == "champion"), {})
    model = f"{one['champion']} v{one['version']}" if one["champion"] else "none"
    return (
        one["stream"],
        one["predictions"],
        one["outcomes"],
        one["pending"],
        one["lag"],
        model,
        quality(champion) + estimate(one["estimate"]),
    )


def quality(metrics: dict[str, Any]) -> str:
    """The metrics that matter for the task, in a line."""
    shown = []
    for name, words in (
        ("roc_auc", "ROC AUC"),
        ("log_loss", "log loss"),
        ("accuracy", "accuracy"),
        ("f1", "F1"),
        ("mae", "MAE"),
        ("rmse", "RMSE"),
        ("r2", "R2"),
    ):
        value = metrics.get(name)
        if isinstance(value, int | float):
            shown.append(f"{words} {value:.3f}" if abs(value) < 1000 else f"{words} {value:,.0f}")
    return ", ".join(shown[:3]) or "-"


def estimate(known: dict[str, Any] | None) -> str:
    """An estimated accuracy with its interval, to stand after what is measured; "" without one."""
    if known is None or "accuracy" not in known:
        return ""
    interval = known["interval"]["accuracy"]
    return f", est. accuracy {known['accuracy']:.3f} ({interval['low']:.3f} to {interval['high']:.3f})"


def show_findings(output: Output, findings: list[Finding]) -> None:
    """One line a check, advice below what is not well."""
    for finding in findings:
        output.say(
            f"{MARKS[finding.state]} {finding.check:<14} {finding.detail}", style=STYLES[finding.state]
        )
        if finding.advice:
            output.say(f"     -> {finding.advice}")
    bad = sum(finding.state == "bad" for finding in findings)
    output.next("Everything is well." if not bad else f"{bad} thing(s) to mend, see -> above")


def _no(why: str) -> str:
    return f"no: {why}" if why else "no"


def _megabytes(value: Any) -> str:
    return f"{value:.0f} MB" if isinstance(value, int | float) else "-"
