"""Do outcomes respond to the text beyond the features that an optimiser was given?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from causal_lm_opt.diagnostics.label_correlation import label_correlation
from causal_lm_opt.diagnostics.new_pairs import MANY as MANY_SCRAPS
from causal_lm_opt.diagnostics.new_pairs import LoggedPairs, NewPairs, new_pairs
from causal_lm_opt.diagnostics.new_words import LoggedWords, new_words
from causal_lm_opt.diagnostics.sufficiency import TextResponse, text_response
from causal_lm_opt.diagnostics.unlogged import (
    MANY,
    UnloggedTexts,
    impossible_texts,
    unlogged_texts,
)
from causal_lm_opt.diagnostics.verdict import verdict, worst
from causal_lm_opt.estimate import ValueEstimate
from causal_lm_opt.estimators._word_counts import WordCounts
from causal_lm_opt.lm._encoding import prompt_words
from causal_lm_opt.lm._features import TextFeatures
from causal_lm_opt.lm._heldout import Drawn
from causal_lm_opt.lm._optimizer_rows import BREAK, MANY_PROMPTS, Rows

__all__ = ["LoggedTexts", "fixed_prompts", "judged", "led_away", "led_to_scraps", "response_beyond"]

FloatArray = npt.NDArray[np.float64]
MOST_WORDS, MOST_PROMPT_WORDS = 500, 50
ALIKE_Z, WIDER = 3.29, 1.44  # level .001; a standard error a fifth larger
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


def _parted(read: Sequence[str], *, prompted: bool) -> tuple[list[str], list[str] | None]:
    """Texts, and their prompts where there are any."""
    if not prompted:
        return list(read), None
    parts = [row.partition(BREAK) for row in read]
    return [text for _, _, text in parts], [prompt for prompt, _, _ in parts]


@dataclasses.dataclass(frozen=True, eq=False)
class LoggedTexts:
    """What all rows of a log hold, with which draws are compared: no outcome is looked at.

    Attributes
    ----------
    texts : list of n str
    prompts : list of n str, or None
    words : LoggedWords
    pairs : LoggedPairs
    logp_logging : (n,) array, or None
    """

    texts: list[str]
    prompts: list[str] | None
    words: LoggedWords
    pairs: LoggedPairs
    logp_logging: FloatArray | None

    @classmethod
    def of(cls, rows: Rows) -> LoggedTexts:
        """Of all rows."""
        texts, prompts = _parted(rows.read, prompted=rows.prompts is not None)
        pairs = LoggedPairs.of(texts, prompts)
        return cls(texts, prompts, LoggedWords.of(texts), pairs, rows.logp_logging)

    def beyond(
        self, drawn: Mapping[str, Drawn], *, estimated: bool, words: bool = True
    ) -> dict[str, list[tuple[int, str]]]:
        """Reasons, by policy, from draws that hold what no logged text does.

        Words of no logged text; words side by side that stand so in none, where weights are odds of
        features; and texts that no row holds, where log-probs of the log, or the
        logging policy's of the draws, say that it writes hardly any such.

        Parameters
        ----------
        drawn : mapping policy -> Drawn
            The policy "start", if it is there, tells what the model wrote before training.
        estimated : bool
            Weights are odds of features, which may carry over to texts that were not logged.
        words : bool
            Whether to look at words: those that a start coins, every checkpoint does, so that they
            tell none from another.
        """
        found: dict[str, list[tuple[int, str]]] = {}
        unlogged: dict[str, UnloggedTexts] = {}
        scraps: dict[str, NewPairs] = {}
        for name, draws in drawn.items():
            own, asked = _parted(draws.read, prompted=self.prompts is not None)
            found[name] = []
            if words:
                found[name] += new_words(self.words, own, codes_target=draws.groups).findings
            if estimated:
                scraps[name] = new_pairs(self.pairs, own, codes_target=draws.groups)
            told = []
            if self.logp_logging is not None:
                told.append(unlogged_texts(
                    self.texts, self.logp_logging, own, prompts=self.prompts, prompts_target=asked,
                    codes_target=draws.groups,
                ))  # fmt: skip
            if draws.logp_logging is not None and estimated:  # else the weights tell themselves
                told.append(impossible_texts(draws.logp_logging, draws.groups))
            known = [one for one in told if one is not None]
            if known:
                unlogged[name] = max(known, key=lambda one: one.beyond)
        start = unlogged.get("start") if estimated else None
        for name, one in unlogged.items():
            away = led_away(one, start) if name == "trained" and start is not None else []
            found[name] += away or one.findings(estimated=estimated)
        for name, pairs in scraps.items():
            start_pairs = scraps.get("start") if name == "trained" else None
            away = [] if start_pairs is None else led_to_scraps(pairs, start_pairs)
            found[name] += away or pairs.findings
        return found


def led_away(trained: UnloggedTexts, start: UnloggedTexts) -> list[tuple[int, str]]:
    """Do not use a policy that training led away from what was logged.

    Features may carry over to texts that were not logged, and a start may be meant to write such.
    What training adds to them it chose for the predictions that features make there.
    """
    if not (trained.beyond > MANY and trained.low - start.share > MANY):
        return []
    return [(2, (
        f"Training led to texts that no row holds: {trained.share:.1%} of the trained policy's, "
        f"{start.share:.1%} of the start's, though the logging policy hardly writes such. "
        "Nothing tells what they are worth: read some, and "
        "stay nearer to the log (fewer steps, a larger ess_floor, kl)."
    ))]  # fmt: skip


def led_to_scraps(trained: NewPairs, start: NewPairs) -> list[tuple[int, str]]:
    """Do not use a policy that training led to string scraps of logged texts together."""
    if not trained.low - max(start.share - start.expected, 0.0) > MANY_SCRAPS:
        return []
    named = ", ".join(map(repr, trained.pairs))
    return [(2, (
        f"Training led to scraps of logged texts: {trained.share:.0%} of the trained policy's put "
        f"words side by side that stand so in no logged text (most often {named}), "
        f"{start.share:.0%} of the start's, {trained.expected:.0%} of logged ones. Nobody has read "
        "such: read some, and stay nearer to the log (fewer steps, a larger ess_floor, kl)."
    ))]  # fmt: skip


def fixed_prompts(rows: Rows) -> list[tuple[int, str]]:
    """Caution where prompts are no clusters, and their rows have outcomes alike.

    Few prompts are dealt row by row, as they could not be dealt to three parts: values are then
    over these prompts, and say nothing of how others would differ.
    """
    if rows.prompts is None:
        return []
    codes, labels = pd.factorize(np.array([prompt_words(p) for p in rows.prompts], dtype=object))
    first = pd.Series(rows.groups).groupby(codes).transform("first").to_numpy()
    if len(labels) < 2 or bool((first == rows.groups).all()):
        return []
    try:
        told = label_correlation(rows.outcome, codes)
    except ValueError:  # no two rows of one prompt
        return []
    if not (told.z > ALIKE_Z and told.design_effect > WIDER):
        return []
    remedy = "name prompts as the clusters (--group; groups=)"
    if len(labels) < MANY_PROMPTS:
        remedy = f"log {MANY_PROMPTS} prompts or more, which are then the clusters"
    return [(1, (
        f"Values are over these {len(labels)} prompts alone, which are no clusters here, and the "
        "rows of a prompt have outcomes alike: as a sample of prompts, they would make the "
        "standard error of the mean outcome "
        f"{math.sqrt(told.design_effect):.1f} times as large. If other prompts are meant, {remedy}."
    ))]  # fmt: skip


def judged(
    values: ValueEstimate,
    shared: Sequence[tuple[int, str]],
    found: Mapping[str, Sequence[tuple[int, str]]],
) -> ValueEstimate:
    """The values with verdicts that know of reasons shared by all, and of each policy's own."""
    both = []
    for name, one in zip(values.names, values.verdicts, strict=True):
        both.append(worst([verdict(None, findings=[*found[name], *shared]), one]))
    return dataclasses.replace(values, verdicts=tuple(both))
