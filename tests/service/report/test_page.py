"""The page: every section, numbers equal to the record, nothing from outside, text escaped, any stage of a campaign."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from farfield.errors import RecordError
from farfield.service.report.data import CampaignData, Event, Truth
from farfield.service.report.page import FIGURES, render, write_figures

SECTIONS = [
    "summary",
    "error",
    "rounds",
    "quantities",
    "energy",
    "far-field",
    "shells",
    "host",
    "parity",
    "cost",
    "settings",
    "limits",
]
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Sections, links, sources, and the table rows of each section; raises on tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.rows: dict[str, list[list[str]]] = {}
        self.words: dict[str, str] = {}
        self._open: list[str] = []
        self._cell: list[str] | None = None
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self._open.append(tag)
        values = dict(attrs)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "action", "data")]
        if tag == "section":
            self.sections.append(str(values["id"]))
            self.rows[self.sections[-1]] = []
        if tag == "tr" and self.sections:
            self.rows[self.sections[-1]].append([])
        if tag in ("td", "th") and self.sections:
            self._cell = []
        if tag == "small" and self._cell is not None:
            self._cell.append(" | ")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag in ("td", "th") and self._cell is not None:
            self.rows[self.sections[-1]][-1].append("".join(self._cell).strip())
            self._cell = None

    def handle_data(self, text: str) -> None:
        if self._cell is not None:
            self._cell.append(text)
        if self.sections and self._open[-1] != "style":
            self.words[self.sections[-1]] = self.words.get(self.sections[-1], "") + text


@pytest.fixture(scope="module")
def text(data: CampaignData) -> str:
    return render(data)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_every_section_is_there_once(page: Page) -> None:
    assert [s for s in page.sections if s != "events"] == SECTIONS


def test_round_table_equals_the_record(page: Page, data: CampaignData) -> None:
    rows = [r for r in page.rows["rounds"] if len(r) == 18][1:]  # the first is the head
    assert [int(r[0]) for r in rows] == [r.number for r in data.rounds]
    for row, known in zip(rows, data.rounds, strict=True):
        assert float(row[2]) == pytest.approx(known.core_seconds, rel=0.06, abs=0.006)
        assert f"{len(known.labels)} call" in row[1]
        e = known.estimate
        if e is None:
            assert not any(row[3:])
            continue
        values = [e.eta_geo, e.core, e.fc, e.v, e.fold, e.hidden, e.noise, e.parametric_geo, e.in_sample]
        for cell, value in zip(row[3:12], values, strict=True):
            assert cell == "–" if value is None else float(cell) == pytest.approx(value, rel=0.06, abs=5.1e-5)
        assert float(row[12]) == pytest.approx(1e3 * e.eta_energy, abs=5.1e-3)
        assert float(row[13]) == pytest.approx(e.formation_energy_raw, abs=5.1e-5)
        assert float(row[14]) == pytest.approx(e.formation_energy, abs=5.1e-5)
        assert e.formation_energy_dilute is not None
        assert float(row[15]) == pytest.approx(e.formation_energy_dilute, abs=5.1e-5)
        size, _, more = row[16].partition(" | ")
        assert int(size) == e.basis_size
        level, _, grade = more.partition(", grade ")
        assert level == f"level {known.summary['basis_level']}"
        assert float(grade) == pytest.approx(e.grade, abs=0.0051)
    words = page.words["rounds"]
    for known in data.rounds:
        assert known.reason in words


def test_quantities_and_their_shares_equal_the_record(page: Page, data: CampaignData) -> None:
    rows = page.rows["quantities"][1:]
    assert len(rows) == len(data.estimated)
    for row, (_, e) in zip(rows, data.estimated, strict=True):
        values = [1e3 * e.eps_E, e.eps_F, e.eps_FC, e.eps_V, e.eps_C, e.eps_fold]
        for cell, value in zip(row[3:9], values, strict=True):
            assert float(cell.split("|")[0]) == pytest.approx(value, rel=0.06, abs=5.1e-4)
        for k, term in ((4, e.core), (5, e.fc), (6, e.v), (8, e.fold)):
            share = row[k].split("|")[1].strip()
            expected = 100 * e.theta * term / data.tol_geo
            if share == "< 0.1 %":
                assert expected < 0.1
            else:
                assert float(share.removesuffix(" %")) == pytest.approx(expected, rel=0.06, abs=0.06)


def test_summary_says_why_and_how_well(page: Page, data: CampaignData) -> None:
    e = data.last
    assert e is not None
    words = " ".join(page.words["summary"].split())
    assert data.ending is not None
    assert data.ending[1:] in words
    assert ("Tolerance met" in words) == data.converged
    assert f"{e.formation_energy:.4f} ±" in words
    assert f"η = {e.eta_geo:.4f} Å" in words
    assert f"{sum(len(r.labels) for r in data.rounds)} calls" in words


def test_page_asks_nothing_of_the_network(page: Page, text: str) -> None:
    assert not re.search(r"(?i)\b(?:https?|ftp|ws)://|@import|url\(|//cdn", text)
    assert not page.tags & {"script", "link", "iframe", "object", "embed"}
    assert all(a.startswith(("#", "data:image/svg+xml;base64,")) for a in page.addresses)
    assert all(a[1:] in page.sections for a in page.addresses if a.startswith("#"))


def test_pictures_are_whole_svg_documents_without_outside_references(page: Page) -> None:
    pictures = [a for a in page.addresses if a.startswith("data:")]
    assert len(pictures) == len(FIGURES)
    for address in pictures:
        root = ElementTree.fromstring(base64.b64decode(address.partition(",")[2]))
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        for element in root.iter():
            reference = element.get("{http://www.w3.org/1999/xlink}href", "#")
            assert reference.startswith(("#", "data:"))


def test_text_of_the_record_is_escaped(data: CampaignData) -> None:
    evil = '<script>alert("x")</script>'
    spoiled = replace(
        data,
        name=evil,
        ending=evil,
        fingerprint={"release": evil},
        config={**data.config, "campaign": {"name": evil}},
        events=(Event("now", "note", evil),),
        rounds=(replace(data.rounds[0], reason=evil), *data.rounds[1:]),
    )
    text = render(spoiled)
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 6


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_any_stage_of_a_campaign_gives_a_page(data: CampaignData, count: int) -> None:
    early = replace(data, rounds=data.rounds[:count], ending=None, state="running")
    page = Page(render(early))
    assert [s for s in page.sections if s != "events"] == SECTIONS
    assert "Not ended: running" in page.words["summary"]


def test_failed_calls_are_shown_and_survived(data: CampaignData) -> None:
    rounds = tuple(
        replace(
            r,
            labels=tuple(
                replace(x, energy=None, forces=None, virial=None, failure="crashed") if k % 2 else x
                for k, x in enumerate(r.labels)
            ),
        )
        for r in data.rounds
    )
    page = Page(render(replace(data, rounds=rounds, state="ended", ending="no answer")))
    assert "Ended without meeting the tolerance" in page.words["summary"]


def test_true_errors_stand_beside_the_estimate(data: CampaignData) -> None:
    e = data.last
    assert e is not None
    page = Page(render(replace(data, truth=Truth(0.5 * e.eta_geo, e.formation_energy_raw + 0.004))))
    words = page.words["summary"]
    assert "η/true = 2.00" in words
    assert "+4.00 meV" in words


def test_the_noise_of_the_oracle_stands_with_the_problem_and_beside_the_terms(data: CampaignData, text: str) -> None:
    assert "sigma_F" not in text  # an analytic oracle has none
    noise = {"oracle_noise": {"energy": 1e-5, "force": 0.00213, "virial": None}}
    rounds = tuple(
        replace(
            r,
            summary={**r.summary, **noise},
            estimate=None if r.estimate is None else replace(r.estimate, noise=0.0321),
        )
        for r in data.rounds
    )
    noisy = render(replace(data, rounds=rounds))
    assert "with noise sigma_E 1e-05 eV/atom, sigma_F 0.0021 eV/Å" in noisy
    page = Page(noisy)
    assert "noise alone gives" in " ".join(page.words["error"].split())
    assert [r[9] for r in page.rows["rounds"] if len(r) == 18 and r[9]][1:] == ["0.0321"] * len(data.estimated)


def test_the_same_campaign_gives_the_same_page(data: CampaignData, text: str) -> None:
    def undated(page: str) -> str:
        return re.sub(r"Written [^<]*", "", page)

    assert undated(render(data)) == undated(text)


def test_each_figure_is_written_as_a_picture_and_for_print(data: CampaignData, tmp_path: Path) -> None:
    files = write_figures(data, tmp_path / "figures")
    assert {f.name for f in files} == {f"{name}.{kind}" for name in FIGURES for kind in ("png", "pdf")}
    for file in files:
        assert file.read_bytes().startswith(b"%PDF" if file.suffix == ".pdf" else b"\x89PNG")
    (tmp_path / "taken").write_text("")
    with pytest.raises(RecordError, match="give another folder"):
        write_figures(data, tmp_path / "taken")
