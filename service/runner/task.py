"""The task a Dask worker runs: claim the attempt, ask the oracle in its sandbox, check, write down, tell.

The answer is durable before anyone hears of it (decisions A7): a file beside the oracle's scratch, then one
transaction, then the file goes. What returns through Dask is a word and who says it; the controller reads the database.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy.exc import DBAPIError

from farfield.db import answers
from farfield.db.identity import structure_atoms
from farfield.db.schema import BLAMED
from farfield.errors import OracleError, OracleLoadError, OracleUnfit
from farfield.oracles import gate
from farfield.service.runner.logs import log_to
from farfield.service.runner.session import BEAT_SECONDS
from farfield.service.runner.worker import Worker, forget, this_worker

__all__ = ["Order", "Outcome", "Report", "perform"]

log = logging.getLogger("farfield.worker")
Outcome = Literal["finished", "failed", "unfit", "full", "not claimed"]
"""`unfit`: this worker cannot do it, which is no fault of the calculation; `full`: its disk is."""


@dataclass(frozen=True)
class Report:
    """What a task says when it comes back. `worker`: its address in Dask."""

    outcome: Outcome
    message: str = ""
    worker: str = ""


@dataclass(frozen=True)
class Order:
    """Everything a worker must know of one attempt; plain values only, since it crosses to other hosts.

    `structure`: canonical bytes of the cell (`db.identity`). `parameters`: of the oracle, whose relative paths count
    from `base`. `fingerprint`: the hash that the campaign was made with. `memory` MB, `wall_time` s, `patience` s.
    `scratch`: folder for answer files and for what is kept of calls; `logs`: for the worker's JSON lines, if any.
    `beat`: between signs of life, s. `cores`: that a call is charged for. `expected`: what it should take, s, where
    that is known.
    """

    url: str
    attempt: int
    calculation: str
    structure: bytes
    kinds: tuple[str, ...]
    oracle: str
    parameters: dict[str, Any]
    base: str
    fingerprint: str
    wall_time: float
    memory: float
    patience: float
    scratch: str
    beat: float = BEAT_SECONDS
    logs: str = ""
    cores: int = 1
    expected: float = 0.0


def perform(order: Order) -> Report:
    """Run one attempt in this worker process. Raises DBAPIError where the database is away for longer than is waited;
    what else goes wrong is a row or the worker's word, and names the worker, which is suspected first."""
    from farfield.service.runner.staying import staying

    with staying():
        return _perform(order)


def _perform(order: Order) -> Report:
    address = _address()
    try:
        worker = this_worker(order.url, order.scratch, order.patience, order.beat)
        log_to(order.logs, "worker")
    except Exception as fault:  # noqa: BLE001  whatever it lacks (a driver, a folder), another worker may have it
        return Report("unfit", f"no call can begin on this worker: {_words(fault)}", address)
    try:
        return _attempt(worker, order, address)
    except DBAPIError:
        forget(worker)  # what it holds is free when its lease runs out; the next one begins with what it has on disk
        raise


def _attempt(worker: Worker, order: Order, address: str) -> Report:
    """Claim the attempt, ask, deliver. Raises DBAPIError alone."""
    facts = _facts(order)
    if not worker.lifetime.holds(order.expected):
        log.info("about to end: not claimed", extra=facts)
        return Report("not claimed", "the worker is about to end", address)
    if (why := worker.full()) is not None:
        log.warning("not claimed: %s", why, extra=facts)
        return Report("full", why, address)
    if not worker.claim(order.attempt):
        log.info("not claimed", extra=facts)
        return Report("not claimed", "", address)  # withdrawn, or another worker has it: the oracle is not called
    log.info("began", extra=facts)
    began = time.perf_counter()
    try:
        answer = _ask(worker, order)
        worker.deliver(answer)
    except DBAPIError:
        raise
    except Exception as fault:  # noqa: BLE001  the oracle's failures, and what its host or we ourselves did wrong
        return Report(*_failed(worker, order, fault, time.perf_counter() - began), address)
    seconds = time.perf_counter() - began
    log.info("finished", extra={**facts, "seconds": seconds})
    worker.lifetime.called(seconds)
    return Report("finished", "", address)


def _failed(worker: Worker, order: Order, fault: Exception, seconds: float) -> tuple[Outcome, str]:
    """Record that the call failed: what to report, and in which words. The worker is suspected before the task."""
    failure = fault.failure if isinstance(fault, OracleError) else "worker lost"
    message = str(fault) if isinstance(fault, OracleError) else _words(fault)
    if (kept := getattr(fault, "kept", None)) is not None:
        message = f"{message}; its files are in {kept}"
    outcome: Outcome = "failed"
    if order.attempt in worker.cancelled:
        worker.cancelled.discard(order.attempt)
    elif (why := worker.full()) is not None:  # what else it complains of comes from that
        outcome, failure, message = "full", "worker lost", f"{why}; {message}"
    elif failure == "worker lost":
        outcome = "unfit"
        if not isinstance(fault, OracleUnfit):  # the call may have killed its supervisor: a memory killer at work, say
            message = f"{BLAMED}: {message}"
    worker.fail(order.attempt, failure, message, seconds * order.cores)
    log.warning("%s: %s", outcome, message, extra={**_facts(order), "failure": failure})
    return outcome, message


def _words(fault: Exception) -> str:
    """A fault in one line."""
    return " ".join(f"{type(fault).__name__}: {fault}".split())


def _facts(order: Order) -> dict[str, Any]:
    """What a line of the log says of the call."""
    return {"attempt": order.attempt, "calculation": order.calculation}


def _address() -> str:
    """The address of this Dask worker."""
    from distributed import get_worker

    try:
        return str(get_worker().address)
    except ValueError:
        return ""  # called by hand


def _ask(worker: Worker, order: Order) -> answers.AnswerFile:
    """The gated answer of the oracle. Raises OracleError with its failure class."""
    try:
        own = worker.fingerprint(order.oracle, order.parameters, order.base)
    except OracleLoadError as fault:  # the controller could load it
        text = f"the oracle cannot be loaded on this worker ({fault}); install it, and its files, on every host"
        raise OracleUnfit(text) from None
    if own != order.fingerprint:
        raise OracleUnfit(
            f"this worker's {order.oracle} is another version ({own[:12]}, not {order.fingerprint[:12]}); "
            "install the same version of oracle and farfield on every host"
        )
    atoms = structure_atoms(order.structure)
    gate.admit(atoms)
    with worker.busy(order.attempt, order) as sandbox:
        began = time.perf_counter()
        call = f"{order.calculation[:16]}-{order.attempt}"
        observations = sandbox.evaluate(atoms, order.kinds, call=call, gated=True)
        seconds = observations.seconds or time.perf_counter() - began
    charge = seconds * order.cores
    return answers.AnswerFile(order.attempt, order.calculation, worker.session.id, order.kinds, charge, observations)
