"""Do outcomes respond to the text beyond the features that an optimiser was given?"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from causal_lm_opt.diagnostics.new_words import NewWords, new_words
from causal_lm_opt.diagnostics.sufficiency import TextResponse, text_response
from causal_lm_opt.diagnostics.verdict import verdict, worst
from causal_lm_opt.estimate import ValueEstimate
from causal_lm_opt.estimators._word_counts import WordCounts
from causal_lm_opt.lm._encoding import prompt_words
from causal_lm_opt.lm._features import TextFeatures
from causal_lm_opt.lm._heldout import Drawn
from causal_lm_opt.lm._optimizer_rows import BREAK, Rows

__all__ = ["judged", "response_beyond", "words_beyond"]

FloatArray = npt.NDArray[np.float64]
MOST_WORDS, MOST_PROMPT_WORDS = 500, 50
MOST_NUMBERS = 20_000_000  # of the table of counts: 160 MB


def response_beyond(rows: Rows, features: TextFeatures) -> TextResponse | None:
    """Global test of the texts' words given the features, on all rows of the log.

    The test asks nothing of any policy, so that rows which trained or chose one may be used as
    well: where outcomes respond through the features alone, it rejects at its level whatever was
    trained. Prompts may move outcomes: their commonest words count as known.

    Parameters
    ----------
    rows : Rows
        n rows.
    features : TextFeatures

    Returns
    -------
    TextResponse, or None where the words say nothing beyond the features, or rows are too few.
    """
    n = len(rows)
    known = np.asarray(features(rows.read), dtype=np.float64)
    if rows.prompts is not None:
        prompts = [prompt_words(p) for p in rows.prompts]
        known = np.hstack([known, _counts(prompts, min(MOST_PROMPT_WORDS, n // 20))[0]])
    counts, names = _counts(list(rows.texts), min(MOST_WORDS, max(50, MOST_NUMBERS // n)))
    return text_response(rows.outcome, known, counts, codes=rows.groups, names=names)


def _counts(texts: list[str], most: int) -> tuple[FloatArray, list[str]]:
    """log(1 + count) of the commonest words, (n, words); none where texts hold no word."""
    words = WordCounts(max(1, most))
    try:
        words.fit(texts)
    except ValueError:  # no word in any text: nothing to respond to
        return np.zeros((len(texts), 0)), []
    counts = words.transform(texts).toarray()
    return np.log1p(np.asarray(counts, dtype=np.float64)), list(words.get_feature_names_out())


def words_beyond(texts: Sequence[str], drawn: Drawn, *, prompted: bool) -> NewWords:
    """Words of a policy's draws that no logged text holds.

    Parameters
    ----------
    texts : sequence of str
        All of the log's, without their prompts.
    drawn : Drawn
    prompted : bool
        Whether the draws stand after prompts.
    """
    own = [row.partition(BREAK)[2] for row in drawn.read] if prompted else drawn.read
    return new_words(texts, own, codes_target=drawn.groups)


def judged(
    values: ValueEstimate, response: TextResponse | None, words: Mapping[str, NewWords]
) -> ValueEstimate:
    """The values with verdicts that know of the response, and of each policy's new words."""
    both = []
    for name, one in zip(values.names, values.verdicts, strict=True):
        found = [*words[name].findings, *(response.findings if response is not None else [])]
        both.append(worst([verdict(None, findings=found), one]))
    return dataclasses.replace(values, verdicts=tuple(both))
