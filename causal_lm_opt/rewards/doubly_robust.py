r"""Doubly robust risk of a reward under another law of pairs.

Pairs x with labels L come from :math:`P_R`; wanted is the risk under :math:`P_f`, of which
unlabelled pairs are at hand. With :math:`w = P_f/P_R`, a label model
:math:`\hat g(x) \approx E[L \mid x]`, and a loss linear in the label, so that
:math:`m(x) = \ell(x, \hat g(x))` models the loss,

.. math:: R_{DR} = E_f[m(X)] + E_R[w(X)\,(\ell(X, L) - m(X))]
          = E_f[\ell(X, \hat g)] - E_R[w(X)\,(L - \hat g(X))\,M(X)],

the second form for the pair loss, M the margin. As for a policy's value (Lin et al. 2024, Prop.
4.3; for pairs DRPO, arXiv 2506.01183) its error is
:math:`\sum_x P_f(x)\,(P_R(x)\,\hat w(x)/P_f(x) - 1)\,(\hat g(x) - g(x))\,M(x)`, a product: nothing
where the weights or the label model are right.

Which text of a pair comes first says nothing: a Bradley-Terry label model gives the swapped pair
the complementary probability, so that nothing here changes when pairs are written winner first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import clone
from sklearn.utils import check_random_state

from causal_lm_opt._validation import check_groups, check_vector
from causal_lm_opt.core.inference import influence_covariance
from causal_lm_opt.core.scores import plug_in_moment, residual_moment
from causal_lm_opt.core.solve import solve_linear_moment
from causal_lm_opt.rewards import _inputs as inputs
from causal_lm_opt.rewards._base import PairReward
from causal_lm_opt.rewards._inputs import Pairs

__all__ = ["DoublyRobustRisk", "crossfit_labels", "doubly_robust_risk", "fit_doubly_robust"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
#: What target pairs may hold: they have no labels.
TARGET = ("chosen", "rejected", "objective", "prompts")


@dataclass(frozen=True)
class DoublyRobustRisk:
    """A risk (or accuracy) under the target law.

    Attributes
    ----------
    value, se : float
        Estimate and standard error; the label model and the weights count as known.
    plug_in : float
        Mean of the label model's loss over the target pairs.
    residual : float
        Weighted mean of what the label model missed; ``value = plug_in + residual``.
    """

    value: float
    se: float
    plug_in: float
    residual: float


def doubly_robust_risk(
    loss: Any,
    predicted_loss: Any,
    weight: Any,
    target_loss: Any,
    *,
    normalize: bool = True,
    sample_weight: Any = None,
    target_weight: Any = None,
    groups: Any = None,
) -> DoublyRobustRisk:
    r"""Mean loss under the target law: right if the weights or the label model are.

    .. math:: \hat R = \frac1m \sum_j m(\tilde x_j) + \frac{\sum_i w_i\,(\ell_i - m(x_i))}{\sum_i
              w_i}

    Parameters
    ----------
    loss : (n,) array
        Loss of the labelled pairs, ``pair_loss(margin, label)``; or `expected_accuracy`.
    predicted_loss : (n,) array
        The same at the label model's probabilities, ``pair_loss(margin, prediction)``, predicted by
        a model that did not see the pair's label (`crossfit_labels`).
    weight : (n,) array
        :math:`P_f/P_R` of each pair, up to a constant (`cell_weights`).
    target_loss : (m,) array
        ``pair_loss(target_margin, target_prediction)`` of unlabelled pairs of the target law.
    normalize : bool, default True
        Divide by the mean weight (Hajek); otherwise weights need the right scale.
    sample_weight, target_weight : (n,), (m,) arrays, optional
        Frequencies.
    groups : (n,) labels, optional
        Clusters of the labelled pairs, for the standard error.

    Raises
    ------
    ValueError
        For entries that are not finite, and lengths that do not fit.

    Notes
    -----
    **Assumptions.** Labels depend on a pair as they do under the target; weights finite (a cell the
    target has and the pairs have not makes both unknowable but by the label model); target pairs
    independent of the labelled ones.

    Examples
    --------
    >>> found = doubly_robust_risk([1.0, 0.0], [0.8, 0.3], [1.0, 3.0], [0.5, 0.7])
    >>> round(found.plug_in, 3), round(found.residual, 3), round(found.value, 3)
    (0.6, -0.175, 0.425)
    """
    n, m = np.size(loss), np.size(target_loss)
    w = inputs.check_weight(weight, n)
    s = None if sample_weight is None else inputs.check_weight(sample_weight, n)
    t = None if target_weight is None else inputs.check_weight(target_weight, m)
    a, b = residual_moment(
        w,
        check_vector(loss, "loss", n),
        check_vector(predicted_loss, "predicted_loss", n),
        normalize=normalize,
    )
    residual, phi = solve_linear_moment(a, b, s)
    target = check_vector(target_loss, "target_loss", m)
    plug_in, phi_target = solve_linear_moment(
        *plug_in_moment(np.ones(m), target, normalize=False), t
    )
    codes, k = None, 0
    if groups is not None:
        codes, known = pd.factorize(check_groups(groups, "groups", n))
        k = len(known)
        if k < 2:
            raise ValueError("groups has one label only; a standard error needs at least two.")
    enough = n > 1 and m > 1
    variance = (
        influence_covariance(phi, s, codes, k) + influence_covariance(phi_target, t)
        if enough
        else np.nan
    )
    return DoublyRobustRisk(
        float(plug_in + residual), float(np.sqrt(variance)), float(plug_in), float(residual)
    )


def crossfit_labels(
    label_model: Any,
    chosen: Any,
    rejected: Any,
    *,
    target: Any = None,
    label: Any = None,
    objective: Any = None,
    prompts: Any = None,
    groups: Any = None,
    cv: int = 5,
    random_state: Any = 0,
) -> tuple[FloatArray, FloatArray | None]:
    """Probability that ``chosen`` wins, by models that did not see the pair's label.

    Parameters
    ----------
    label_model : reward model
        Cloned for each fold.
    chosen, rejected, label, objective, prompts
        As in `BradleyTerryReward.fit`.
    target : (chosen, rejected[, objective]) or mapping, optional
        Unlabelled pairs; predicted by the average of the folds' models.
    groups : (n,) labels, optional
        Rows of a group share a fold. Give the pair's id where pairs occur twice.
    cv : int, default 5
    random_state : int, RandomState or None

    Returns
    -------
    prediction : (n,) array
    target_prediction : (m,) array, or None without ``target``

    Raises
    ------
    ValueError
        If there are fewer pairs, or groups, than folds.

    Examples
    --------
    >>> from causal_lm_opt.rewards import BradleyTerryReward
    >>> x = np.random.default_rng(0).normal(size=(2, 40, 3)) + [[[0.5, 0, 0]], [[0, 0, 0]]]
    >>> model = BradleyTerryReward(hidden=(8,), epochs=2, validation_fraction=0)
    >>> ours, theirs = crossfit_labels(model, x[0], x[1], target=(x[1], x[0]), cv=2)
    >>> ours.shape, theirs.shape
    ((40,), (40,))
    """
    first, second = _rows_of(chosen), _rows_of(rejected)
    n = len(first)
    columns = {"objective": objective, "prompts": prompts, "label": label}
    given = {k: _rows_of(v) for k, v in columns.items() if v is not None}
    for name, value in {"rejected": second, **given}.items():
        inputs.check_rows(n, len(value), name, "chosen")
    fold = _folds(n, groups, cv, check_random_state(random_state))
    wanted = None if target is None else _target(target)
    prediction = np.empty(n)
    total: Any = 0.0
    for k in range(cv):
        rest, own = fold != k, fold == k
        model = clone(label_model)
        model.fit(first[rest], second[rest], **{name: v[rest] for name, v in given.items()})
        asked = {name: v[own] for name, v in given.items() if name != "label"}
        prediction[own] = model.predict_proba(first[own], second[own], **asked)
        if wanted is not None:
            total = total + model.predict_proba(**wanted) / cv
    return prediction, None if wanted is None else np.asarray(total)


def fit_doubly_robust(
    model: PairReward,
    chosen: Any,
    rejected: Any,
    *,
    weight: Any,
    target: Any,
    label: Any = None,
    objective: Any = None,
    prompts: Any = None,
    groups: Any = None,
    label_model: Any = None,
    cv: int = 5,
) -> Any:
    r"""Fit a reward to the doubly robust risk under the target law.

    Labelled pairs and unlabelled target pairs are trained on together; a labelled pair adds
    :math:`-w_i\,(L_i - \hat g_i)\,M_i`, a target pair its pair loss at the label
    :math:`\hat g_j` (module formula, weights divided by their mean).

    Parameters
    ----------
    model : reward model
        Cloned. Its ``validation_fraction`` of both kinds of pairs chooses the epoch, by the
        doubly robust accuracy.
    chosen, rejected, label, objective, prompts, groups
        As in `BradleyTerryReward.fit`.
    weight : (n,) array
        :math:`P_f/P_R` of each labelled pair, up to a constant (`cell_weights`).
    target : (chosen, rejected[, objective]) or mapping
        Unlabelled pairs of the target law.
    label_model : reward model, optional
        By default a clone of ``model``.
    cv : int, default 5
        Folds in which labels are predicted.

    Returns
    -------
    A fitted clone of ``model``.

    Raises
    ------
    ValueError
        If arguments do not fit each other.

    Notes
    -----
    The sample's risk has no lower bound where a labelled pair lies apart from all target pairs: its
    term is linear in the margin. A flexible network trained for long drives it there, so keep the
    held-out pairs, few epochs, and bounded weights. It gains over weights alone
    where these are few and large, and over the label model alone where that one is wrong.

    Examples
    --------
    >>> from causal_lm_opt.rewards import BradleyTerryReward
    >>> x = np.random.default_rng(0).normal(size=(2, 60, 3)) + [[[0.5, 0, 0]], [[0, 0, 0]]]
    >>> model = BradleyTerryReward(hidden=(8,), epochs=2)
    >>> fitted = fit_doubly_robust(
    ...     model, x[0], x[1], weight=np.ones(60), target=(x[0], x[1]), cv=2
    ... )
    >>> fitted.predict(x[0]).shape
    (60,)
    """
    fitted: Any = clone(model)
    fitted._check()
    prediction, guessed = crossfit_labels(
        model if label_model is None else label_model, chosen, rejected, target=target,
        label=label, objective=objective, prompts=prompts, groups=groups, cv=cv,
        random_state=fitted._seed,
    )  # fmt: skip
    logged = fitted._read_training(chosen, rejected, objective, prompts, weight, label)
    wanted = fitted._read(**_target(target), label=guessed, called="target")
    pull = inputs.check_label(label, len(logged)) - prediction
    if not fitted.validation_fraction:
        return fitted._learn(_stacked(logged, wanted, pull), None)
    labels = None if groups is None else check_groups(groups, "groups", len(logged))
    fraction, rng = float(fitted.validation_fraction), check_random_state(fitted._seed)
    ours = inputs.validation_rows(len(logged), labels, fraction, rng)
    theirs = inputs.validation_rows(len(wanted), None, fraction, rng)
    training = _stacked(logged.take(~ours), wanted.take(~theirs), pull[~ours])
    return fitted._learn(training, _stacked(logged.take(ours), wanted.take(theirs), pull[ours]))


# ------------------------------------------------------------------------------ helpers
def _stacked(logged: Pairs, wanted: Pairs, missed: FloatArray) -> Pairs:
    """Labelled and target pairs whose summed risk is the doubly robust one.

    ``missed`` (n,) is label less prediction. The mean over all n + m rows of (n + m)/n times a term
    is the term's mean over n rows.
    """
    n, m = len(logged), len(wanted)
    w = logged.coefficients[:, 0] / logged.coefficients[:, 0].mean()
    pull = np.column_stack([np.zeros(n), w * missed])
    sums = np.concatenate([pull * ((n + m) / n), wanted.coefficients * ((n + m) / m)])
    codes = None
    if logged.objective is not None and wanted.objective is not None:
        codes = np.concatenate([logged.objective, wanted.objective])
    return replace(
        logged, chosen=np.concatenate([logged.chosen, wanted.chosen]),
        rejected=np.concatenate([logged.rejected, wanted.rejected]), objective=codes,
        coefficients=sums,
    )  # fmt: skip


def _rows_of(values: Any) -> Any:
    """What can be indexed by a bool array: frames by position, lists as arrays."""
    if hasattr(values, "iloc"):
        return _Frame(values)
    if isinstance(values, list | tuple) and any(isinstance(v, str) for v in values):
        texts = np.empty(len(values), dtype=object)
        texts[:] = values
        return texts
    return np.asarray(values)


class _Frame:
    """A frame whose rows are taken as an array's are."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    def __len__(self) -> int:
        return len(self._frame)

    def __getitem__(self, rows: Any) -> Any:
        return self._frame.iloc[np.flatnonzero(rows)]


def _target(target: Any) -> dict[str, Any]:
    """Target pairs as named arguments."""
    given = inputs.as_validation(target, "target")
    labelled = [key for key in given if key not in TARGET]
    if labelled:
        raise ValueError(f"target pairs have no {labelled}; they may hold {list(TARGET)}.")
    return given


def _folds(n: int, groups: Any, cv: int, rng: np.random.RandomState) -> IntArray:
    """Fold of each row, (n,); groups stay together, sizes as even as groups allow."""
    codes = np.arange(n)
    if groups is not None:
        codes = np.asarray(pd.factorize(check_groups(groups, "groups", n))[0])
    k = int(codes.max(initial=-1)) + 1
    if isinstance(cv, bool) or not isinstance(cv, int | np.integer) or not 2 <= cv <= k:
        raise ValueError(
            f"cv must be a whole number from 2 to the number of pairs or groups ({k}), got {cv!r}."
        )
    dealt = np.empty(k, dtype=np.intp)
    dealt[rng.permutation(k)] = np.arange(k) % cv
    return np.asarray(dealt[codes])
