from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from farfield.errors import FitError
from farfield.service.surrogate import Basis, Triangle, design, fit

SIZE = 15
GAMMA = np.append(np.logspace(0, 3, SIZE - 1), 1.0)
FREE = np.arange(SIZE) == SIZE - 1


def _data(seed=0, noise=0.02, counts=(("E", 10), ("F", 600), ("V", 30)), strength=0.5):
    """Rows of three kinds whose labels follow the model of the fit: coefficients out of the prior, one noise."""
    rng = np.random.default_rng(seed)
    c = rng.normal(size=SIZE) * noise / (strength * GAMMA)
    c[-1] = -3.5
    weights = {"E": 5.0, "F": 1.0, "V": 2.0, "FC": 0.1}
    blocks = {}
    for name, m in counts:
        A = rng.normal(size=(m, SIZE)) * np.logspace(3, 0, SIZE)
        A[:, -1] = rng.integers(-2, 3, size=m) if name == "E" else 0.0
        blocks[name] = (A, A @ c + noise / weights[name] * rng.normal(size=m))
    return c, weights, blocks


def _triangles(blocks):
    triangles = {}
    for name, (A, y) in blocks.items():
        triangles[name] = Triangle(SIZE)
        half = len(y) // 2
        triangles[name].add(A[:half], y[:half])
        triangles[name].add(A[half:], y[half:])
    return triangles


def test_evidence_recovers_noise_and_strength():
    noises, strengths = [], []
    for seed in range(8):
        _, weights, blocks = _data(seed)
        posterior = fit(_triangles(blocks), weights, GAMMA, FREE)
        noises.append(posterior.noise)
        strengths.append(posterior.strength)
    assert np.mean(noises) == pytest.approx(0.02, rel=0.03)
    assert np.exp(np.mean(np.log(strengths))) == pytest.approx(0.5, rel=0.4)


def test_refit_equals_a_dense_bayesian_solve():
    _, weights, blocks = _data(counts=(("E", 10), ("F", 300), ("V", 30), ("FC", 50)))
    posterior = fit(_triangles(blocks), weights, GAMMA, FREE)
    A = np.vstack([weights[k] * a for k, (a, _) in blocks.items()])
    y = np.concatenate([weights[k] * b for k, (_, b) in blocks.items()])
    ridge = np.diag(np.where(FREE, 0.0, posterior.strength * GAMMA))
    dense = np.linalg.lstsq(np.vstack([A, ridge]), np.append(y, np.zeros(SIZE)), rcond=None)[0]
    assert np.abs(posterior.mean - dense).max() < 1e-10 * np.abs(dense).max()
    P = (ridge.T @ ridge + A.T @ A) / posterior.noise**2
    assert np.abs(P @ posterior.mean - A.T @ y / posterior.noise**2).max() < 1e-10 * np.abs(P @ np.abs(dense)).max()
    Sigma = np.linalg.inv(P)
    G = np.random.default_rng(5).normal(size=(4, SIZE))
    assert posterior.quadratic(G[0]) == pytest.approx(G[0] @ Sigma @ G[0], rel=1e-8)
    assert posterior.variances(G) == pytest.approx(np.diagonal(G @ Sigma @ G.T), rel=1e-8)
    assert posterior.variance_trace(G) == pytest.approx(np.trace(G.T @ G @ Sigma), rel=1e-8)
    assert np.allclose(posterior.covariance(G), G @ Sigma @ G.T, rtol=1e-8)
    assert np.allclose(posterior.apply(G.T), Sigma @ G.T, rtol=1e-7, atol=1e-12)


def test_evidence_is_the_marginal_likelihood():
    """Differences in log evidence between strengths equal those of the Gaussian density of the labels."""
    _, weights, blocks = _data(counts=(("F", 40),))
    A, y = blocks["F"]
    gamma, A = GAMMA[:-1], A[:, :-1]
    triangle = Triangle(SIZE - 1)
    triangle.add(A, y)
    values, densities = [], []
    for strength in (0.05, 0.5, 5.0):
        posterior = fit({"F": triangle}, weights, gamma, strength=strength, noise_floor=0.0)
        C = posterior.noise**2 * (np.eye(40) + (A / (strength * gamma)) @ (A / (strength * gamma)).T)
        _, logdet = np.linalg.slogdet(2 * np.pi * C)
        values.append(posterior.evidence)
        densities.append(-0.5 * logdet - 0.5 * y @ np.linalg.solve(C, y))
    assert values == pytest.approx(densities, rel=1e-6)  # the dense density is the less exact one


def test_chosen_strength_is_best_on_the_grid():
    _, weights, blocks = _data()
    triangles = _triangles(blocks)
    chosen = fit(triangles, weights, GAMMA, FREE)
    for factor in (0.3, 3.0):
        assert fit(triangles, weights, GAMMA, FREE, strength=chosen.strength * factor).evidence < chosen.evidence


def test_prior_and_noise_are_read_off_energies_and_forces():
    """Many lightly weighted rows near zero must not pass for precise data and switch the prior off."""
    _, weights, blocks = _data(counts=(("E", 2), ("F", 20)))
    alone = fit(_triangles(blocks), weights, GAMMA, FREE)
    rng = np.random.default_rng(9)
    blocks["FC"] = (1e-3 * rng.normal(size=(800, SIZE)) * ~FREE, 1e-3 * rng.normal(size=800))
    joined = fit(_triangles(blocks), weights, GAMMA, FREE)
    assert (joined.noise, joined.strength) == (alone.noise, alone.strength)
    assert not np.array_equal(joined.mean, alone.mean)
    only = fit(_triangles({"FC": blocks["FC"]}), weights, GAMMA, FREE)
    assert only.noise == pytest.approx(1e-4, rel=0.1)


def test_residuals_per_kind_are_unweighted():
    _, weights, blocks = _data()
    posterior = fit(_triangles(blocks), weights | {"V": 0.0}, GAMMA, FREE)
    for name, (A, y) in blocks.items():
        assert posterior.residual_rms[name] == pytest.approx(np.sqrt(np.mean((y - A @ posterior.mean) ** 2)), rel=1e-9)
    assert posterior.weights["V"] == 0.0


def test_scaling_all_weights_scales_the_noise_only():
    _, weights, blocks = _data()
    one = fit(_triangles(blocks), weights, GAMMA, FREE)
    ten = fit(_triangles(blocks), {k: 10 * w for k, w in weights.items()}, GAMMA, FREE)
    assert np.allclose(one.mean, ten.mean, rtol=1e-5)
    assert ten.noise == pytest.approx(10 * one.noise, rel=1e-5)
    g = np.ones(SIZE) * ~FREE
    assert one.quadratic(g) == pytest.approx(ten.quadratic(g), rel=1e-4)


def test_free_columns_cost_nothing_and_missing_energies_do_no_harm():
    c, weights, blocks = _data(noise=1e-6, strength=1e-5)
    posterior = fit(_triangles(blocks), weights, GAMMA, FREE)
    assert posterior.mean[-1] == pytest.approx(c[-1], rel=1e-5)
    only_forces = fit(_triangles({"F": blocks["F"]}), weights, GAMMA, FREE)
    assert only_forces.mean[-1] == 0.0
    assert np.allclose(only_forces.mean[:-1], posterior.mean[:-1], rtol=1e-3, atol=1e-9)
    assert np.isfinite(only_forces.quadratic(np.ones(SIZE)))


@pytest.mark.parametrize("constant", [-3.5, -4e4])
def test_a_constant_per_atom_is_free_however_small_the_noise(constant):
    """Total energies of all-electron oracles: no prior may hold the one-body column."""
    c, weights, blocks = _data(noise=1e-6, strength=1e-5, counts=(("E", 3), ("F", 40)))
    A, _ = blocks["E"]
    A[:, -1] = 100.0
    moved = {"E": (A, A @ c + constant * A[:, -1]), "F": blocks["F"]}
    still = {"E": (A, A @ c), "F": blocks["F"]}
    one, two = (fit(_triangles(b), weights, GAMMA, FREE) for b in (moved, still))
    assert one.strength == pytest.approx(two.strength, rel=1e-6)
    assert one.mean[-1] - two.mean[-1] == pytest.approx(constant, rel=1e-9)
    assert np.allclose(one.mean[:-1], two.mean[:-1], rtol=1e-5, atol=1e-7 * np.abs(two.mean[:-1]).max())


def test_fewer_rows_than_columns_are_carried_by_the_prior():
    _, weights, blocks = _data(counts=(("E", 1), ("F", 6)))
    posterior = fit(_triangles(blocks), weights, GAMMA, FREE)
    assert np.isfinite(posterior.mean).all()
    assert 0 < posterior.effective <= 7
    assert posterior.noise > 0


def test_new_rows_shrink_every_variance():
    _, weights, blocks = _data()
    posterior = fit(_triangles(blocks), weights, GAMMA, FREE)
    A = np.random.default_rng(3).normal(size=(5, SIZE))
    T = posterior.factor_with(A)
    P = posterior.factor.T @ posterior.factor + A.T @ A
    assert np.allclose(T.T @ T, P, rtol=1e-10, atol=1e-10 * np.abs(P).max())


def test_draws_follow_the_posterior():
    _, weights, blocks = _data()
    posterior = fit(_triangles(blocks), weights, GAMMA, FREE)
    draws = posterior.draws(4000, seed=1)
    g = np.linspace(1, 2, SIZE)
    assert np.var(draws @ g) == pytest.approx(posterior.quadratic(g), rel=0.1)
    assert np.array_equal(draws, posterior.draws(4000, seed=1))


def test_doubled_rows_are_twice_the_evidence():
    """Rows given twice weigh as with sqrt(2) times the weight; the noise is read off twice as many."""
    _, weights, blocks = _data()
    twice = {k: (np.vstack([A, A]), np.concatenate([y, y])) for k, (A, y) in blocks.items()}
    one = fit(_triangles(blocks), {k: np.sqrt(2) * w for k, w in weights.items()}, GAMMA, FREE, strength=1.0)
    two = fit(_triangles(twice), weights, GAMMA, FREE, strength=1.0)
    assert np.allclose(one.factor, two.factor, rtol=1e-10, atol=1e-10 * np.abs(two.factor).max())
    assert np.allclose(one.mean, two.mean, rtol=1e-8)
    chosen = fit(_triangles(twice), weights, GAMMA, FREE)
    assert chosen.noise == pytest.approx(fit(_triangles(blocks), weights, GAMMA, FREE).noise, rel=0.05)


def test_a_single_component_moves_the_mean_along_its_row_only():
    A, _ = _data()[2]["F"]
    triangle = Triangle(SIZE)
    triangle.add(A[0], 0.3)
    posterior = fit({"F": triangle}, {"F": 1.0}, GAMMA, FREE)
    direction = A[0, :-1] / GAMMA[:-1] ** 2
    share = posterior.mean[:-1] @ direction / (direction @ direction)
    assert np.allclose(posterior.mean[:-1], share * direction, rtol=1e-9)
    assert 0 <= A[0] @ posterior.mean <= 0.3
    assert posterior.mean[-1] == 0


def test_one_cell_of_a_large_basis_is_carried_by_the_prior():
    """31 atoms and 351 functions: the forces of the next cell within a tenth of what they are."""
    basis = Basis.default(("Cu",), 2.55, 6)
    triangles = {"E": Triangle(basis.size), "F": Triangle(basis.size)}
    cells = []
    for seed in (0, 1):
        atoms = bulk("Cu", cubic=True, a=3.6) * (2, 2, 2)
        del atoms[0]
        atoms.rattle(0.05, seed=seed)
        atoms.calc = EMT()
        cells.append((atoms, design(basis, atoms)))
    atoms, rows = cells[0]
    triangles["E"].add(rows.energy, atoms.get_potential_energy())
    triangles["F"].add(rows.forces, atoms.get_forces().ravel())
    posterior = fit(triangles, {"E": 5.0, "F": 1.0}, basis.prior, basis.one_body)
    assert 0 < posterior.effective < triangles["F"].count + 1 < basis.size
    atoms, rows = cells[1]
    wrong = rows.forces @ posterior.mean - atoms.get_forces().ravel()
    assert np.linalg.norm(wrong) < 0.1 * np.linalg.norm(atoms.get_forces())


@pytest.mark.parametrize("scale", [0.0, 1e-200])
def test_labels_of_nothing_are_fitted_by_nothing(scale):
    _, weights, blocks = _data()
    posterior = fit(_triangles({k: (A, scale * y) for k, (A, y) in blocks.items()}), weights, GAMMA, FREE)
    assert np.abs(posterior.mean).max() < 1e-100
    assert posterior.noise == pytest.approx(1e-6)
    bare = fit(_triangles({k: (A, scale * y) for k, (A, y) in blocks.items()}), weights, GAMMA, FREE, noise_floor=0.0)
    assert np.isfinite([bare.noise, bare.evidence, *bare.mean]).all()


def test_ideal_crystals_fix_nothing():
    """Their force rows and labels are rounding, which a fit must not take for data."""
    basis = Basis.default(("Cu",), 2.55, 1)
    atoms = bulk("Cu", cubic=True, a=3.6) * (2, 2, 2)
    atoms.calc = EMT()
    rows = design(basis, atoms)
    assert 0 < np.abs(rows.forces).max() < 1e-9
    triangles = {"E": Triangle(basis.size), "F": Triangle(basis.size)}
    triangles["F"].add(rows.forces, atoms.get_forces().ravel())
    with pytest.raises(FitError, match="displace"):
        fit(triangles, {"E": 5.0, "F": 1.0}, basis.prior, basis.one_body)
    for n in (1, 3):
        copies = atoms * (n, 1, 1)
        triangles["E"].add(design(basis, copies).energy, n * atoms.get_potential_energy())
    with pytest.raises(FitError, match="displace"):
        fit(triangles, {"E": 5.0, "F": 1.0}, basis.prior, basis.one_body)


def test_a_kind_of_weight_zero_or_without_rows_is_as_good_as_absent():
    _, weights, blocks = _data()
    triangles = _triangles(blocks)
    plain = fit({k: triangles[k] for k in "EF"}, weights, GAMMA, FREE)
    without = fit(triangles | {"FC": Triangle(SIZE)}, weights | {"V": 0.0}, GAMMA, FREE)
    assert np.array_equal(plain.mean, without.mean)
    assert without.residual_rms["FC"] == 0.0


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"weights": {"F": np.nan}}, "positive and finite"),
        ({"weights": {"F": np.inf}}, "positive and finite"),
        ({"weights": {"F": 1e200}}, "range of numbers"),
        ({"weights": {"F": 1e-200}}, "all zero"),
        ({"prior": np.zeros(SIZE)}, "prior scales"),
        ({"prior": np.full(SIZE, np.nan)}, "prior scales"),
        ({"prior": GAMMA[None]}, "different bases"),
        ({"free": np.ones(SIZE, bool)}, "every column is free"),
        ({"strength": 0.0}, "strength"),
        ({"strength": -1.0}, "strength"),
        ({"strength": np.nan}, "strength"),
        ({"strength": 1e-300}, "strength"),
        ({"strength": np.inf}, "strength"),
        ({"noise_floor": -1.0}, "noise floor"),
        ({"noise_floor": np.nan}, "noise floor"),
    ],
)
def test_parameters_out_of_range_are_refused(change, fault):
    given = {"weights": {"F": 1.0}, "prior": GAMMA, "free": FREE} | change
    triangles = {"F": _triangles(_data()[2])["F"]}
    with pytest.raises(FitError, match=fault) as caught:
        fit(triangles, given.pop("weights"), given.pop("prior"), given.pop("free"), **given)
    assert "\n" not in str(caught.value)


def test_bad_input_is_refused():
    _, weights, blocks = _data()
    triangles = _triangles(blocks)
    with pytest.raises(FitError, match="buy at least one"):
        fit({}, weights, GAMMA, FREE)
    with pytest.raises(FitError, match="buy at least one"):
        fit(triangles, {}, GAMMA, FREE)
    with pytest.raises(FitError, match="positive"):
        fit(triangles, weights | {"F": -1.0}, GAMMA, FREE)
    with pytest.raises(FitError, match="different bases"):
        fit(triangles, weights, GAMMA[1:], FREE[1:])
    empty = Triangle(SIZE)
    empty.add(np.zeros((30, SIZE)), np.zeros(30))
    with pytest.raises(FitError, match="zero"):
        fit({"F": empty}, weights, GAMMA, FREE)
    single = Triangle(SIZE)
    single.add(FREE.astype(float), [1.0])
    with pytest.raises(FitError, match="forces"):
        fit({"E": single}, weights, GAMMA, FREE)
