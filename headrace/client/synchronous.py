"""The blocking client: for scripts, notebooks and the command line."""

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self
from uuid import uuid4

import httpx2

from headrace.client import calls
from headrace.client.calls import Addresses, Call, Kind, Receipt
from headrace.client.problems import Busy, ServiceProblem, Unreachable
from headrace.contracts.events import Scalar
from headrace.errors import Transient

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0


class Client:
    """Talks to the four services with one API key.

    timeout_seconds: of one request. patience_seconds: for how long to try again when a service is busy or away; then
    `Busy` or `Unreachable` is raised. Not thread-safe in `close`; requests may come from several threads.
    """

    def __init__(
        self,
        addresses: Addresses | None = None,
        *,
        key: str = "",
        timeout_seconds: float = 30.0,
        patience_seconds: float = 60.0,
    ) -> None:
        self.addresses = addresses or Addresses()
        self._patience_seconds = patience_seconds
        headers = {"authorization": f"Bearer {key}"} if key else {}
        # Addresses are given outright; a proxy from the environment would only stand in the way of 127.0.0.1.
        self._http = httpx2.Client(headers=headers, timeout=timeout_seconds, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # -- events -----------------------------------------------------------------------------------------------------

    def publish(
        self, stream: str, lines: Sequence[bytes], kind: Kind = "observations", *, compress: bool = False
    ) -> Receipt:
        """Send JSON lines in order; returns once the broker has acknowledged every accepted one."""
        call = calls.publish(stream, lines, kind, key=uuid4().hex, compress=compress)
        try:
            return calls.receipt_of(self.send(call))
        except ServiceProblem as problem:
            receipt = calls.refused_receipt(problem)
            if receipt is None:
                raise
            return receipt

    def observe(self, stream: str, observation: dict[str, Any]) -> str:
        """Send one observation; returns its id. Raises `ServiceProblem` if it breaks the contract."""
        call = calls.publish(stream, [calls.json_line(observation)], "observations", key=uuid4().hex)
        return calls.receipt_of(self.send(call)).ids[0]

    def label(
        self, stream: str, id: str, value: Scalar, *, at: int | str | None = None, entity: str = ""
    ) -> None:
        """Send the truth about observation `id`. at: event time (ms or RFC 3339), None = now."""
        line = calls.label_line(id, value, at, entity)
        self.send(calls.publish(stream, [line], "labels", key=uuid4().hex))

    def predict(self, stream: str, observation: dict[str, Any], *, timeout_ms: int = 2000) -> dict[str, Any]:
        """Send one observation and wait for its prediction; the receipt instead if that takes longer."""
        answer: dict[str, Any] = self.send(
            calls.predict(stream, observation, timeout_ms=timeout_ms, key=uuid4().hex)
        )
        return answer

    # -- registry ---------------------------------------------------------------------------------------------------

    def create_stream(self, contract: str | dict[str, Any], *, reason: str = "") -> dict[str, Any]:
        """Create a stream or adopt a compatible new contract (an ODCS document, or the plain form)."""
        return self._change(calls.create_stream(contract), reason)

    def create_model(
        self, name: str, specification: dict[str, Any], description: str = "", *, reason: str = ""
    ) -> dict[str, Any]:
        """Register a model specification; returns its name, version and digest."""
        return self._change(calls.create_model(name, specification, description), reason)

    def deploy(
        self,
        stream: str,
        model: str,
        *,
        version: int | None = None,
        role: str = "champion",
        learnt: bool = False,
        payoff: Mapping[str, float] | None = None,
        reason: str = "",
    ) -> dict[str, Any]:
        """Put a model on a stream; it answers from the returned offsets on. learnt: the log has taught it by then."""
        return self._change(calls.deploy(stream, model, version, role, learnt=learnt, payoff=payoff), reason)

    def change_deployment(self, stream: str, model: str, change: str, *, reason: str = "") -> dict[str, Any]:
        """`promote`, `retire`, `freeze` or `unfreeze` a deployed model."""
        return self._change(calls.change_deployment(stream, model, change), reason)

    def rebuild_deployment(
        self, stream: str, model: str, without: Sequence[str], *, reason: str = ""
    ) -> dict[str, Any]:
        """Let a deployed model go on as if some records had never been learnt; its new version and offsets."""
        return self._change(calls.rebuild_deployment(stream, model, without), reason)

    def begin_rollout(
        self,
        stream: str,
        model: str,
        *,
        version: int | None = None,
        plan: dict[str, Any] | None = None,
        learnt: bool = False,
        payoff: Mapping[str, float] | None = None,
        reason: str = "",
    ) -> dict[str, Any]:
        """Ask a model version beside the champion, and let it take its place if it is better (docs/rollouts.md)."""
        return self._change(
            calls.begin_rollout(stream, model, version, plan or {}, learnt=learnt, payoff=payoff), reason
        )

    def turn_rollout(self, stream: str, rollout: int, action: str, *, reason: str = "") -> dict[str, Any]:
        """`promote`, `roll-back`, `abort`, `approve`, `hold` or `resume` a rollout."""
        return self._change(calls.turn_rollout(stream, rollout, action), reason)

    def set_payoff(
        self, stream: str, payoff: Mapping[str, float] | None, *, model: str = "", reason: str = ""
    ) -> dict[str, Any]:
        """Say what the answers of a model are worth, or of all on the stream (None: nobody says it)."""
        return self._change(calls.set_payoff(stream, payoff, model), reason)

    def begin_retraining(self, stream: str, document: dict[str, Any], *, reason: str = "") -> dict[str, Any]:
        """Let specifications race over a stream's log for the champion's place (docs/retraining.md)."""
        return self._change(calls.begin_retraining(stream, document), reason)

    def cancel_retraining(self, stream: str, retraining: int, *, reason: str = "") -> dict[str, Any]:
        """Give a retraining up."""
        return self._change(calls.cancel_retraining(stream, retraining), reason)

    def set_retraining_policy(
        self, stream: str, document: dict[str, Any], *, reason: str = ""
    ) -> dict[str, Any]:
        """Say when a stream is retrained by itself, and how (docs/retraining.md)."""
        return self._change(calls.set_retraining_policy(stream, document), reason)

    def remove_retraining_policy(self, stream: str, *, reason: str = "") -> None:
        """Let a stream no longer be retrained by itself."""
        self._change(calls.remove_retraining_policy(stream), reason)

    def turn_proposal(
        self, stream: str, proposal: int, action: Literal["approve", "dismiss"], *, reason: str = ""
    ) -> dict[str, Any]:
        """`approve` or `dismiss` a proposal to retrain; what has come of it by then."""
        return self._change(calls.turn_proposal(stream, proposal, action), reason)

    def create_dataset(
        self,
        name: str,
        stream: str,
        *,
        ranges: Mapping[str, Mapping[str, int]] | None = None,
        without: Sequence[str] = (),
        description: str = "",
        reason: str = "",
    ) -> dict[str, Any]:
        """Name records of a log as a version of a dataset (docs/datasets.md); it is measured afterwards."""
        return self._change(calls.create_dataset(name, stream, ranges, without, description), reason)

    def _change(self, call: Call, reason: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.send(calls.change(call, reason, key=uuid4().hex))
        return answer

    def get(self, service: calls.ServiceName, path: str) -> Any:
        """Read any path of a service, e.g. `get("registry", "/v1/streams")`."""
        return self.send(calls.get(service, path))

    def stream(self, stream: str) -> dict[str, Any]:
        """A stream's contract, version and deployments."""
        answer: dict[str, Any] = self.get("registry", calls.stream_path(stream))
        return answer

    def metrics(self, stream: str) -> dict[str, Any]:
        """Live counts and prequential metrics, per partition and in total."""
        answer: dict[str, Any] = self.get("scoring", calls.stream_path(stream, "metrics"))
        return answer

    # -- sending ----------------------------------------------------------------------------------------------------

    def send(self, call: Call) -> Any:
        """Send a call; waits and tries again while the service is busy or away."""
        deadline = time.monotonic() + self._patience_seconds
        pause = FIRST_PAUSE_SECONDS
        while True:
            error: Transient
            try:
                return self._send_once(call)
            except Busy as busy:
                wait, error = busy.retry_after_seconds, busy
            except Unreachable as away:
                wait, error = pause, away
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            if time.monotonic() + wait > deadline:
                raise error
            time.sleep(wait)

    def _send_once(self, call: Call) -> Any:
        url = getattr(self.addresses, call.service) + call.path
        try:
            response = self._http.request(call.method, url, content=call.body, headers=dict(call.headers))
        except httpx2.TransportError as error:
            raise Unreachable(
                f"{call.service} does not answer at {url}: {str(error) or type(error).__name__}"
            ) from None
        return calls.answer_of(response.status_code, dict(response.headers), response.content)
