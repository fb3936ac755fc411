"""The campaign's diary as the runner keeps it: a line in the record, one in the log, one for whoever listens."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from farfield.db.record import Record
from farfield.service.campaign.decision import Note
from farfield.service.runner.listener import Listener
from farfield.service.runner.recording import note_down

__all__ = ["Diary"]

log = logging.getLogger("farfield.controller")


class Diary:
    """Of one campaign, whose id is known once it is created or found."""

    def __init__(self, record: Record, listener: Listener) -> None:
        self.record, self.listener = record, listener
        self.campaign = 0

    def note(self, kind: str, message: str, data: Mapping[str, Any] | None = None) -> None:
        """Write down an event; nothing of it is told where the record does not take it."""
        self.record.event(self.campaign, kind, message, data)
        log.info("%s: %s", kind, message, extra={"event": kind})
        self.listener.noted(kind, message)

    def copy(self, notes: Sequence[Note]) -> None:
        """Write down what the loop found out, each once."""
        for note in note_down(self.record, self.campaign, notes):
            self.listener.noted(note.kind, note.message)
