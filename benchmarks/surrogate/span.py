"""The basis against that of ace-jax, where it is installed (`python -m pip install '.[crosscheck]'`).

ace-jax is the ACE authors' own; its harmonics, couplings and selection share no code with ours. It is given our radial
choices where it can take them: the Agnesi map centred at 1.2 r0 and an envelope that vanishes at the cutoff alone. Its
polynomials are others, yet products of total degree up to D span the same space. Left out: order 1 (ours is the pair
set, ace-jax keeps both) and our fading inside the core.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version

import numpy as np
from ase import Atoms
from ase.build import bulk
from bars import Line
from numpy.typing import NDArray

from farfield.service.surrogate import Basis, design
from farfield.service.surrogate.kernels.radial import CENTRE

Array = NDArray[np.float64]

INSTALL = "python -m pip install '.[crosscheck]'"

CUTOFF, R0, DEGREES = 5.0, 2.74, (10, 14)


def span_lines() -> Iterator[Line]:
    """Counts of functions, and how far each span reaches out of the other."""
    try:
        import ace_jax.basis  # noqa: F401
        import jax
    except ImportError as error:
        yield Line("span of orders 2 and 3 against ace-jax", f"not measured: {error}; {INSTALL}", "1e-08")
        return
    jax.config.update("jax_enable_x64", True)
    for degree in DEGREES:
        ours = Basis(("W",), CUTOFF, R0, (degree, degree, degree), core=0.0)
        high = [k for k, f in enumerate(ours.functions) if len(f) > 1]
        mine = site_values(ours)[:, high]
        theirs, count = peer_values(degree)
        own = len(ours.functions)
        name = f"ace-jax {version('ace-jax')}"
        yield Line(f"functions at total degree {degree}, ours and {name}", f"{own} and {count}", "equal", own == count)
        out = max(outside(mine, theirs), outside(theirs, mine))
        what = f"... the span of orders 2 and 3 ({len(high)} functions, {len(mine)} sites), each outside the other"
        yield Line(what, f"{out:.0e}", "1e-08", out <= 1e-8)


def cells() -> list[Atoms]:
    """Rattled cells, more sites in all than there are functions."""
    found = []
    for seed in range(12):
        atoms = bulk("W", a=3.165, cubic=True).repeat(3)
        del atoms[seed]
        atoms.rattle(0.15, seed=seed)
        found.append(atoms)
    return found


def site_values(ours: Basis) -> Array:
    """(sites, functions)"""
    rows = [design(ours, atoms, centres=[i]).energy for atoms in cells() for i in range(len(atoms))]
    return np.array(rows)[:, : len(ours.functions)]


def peer_values(degree: int) -> tuple[Array, int]:
    """Values (sites, functions) of orders 2 and 3, and the number of all many-body functions."""
    import jax.numpy as jnp
    from ace_jax import site_descriptors
    from ace_jax.basis.model import build_model
    from ace_jax.basis.radial_init import agnesi_transform_params

    built = build_model(["W"], 3, degree, rcut=CUTOFF, radial_mode="onehot", coupling_cache=False, with_gamma=False)
    transform = agnesi_transform_params(0.0, CENTRE * R0, CUTOFF, 2, 4)
    model = replace(
        built.model,
        ysolid=False,  # no factor r^l
        rnl_transform=jnp.asarray(transform).reshape(1, 1, 7),
        rnl_envelope=jnp.asarray([-1.0, 1.0, 0.0, 3.0, 0.125]).reshape(1, 1, 5),
    )
    high = [k for k, body in enumerate(built.nnll) if len(body) > 1]
    values = [
        site_descriptors(model, a.positions, a.numbers, np.asarray(a.cell), True, meta=built.meta, dtype=jnp.float64)
        for a in cells()
    ]
    return np.concatenate(values)[:, high], len(built.nnll)


def outside(a: Array, b: Array) -> float:
    """The largest part of a column of `a` (unit norm) that no combination of columns of `b` gives."""
    a, b = a / np.linalg.norm(a, axis=0), b / np.linalg.norm(b, axis=0)
    left = a - b @ np.linalg.lstsq(b, a, rcond=1e-14)[0]
    return float(np.linalg.norm(left, axis=0).max())
