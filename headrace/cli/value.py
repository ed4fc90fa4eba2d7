"""`headrace value`: what models cost and what their answers were worth; `headrace model payoff`: says what they are."""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer
import yaml

from headrace.cli.common import Json, Reason, client_of
from headrace.cli.home import Home
from headrace.cli.output import Output, duration, guarded, size
from headrace.client import calls
from headrace.errors import Unusable

PayoffFile = Annotated[
    Path | None,
    typer.Option("--payoff", help="What its answers are worth (YAML or JSON).", exists=True, dir_okay=False),
]

COLUMNS = ("model", "role", "decisions", "CPU", "memory", "written", "cost", "valued", "value", "return")
EACH = ("cost each", "value each", "return each")


@guarded
def value(
    stream: Annotated[str, typer.Argument(help="Name of the stream.")],
    since: Annotated[str, typer.Option("--from", help="Windows from this time on (RFC 3339).")] = "",
    to: Annotated[str, typer.Option("--to", help="Windows before this time (RFC 3339).")] = "",
    windows: Annotated[int, typer.Option(min=0, max=1_000, help="So many of the newest windows.")] = 5,
    as_json: Json = False,
) -> None:
    """Show what each model used, cost and earned, window by window and in all."""
    home, output = Home.from_environment(), Output(as_json)
    asked = {"from": since, "to": to, "limit": max(1, windows)}
    query = urlencode({name: value for name, value in asked.items() if value})
    with client_of(home) as client:
        found: dict[str, Any] = client.get("monitor", f"{calls.stream_path(stream, 'value')}?{query}")
    output.answer(found)
    shown = found["windows"][-windows:] if windows else []
    for window in shown:
        output.say(f"{window['start_time']}, {duration(found['window_seconds'])}:", style="bold")
        _tell(output, window)
        output.say()
    output.say("in all:" if found["total"]["of"] == "everything" else "these windows:", style="bold")
    _tell(output, found["total"])
    prices = found["prices"]
    if not any(prices[name] for name in ("cpu_hour", "memory_gb_hour", "gb_written")):
        output.next("no prices are set: HEADRACE_PRICE_CPU_HOUR and others (docs/value.md)")
    if not found["payoffs"]:
        output.next(f"headrace model payoff {stream} PAYOFF.yaml    says what answers are worth")


@guarded
def payoff(
    stream: Annotated[str, typer.Argument(help="Name of the stream.")],
    file: Annotated[
        Path | None,
        typer.Argument(
            help="The payoff (YAML or JSON); left out, what holds is shown.", exists=True, dir_okay=False
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="Only of this model (default: of all on the stream).")] = "",
    remove: Annotated[bool, typer.Option("--remove", help="Let nobody have said it.")] = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Show or set what answers on a stream are worth: it holds for what was counted before, too."""
    home, output = Home.from_environment(), Output(as_json)
    if remove and file is not None:
        raise Unusable("either a payoff or --remove")
    with client_of(home) as client:
        if file is None and not remove:
            found = client.get("registry", calls.stream_path(stream, "payoff"))
        else:
            given = None if file is None else read_payoff(file)
            found = client.set_payoff(stream, given, model=model, reason=reason)
    output.answer(found)
    rows = [["all others" if found["models"] else "all", _in_words(found["payoff"])]]
    rows += [[name, _in_words(own)] for name, own in found["models"].items()]
    output.table(("model", "an answer is worth"), rows)


def read_payoff(path: Path) -> dict[str, float]:
    """A payoff from a YAML or JSON file: numbers by name. Raises `Unusable`."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Unusable(f"{path.name} is not YAML: {error}") from None
    if not isinstance(document, dict) or not all(
        isinstance(amount, int | float) and not isinstance(amount, bool) for amount in document.values()
    ):
        raise Unusable(f"{path.name} must hold numbers by name, as tp: 5 (docs/value.md)")
    return {str(name): float(amount) for name, amount in document.items()}


def _tell(output: Output, ledger: dict[str, Any]) -> None:
    rows = []
    for one in ledger["models"]:
        each = one["per_decision"]
        rows.append(
            [
                f"{one['model']}@{one['version']}",
                one["role"],
                one["decisions"],
                *_amounts(one),
                one["valued"],
                _money(one["value"]),
                _money(one["return"]),
                *(_money(each[name], 6) for name in ("cost", "value", "return")),
            ]
        )
    shared = ledger["shared"]
    rows.append(["(shared)", None, None, *_amounts(shared), *[None] * 6])
    output.table((*COLUMNS, *EACH), rows)


def _amounts(one: dict[str, Any]) -> list[str | None]:
    return [
        duration(one["cpu_seconds"]),
        size(one["state_bytes"]) if one["state_bytes"] >= 1e6 else f"{one['state_bytes'] / 1e3:.0f} kB",
        size(one["bytes_written"]) if one["bytes_written"] >= 1e6 else f"{one['bytes_written'] / 1e3:.0f} kB",
        _money(one["cost"]),
    ]


def _money(amount: float | None, digits: int = 4) -> str | None:
    return None if amount is None else f"{amount:,.{digits}f}"


def _in_words(payoff: dict[str, float] | None) -> str:
    if payoff is None:
        return "not known"
    return ", ".join(f"{name} {amount:g}" for name, amount in payoff.items())
