"""The task a Dask worker runs: claim the attempt, ask the oracle in its sandbox, check, write down, tell.

The answer is durable before anyone hears of it (decisions A7): a file beside the oracle's scratch, then one
transaction, then the file goes. What returns through Dask is one word; the controller reads the database.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any, Literal

from farfield.db import answers
from farfield.db.identity import structure_atoms
from farfield.errors import OracleError
from farfield.oracles import gate
from farfield.service.runner.logs import log_to
from farfield.service.runner.worker import Worker, this_worker

__all__ = ["Order", "Outcome", "perform"]

log = logging.getLogger("farfield.worker")
Outcome = Literal["finished", "failed", "not claimed"]


@dataclass(frozen=True)
class Order:
    """Everything a worker must know of one attempt; plain values only, since it crosses to other hosts.

    `structure`: canonical bytes of the cell (`db.identity`). `parameters`: of the oracle, whose relative paths count
    from `base`. `fingerprint`: the hash that the campaign was made with. `memory` MB, `wall_time` s, `patience` s.
    `scratch`: folder for answer files and for what is kept of calls; `logs`: for the worker's JSON lines, if any.
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
    logs: str = ""


def perform(order: Order) -> Outcome:
    """Run one attempt in this worker process. Never raises for what the oracle does; that is a row."""
    worker = this_worker(order.url, order.scratch, order.patience)
    log_to(order.logs, "worker")
    facts: dict[str, Any] = {"attempt": order.attempt, "calculation": order.calculation}
    if not worker.claim(order.attempt):
        log.info("not claimed", extra=facts)
        return "not claimed"  # withdrawn, or another worker has it: the oracle is not called
    log.info("began", extra=facts)
    began = time.perf_counter()
    try:
        answer = _ask(worker, order)
    except OracleError as fault:
        message = str(fault) if fault.kept is None else f"{fault}; its files are in {fault.kept}"
        worker.fail(order.attempt, fault.failure, message, time.perf_counter() - began)
        log.warning("failed: %s", message, extra={**facts, "failure": fault.failure})
        return "failed"
    worker.deliver(answer)
    log.info("finished", extra={**facts, "seconds": time.perf_counter() - began})
    return "finished"


def _ask(worker: Worker, order: Order) -> answers.AnswerFile:
    """The gated answer of the oracle. Raises OracleError with its failure class."""
    if (own := worker.fingerprint(order.oracle, order.parameters, order.base)) != order.fingerprint:
        raise OracleError(
            f"this worker's {order.oracle} is another version ({own[:12]}, not {order.fingerprint[:12]}); "
            "install the same version of oracle and farfield on every host",
            failure="worker lost",
        )
    atoms = structure_atoms(order.structure)
    gate.admit(atoms)
    with worker.busy(order.attempt, order) as sandbox:
        began = time.perf_counter()
        call = f"{order.calculation[:16]}-{order.attempt}"
        observations = sandbox.evaluate(atoms, order.kinds, call=call, gated=True)
        seconds = observations.seconds or time.perf_counter() - began
    return answers.AnswerFile(order.attempt, order.calculation, worker.session.id, order.kinds, seconds, observations)
