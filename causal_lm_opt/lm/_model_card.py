"""The model card that is written beside a trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["model_card"]

TEXT = """---
library_name: transformers
tags:
- causal-lm-opt
- off-policy
---

# Language model trained on logged outcomes

Trained with `causal_lm_opt`'s `CausalPreferenceTrainer` on texts and the outcomes people reported.

- Objective: {label}
- Rows: {rows}
{last}
What this rests on: outcomes that depend on a text and not on what else made it be shown, texts that
the logging policy could have written, its right probabilities. The value on training rows flatters;
estimate it on rows that had no part in training or in choosing the checkpoint.

Method: V. Lin, E. Ben-Michael, L.-P. Morency, "Optimizing Language Models for Human Preferences
is a Causal Inference Problem", UAI 2024, arXiv 2402.14979.
"""
SHOWN = ("value", "ess", "sd_log_ratio", "clip_share", "kl")


def model_card(label: str, sizes: Sequence[int], history: Sequence[Mapping[str, Any]]) -> str:
    """Markdown of the card: objective, rows, and how far the policy moved.

    Examples
    --------
    >>> card = model_card("IPW (CPO) [Hajek; exact]", [400], [{"step": 9, "ess": 0.5, "kl": 0.25}])
    >>> "- At step 9: ess 0.5, kl 0.25" in card
    True
    """
    steps = [line for line in history if "ess" in line]
    last = ""
    if steps:
        told = ", ".join(f"{key} {steps[-1][key]:.4g}" for key in SHOWN if key in steps[-1])
        last = f"- At step {steps[-1]['step']}: {told}\n"
    return TEXT.format(label=label, rows=" logged, ".join(str(n) for n in sizes), last=last)
