"""The Hong Kong text experiment of Fong and Grimmer: loader and randomisation design."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causal_lm_opt.datasets import _hong_kong_file as file
from causal_lm_opt.datasets._design_checks import (
    Step,
    as_table,
    chi_square_step,
    order_step,
    repeat_step,
)
from causal_lm_opt.datasets._vocabulary import ArmSequence
from causal_lm_opt.datasets.pieces import PiecePolicy

__all__ = ["HongKong", "hong_kong_design", "hong_kong_policies", "load_hong_kong"]

ANCHOR = "treatycommit"


@dataclass(frozen=True, eq=False)
class HongKong:
    """The Hong Kong experiment, as `load_hong_kong` returns it.

    Attributes
    ----------
    frame : DataFrame of shape (n, ...)
        The file's columns as read, index 0..n-1.
    texts : list of str, length n
    outcome : (n,) float64 array
        Support for the protesters, 0 to 100.
    arms : DataFrame of shape (n, A)
        0/1 indicators of the arms.
    n_pieces : (n,) int64 array
        Number of pieces, 2 or 3.
    logp_logging : (n,) float64 array
        Natural log of P_R(text) under `design`.
    groups : (n,) int64 array
        The same number for rows with the same text: pass it as ``groups`` to an estimator (see
        Notes of `load_hong_kong`).
    design : PiecePolicy
        The stated randomisation.
    sequences : tuple of n tuples of str
        The arms of each text in their order.
    """

    frame: pd.DataFrame
    texts: list[str]
    outcome: NDArray[np.float64]
    arms: pd.DataFrame
    n_pieces: NDArray[np.int64]
    logp_logging: NDArray[np.float64]
    groups: NDArray[np.int64]
    design: PiecePolicy
    sequences: tuple[ArmSequence, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def check_design(self, *, distinct: bool = False) -> pd.DataFrame:
        """Test each step of the stated design against the counts.

        Parameters
        ----------
        distinct : bool, default False
            Count each text once. If texts were dealt from a pool that was itself drawn by the
            design, rows that share a text are not independent and chi-squares over all rows come
            out too large; the distinct texts do not have that flaw.

        Returns
        -------
        DataFrame
            One row per step: test, n, statistic, df, p_value, p_holm (Holm-adjusted over the
            steps), min_expected (do not trust a chi-square where it is below 5) and counts (in
            the order of the design's arms; for repeats the number of pairs of rows that share a
            text, with its expectation in min_expected). A step with no rows has a NaN p-value.
        """
        rows = list(range(len(self)))
        if distinct:
            rows = np.flatnonzero(~self.frame["text"].duplicated().to_numpy()).tolist()
        sequences = [self.sequences[row] for row in rows]
        texts = [self.texts[row] for row in rows]
        steps = [
            *_arm_steps(sequences, self.design),
            *_order_steps(sequences),
            *_wording_steps(self._pieces(rows), self.design),
        ]
        if not distinct:
            for k in (2, 3):
                repeated = [t for t, s in zip(texts, sequences, strict=True) if len(s) == k]
                design = self.design.condition(n_pieces=k)
                steps.append(repeat_step(f"repeated texts | {k} pieces", repeated, design))
        return as_table(steps)

    def _pieces(self, rows: list[int]) -> dict[str, list[str]]:
        """Wordings shown of each arm."""
        shown: dict[str, list[str]] = {arm: [] for arm in self.design.arms}
        pieces = self.frame[list(file.PIECES)].to_numpy(dtype=object)
        for row in rows:
            for place, arm in enumerate(self.sequences[row]):
                shown[arm].append(pieces[row, place])
        return shown


def load_hong_kong(path: str | Path, arm_texts: str | Path | None = None) -> HongKong:
    """Load the Hong Kong text experiment, with the log-probabilities of its design.

    About 2,000 people each read one text on the Hong Kong protests of 2019, made of two or three
    pieces, and said on a scale of 0 to 100 how far they support the protesters.

    Parameters
    ----------
    path : str or Path
        The folder that holds ``hong_kong_2019.csv`` and ``hong_kong_arm_texts.csv``, or a CSV of
        the first one's layout (any rows of it, in any order).
    arm_texts : str or Path, optional
        The CSV with columns ``arm, text`` that lists all pieces; by default
        ``hong_kong_arm_texts.csv`` beside the first file.

    Returns
    -------
    HongKong

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    DataError
        If a column is missing, an outcome is not a number from 0 to 100, a piece is not in the
        list, or a row's columns contradict each other; names file, row and column.

    Notes
    -----
    The data are not shipped: they are in the authors' replication archive. Their layout: columns
    ``resp, numtexts``, one 0/1 column per arm, ``text1, text2, text3`` and ``text``.

    **The design stated here** (inferred from the files, not documented by them):

    1. two or three pieces, probability 1/2 each;
    2. three pieces: treatycommit and two of the other six arms, the 15 pairs equally likely;
    3. two pieces: that with one of the three left out at random, so treatycommit is there with
       probability 2/3;
    4. every order equally likely;
    5. wordings uniform over the *lines* of the list of pieces: one treatyviolation wording is
       listed twice there and has probability 2/18, not 1/17.

    **What the 1,983 rows say** (`check_design`): 1,034 and 949 texts of two and three pieces
    (p = .056); 692 of the 1,034 hold treatycommit (p = .86); the doubled wording was shown 50
    times of 522 (58.0 expected with 2/18, 30.7 with 1/17); sets of arms and wordings agree with
    the design (smallest p .076 of ten). Two steps do not agree:

    - Texts repeat far too often: 57 pairs of rows share a three-piece text where independent draws
      give .18, and 63 share a two-piece text where they give 19. The texts look dealt from a pool
      made beforehand (the repeats fit some 8,000 texts of three and 12,000 of two pieces). If the
      design drew that pool, P_R is right for each row, but rows that share a text depend on each
      other: pass ``groups`` to the estimator.
    - The order of three pieces departs from uniform: chi-square 116.9 on 75 degrees of freedom,
      p = .001, Holm-adjusted over the steps .02. Counted once per text, as such a pool asks,
      p = .028, Holm-adjusted .42. The order of two pieces agrees. The pool and the count once
      per text were thought of after these counts were seen, so they excuse nothing by themselves.

    Examples
    --------
    >>> from causal_lm_opt.datasets import load_hong_kong
    >>> hong_kong = load_hong_kong("folder/with/the/data")  # doctest: +SKIP
    >>> hong_kong.check_design()[["statistic", "df", "p_value", "p_holm"]]  # doctest: +SKIP
    """
    rows_path, pieces_path = file.locate(Path(path), None if arm_texts is None else Path(arm_texts))
    listed = file.read_pieces(pieces_path)
    frame = file.read_rows(rows_path, list(listed))
    design = hong_kong_design(listed)
    sequences = file.check_rows(frame, listed, rows_path)
    texts = frame["text"].tolist()
    arms = frame[list(listed)].astype(np.int64)
    logp = design.log_prob(texts)
    file.check_support(logp, design, rows_path)
    return HongKong(
        frame=frame,
        texts=texts,
        outcome=frame["resp"].to_numpy(dtype=np.float64),
        arms=arms,
        n_pieces=np.array([len(sequence) for sequence in sequences], dtype=np.int64),
        logp_logging=logp,
        groups=pd.factorize(frame["text"])[0].astype(np.int64),
        design=design,
        sequences=sequences,
    )


def hong_kong_design(listed: dict[str, list[str]]) -> PiecePolicy:
    """Build the stated randomisation from the listed pieces; see `load_hong_kong`.

    Parameters
    ----------
    listed : dict of arm name to list of str
        The pieces as listed; one listed twice is twice as likely. Must hold ``treatycommit`` and
        at least two other arms.

    Returns
    -------
    PiecePolicy

    Raises
    ------
    ValueError
        If ``treatycommit`` is missing or fewer than two other arms are listed.

    Examples
    --------
    >>> from causal_lm_opt.datasets import hong_kong_design
    >>> design = hong_kong_design({"treatycommit": ["T."], "brave": ["B."], "evil": ["E."]})
    >>> design.condition(n_pieces=2).support()[1].round(3).tolist()
    [0.333, 0.333, 0.333]
    """
    others = [arm for arm in listed if arm != ANCHOR]
    if ANCHOR not in listed or len(others) < 2:
        raise ValueError(
            f"the list of pieces must hold {ANCHOR!r} and at least two other arms; "
            f"it holds {list(listed)}."
        )
    prob: dict[ArmSequence, float] = {}
    pairs = list(combinations(others, 2))
    for pair in pairs:
        three = (ANCHOR, *pair)
        for order in permutations(three):
            prob[order] = prob.get(order, 0.0) + 0.5 / len(pairs) / 6
        for two in combinations(three, 2):
            for order in permutations(two):
                prob[order] = prob.get(order, 0.0) + 0.5 / len(pairs) / 3 / 2
    counts = {arm: Counter(pieces) for arm, pieces in listed.items()}
    return PiecePolicy(
        wordings={arm: tuple(count) for arm, count in counts.items()},
        wording_prob={
            arm: tuple(times / count.total() for times in count.values())
            for arm, count in counts.items()
        },
        sequences=tuple(prob),
        sequence_prob=np.array(list(prob.values())),
        name="design",
    )


def hong_kong_policies(design: PiecePolicy) -> dict[str, PiecePolicy]:
    """Return four policies whose values the Hong Kong experiment can tell.

    Parameters
    ----------
    design : PiecePolicy
        The design, as `load_hong_kong` gives it.

    Returns
    -------
    dict of str to PiecePolicy
        ``commit_and_brave``: treatycommit and brave in every text (a strong shift);
        ``more_brave``: tilted by .5 towards brave; ``more_commit``: tilted by .5 towards
        treatycommit within each number of pieces (three pieces always hold it, so an unstratified
        tilt would mix its effect with the length's); ``less_evil``: tilted by -1 on evil.

    Raises
    ------
    ValueError
        If the design lacks one of these arms.

    Examples
    --------
    >>> from causal_lm_opt.datasets import hong_kong_design, hong_kong_policies
    >>> design = hong_kong_design({"treatycommit": ["T."], "brave": ["B."], "evil": ["E."]})
    >>> list(hong_kong_policies(design))
    ['commit_and_brave', 'more_brave', 'more_commit', 'less_evil']
    """
    policies = (
        design.condition(include=(ANCHOR, "brave"), name="commit_and_brave"),
        design.tilt({"brave": 0.5}, name="more_brave"),
        design.tilt({ANCHOR: 0.5}, within_length=True, name="more_commit"),
        design.tilt({"evil": -1.0}, name="less_evil"),
    )
    return {policy.name: policy for policy in policies}


def _arm_steps(sequences: list[ArmSequence], design: PiecePolicy) -> list[Step]:
    """Length, the anchor given two pieces, and the other arms given both."""
    others = [arm for arm in design.arms if arm != ANCHOR]
    pairs = [frozenset(pair) for pair in combinations(others, 2)]
    three = [s for s in sequences if len(s) == 3]
    with_anchor = [s for s in sequences if len(s) == 2 and ANCHOR in s]
    without = [s for s in sequences if len(s) == 2 and ANCHOR not in s]

    def rest(chosen: Sequence[ArmSequence]) -> list[frozenset[str]]:
        return [frozenset(s) - {ANCHOR} for s in chosen]

    one = [frozenset([arm]) for arm in others]
    uniform_pairs = np.full(len(pairs), 1 / len(pairs))
    uniform_one = np.full(len(one), 1 / len(one))
    two = [ANCHOR in s for s in sequences if len(s) == 2]
    return [
        chi_square_step("number of pieces", [len(s) for s in sequences], (2, 3), (0.5, 0.5)),
        chi_square_step(f"{ANCHOR} | 2 pieces", two, (True, False), (2 / 3, 1 / 3)),
        chi_square_step("other arms | 3 pieces", rest(three), pairs, uniform_pairs),
        chi_square_step(f"other arm | 2 with {ANCHOR}", rest(with_anchor), one, uniform_one),
        chi_square_step(f"pair of arms | 2 without {ANCHOR}", rest(without), pairs, uniform_pairs),
    ]


def _order_steps(sequences: list[ArmSequence]) -> list[Step]:
    """Order of the arms given their set."""
    three = [s for s in sequences if len(s) == 3]
    with_anchor = [s for s in sequences if len(s) == 2 and ANCHOR in s]
    without = [s for s in sequences if len(s) == 2 and ANCHOR not in s]
    return [
        order_step("order | 3 pieces", three),
        order_step(f"order | 2 with {ANCHOR}", with_anchor),
        order_step(f"order | 2 without {ANCHOR}", without),
    ]


def _wording_steps(shown: dict[str, list[str]], design: PiecePolicy) -> list[Step]:
    """Wording within each arm."""
    return [
        chi_square_step(f"wording | {arm}", pieces, design.wordings[arm], design.wording_prob[arm])
        for arm, pieces in shown.items()
    ]
