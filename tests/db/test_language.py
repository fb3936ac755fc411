"""The query language: SQL selects what the words say, on every back end; what means nothing is refused in one place."""

from __future__ import annotations

import contextlib
import operator

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.data import chemical_symbols
from ase.formula import Formula
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import inspect

from farfield.db.query import QueryError, grammar, pages, select
from farfield.db.query.fields import FIELDS
from farfield.errors import RecordError
from farfield.oracles.observation import Observations

COMPARE = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@pytest.fixture
def cells(record, claims, session, decide):
    """Two campaigns with two oracles: labels of all kinds, shared cells, failures, open calls, an FC column."""
    rng = np.random.default_rng(5)

    def answered(key: str, campaign: int, kinds: str, atoms: Atoms) -> None:
        attempt = claims.new_attempt(key, campaign, tuple(kinds))
        claims.claim(attempt, session)
        values = {"E": -1.5 * len(atoms), "F": rng.normal(size=(len(atoms), 3)), "V": rng.normal(size=6)}
        claims.finish(attempt, session, Observations({k: values[k] for k in kinds}), float(rng.integers(1, 9)))

    for name, adapter, element in (("first", "emt", "Cu"), ("second", "lammps", "Si")):
        campaign = record.create_campaign(name, {}, {"adapter": adapter, "version": 1})
        for number in range(3):
            decided = decide(number, 3, role=("host", "verification", "training")[number], rung=(2, 2 + number, 3))
            for i, proposal in enumerate(decided.proposals):
                proposal.atoms.symbols[: 1 + i] = element if number else "Ni"
                if i == 2:
                    proposal.atoms.extend(Atoms("H", [[0.1, 0.2, 0.3]]))
            keys = record.store_decision(campaign, decided)
            for key, proposal, kinds in zip(keys, decided.proposals, (*("EFV", "EF", "V")[number:], ""), strict=False):
                if kinds:
                    answered(key, campaign, kinds, proposal.atoms)
            if number == 1:
                failed = claims.new_attempt(keys[2], campaign, ("E",))
                claims.claim(failed, session)
                claims.fail(failed, "timed out", "it took too long", 2.0)
            if number == 2:
                claims.new_attempt(keys[2], campaign, ("E", "F"))
    host = bulk("Cu", cubic=True)
    fingerprint = record.campaign("first").fingerprint_hash
    moved = record.decisions(record.campaign("first").id)[0].proposals[0].calculation
    parts = [(moved, 0.01, np.eye(3))]
    record.store_force_constants(host, fingerprint, 0, (1, 0, 0), 0.01, np.zeros((4, 3)), parts)
    return record


def ids(record, query: str) -> list[int]:
    return [row.id for row in select(record.database, query, labelled=False, doubted=True).scalars()]


def views(record) -> list[dict]:
    """Every calculation through each of its proposals, as plain facts, from an unfiltered walk."""
    rows = {r.key: r for r in select(record.database, labelled=False, doubted=True).scalars()}
    named: dict[str, list[dict]] = {}
    for name in ("first", "second"):
        for d in record.decisions(record.campaign(name).id):
            for p in d.proposals:
                facts = {"campaign": name, "decision": d.number, "ordinal": p.ordinal, "role": p.role, "term": p.term}
                facts.update(n1=p.rung[0], n2=p.rung[1], n3=p.rung[2], size=min(p.rung))
                named.setdefault(p.calculation, []).append(facts)
    out = []
    nothing = dict.fromkeys(("campaign", "decision", "ordinal", "role", "term", "n1", "n2", "n3", "size"))
    for key, r in rows.items():
        counts = Formula(r.formula).count()
        facts = {k: getattr(r, k) for k in ("id", "natoms", "oracle", "energy", "fmax", "virial", "core_seconds")}
        facts.update({s: counts.get(s, 0) for s in ("Cu", "Ni", "Si", "H")}, nelements=len(counts))
        facts.update(kinds=set(r.kinds.split(",")) - {""}, state=r.state, failure=r.failure)
        facts["energy_per_atom"] = None if r.energy is None else r.energy / r.natoms
        out += [{**facts, **view} for view in named.get(key, [nothing])]
    return out


def verdict(node: grammar.Node | None, view: dict) -> bool | None:
    """What the words say of a view, unknown as None: an evaluation without SQL."""
    if node is None:
        return True
    if isinstance(node, grammar.Not):
        inner = verdict(node.of, view)
        return None if inner is None else not inner
    if isinstance(node, grammar.All | grammar.Some):
        found = [verdict(n, view) for n in node.of]
        decisive = isinstance(node, grammar.Some)
        return decisive if decisive in found else None if None in found else not decisive
    if isinstance(node, grammar.Flag):
        return {
            "failed": view["state"] == "failed",
            "running": view["state"] == "waiting",
            "labelled": bool(view["kinds"] - {"FC"}),
        }[node.field]
    if isinstance(node, grammar.Known):
        return view[node.field] is not None
    values = node.values if isinstance(node, grammar.Membership) else (node.value,)
    contents = [v.content for v in values]
    if node.field in ("kind", "failure"):
        mine = view["kinds"] if node.field == "kind" else {view["failure"]}
        there = bool(mine & set(contents))
        return not there if isinstance(node, grammar.Comparison) and node.operator == "!=" else there
    mine = view[node.field]
    if mine is None:
        return None
    if isinstance(node, grammar.Membership):
        return mine in contents
    return COMPARE[node.operator](mine, contents[0])


NUMBERS = ("natoms", "energy", "fmax", "virial", "energy_per_atom", "core_seconds", "decision", "ordinal", "size", "n2",
           "Cu", "Ni", "Si", "H", "nelements", "id")  # fmt: skip
WORDS = {"oracle": ("emt", "lammps", "qe"), "campaign": ("first", "second", "none"), "role": ("host", "training", "x"),
         "kind": ("E", "F", "V", "FC"), "failure": ('"timed out"', '"out of memory"')}  # fmt: skip

numeric = st.builds(
    lambda f, o, v: f"{f} {o} {v}", st.sampled_from(NUMBERS), st.sampled_from(list(COMPARE)), st.integers(-8, 8)
)
turned = st.builds(
    lambda v, o, f: f"{v}{o}{f}", st.integers(-8, 8), st.sampled_from(list(COMPARE)), st.sampled_from(NUMBERS)
)
wordy = st.sampled_from(sorted(WORDS)).flatmap(
    lambda f: st.builds(lambda o, v: f"{f}{o}{v}", st.sampled_from(["=", "!="]), st.sampled_from(WORDS[f]))
)
listed = st.sampled_from(sorted(WORDS)).flatmap(
    lambda f: st.builds(
        lambda n, v: f"{f} {n} ({', '.join(v)})",
        st.sampled_from(["in", "not in"]),
        st.lists(st.sampled_from(WORDS[f]), min_size=1, max_size=3),
    )
)
flags = st.sampled_from(["failed", "running", "labelled", "energy is known", "fmax is unknown", "size is not known"])
queries = st.recursive(
    st.one_of(numeric, turned, wordy, listed, flags),
    lambda inner: st.one_of(
        st.builds(lambda q: f"not ({q})", inner),
        st.builds(lambda a, b, j: f"({a}) {j} ({b})", inner, inner, st.sampled_from(["and", "or", ","])),
    ),
    max_leaves=5,
)


def test_sql_says_what_the_words_say(cells, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = views(cells)
    assert {f["state"] for f in facts} >= {"labelled", "failed", "waiting", "derived"}

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(queries, st.sampled_from([1, 3, 5000]), st.sampled_from([0, 4, 30000]))
    def check(query: str, window: int, rare: int) -> None:
        monkeypatch.setattr(pages, "FIRST", window)
        monkeypatch.setattr(pages, "RARE", rare)
        node = grammar.parse(query)
        expected = sorted({f["id"] for f in facts if verdict(node, f)})
        assert ids(cells, query) == expected, query
        assert select(cells.database, query, labelled=False, doubted=True).count() == len(expected)

    check()


def test_the_example_of_the_manual(cells) -> None:
    found = ids(cells, 'kind=FC and natoms<200 and (oracle="emt" or size>=4) and not failed')
    moved = cells.decisions(cells.campaign("first").id)[0].proposals[0].calculation
    assert [r.key for r in select(cells.database, "kind=FC").scalars()] == [moved]
    assert len(found) == 1


def test_keys_formulas_and_times(cells) -> None:
    every = list(select(cells.database, labelled=False).scalars())
    for row in every[:3]:
        assert ids(cells, f"key={row.key[:16]}") == ids(cells, f'key="{row.key}"') == [row.id]
        assert row.id in ids(cells, f"structure={row.structure[:20].upper()}")
        assert row.id in ids(cells, f"fingerprint={row.fingerprint[:8]}")
        turned_round = "".join(f"{s}{n}" for s, n in reversed(list(Formula(row.formula).count().items())))
        assert ids(cells, f"formula={turned_round}") == [r.id for r in every if r.formula == row.formula]
    labelled = [r.id for r in every if r.time is not None]
    assert ids(cells, "age < 1h") == ids(cells, "time > 2020-01-01") == labelled
    assert ids(cells, "age > 1h") == ids(cells, "time < 2020-01-01T12:00") == []


@pytest.mark.parametrize(
    ("query", "column", "words"),
    [
        ("natoms <", 9, "ends too early"),
        ("natoms << 3", 9, "does not fit"),
        ("(natoms<3", 10, "ends too early"),
        ('role="abc', 6, "never closed"),
        ("natoms<3x", 8, "no number"),
        ("natoms<3 failed", 10, "join comparisons"),
        ("natoms<3; drop table blob", 9, "has no meaning"),
        ("natom<3", 1, "did you mean natoms"),
        ("1 < frobnicate", 5, "no field"),
        ("3 < 4", 1, "neither side"),
        ("natoms = many", 10, "with a number"),
        ("role < host", 8, "no order"),
        ("kind = Q", 8, "kinds are E"),
        ("kind > E", 8, "no order"),
        ("failed = 3", 10, "yes or no"),
        ("natoms is known and oracle is known", 21, "always known"),
        ("age < 3", 7, "span"),
        ("time > yesterday", 8, "date"),
        ("key = xyz", 7, "hexadecimal"),
        ("formula = Xq2", 11, "formula"),
        ("natoms < 1e999", 10, "too large"),
        ("role = 12h", 8, "quotes"),
        ("natoms < 2, " + "(" * 80, 73, "parentheses"),
        ("natoms<1 or " * 500, 4000, "characters"),
    ],
)
def test_what_means_nothing_is_refused_at_its_column(cells, query: str, column: int, words: str) -> None:
    with pytest.raises(QueryError, match=words) as caught:
        ids(cells, query)
    assert caught.value.column == column
    shown, mark = caught.value.pointer.splitlines()
    assert mark.strip() == "^"
    if column <= len(query):
        assert shown[mark.index("^")] == query[column - 1]


ALPHABET = "natoms kind=FEVC()<>!'\",.;-%_*\\x00é0123456789 and or not in is known select drop union -- /* */"


def test_no_text_crashes_the_parser_or_reaches_sql(cells) -> None:
    before = inspect(cells.database.engine).get_table_names()
    rows = len(ids(cells, ""))
    words = st.sampled_from([*FIELDS, "and", "or", "not", "in", "is", "known", "(", ")", "=", "<", "'", '"', ",", "3",
                             "1d", "2026-01-01",
                             "'; DROP TABLE blob; --", "Cu", "x' OR '1'='1", "\0", "\ud800"])  # fmt: skip

    @settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.one_of(st.text(max_size=60), st.text(ALPHABET, max_size=80), st.lists(words, max_size=14).map(" ".join)))
    def check(query: str) -> None:
        with contextlib.suppress(RecordError):
            select(cells.database, query, labelled=False).page(size=3)

    check()
    assert inspect(cells.database.engine).get_table_names() == before
    assert len(ids(cells, "")) == rows


@given(st.text(st.characters(exclude_characters='"\n', exclude_categories=["Cs"]), max_size=40))
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_quoted_text_arrives_as_it_is(text: str) -> None:
    node = grammar.parse(f'role="{text}"')
    assert isinstance(node, grammar.Comparison)
    assert node.value.content == text


def test_every_element_is_a_field(cells) -> None:
    assert not set(FIELDS) & set(chemical_symbols)
    assert ids(cells, "Og") == ids(cells, "Og>=1") == []
    assert ids(cells, "not H") == ids(cells, "H=0")
