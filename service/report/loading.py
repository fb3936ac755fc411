"""From the record to `CampaignData`: the one place where the report knows the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farfield.errors import RecordError
from farfield.service.report.data import CampaignData

if TYPE_CHECKING:
    from farfield.db.engine import Database

__all__ = ["load"]


def load(database: Database, campaign_name: str) -> CampaignData:
    """The campaign of that name as it stands. Raises RecordError for an unknown one."""
    raise RecordError(f"no campaign {campaign_name!r}; see `farfield status`")
