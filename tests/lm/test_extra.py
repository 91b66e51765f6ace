"""Says why this folder is left out where the extra is not installed."""

from __future__ import annotations

import importlib.util

import pytest


def test_the_extra_is_installed() -> None:
    needed = ("torch", "transformers", "tokenizers")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"tests of causal_lm_opt.lm need {', '.join(missing)}: install the extra lm")
