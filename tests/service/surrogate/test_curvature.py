from __future__ import annotations

import numpy as np
import pytest

from farfield.service.surrogate import Surrogate, hessian_product

RNG = np.random.default_rng(7)


@pytest.mark.parametrize("points", [2, 4])
def test_product_of_a_quadratic_is_its_matrix(points):
    H, x0 = RNG.normal(size=(30, 30)), RNG.normal(size=(10, 3))
    H = H + H.T
    product = hessian_product(lambda x: -(H @ (x - x0).ravel()).reshape(10, 3), x0, points=points)
    v = RNG.normal(size=(10, 3))
    assert np.allclose(product(v).ravel(), H @ v.ravel(), atol=1e-9)
    assert not product(np.zeros((10, 3))).any()


def test_four_points_are_exact_to_fourth_order():
    x0, v = RNG.normal(size=(4, 3)), RNG.normal(size=(4, 3))
    product = hessian_product(lambda x: -(x**4), x0, step=0.05, points=4)
    assert np.allclose(product(v), 4 * x0**3 * v, rtol=1e-10, atol=1e-12)
    rough = hessian_product(lambda x: -(x**4), x0, step=0.05, points=2)
    assert not np.allclose(rough(v), 4 * x0**3 * v, rtol=1e-5)


def test_the_evaluators_hessian_is_symmetric_and_blind_to_translation(system):
    basis, atoms = system
    model = Surrogate(basis, RNG.normal(size=basis.size) / basis.prior)
    evaluate = model.evaluator(atoms.get_chemical_symbols(), atoms.cell)
    product = evaluate.hessian(atoms.positions)
    u, v = RNG.normal(size=(2, len(atoms), 3))
    Hu, Hv = product(u), product(v)
    scale = np.abs(Hu).max()
    assert (u * Hv).sum() == pytest.approx((v * Hu).sum(), rel=1e-7)
    assert np.abs(product(np.ones_like(u))).max() < 1e-8 * scale
    assert np.abs(product(u + 2 * v) - Hu - 2 * Hv).max() < 1e-6 * scale
    assert evaluate.builds == 1


def test_other_numbers_of_points_are_refused():
    with pytest.raises(ValueError, match="2 or 4"):
        hessian_product(lambda x: x, np.zeros((1, 3)), points=3)
