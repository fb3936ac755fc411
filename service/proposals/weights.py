"""Loss weights between kinds from the far field of u^h (theory.md section 3, decisions C8).

The loss is a sum over rows, so w_FC and w_V carry sqrt(n_conf). E rows are total energies per cell.
"""

from __future__ import annotations

import numpy as np

__all__ = ["ENERGY_WEIGHT", "loss_weights"]

ENERGY_WEIGHT = 5.0
"""w_E in 1/Å against w_F = 1."""
GREEN_LENGTH = 0.8
"""l_G / a, the length that turns a stress residual into a force norm."""
FC_FLOOR, V_FLOOR = 0.3, 0.02
"""Least weights, so that rows in the fit are never ignored."""


def loss_weights(
    *,
    tail_l2: float | None,
    tail_l4: float | None,
    s2: float,
    a: float,
    n_conf: int,
    n_strain: int,
    strain2: float,
    with_fc: bool,
    with_v: bool,
    fc_boost: float = 1.0,
) -> dict[str, float]:
    """Weights of E, F, V, FC.

    `tail_l2` = ||Du^h||_{l2(>L)}, `tail_l4` = ||Du^h||_{l4(>L)} in Å, None before a first u^h; `strain2` the mean
    squared Frobenius norm of the strains; `n_conf` defect cells, `n_strain` strained cells. 0 leaves a kind
    out of the fit.
    """
    root = float(np.sqrt(max(n_conf, 1)))
    fc = 4.0 if tail_l2 is None else max(np.sqrt(3.0) * tail_l2 * root * fc_boost, FC_FLOOR)
    if tail_l4 is None or n_strain == 0:
        v = 0.5
    else:
        v = max(root * tail_l4**2 / (s2 * strain2 * GREEN_LENGTH * a * np.sqrt(n_strain)), V_FLOOR)
    return {"E": ENERGY_WEIGHT, "F": 1.0, "V": float(v) if with_v else 0.0, "FC": float(fc) if with_fc else 0.0}
