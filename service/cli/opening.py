"""A campaign file with its oracle, checked: what is refused here is refused before a database exists."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farfield.oracles.oracle import Oracle
    from farfield.service.campaign.config import CampaignConfig

__all__ = ["open_campaign"]


def open_campaign(
    file: Path, *, workers: int | None = None, scheduler: str | None = None
) -> tuple[CampaignConfig, Oracle]:
    """The config in `file` with its oracle. Raises ConfigError, CrystalError or OracleError, each one line.

    An oracle may refuse elements ahead of any call through a method ``check_species(symbols)``.
    """
    from farfield.oracles import registry
    from farfield.service.campaign.config import CampaignConfig
    from farfield.service.campaign.loop import Loop
    from farfield.service.runner.addresses import check_address
    from farfield.service.runner.recording import oracle_info

    config = CampaignConfig.load(file).with_cluster(workers=workers, scheduler=scheduler)
    if config.cluster.scheduler is not None:
        check_address(config.cluster.scheduler, insecure=config.cluster.insecure)
    oracle = registry.load(config.oracle.name, config.oracle.parameters, config.base)
    check = getattr(oracle, "check_species", None)
    if check is not None:
        host = config.make_host()
        check(config.make_defect(host).species(host))
    Loop(config, oracle_info(oracle))  # raises for what no campaign can treat: a target below the ladder, say
    return config, oracle
