"""Which policy writes the better texts: win rates by any judge, and how far judges agree.

>>> from causal_lm_opt.lm.evaluation import pointwise_judge, win_rates
>>> longer = pointwise_judge(lambda texts: [len(t) for t in texts])
>>> rates = win_rates({"new": ["aaa", "aa", "aaa"], "old": ["a", "aa", "aa"]}, longer)
>>> round(rates["new", "old"].rate, 3)
0.833
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from causal_lm_opt.exceptions import EstimationWarning
from causal_lm_opt.lm._agreement import Agreement, agreement
from causal_lm_opt.lm._client_judge import ClientJudge, client_judge
from causal_lm_opt.lm._judges import (
    Judge,
    PointwiseJudge,
    TableJudge,
    judge_from_csv,
    judge_from_frame,
    pointwise_judge,
)
from causal_lm_opt.lm._judging import (
    Order,
    findings,
    first_shown_rate,
    judge_all,
    judgement_table,
    pair_rates,
)
from causal_lm_opt.lm._lin24 import LIN24_METHODS, LIN24_TABLE3, Lin24Table, table_of
from causal_lm_opt.lm._policy_texts import draw_texts, rows_of
from causal_lm_opt.lm._win_rate_result import PairWinRate, WinRates

__all__ = [
    "LIN24_METHODS",
    "LIN24_TABLE3",
    "Agreement",
    "ClientJudge",
    "Judge",
    "Lin24Table",
    "PairWinRate",
    "PointwiseJudge",
    "TableJudge",
    "WinRates",
    "agreement",
    "client_judge",
    "judge_from_csv",
    "judge_from_frame",
    "lin24_table",
    "pointwise_judge",
    "win_rates",
]


def win_rates(
    policies: Mapping[str, Any],
    judge: Judge,
    *,
    prompts: Sequence[Any] | None = None,
    n: int | None = None,
    draws_per_prompt: int = 1,
    random_state: int = 0,
    level: float = 0.95,
    groups: npt.ArrayLike | None = None,
    reference: str | None = None,
    order: Order = "random",
    max_new_tokens: int | None = None,
) -> WinRates:
    r"""How often one policy's text is judged better than another's.

    Estimates, for each pair of policies,

    .. math:: \Pr(J(X_a, X_b, P) = 1) + \tfrac12 \Pr(J(X_a, X_b, P) = \tfrac12),
              \qquad X_a \sim f_a(\cdot|P), \; X_b \sim f_b(\cdot|P) \text{ independent}

    Parameters
    ----------
    policies : mapping of name -> policy, or sequence of texts
        At least two. A policy has ``sample(n, random_state=...)``, with prompts ``sample(n,
        random_state=..., prompts=...)``; each is drawn from once. Texts made elsewhere (a list, or
        `Draws`) stand row by row, with prompts prompt by prompt.
    judge : callable
        ``judge(texts_a, texts_b, prompts)`` -> scores (n,) in [0, 1] of the first text; see `Judge`
        and `pointwise_judge`, `judge_from_csv`, `client_judge`.
    prompts : sequence, optional
        The same for every policy.
    n : int, optional
        Texts per policy where there are no prompts; by default as many as are given, or 200.
    draws_per_prompt : int
    random_state : int
        Seeds draws and order. The draws of a policy depend on it and on the policy's name alone.
    level : float
    groups : labels, optional
        What belongs together beyond equal prompts: one label per prompt (topics, users), or per row
        where there are no prompts.
    reference : str, optional
        Compare each policy with this one only.
    order : {"random", "both"}
        Which text the judge sees first: drawn anew for each pair of texts; or each pair is judged
        in both orders and the two scores are averaged, at twice the calls.
    max_new_tokens : int, optional
        Most tokens of a draw, handed to every policy that is drawn from: it must take
        ``sample(..., max_new_tokens=...)``, as language models do. By default each policy's own.
        For policies that were trained on draws cut at a limit, give that limit.

    Returns
    -------
    WinRates

    Warns
    -----
    EstimationWarning
        Draws cut at the limit; pairs left without a judgement; a judge whose preference for the
        text shown first (or second) is beyond chance at ``level``.

    Raises
    ------
    ValueError
        Fewer than two policies, a reference that is none of them, no prompts, a wrong number of
        texts, a limit below 1, scores that are NaN, outside [0, 1] or of the wrong number, a pair
        of policies without one judgement, a single group.
    TypeError
        Texts that are not strings, a policy that takes no prompts or no ``max_new_tokens``.

    Notes
    -----
    Equal texts tie without being shown. Each comparison's interval is Wilson's where scores are 0
    or 1 and rows are independent, else Wilson's at the effective number of pairs, robust to
    clusters (equal prompts, or ``groups``). The p-value is of an exact sign test over independent
    units, Holm-adjusted over the comparisons. Intervals of different comparisons share texts: they
    are not independent, and each holds by itself.

    **Assumptions**: prompts (groups) are independent draws of those the policies will meet; the
    judge's answer to a pair does not depend on other pairs. The judge is taken as it is: a win rate
    says what it prefers, not what is true. Random order keeps its position bias out of the rate,
    at the price of noise.

    Examples
    --------
    >>> from causal_lm_opt.lm import pointwise_judge, win_rates
    >>> from causal_lm_opt.simulation import text_world
    >>> world = text_world()
    >>> policies = {"before": world.logging, "after": world.policy({"reservoir": 2.0})}
    >>> rates = win_rates(policies, pointwise_judge(world.mean_outcome), n=300)
    >>> pair = rates["after", "before"]
    >>> pair.n, pair.wins + pair.ties + pair.losses, pair.lower < pair.rate < pair.upper
    (300, 300, True)
    """
    names = _checked_names(policies, reference, level, order, random_state)
    rows = rows_of(policies, prompts, n, draws_per_prompt, groups)
    texts, notes = draw_texts(policies, rows, random_state, max_new_tokens)
    if reference is None:
        compared = list(combinations(names, 2))
    else:
        compared = [(name, reference) for name in names if name != reference]
    judged = judge_all(judge, compared, texts, rows, random_state, order)
    pairs = pair_rates(compared, judged, rows, level)
    first = first_shown_rate(judged, rows, level) if getattr(judge, "sees_position", True) else None
    notes = (*notes, *findings(pairs, first, order))
    for note in notes:
        warnings.warn(note, EstimationWarning, stacklevel=2)
    return WinRates(
        policies=names, pairs=pairs, texts=texts,
        judgements=judgement_table(compared, judged, rows, order), first_shown=first,
        level=level, order=order, reference=reference, notes=notes, prompts=rows.asked,
    )  # fmt: skip


def lin24_table(
    policies: Mapping[str, Any],
    judge: Judge,
    *,
    published: Literal["hong_kong", "hate_speech"] | None = None,
    prompts: Sequence[Any] | None = None,
    n: int | None = None,
    draws_per_prompt: int = 1,
    random_state: int = 0,
    level: float = 0.95,
    groups: npt.ArrayLike | None = None,
    order: Order = "random",
    max_new_tokens: int | None = None,
) -> Lin24Table:
    """The table of Lin, Ben-Michael and Morency (2024, Table 3): FT, OO-RLHF, CPO, DR-CPO.

    Parameters
    ----------
    policies : mapping of name -> policy, or sequence of texts
        At least two of ``"FT"`` (fine-tuned), ``"OO-RLHF"`` (outcome regression), ``"CPO"``
        (weights) and ``"DR-CPO"`` (doubly robust).
    judge : callable
    published : {"hong_kong", "hate_speech"}, optional
        Put the published figures of this data set beside ours. They are of other models, texts and
        judges: a standard to hold up, not to match.
    prompts, n, draws_per_prompt, random_state, level, groups, order, max_new_tokens
        As in `win_rates`.

    Returns
    -------
    Lin24Table

    Raises
    ------
    ValueError
        A name that is none of the four, and whatever `win_rates` raises.

    Examples
    --------
    >>> from causal_lm_opt.lm import lin24_table, pointwise_judge
    >>> texts = {"FT": ["a", "bb"] * 50, "CPO": ["aa", "bb"] * 50}
    >>> longer = pointwise_judge(lambda texts: [len(t) for t in texts])
    >>> table = lin24_table(texts, longer, published="hong_kong")
    >>> table.matrix().loc["CPO", "FT"]
    '0.750 ± 0.052 [0.528]'
    """
    unknown = [name for name in policies if name not in LIN24_METHODS]
    if unknown:
        raise ValueError(f"policies: {unknown[0]!r} is none of {list(LIN24_METHODS)}.")
    if published is not None and published not in LIN24_TABLE3:
        raise ValueError(f"published must be one of {list(LIN24_TABLE3)}, got {published!r}.")
    rates = win_rates(
        {name: policies[name] for name in LIN24_METHODS if name in policies}, judge,
        prompts=prompts, n=n, draws_per_prompt=draws_per_prompt, random_state=random_state,
        level=level, groups=groups, order=order, max_new_tokens=max_new_tokens,
    )  # fmt: skip
    return table_of(rates, published)


# ------------------------------------------------------------------------------ checks
def _checked_names(
    policies: Mapping[str, Any], reference: str | None, level: float, order: str, random_state: int
) -> tuple[str, ...]:
    if not isinstance(policies, Mapping):
        raise TypeError(
            f"policies must be a mapping of name -> policy, got {type(policies).__name__}."
        )
    strange = [name for name in policies if not isinstance(name, str)]
    if strange:
        raise TypeError(f"policies: the name {strange[0]!r} is not a string.")
    if len(policies) < 2:
        raise ValueError(f"policies holds {len(policies)}; a comparison needs at least two.")
    if reference is not None and reference not in policies:
        raise ValueError(f"reference {reference!r} is none of the policies {list(policies)}.")
    if not 0 < level < 1:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level!r}.")
    if order not in ("random", "both"):
        raise ValueError(f'order must be "random" or "both", got {order!r}.')
    if isinstance(random_state, bool) or not isinstance(random_state, int | np.integer):
        raise TypeError(f"random_state must be an integer, got {random_state!r}.")
    return tuple(policies)
