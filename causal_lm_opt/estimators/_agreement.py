"""Whether log, draws and stated log-probs belong together: a test, and rows that both hold."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from causal_lm_opt._cells import shown
from causal_lm_opt._validation import mix64
from causal_lm_opt.diagnostics.agreement import draws_agreement
from causal_lm_opt.diagnostics.verdict import draws_findings
from causal_lm_opt.estimators._log import MANY_ROWS, Log
from causal_lm_opt.estimators._policies import LogRatios, Policies, same_kind
from causal_lm_opt.estimators._subgroups import own_draws
from causal_lm_opt.estimators._target import TargetRows

__all__ = ["CommonRows", "agreement", "common_rows", "scored_apart"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
FEW_SPLIT = 0.05  # of the repeated contents
SAME = 0.05  # nats: rounding of long texts' log-probs in half precision stays below
MOST_SPREADS = 200  # of contents with several values, looked at one by one
WRONG = 0.25  # nats: a weight that is off by more than a quarter


@dataclass(frozen=True, eq=False)
class CommonRows:
    """Contents that are both in the log and among the draws.

    Attributes
    ----------
    logged, drawn : arrays, shape (c,)
        First logged row and first draw of each.
    logged_first, drawn_first : arrays, shape (n',), (m',)
        First row of the same content within the own sample, of the rows that were looked at.
    told : bool
        Prompts are part of the content.
    """

    logged: IntArray
    drawn: IntArray
    logged_first: IntArray
    drawn_first: IntArray

    told: bool

    @property
    def repeated(self) -> bool:
        """Whether a content occurs twice in a sample, so that :meth:`disagreeing` can tell."""
        return any(
            bool((first != np.arange(first.shape[0])).any())
            for first in (self.logged_first, self.drawn_first)
        )

    def gaps(self, logged: FloatArray, drawn: FloatArray, tolerance: float) -> FloatArray | None:
        """Values (m,) of the draws less those (n,) of the log, shape (c,), where contents decide.

        NaN for contents that have several values in one sample; ``None`` where those are more than
        ``FEW_SPLIT`` of the repeated ones and no prompts are told: values then
        depend on more than is compared.
        """
        split = np.zeros(self.logged.shape, dtype=np.bool_)
        for values, first, at in (
            (logged, self.logged_first, self.logged), (drawn, self.drawn_first, self.drawn)
        ):  # fmt: skip
            apart = disagreeing(values, first, tolerance)
            if not self.told and apart.size > FEW_SPLIT * np.unique(first[_again(first)]).size:
                return None
            split |= np.isin(at, apart)
        one, other = drawn[self.drawn], logged[self.logged]
        gap = np.zeros(one.shape)
        np.subtract(one, other, out=gap, where=one != other)  # equal infinities are no gap
        gap[split] = np.nan
        return gap


def _again(first: IntArray) -> npt.NDArray[np.bool_]:
    """Rows that repeat an earlier one."""
    return np.asarray(first != np.arange(first.shape[0]))


def disagreeing(values: FloatArray, first: IntArray, tolerance: float) -> IntArray:
    """First rows of the contents of which a later row has another value.

    Parameters
    ----------
    values, first : arrays, shape (n,), (n',)
        Values, and the first row of the same content, of the rows looked at.

    Examples
    --------
    >>> disagreeing(np.array([1., 2., 1., 3.]), np.array([0, 1, 0, 1]), .1).tolist()
    [1]
    """
    here = values[: first.shape[0]]
    same = np.isclose(here, here[first], rtol=0.0, atol=tolerance)
    return np.unique(first[~same])


def common_rows(log: Log, second: TargetRows) -> CommonRows:
    """Rows of equal content, and of equal prompt and subgroup where both samples tell theirs.

    Among the first ``MANY_ROWS`` of each.
    """
    keys, drawn, told = log.first_keys, second.keys[:MANY_ROWS], False
    if second.shared is not None and log.codes is not None:
        keys, drawn, told = _joined(keys, log.codes), _joined(drawn, second.shared), True
    if second.by is not None and log.by is not None:
        by, by_drawn = same_kind(log.by, second.by)
        labels = np.unique(np.concatenate([by, by_drawn]))
        keys = _joined(keys, np.searchsorted(labels, by))
        drawn = _joined(drawn, np.searchsorted(labels, by_drawn))
    here, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    there, first_drawn, inverse_drawn = np.unique(drawn, return_index=True, return_inverse=True)
    _, at, at_drawn = np.intersect1d(here, there, assume_unique=True, return_indices=True)
    return CommonRows(
        first[at], first_drawn[at_drawn], first[inverse], first_drawn[inverse_drawn], told
    )


def _joined(keys: npt.NDArray[np.uint64], codes: IntArray) -> npt.NDArray[np.uint64]:
    """Keys of rows and labels together."""
    salt = mix64(codes[: keys.shape[0]].astype(np.uint64) + np.uint64(1))
    return mix64(keys + salt)


def scored_apart(common: CommonRows, logp: FloatArray, logp_drawn: FloatArray) -> bool:
    """Whether most rows that occur in log and draws have different log-probs in the two.

    So with features that do not tell wordings apart: their ratios agree and their levels do not.
    """
    if not common.logged.size:
        return False
    one, other = logp[common.logged], logp_drawn[common.drawn]
    return float(np.mean(~np.isclose(one, other, rtol=0.0, atol=1e-3))) > 0.5


def agreement(
    log: Log, policies: Policies, k: int, rows: IntArray | None, ell: FloatArray
) -> tuple[float, list[tuple[int, str]]]:
    """Z of the bridge test (``nan`` without draws scored by log-probs), and reasons for a verdict.

    Parameters
    ----------
    rows : array, optional
        Logged rows of a subgroup.
    ell : array, shape (rows,)
        Their log ratios.
    """
    z = _bridge(log, policies, k, rows, ell)
    return z, draws_findings(z) + _unequal_finding(log, policies, k)


def _bridge(log: Log, policies: Policies, k: int, rows: IntArray | None, ell: FloatArray) -> float:
    second = own_draws(log, policies.rows_of(k), rows)
    drawn = None if second is None else second.ratio_to_logging(k)
    if drawn is None or second is None or policies.estimated is not None:
        return math.nan
    s = log.sample_weight
    codes = log.codes if log.n_texts < 2 else log.texts
    return draws_agreement(
        ell,
        drawn[0],
        sample_weight=s if s is None or rows is None else s[rows],
        codes=codes if codes is None or rows is None else codes[rows],
        target_weight=drawn[1],
        target_codes=second.codes,
        exact=second.exact,
    )


def _unequal_finding(log: Log, policies: Policies, k: int) -> list[tuple[int, str]]:
    """What it takes where a row that both samples hold was scored differently in the two.

    Compared are log ratios to the logging policy; of texts whose draws have none, log-probs under
    the policy. (Features may stand for several wordings, so that levels may differ.)
    """
    second = policies.rows_of(k)
    if second is None or second.stand_in or not isinstance(policies.ell, LogRatios):
        return []
    drawn = second.ratio_to_logging(k)
    texts = isinstance(log.X, np.ndarray) and log.X.ndim == 1
    if drawn is not None:
        what, logged, values = "log ratios", policies.ell.column(k), drawn[0]
    elif texts and second.logp_target is not None:
        what, logged = "log-probs under the policy", policies.ell.target(k)
        values = second.logp_target[:, second.columns[k]]
    else:
        return []
    common = common_rows(log, second)
    one = "text" if texts else "row"
    found = _twofold(common, logged, what, one)
    gaps = common.gaps(logged, values, SAME)
    gaps = None if gaps is None else np.where(np.isnan(gaps), 0.0, gaps)
    if gaps is None or not (np.abs(gaps) > SAME).any():
        return found
    size, worst = np.abs(gaps), int(np.argmax(np.abs(gaps)))
    i, j = int(common.logged[worst]), int(common.drawn[worst])
    row = i if log.taken is None else int(log.taken[i])
    named = shown(str(log.X[i])) if texts else f"row {row} of the log, draw {j}"
    # Without a repeated content, ratios may still depend on a prompt that was not told.
    surely = common.repeated and float(np.median(size)) > WRONG
    return [*found, (2 if surely else 1, (
        f"Equal {one}s have other {what} in the log than among the draws: "
        f"{int((size > SAME).sum()):,} of the {size.shape[0]:,} that occur in both, most so "
        f"{named} ({logged[i]:.3g} in the log, {values[j]:.3g} among the draws). They were scored "
        "in two ways (end of text, prompt, temperature, model, rounding), and one of them is wrong."
    ))]  # fmt: skip


def _twofold(common: CommonRows, logged: FloatArray, what: str, one: str) -> list[tuple[int, str]]:
    """What it takes where the log itself has two scores of one text of one prompt."""
    first = common.logged_first
    apart = disagreeing(logged, first, SAME)
    if not common.told or not apart.size:
        return []
    again = np.unique(first[_again(first)])
    spread = [float(np.ptp(logged[: first.shape[0]][first == at])) for at in apart[:MOST_SPREADS]]
    surely = apart.size > again.size / 2 and float(np.median(spread)) > 2.0 * WRONG
    return [(2 if surely else 1, (
        f"{apart.size:,} of the {again.size:,} {one}s that the log repeats within a prompt have "
        f"several {what} there: they were scored in several ways, and one is right."
    ))]  # fmt: skip
