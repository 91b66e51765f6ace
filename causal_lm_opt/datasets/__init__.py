"""Loaders for real experiments (bring the file) and generators of the data shipped in ``data/``."""

from __future__ import annotations

from causal_lm_opt.datasets.hong_kong import (
    HongKong,
    hong_kong_design,
    hong_kong_policies,
    load_hong_kong,
)
from causal_lm_opt.datasets.persuasion import DirectMean, Persuasion, load_persuasion
from causal_lm_opt.datasets.pieces import PiecePolicy
from causal_lm_opt.datasets.shipped import (
    load_text_experiment,
    shipped_data_dir,
    write_shipped_data,
)
from causal_lm_opt.datasets.text_experiment import (
    TextExperiment,
    make_text_experiment,
    true_mean,
)
from causal_lm_opt.datasets.upworthy import Upworthy, load_upworthy

__all__ = [
    "PiecePolicy",
    "HongKong",
    "load_hong_kong",
    "hong_kong_design",
    "hong_kong_policies",
    "DirectMean",
    "Persuasion",
    "load_persuasion",
    "TextExperiment",
    "make_text_experiment",
    "true_mean",
    "load_text_experiment",
    "shipped_data_dir",
    "write_shipped_data",
    "Upworthy",
    "load_upworthy",
]
