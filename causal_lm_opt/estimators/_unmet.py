"""What a second sample combines and the log never does, by what can be read of the rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from causal_lm_opt.diagnostics.new_words import new_words
from causal_lm_opt.diagnostics.unmet import UnmetPairs, unmet_pairs
from causal_lm_opt.estimators._log import Log
from causal_lm_opt.estimators._ratio import distinct_rows, stacked_rows
from causal_lm_opt.estimators._target import TargetRows
from causal_lm_opt.estimators._text_rows import text_columns
from causal_lm_opt.estimators._trust import ReadableRows
from causal_lm_opt.estimators._word_counts import WordCounts

__all__ = ["beyond_findings", "unmet_of"]

MOST_WORDS = 200  # the commonest, among which pairs are looked for


def _word_table(here: Any, there: Any) -> list[tuple[Any, Any, Any, bool]]:
    """Presence of common words in two lots of texts; nothing where they hold no word."""
    try:
        words = WordCounts(MOST_WORDS).fit(distinct_rows(stacked_rows(here, there))[0])
    except ValueError:  # says that no text holds a word
        return []
    names = [repr(str(name)) for name in words.get_feature_names_out()]
    one, other = ((words.transform(X) > 0).toarray() for X in (here, there))
    return [(one, other, names, False)]  # what texts lack is mostly their length


def unmet_of(log: Log, second: TargetRows, k: int, own: Any = None) -> UnmetPairs:
    """Features, or common words, that policy ``k``'s rows combine and no logged row does.

    Parameters
    ----------
    own : (array (n, q), array (m, q), q names), optional
        Further features of log and draws, as a ratio reads them.
    """
    weight = second.frequency
    if second.exact:
        assert second.probability is not None
        weight = second.probability[:, second.columns[k]]
    tables: list[tuple[Any, Any, Any, bool]] = []
    if own is not None and len(own[1]) == weight.shape[0]:
        tables.append((*own, True))
    if isinstance(log.X, np.ndarray) and log.X.ndim == 1:
        tables += _word_table(log.X, second.X)
    elif isinstance(log.X, np.ndarray):
        tables.append((log.X, second.X, log.columns or None, True))
    else:
        readable = ReadableRows(log.X, (second.X,))
        table = readable.logged_features
        tables.append((table, readable.features(second.X), table.columns, True))
    found = [
        unmet_pairs(
            here, there, names=names, absent=absent, sample_weight=log.sample_weight,
            codes=log.codes, target_weight=weight, exact=second.exact,
        )
        for here, there, names, absent in tables
    ]  # fmt: skip
    return max(found, key=lambda one: one.share, default=UnmetPairs(0.0, 0.0, ()))


def beyond_findings(log: Log, second: TargetRows, k: int) -> list[tuple[int, str]]:
    """Words of policy ``k``'s texts that no logged text holds, where they call its value in doubt.

    Beside further columns at most a caution: what is estimated may rest on those.
    """
    weight, codes = second.frequency, second.shared
    if second.exact:
        assert second.probability is not None
        weight = second.probability[:, second.columns[k]]
    elif codes is None:
        codes = second.groups
    worst = 2 if isinstance(log.X, np.ndarray) else 1
    drawn = text_columns(second.X)
    return [
        (min(severity, worst), why)
        for name, logged in log.words.items()
        for severity, why in new_words(
            logged, drawn[name].tolist(), target_weight=weight, codes_target=codes,
            exact=second.exact,
        ).findings
    ]  # fmt: skip
