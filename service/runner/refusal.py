"""What a resumed campaign may not change: its settings, and the version of its oracle without a word."""

from __future__ import annotations

from farfield.db.campaigns import StoredCampaign
from farfield.errors import CampaignError
from farfield.service.campaign.config import CampaignConfig

__all__ = ["refuse_change"]


def refuse_change(
    config: CampaignConfig, fingerprint: str, stored: StoredCampaign, *, accept_version: bool = False
) -> bool:
    """Refuse a file that is not the one the campaign was started with; whether its oracle, by its hash, is another.

    Raises CampaignError. Writes nothing.
    """
    name = config.campaign.name
    if changed := config.changed_from(CampaignConfig.from_mapping(stored.config)):
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
