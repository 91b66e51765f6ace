"""Features of texts that stay as they were fitted: on the training texts, once."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import linalg

from causal_lm_opt.estimators._named_ratios import topic_names
from causal_lm_opt.estimators.text_pipelines import tfidf_features
from causal_lm_opt.lm._optimizer_rows import BREAK

__all__ = ["TextFeatures", "Topics"]

TOPICS = 20
MOST_KEPT = 20_000
NEGLIGIBLE = 1e-8


class Topics:
    """TF-IDF topics of texts and, apart from them, of the prompts that they answer.

    Of both in one, the words of many prompts would take most of the topics, and how much a word of
    a text counts would depend on how long its prompt is. Many prompts are clusters, of which the
    rows to be valued hold others: they get a topic for every ten of them, as an outcome model that
    learns each prompt's own level is worse than none there.

    Parameters
    ----------
    n_components : int
        Most topics of the texts; of the prompts as many if they are no more than that, else a tenth
        of their number, if that is fewer.
    prompted : bool
        Whether rows are texts after their prompts (`joined`).
    """

    def __init__(self, n_components: int, *, prompted: bool) -> None:
        self.n_components, self.prompted = n_components, prompted

    def fit(self, rows: Sequence[str]) -> Topics:
        """Fit on distinct texts and distinct prompts; these only where they differ."""
        prompts, texts = (list(dict.fromkeys(part)) for part in self._parts(rows))
        # Odds and outcomes that are additive in words are not so in coordinates of length 1.
        topics = tfidf_features(n_components=self.n_components, unit_length=False)
        self.of_texts: Any = topics.fit(texts)
        self.kept = _independent(self.of_texts.transform(texts))
        self.of_prompts: Any = None
        if len(prompts) > 1 and any(words.split() for words in prompts):
            few = len(prompts) <= self.n_components
            most = self.n_components if few else min(self.n_components, max(1, len(prompts) // 10))
            self.of_prompts = tfidf_features(n_components=most).fit(prompts)
        return self

    def transform(self, rows: Sequence[str]) -> npt.NDArray[np.float64]:
        """Topics of the texts, then those of the prompts, (n, p)."""
        prompts, texts = self._parts(rows)
        found = self.of_texts.transform(texts)[:, self.kept]
        if self.of_prompts is None:
            return np.asarray(found)
        return np.hstack([found, self.of_prompts.transform(prompts)])

    def names(self) -> list[str]:
        """A name for each, by the terms that stand out in it."""
        terms = [str(name).partition(" (")[2] for name in topic_names(self.of_texts)[self.kept]]
        names = [f"topic {j + 1} ({said}" for j, said in enumerate(terms)]
        if self.of_prompts is not None:
            names += [f"prompts' {name}" for name in topic_names(self.of_prompts)]
        return names

    def _parts(self, rows: Sequence[str]) -> tuple[list[str], list[str]]:
        """Prompts and texts of rows."""
        if not self.prompted:
            return [], list(rows)
        parts = [row.partition(BREAK) for row in rows]
        return [prompt for prompt, _, _ in parts], [text for _, _, text in parts]


def _independent(values: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Columns (in order) that no others add up to, a constant among these; one at least.

    What every text keeps (a full stop, one phrase of each slot) would give texts that do not
    odds without bound.
    """
    _, r, order = linalg.qr(values - values.mean(axis=0), mode="economic", pivoting=True)
    size = np.abs(np.diag(r))
    rank = max(1, int((size > NEGLIGIBLE * size[:1].max(initial=1.0)).sum()))
    return np.asarray(np.sort(order[:rank]), dtype=np.intp)


class TextFeatures:
    """What outcomes are taken to respond to: numbers of each text.

    Parameters
    ----------
    spec : transformer, callable, int or None
        A transformer is fitted on ``rows``, outcomes unseen; a callable gives (n, p) numbers of n
        texts. A number: so many TF-IDF topics of the texts, and some of the prompts (`Topics`);
        None: 20.
    rows : sequence of str
        Training texts (each after its prompt, where there are prompts).
    prompted : bool
        Whether there are.

    Notes
    -----
    Rows are remembered, as the same draws are read by ratio, outcome model and diagnostics.
    """

    def __init__(self, spec: Any, rows: Sequence[str], *, prompted: bool = False) -> None:
        if isinstance(spec, type):
            raise TypeError(f"features is the class {spec.__name__}: give {spec.__name__}().")
        if spec is None or (isinstance(spec, int | np.integer) and not isinstance(spec, bool)):
            spec = Topics(TOPICS if spec is None else int(spec), prompted=prompted)
        self.step = spec
        if hasattr(spec, "fit") and hasattr(spec, "transform"):
            self.step = copy.deepcopy(spec).fit(list(dict.fromkeys(rows)))
        elif not (callable(spec) or hasattr(spec, "transform")):
            raise TypeError(
                "features must be a number of topics, a transformer of texts, a callable texts -> "
                f"numbers (n, p), or None, got {spec!r}."
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
        if isinstance(self.step, Topics):
            return self.step.names()
        if {"terms", "topics"} <= set(getattr(self.step, "named_steps", {})):
            names = topic_names(self.step)
            if len(names) == width:
                return [str(name) for name in names]
        return [f"feature {j}" for j in range(width)]
