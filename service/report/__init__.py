"""The report: pictures and one self-contained HTML page, read from the database.

`write_report(database, name, path)` writes the page. For a picture alone::

    draw, title = FIGURES["error"]
    draw(load(database, name)).savefig("error.png", dpi=200)
"""

from farfield.service.report.data import CampaignData
from farfield.service.report.loading import load
from farfield.service.report.page import FIGURES, render, write_figures, write_report

__all__ = ["FIGURES", "CampaignData", "load", "render", "write_figures", "write_report"]
