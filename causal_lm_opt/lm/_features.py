"""Features of texts that stay as they were fitted: on the training texts, once."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from causal_lm_opt.estimators._named_ratios import topic_names
from causal_lm_opt.estimators.text_pipelines import tfidf_features

__all__ = ["TextFeatures"]

TOPICS = 20
MOST_KEPT = 20_000


class TextFeatures:
    """What outcomes are taken to respond to: numbers of each text.

    Parameters
    ----------
    spec : transformer, callable, or None
        A transformer is fitted on ``rows``, outcomes unseen; a callable gives (n, p) numbers of n
        texts. None: TF-IDF of words, 20 topics.
    rows : sequence of str
        Training texts (each after its prompt, where there are prompts).

    Notes
    -----
    Rows are remembered, as the same draws are read by ratio, outcome model and diagnostics.
    """

    def __init__(self, spec: Any, rows: Sequence[str]) -> None:
        if isinstance(spec, type):
            raise TypeError(f"features is the class {spec.__name__}: give {spec.__name__}().")
        spec = tfidf_features(n_components=TOPICS) if spec is None else spec
        self.step = spec
        if hasattr(spec, "fit") and hasattr(spec, "transform"):
            self.step = copy.deepcopy(spec).fit(list(dict.fromkeys(rows)))
        elif not (callable(spec) or hasattr(spec, "transform")):
            raise TypeError(
                "features must be a transformer of texts, a callable texts -> numbers (n, p), or "
                f"None, got {spec!r}."
            )
        self._known: dict[str, Any] = {}
        self.names = list(self(list(rows[:2])).columns)

    def __deepcopy__(self, memo: Any) -> TextFeatures:
        return self  # clones of an estimator share what was fitted once

    @property
    def width(self) -> int:
        """Number of features."""
        return len(self.names)

    def __call__(self, texts: Any) -> pd.DataFrame:
        """Features of texts, one row each.

        Raises
        ------
        ValueError
            If they are not finite numbers, one row for each text.
        """
        listed = [str(text) for text in np.asarray(texts, dtype=object).ravel()]
        new = [text for text in dict.fromkeys(listed) if text not in self._known]
        if new:
            if len(self._known) + len(new) > MOST_KEPT:
                self._known = {}
                new = list(dict.fromkeys(listed))
            made = self._make(new)
            self._columns = [str(c) for c in made.columns]
            self._known |= dict(zip(new, made.to_numpy(), strict=True))
        return pd.DataFrame(np.array([self._known[t] for t in listed]), columns=self._columns)

    def _make(self, texts: list[str]) -> pd.DataFrame:
        found = self.step.transform(texts) if hasattr(self.step, "transform") else self.step(texts)
        found = found.toarray() if hasattr(found, "toarray") else found
        names = list(getattr(found, "columns", ()))
        try:
            values = np.asarray(found, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"features must be numbers: {error}.") from error
        if values.shape[:1] != (len(texts),) or values.ndim != 2 or not np.isfinite(values).all():
            raise ValueError(
                f"features of {len(texts)} texts must be finite numbers of shape "
                f"({len(texts)}, p), got shape {values.shape}."
            )
        return pd.DataFrame(values, columns=names or self._names(values.shape[1]))

    def _names(self, width: int) -> list[str]:
        """Names of features that bring none; topics by the terms that stand out in them."""
        if {"terms", "topics"} <= set(getattr(self.step, "named_steps", {})):
            names = topic_names(self.step)
            if len(names) == width:
                return [str(name) for name in names]
        return [f"feature {j}" for j in range(width)]
