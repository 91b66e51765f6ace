"""Simulated logs with known truth, for testing estimators and for planning studies."""

from __future__ import annotations

from causal_lm_opt.simulation.gaussian import GaussianDesign, SimulatedLog

__all__ = ["GaussianDesign", "SimulatedLog"]
