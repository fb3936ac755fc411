"""The order that a worker gets for an attempt: the cell, the oracle, and limits that grow where they were too tight."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ase import Atoms

from farfield.db.identity import structure_bytes
from farfield.service.campaign.config import CampaignConfig
from farfield.service.runner.task import Order

__all__ = ["ESCALATION", "logs_of", "order_for", "scratch_of"]

ESCALATION = 2.0
"""A call that ran out of time or memory gets so many times the limit when it is tried again."""


def scratch_of(config: CampaignConfig) -> Path:
    """Where workers keep answer files and the oracle's own files."""
    return config.folder / "scratch"


def logs_of(config: CampaignConfig) -> Path:
    """Where controller and workers write what they do, a JSON line for each event."""
    return config.folder / "log"


def order_for(
    config: CampaignConfig,
    fingerprint: str,
    attempt: int,
    calculation: str,
    atoms: Atoms,
    kinds: tuple[str, ...],
    failures: Mapping[str, int] | None = None,
    core_seconds: float = 0.0,
) -> Order:
    """What a worker must know of one attempt of `config`'s campaign; `failures` counts earlier ones by class,
    `core_seconds` is what it should cost, 0 where nothing is known.

    Limits of time and memory change no answer, so they are not part of the oracle's fingerprint (decisions A3).
    """
    oracle = config.oracle
    before = failures or {}
    return Order(
        url=config.database_url,
        attempt=attempt,
        calculation=calculation,
        structure=structure_bytes(atoms),
        kinds=kinds,
        oracle=oracle.name,
        parameters=dict(oracle.parameters),
        base=str(config.base),
        fingerprint=fingerprint,
        wall_time=min(oracle.wall_time * ESCALATION ** before.get("timed out", 0), config.cluster.longest_call),
        memory=min(
            oracle.memory * ESCALATION ** before.get("out of memory", 0),
            max(oracle.memory, config.cluster.largest_call),
        ),
        patience=60 * config.database.patience,
        scratch=str(scratch_of(config)),
        beat=config.database.heartbeat,
        logs=str(logs_of(config)),
        cores=config.cluster.cores,
        expected=core_seconds / config.cluster.cores,
    )
