"""farfield: active-learning data collection for interatomic potentials, guided by error estimates."""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["__version__"]
