"""Who may not run a campaign: one with other settings or, without a word, another oracle; a second one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farfield.db.campaigns import StoredCampaign
from farfield.errors import CampaignError
from farfield.service.campaign.config import CampaignConfig
from farfield.service.runner.session import LEASE_BEATS

if TYPE_CHECKING:
    from farfield.db.sessions import Holder

__all__ = ["refuse_change", "refuse_second"]


def refuse_change(
    config: CampaignConfig, fingerprint: str, stored: StoredCampaign, *, accept_version: bool = False
) -> bool:
    """Refuse a file that is not the one the campaign was started with; whether its oracle, by its hash, is another.

    Raises CampaignError. Writes nothing.
    """
    name = config.campaign.name
    if changed := config.changed_from(CampaignConfig.from_mapping(stored.config, checked=True)):
        raise CampaignError(
            f"campaign {name} was started with other values of {', '.join(changed)}; "
            "set them back, or give the campaign another name (with the same database.url it finds what was bought)"
        )
    other = stored.fingerprint_hash != fingerprint
    if other and not accept_version:
        raise CampaignError(
            f"campaign {name} was started with another version of the oracle {config.oracle.name}; "
            "install that version, or say `farfield run --accept-version` to go on with this one"
        )
    return other


def refuse_second(config: CampaignConfig, holder: Holder | None) -> None:
    """Refuse to run a campaign that `holder` runs; one that was silent for longer than its lease does not count.

    Raises CampaignError.
    """
    if holder is not None and holder.silent <= LEASE_BEATS * config.database.heartbeat:
        raise CampaignError(
            f"campaign {config.campaign.name} is already run by {holder}; wait for it, or stop it with `farfield stop`"
        )
