"""The table behind a piece policy: exact probabilities, draws and enumeration."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logsumexp

from causal_lm_opt.datasets._sequences import enumerate_texts, known_arms, pick, write_texts
from causal_lm_opt.datasets._vocabulary import (
    ArmSequence,
    Vocabulary,
    as_texts,
    check_probabilities,
    check_wordings,
)

__all__: list[str] = []

#: Name of the column that holds the number of pieces beside the arms' indicators.
N_PIECES = "n_pieces"


@dataclass(frozen=True, eq=False, repr=False)
class PieceTable:
    """Arm sequences and wordings with their probabilities; see `PiecePolicy`, its only user."""

    wordings: Mapping[str, Sequence[str]]
    wording_prob: Mapping[str, Sequence[float]]
    sequences: tuple[ArmSequence, ...]
    sequence_prob: NDArray[np.float64]
    name: str = "policy"
    _vocabulary: Vocabulary | None = field(default=None, repr=False, kw_only=True)
    _log_sequence: dict[ArmSequence, float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        wordings, wording_prob = check_wordings(self.wordings, self.wording_prob)
        if N_PIECES in wordings:
            raise ValueError(f"an arm cannot be called {N_PIECES!r}; that column is the length.")
        if any(isinstance(sequence, str) for sequence in self.sequences):
            raise TypeError("sequences must be a sequence of tuples of arm names, not strings.")
        sequences = tuple(tuple(sequence) for sequence in self.sequences)
        if () in sequences or len(set(sequences)) < len(sequences):
            raise ValueError("sequences must be distinct, and none of them empty.")
        known_arms({arm for sequence in sequences for arm in sequence}, wordings, "sequences")
        prob = check_probabilities(self.sequence_prob, "sequence_prob", positive=False)
        if prob.shape != (len(sequences),):
            raise ValueError(
                f"sequence_prob has {prob.size} entries for {len(sequences)} sequences."
            )
        # Sequences that cannot occur are dropped here, so that every table holds the support only.
        kept = np.flatnonzero(prob > 0)
        sequences = tuple(sequences[i] for i in kept)
        prob = prob[kept]
        prob.setflags(write=False)
        longest = max(map(len, sequences))
        vocabulary = self._vocabulary
        if vocabulary is None or not vocabulary.serves(wordings, wording_prob, longest):
            vocabulary = Vocabulary(wordings, wording_prob, longest)
        log_sequence = dict(zip(sequences, np.log(prob).tolist(), strict=True))
        for key, value in (
            ("wordings", wordings),
            ("wording_prob", wording_prob),
            ("sequences", sequences),
            ("sequence_prob", prob),
            ("_vocabulary", vocabulary),
            ("_log_sequence", log_sequence),
        ):
            object.__setattr__(self, key, value)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(name={self.name!r}, arms={list(self.arms)}, "
            f"{len(self.sequences)} sequences, {self.n_parses} parses)"
        )

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the A arms, in the order of `wordings`."""
        return tuple(self.wordings)

    @property
    def n_parses(self) -> int:
        """Number of (sequence, wordings) combinations; no fewer than the number of texts."""
        count = {arm: len(pieces) for arm, pieces in self.wordings.items()}
        return sum(math.prod(count[arm] for arm in sequence) for sequence in self.sequences)

    # ------------------------------------------------------------------ probabilities

    def log_prob(self, texts: Iterable[str]) -> NDArray[np.float64]:
        """Natural log-probability of each text; ``-inf`` for a text the policy never writes.

        Parameters
        ----------
        texts : iterable of str, length n

        Returns
        -------
        (n,) float64 array

        Raises
        ------
        TypeError
            If ``texts`` is one string, or holds something that is not a string.
        """
        listed = as_texts(texts)
        logp = {text: self._log_prob_one(text) for text in dict.fromkeys(listed)}
        return np.array([logp[text] for text in listed], dtype=np.float64)

    def _log_prob_one(self, text: str) -> float:
        terms = [
            self._log_sequence[arms] + logp
            for arms, logp in self._parse(text).items()
            if arms in self._log_sequence
        ]
        if not terms:
            return -math.inf
        # One term is returned untouched: a detour through exp() would only add rounding.
        return terms[0] if len(terms) == 1 else float(logsumexp(terms))

    def log_prob_arms(self, arms: pd.DataFrame) -> NDArray[np.float64]:
        """Natural log-probability of each row of arm indicators, summed over orders and wordings.

        Ratios of these are the weights marginalised on the arms: enough where the outcome depends
        on the text through its arms (and, where the column is given, its number of pieces) only.

        Parameters
        ----------
        arms : DataFrame of shape (n, A) or (n, A + 1)
            0/1 columns named after the arms, and optionally ``n_pieces``, as `arms_of` returns.

        Returns
        -------
        (n,) float64 array
            ``-inf`` for a combination that cannot occur.

        Raises
        ------
        ValueError
            If a column is missing, or a value is not 0 or 1.
        """
        missing = [arm for arm in self.arms if arm not in arms.columns]
        if missing:
            raise ValueError(f"arms lacks the columns {missing}; arms_of(texts) makes them all.")
        columns = [*self.arms, *([N_PIECES] if N_PIECES in arms.columns else [])]
        values = arms[columns].to_numpy(dtype=np.float64)
        if not np.isin(values[:, : len(self.arms)], (0.0, 1.0)).all():
            raise ValueError("arms must hold 0 and 1 only in the columns of the arms.")
        frame, prob = self.support()
        total: dict[tuple[float, ...], float] = {}
        for row, p in zip(frame[columns].to_numpy(dtype=np.float64).tolist(), prob, strict=True):
            total[tuple(row)] = total.get(tuple(row), 0.0) + float(p)
        found = np.array([total.get(tuple(row), 0.0) for row in values.tolist()], dtype=np.float64)
        out = np.full(found.shape, -np.inf)
        np.log(found, out=out, where=found > 0)
        return out

    def _parse(self, text: str) -> dict[ArmSequence, float]:
        assert self._vocabulary is not None  # set in __post_init__
        return self._vocabulary.parse(text)

    def arms_of(self, texts: Iterable[str]) -> pd.DataFrame:
        """Arm indicators of each text.

        Parameters
        ----------
        texts : iterable of str, length n

        Returns
        -------
        DataFrame of shape (n, A + 1)
            A 0/1 column per arm, and ``n_pieces``; index 0..n-1.

        Raises
        ------
        ValueError
            If a text is not made of the policy's pieces, or can be read as different arms.
        """
        listed = as_texts(texts)
        rows: dict[str, tuple[int, ...]] = {}
        for index, text in enumerate(listed):
            if text not in rows:
                rows[text] = self._arms_of_one(text, index)
        data = np.array([rows[text] for text in listed], dtype=np.int64)
        columns = [*self.arms, N_PIECES]
        return pd.DataFrame(data.reshape(len(listed), len(columns)), columns=columns)

    def _arms_of_one(self, text: str, index: int) -> tuple[int, ...]:
        parses = self._parse(text)
        # A parse this policy cannot have produced counts only where there is no other.
        likely = [arms for arms in parses if arms in self._log_sequence] or list(parses)
        rows = {self._indicators(arms) for arms in likely}
        if len(rows) != 1:
            problem = (
                "can be read as several sets of arms"
                if rows
                else f"is not made of the policy's pieces (at most {self._longest()} of them)"
            )
            raise ValueError(f"texts[{index}] {problem}: {text[:80]!r}.")
        return rows.pop()

    def _longest(self) -> int:
        assert self._vocabulary is not None
        return self._vocabulary.max_pieces

    def _indicators(self, sequence: ArmSequence) -> tuple[int, ...]:
        return (*(int(arm in sequence) for arm in self.arms), len(sequence))

    # ------------------------------------------------------------------ draws

    def sample(self, n: int, random_state: int | np.random.Generator | None = None) -> list[str]:
        """Draw n texts independently.

        Parameters
        ----------
        n : int
            Number of texts, 0 or more.
        random_state : int, numpy Generator or None
            An int makes the draws reproducible.

        Returns
        -------
        list of str, length n
        """
        rng = np.random.default_rng(random_state)
        drawn = self._sample_sequences(n, rng)
        uniform = rng.random((n, max(map(len, self.sequences))))
        return write_texts(self.sequences, self.wordings, self.wording_prob, drawn, uniform)

    def sample_arms(
        self, n: int, random_state: int | np.random.Generator | None = None
    ) -> pd.DataFrame:
        """Draw the arms of n texts: what `arms_of` gives for `sample` with the same seed.

        Parameters
        ----------
        n : int
            Number of draws, 0 or more.
        random_state : int, numpy Generator or None
            An int makes the draws reproducible.

        Returns
        -------
        DataFrame of shape (n, A + 1)
            A 0/1 column per arm, and ``n_pieces``.
        """
        drawn = self._sample_sequences(n, np.random.default_rng(random_state))
        frame, _ = self.support(level="sequences")
        return frame[[*self.arms, N_PIECES]].take(drawn).reset_index(drop=True)

    def _sample_sequences(self, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
        if n < 0:
            raise ValueError(f"n must be 0 or more, got {n}.")
        return pick(np.cumsum(self.sequence_prob), rng.random(n))

    # ------------------------------------------------------------------ enumeration

    def support(self, level: str = "arms") -> tuple[pd.DataFrame, NDArray[np.float64]]:
        """Enumerate the combinations of arms, with their probabilities.

        Parameters
        ----------
        level : {"arms", "sequences"}
            ``"arms"`` adds up the orders of the same set of arms; ``"sequences"`` keeps them.

        Returns
        -------
        frame : DataFrame of shape (S, A + 1), or (S, A + 2) for sequences
            A 0/1 column per arm and ``n_pieces``; for sequences also ``sequence`` (tuples).
        prob : (S,) float64 array
            Probabilities, summing to one.

        Raises
        ------
        ValueError
            If ``level`` is unknown.
        """
        columns = [*self.arms, N_PIECES]
        rows = [self._indicators(sequence) for sequence in self.sequences]
        if level == "sequences":
            frame = pd.DataFrame(rows, columns=columns)
            frame["sequence"] = list(self.sequences)
            return frame, self.sequence_prob.copy()
        if level != "arms":
            raise ValueError(f'level must be "arms" or "sequences", got {level!r}.')
        total: dict[tuple[int, ...], float] = {}
        for row, p in zip(rows, self.sequence_prob.tolist(), strict=True):
            total[row] = total.get(row, 0.0) + p
        return pd.DataFrame(list(total), columns=columns), np.array(list(total.values()))

    def texts_support(self, limit: int = 200_000) -> tuple[list[str], NDArray[np.float64]]:
        """Enumerate all texts, with their probabilities.

        Parameters
        ----------
        limit : int, default 200_000
            The largest number of parses enumerated; see `n_parses`.

        Returns
        -------
        texts : list of str, length T, distinct
        prob : (T,) float64 array

        Raises
        ------
        ValueError
            If there are more parses than ``limit``.
        """
        if self.n_parses > limit:
            raise ValueError(
                f"{self.n_parses} parses exceed limit={limit}; raise the limit, or use "
                "sample(n), or support() for functions of the arms only."
            )
        total = enumerate_texts(
            self.sequences, self.sequence_prob, self.wordings, self.wording_prob
        )
        return list(total), np.array(list(total.values()))
