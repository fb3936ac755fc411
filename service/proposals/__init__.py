"""Proposals: candidates, what they cost, which is chosen, and the loss weights that go with them."""

from farfield.service.proposals.choice import Action, choose
from farfield.service.proposals.cost import PowerCost, cost_model
from farfield.service.proposals.opening import lattice_cells, oracle_check_cells, start_cells
from farfield.service.proposals.verification import rattle, verification_cell
from farfield.service.proposals.weights import loss_weights

__all__ = [
    "Action",
    "PowerCost",
    "choose",
    "cost_model",
    "lattice_cells",
    "loss_weights",
    "oracle_check_cells",
    "rattle",
    "start_cells",
    "verification_cell",
]
