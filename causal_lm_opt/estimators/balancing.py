"""Balancing weights: the logged rows re-weighted until their feature means are the target's."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.utils.validation import check_is_fitted

from causal_lm_opt.core.balancing import (
    EntropyBalance,
    balance_influence,
    entropy_balance,
    least_imbalance,
)
from causal_lm_opt.estimators._ratio import (
    BaseRatio,
    Block,
    BlockInfluence,
    RatioSamples,
    dense,
    distinct_rows,
    feature_names,
    feature_step,
    read_samples,
    transformed,
)
from causal_lm_opt.exceptions import OverlapError

__all__ = ["BalancingRatio"]

FloatArray = npt.NDArray[np.float64]


class BalancingRatio(BaseRatio):
    r"""Entropy balancing: the weights nearest to uniform whose feature means are the target's.

    .. math:: \min_p \sum_i p_i \log (n p_i) \quad \text{s.t.} \quad
              \sum_i p_i F(x_i) = \frac1m \sum_j F(\tilde x_j), \quad \tilde x_j \sim P_f

    so that :math:`\log w(x) = \lambda^\top F(x) + c`. Use it where outcomes are close to linear in
    few features (or latents) of the text: the value is then that of a regression on them, and no
    weight is larger than balance needs. It plugs into ``IPW(ratio=...)`` and, as *augmented
    balancing*, ``DoublyRobust(ratio=...)``.

    Parameters
    ----------
    features : transformer, callable X -> F, or column names, optional
        What is balanced; numeric rows themselves by default. A transformer is fitted once, on the
        texts of both samples. Columns are standardised inside; constant ones are dropped.
    degree : int, default 1
        2 balances squares and products too (variances and correlations).
    tolerance : float, default 0.0
        Imbalance allowed of each feature, in standard deviations of the logged rows. 0: exact.
        A positive tolerance keeps the effective sample size up and leaves a bias of at most
        :math:`\sum_k |\beta_k|` times it, for outcomes of slopes :math:`\beta` on the standardised
        features; the value's interval does not allow for it, ``DoublyRobust`` takes it out.

    Attributes
    ----------
    log_ratio_, log_ratio_target_ : arrays, shape (n,), (m,)
        Natural logs of the weights (averaging 1) and of their continuation to the draws.
    imbalance_ : array, shape (p,)
        Weighted logged means less target means, in standard deviations.
    names_ : list of str, length p
    influence_, label_

    Notes
    -----
    **Assumptions.** The log density ratio or the mean outcome is linear in the features (either is
    enough for consistency); logged texts surround the target's mean in them (latent positivity).
    The interval of a value carries the noise of both samples' means; the noise of a fitted
    transformer inside ``features`` (and of the standard deviations that scale a tolerance) is not
    carried: they are taken as given.

    Sources: Hainmueller (2012), Political Analysis 20(1), eq. 9-12; Zhao and Percival (2017),
    Thm 1 (doubly robust); Wang and Zubizarreta (2020), eq. 2-4 (tolerance).

    Examples
    --------
    >>> X, draws = np.array([[0.], [0.], [1.], [1.]]), np.array([[1.], [1.], [1.], [0.]])
    >>> BalancingRatio().fit(X, draws).weights().round(6).tolist()
    [0.5, 0.5, 1.5, 1.5]
    """

    _odds = False

    def __init__(self, features: Any = None, *, degree: int = 1, tolerance: float = 0.0) -> None:
        self.features = features
        self.degree = degree
        self.tolerance = tolerance

    def fit(
        self,
        X: Any,
        X_target: Any,
        *,
        sample_weight: Any = None,
        target_weight: Any = None,
        groups: Any = None,
        target_groups: Any = None,
    ) -> BalancingRatio:
        """Find the weights of the logged rows.

        Parameters
        ----------
        X, X_target : arrays (n, d), (m, d), DataFrames, or sequences of texts
            Logged rows and draws of the target.
        sample_weight, target_weight : arrays, shape (n,), (m,), optional
            Positive frequencies.
        groups, target_groups : arrays, optional
            Not used by the weights; taken so that every ratio has one signature.

        Raises
        ------
        OverlapError
            When no weights reach the target's means: the feature farthest from reach is named.
        ValueError
            For bad input, or texts without ``features``.
        """
        if not isinstance(self.tolerance, float | int | np.number):
            raise TypeError(
                f"tolerance must be one number for all features, got {self.tolerance!r}."
            )
        if not 0.0 <= self.tolerance < np.inf:
            raise ValueError(f"tolerance must be 0 or a positive number, got {self.tolerance!r}.")
        if self.degree not in (1, 2):
            raise ValueError(f"degree must be 1 or 2, got {self.degree!r}.")
        samples = read_samples(X, X_target, sample_weight, target_weight, groups, target_groups)
        if self.features is None and samples.is_text:
            raise ValueError(
                "BalancingRatio has no features of texts of its own: give features=, say "
                "make_pipeline(TfidfVectorizer(), TruncatedSVD(20))."
            )
        step = feature_step(self.features, "features")
        self.step_ = None if step is None else step.fit(distinct_rows(samples.both)[0])
        self.poly_ = None
        if self.degree == 2:  # squares of centred columns: raw ones may be all but collinear
            self.poly_ = make_pipeline(StandardScaler(), PolynomialFeatures(2, include_bias=False))
        here, there, names = self._made(samples)
        centred, centred_target, kept = self._standardised(here, there, names, samples)
        self.names_ = [names[j] for j in np.flatnonzero(kept)]
        solution = self._solve(centred, samples)
        gradient, logged, target = balance_influence(
            centred, solution, samples.weight, centred_target
        )
        self.samples_, self.dual_, self.shift_ = samples, solution.dual, solution.shift
        self.imbalance_ = solution.imbalance
        self.log_ratio_ = solution.log_weight
        self.log_ratio_target_ = centred_target @ solution.dual + solution.shift
        self.influence_ = BlockInfluence((Block(gradient, logged, target),))
        within = f" within {self.tolerance:g} sd" if self.tolerance else ""
        self.label_ = f"entropy balancing of {len(self.names_)} features{within}"
        return self

    def _made(self, samples: RatioSamples) -> tuple[FloatArray, FloatArray, list[str]]:
        """Dense features of both samples and their names."""
        here = transformed(self.step_, samples.X)
        there = transformed(self.step_, samples.X_target)
        values, other = dense(here), dense(there)
        for part, name in ((values, "X"), (other, "X_target")):
            if not np.isfinite(part).all():
                row = int(np.argmin(np.isfinite(part).all(axis=1)))
                raise ValueError(f"The features of {name} are not finite at row {row}; mend them.")
        names = feature_names(here, self.step_, values.shape[1])
        if self.poly_ is not None:
            if not hasattr(self.poly_[1], "n_features_in_"):  # in fit
                self.poly_[0].fit(values, sample_weight=samples.weight)
                self.poly_[1].fit(values)
            values, other = self.poly_.transform(values), self.poly_.transform(other)
            names = [str(x) for x in self.poly_[1].get_feature_names_out(names)]
        return values, other, names

    def _standardised(
        self, here: FloatArray, there: FloatArray, names: list[str], samples: RatioSamples
    ) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_]]:
        """Features in logged standard deviations, less the target's means; constants dropped."""
        goal = np.average(there, axis=0, weights=samples.target_weight)
        mean = np.average(here, axis=0, weights=samples.weight)
        scale = np.sqrt(np.average((here - mean) ** 2, axis=0, weights=samples.weight))
        size = np.abs(mean) + np.abs(goal) + np.abs(there - goal).max(axis=0, initial=0.0)
        kept = scale > 1e-10 * np.maximum(size, 1e-300)
        moved = ~kept & (np.abs(goal - mean) > 1e-9 * np.maximum(size, 1e-300))
        if moved.any():
            j = int(np.argmax(moved))
            raise OverlapError(
                f"The feature {names[j]!r} is {mean[j]:.4g} in every logged row and averages "
                f"{goal[j]:.4g} over the draws: no weights of the log reach that. Leave it out, or "
                "log such texts."
            )
        if not kept.any():
            raise ValueError("Every feature is constant over the logged rows: nothing to balance.")
        self.goal_, self.scale_, self.kept_ = goal[kept], scale[kept], kept
        return (here[:, kept] - goal[kept]) / scale[kept], self._centre(there), kept

    def _centre(self, values: FloatArray) -> FloatArray:
        return np.asarray((values[:, self.kept_] - self.goal_) / self.scale_)

    def _solve(self, centred: FloatArray, samples: RatioSamples) -> EntropyBalance:
        low, high = centred.min(axis=0), centred.max(axis=0)
        beyond = np.maximum(low, -high) - self.tolerance  # how far outside the logged range
        slack = 1e-9
        if (beyond > slack).any():
            raise OverlapError(self._out_of_reach(int(np.argmax(beyond)), float(beyond.max())))
        solution = entropy_balance(centred, samples.weight, tolerance=float(self.tolerance))
        if not solution.converged:
            gap, j = least_imbalance(centred)
            if gap > self.tolerance + slack:
                raise OverlapError(self._out_of_reach(j, gap - self.tolerance))
            raise OverlapError(
                f"No stable weights balance the {centred.shape[1]} features: the target's means "
                f"lie at the edge of what the log can reach. Use fewer features, or tolerance= "
                f"above {self.tolerance:g}."
            )
        return solution

    def _out_of_reach(self, j: int, gap: float) -> str:
        more = self.tolerance + gap
        return (
            f"No weights of the logged rows reach the target's mean of the feature "
            f"{self.names_[j]!r}, {self.goal_[j]:.4g}, together with those of the others (short by "
            f"{gap:.3g} standard deviations): the target writes what the log lacks. Leave the "
            f"feature out, use tolerance= of {more:.2g} or more, or log more such texts."
        )

    def predict(self, X: Any) -> FloatArray:
        """Log ratios of new rows, shape (rows,)."""
        check_is_fitted(self, "dual_")
        values = dense(transformed(self.step_, X))
        if self.poly_ is not None:
            values = self.poly_.transform(values)
        return np.asarray(self._centre(values) @ self.dual_ + self.shift_)

    def _features(self) -> tuple[FloatArray, FloatArray, list[str]] | None:
        here, there, _ = self._made(self.samples_)
        return here[:, self.kept_], there[:, self.kept_], self.names_
