"""Simulated logs with known truth, for testing estimators and for planning studies."""

from __future__ import annotations

from causal_lm_opt.simulation._embedding import PreferencePairs
from causal_lm_opt.simulation.appeals import text_world
from causal_lm_opt.simulation.confounded import (
    confounded_log,
    drifted_logging,
    hidden_confounder,
    token_world,
)
from causal_lm_opt.simulation.correlation_shift import CorrelationShiftWorld
from causal_lm_opt.simulation.gaussian import GaussianDesign, SimulatedLog
from causal_lm_opt.simulation.latent_positivity import LatentPositivityWorld
from causal_lm_opt.simulation.piece_world import PieceWorld
from causal_lm_opt.simulation.prompts import PromptDesign, prompt_world
from causal_lm_opt.simulation.rated_pairs import RatedPairs, StratifiedPairs, rated_pairs
from causal_lm_opt.simulation.studies import STUDIES, named_study, study_from_toml
from causal_lm_opt.simulation.study import Study, StudyResult, run_study
from causal_lm_opt.simulation.tabular import TabularDesign
from causal_lm_opt.simulation.text_world import TextWorld
from causal_lm_opt.simulation.user_objectives import UserObjectiveWorld

__all__ = [
    "CorrelationShiftWorld",
    "GaussianDesign",
    "LatentPositivityWorld",
    "PreferencePairs",
    "PieceWorld",
    "PromptDesign",
    "RatedPairs",
    "STUDIES",
    "SimulatedLog",
    "StratifiedPairs",
    "Study",
    "StudyResult",
    "TabularDesign",
    "TextWorld",
    "UserObjectiveWorld",
    "confounded_log",
    "drifted_logging",
    "hidden_confounder",
    "named_study",
    "prompt_world",
    "rated_pairs",
    "run_study",
    "study_from_toml",
    "text_world",
    "token_world",
]
