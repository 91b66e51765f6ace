"""Tests of latent sufficiency: what features, or a density ratio made of them, leave out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from causal_lm_opt.core.weights import relative_weights

__all__ = ["Sufficiency", "TextResponse", "latent_sufficiency", "text_response"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]
LEVEL, LEVEL_Z = 0.001, 3.29  # two-sided
NAMED = 0.05
UNBALANCED = 0.05  # standard deviations
RESPONSE_LEVEL = 0.01
ROWS_PER_COEFFICIENT = 3


@dataclass(frozen=True)
class Sufficiency:
    """Whether outcomes respond to what a ratio left out of balance.

    Attributes
    ----------
    shift : float
        How far the value would move if the features left out were balanced too and the outcome
        were linear in them.
    z : float
        That shift over its standard error when outcomes do not respond to them, brought from
        Student's t of rows (clusters) less coefficients to a standard normal.
    worst : str
        The unbalanced feature to which outcomes respond most surely; empty where all balance.
    p_value : float
        Of that response, times the number of unbalanced features (Bonferroni).
    features : int
        Number of features looked at: of more than the rows (clusters) bear, those furthest out of
        balance.
    gap_z : float
        The shift over the sampling error of the imbalance itself, outcomes' responses given.
    given_latent : bool
        Whether responses are those beyond what the ratio was made of.
    """

    shift: float
    z: float
    worst: str
    p_value: float
    features: int
    gap_z: float = math.nan
    given_latent: bool = True

    @property
    def seen(self) -> bool:
        """Whether outcomes respond to features out of balance, at level .001.

        Where the regression does not know what the ratio was made of, outcomes may respond to
        just that: the imbalance must then be no noise of the samples, either.
        """
        responds = abs(self.z) > LEVEL_Z or self.p_value < LEVEL
        return responds and (self.given_latent or abs(self.gap_z) > LEVEL_Z)

    def refutes(self, se: float) -> bool:
        """Whether the value is off: outcomes respond, the imbalance is no noise of the samples, and
        the shift exceeds the value's standard error.
        """
        return self.seen and abs(self.gap_z) > LEVEL_Z and abs(self.shift) > se

    @property
    def findings(self) -> list[tuple[int, str]]:
        """Caution where outcomes respond to features the ratio does not know of."""
        return self.findings_for()

    def findings_for(self, se: float = math.inf, *, form: bool = False) -> list[tuple[int, str]]:
        """Caution, or "do not use" where the shift refutes a value of standard error ``se``.

        ``form``: the features are squares and products of what the ratio is made of.
        """
        if not self.seen:
            return []
        refuted = self.refutes(se)
        if form and not refuted:  # outcomes may be curved where the ratio's form is right
            return []
        named = ""  # of features that move outcomes only together, none is to be named
        if self.worst and self.p_value < NAMED:
            named = f"most surely to {self.worst!r}, p {self.p_value:.2g}; "
        found = (
            f"in which weighted log and draws still differ ({named}{self.features} looked at, z "
            f"{self.z:+.1f}): balancing them too would move the value by {self.shift:+.3g}"
        )
        beside = f", more than its standard error {se:.3g}" if refuted else ""
        if form:
            text = (
                "The ratio's form is wrong where it matters: outcomes respond to squares or "
                f"products of its features {found}{beside}. Use degree=2, a classifier that bends, "
                "or DoublyRobust with an outcome model that does."
            )
        else:
            text = (
                "Beyond what the ratio is made of, outcomes respond to features of the text "
                f"{found}{beside}. Latent sufficiency fails: widen the latent, or use DoublyRobust."
            )
        return [(2 if refuted else 1, text)]

    def to_dict(self, name: str = "left_out") -> dict[str, float]:
        """Figures for a table."""
        return {
            f"{name}_shift": self.shift, f"{name}_z": self.z, f"{name}_p_value": self.p_value,
            f"{name}_gap_z": self.gap_z,
        }  # fmt: skip


def latent_sufficiency(
    residual: FloatArray,
    log_ratio: FloatArray,
    features: FloatArray,
    features_target: FloatArray,
    *,
    latent: FloatArray | None = None,
    sample_weight: FloatArray | None = None,
    target_weight: FloatArray | None = None,
    codes: IntArray | None = None,
    target_codes: IntArray | None = None,
    exact: bool = False,
    squares: bool = True,
    names: Sequence[str] | None = None,
) -> Sufficiency | None:
    r"""Test whether outcomes respond to features that an estimated ratio leaves out of balance.

    .. math:: y = a + b^\top h(z) + \gamma^\top F + e, \qquad
              \Delta = \hat\gamma^\top (\bar F_f - \bar F_w)

    with z the latent and log ratio the regression knows already, F further features of the text.
    Under latent sufficiency :math:`\gamma = 0`, and :math:`\Delta` over its (clustered, robust)
    standard error is all but Student's t. It is the doubly robust correction of a linear outcome
    model, and looks in the direction that matters to the value; each unbalanced feature's own
    :math:`\gamma_k` is tested besides, as many irrelevant ones may drown one that matters.

    Parameters
    ----------
    residual : array, shape (n,)
        Outcomes, or residuals of an outcome model.
    log_ratio : array, shape (n,)
    features, features_target : arrays, shape (n, d), (m, d)
    latent : array, shape (n, q), optional
        What the ratio is made of; entered with its squares where q is at most 20.
    sample_weight, target_weight, codes, target_codes : arrays, optional
        Frequencies and clusters.
    exact : bool
        The draws are the whole support, ``target_weight`` its probabilities.
    squares : bool
        Whether the latent's squares are known too; not where ``features`` hold them, to test the
        ratio's form.
    names : sequence of str, length d, optional

    Returns
    -------
    Sufficiency, or ``None`` where the features say nothing beyond the latent, or with fewer than
    three rows (clusters) for each coefficient of the latent and one more. Of more features than
    that bears, those furthest out of balance are looked at.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, z = rng.normal(size=(2000, 2)), rng.normal(.5, 1., (2000, 2))
    >>> known = .5 * x[:, 0] - .125                      # a ratio that knows the first factor only
    >>> y = x @ [1., 1.] + rng.normal(size=2000)
    >>> found = latent_sufficiency(y, known, x, z, latent=x[:, :1])
    >>> round(found.shift, 1), found.z > 10                       # what balancing the other adds
    (0.5, True)
    """
    n, d = residual.shape[0], features.shape[1]
    s = np.ones(n) if sample_weight is None else sample_weight
    units = n if codes is None else int(np.unique(codes).size)
    room = units // ROWS_PER_COEFFICIENT
    known = _basis(log_ratio, latent, squares=squares)
    if known.shape[1] + d > room:
        known = _basis(log_ratio, latent, squares=False)
    mean = np.average(features, axis=0, weights=s)
    scale = np.sqrt(np.average((features - mean) ** 2, axis=0, weights=s))
    root = np.sqrt(s)[:, None]
    q, _ = np.linalg.qr(root * known)
    clean = root * (features - mean) / np.where(scale > 0, scale, 1.0)
    clean = clean - q @ (q.T @ clean)  # Frisch-Waugh: what the known basis explains is taken out
    some = np.flatnonzero((clean**2).sum(axis=0) > 1e-6 * s.sum())
    if not some.size or known.shape[1] >= room:
        return None
    away = np.average(features_target[:, some], axis=0, weights=target_weight)
    weight = s * relative_weights(log_ratio, normalize=True)
    gap = (away - np.average(features[:, some], axis=0, weights=weight)) / scale[some]
    if known.shape[1] + some.size > room:  # no outcome is looked at in choosing
        most = np.sort(np.argsort(-np.abs(gap), kind="stable")[: room - known.shape[1]])
        some, gap = some[most], gap[most]
    clean, scale = clean[:, some], scale[some]
    left = root[:, 0] * residual
    left = left - q @ (q.T @ left)
    gamma, covariance = _slopes(left, clean, np.einsum("ij,ij->i", q, q), codes)
    floor = 1e-9 * (float(np.abs(residual).max()) + 1e-300)
    unbalanced = np.flatnonzero(np.abs(gap) > UNBALANCED)
    dof = units - known.shape[1] - some.size
    each = [_ratio(gamma[k], math.sqrt(covariance[k, k]), floor) for k in unbalanced]
    z = np.array([_normal_score(t, dof) for t in each])
    worst, p_value = "", 1.0
    if z.size:
        k = int(np.argmax(np.abs(z)))
        p_value = min(1.0, 2.0 * float(special.ndtr(-abs(z[k]))) * z.size)
        position = int(some[unbalanced[k]])
        worst = f"feature {position}" if names is None else str(names[position])
    shift = float(gamma @ gap)
    se = math.sqrt(max(float(gap @ covariance @ gap), 0.0))
    along = gamma / scale
    spread = _mean_variance(features[:, some] @ along, weight, codes)
    if not exact:
        t = np.ones(features_target.shape[0]) if target_weight is None else target_weight
        spread += _mean_variance(features_target[:, some] @ along, t, target_codes)
    gap_z = _ratio(shift, math.sqrt(spread), floor)
    z_shift = _normal_score(_ratio(shift, se, floor), dof)
    given = latent is not None and _enters(latent)
    return Sufficiency(shift, z_shift, worst, p_value, int(some.size), gap_z, given)


def _slopes(
    left: FloatArray, clean: FloatArray, lever: FloatArray, codes: IntArray | None
) -> tuple[FloatArray, FloatArray]:
    """Slopes (d,) of ``left`` (n,) on ``clean`` (n, d) and their robust covariance (d, d): HC3, by
    cluster HC2's. ``lever`` (n,): leverage of what both were cleaned of.
    """
    gram = np.linalg.pinv(clean.T @ clean, rcond=1e-9, hermitian=True)
    gamma = gram @ (clean.T @ left)
    rest = np.maximum(1.0 - lever - np.einsum("ij,ij->i", clean @ gram, clean), 0.05)
    noise = (left - clean @ gamma) / (rest if codes is None else np.sqrt(rest))
    moved = (clean @ gram) * noise[:, None]
    if codes is not None:
        moved = np.stack([np.bincount(codes, weights=x) for x in moved.T], axis=1)
    return gamma, moved.T @ moved


def _mean_variance(u: FloatArray, weight: FloatArray, codes: IntArray | None) -> float:
    """Variance of the weighted mean of ``u`` (n,), weights taken as given; by cluster."""
    part = weight * (u - np.average(u, weights=weight)) / weight.sum()
    if codes is not None:
        part = np.bincount(codes, weights=part)
    return float(part @ part)


def _ratio(value: float, se: float, floor: float) -> float:
    """``value / se``; of noise-free outcomes infinite, or 0 for nothing."""
    if se > floor:
        return float(value / se)
    return 0.0 if abs(value) <= floor else math.copysign(math.inf, value)


def _enters(latent: FloatArray) -> bool:
    """Whether the rows bear a regression on all of the latent."""
    return bool(latent.shape[1] <= latent.shape[0] // 10)


def _normal_score(t: float, dof: int) -> float:
    """The normal deviate as far out as ``t`` is under Student's law."""
    if not math.isfinite(t):
        return t
    tail = max(float(stats.t.logsf(abs(t), dof)), -1e10)
    return math.copysign(-float(special.ndtri_exp(tail)), t)


def _basis(log_ratio: FloatArray, latent: FloatArray | None, *, squares: bool) -> FloatArray:
    """Constant, log ratio, latent and (of few) their squares, shape (n, q), standardised."""
    finite = np.isfinite(log_ratio)
    lowest = float(log_ratio[finite].min()) if finite.any() else 0.0
    parts = [np.where(finite, log_ratio, lowest)[:, None]]
    if latent is not None and _enters(latent):
        parts.append(latent)
    columns = np.hstack(parts)
    scale = columns.std(axis=0)
    some = scale > 1e-9
    columns = (columns[:, some] - columns[:, some].mean(axis=0)) / scale[some]
    if squares and columns.shape[1] <= 21:
        columns = np.hstack([columns, columns**2])
    out: Any = np.column_stack([np.ones(columns.shape[0]), columns])
    return np.asarray(out)


@dataclass(frozen=True)
class TextResponse:
    """Whether outcomes respond to the text beyond some features of it.

    Attributes
    ----------
    p_value : float
        Twice the smaller one of the global test's and of the surest single response's, the latter
        times the number of features (Bonferroni).
    worst : str
        The further feature to which outcomes respond most surely.
    z : float
        That response by itself, over its standard error.
    rows, features : int
        Numbers of rows and of further features looked at.
    """

    p_value: float
    worst: str
    z: float
    rows: int
    features: int

    @property
    def seen(self) -> bool:
        """Whether outcomes respond, at level .01."""
        return self.p_value < RESPONSE_LEVEL

    @property
    def findings(self) -> list[tuple[int, str]]:
        """Caution where they do."""
        if not self.seen:
            return []
        return [(1, (
            f"Latent sufficiency fails: on {self.rows:,} rows outcomes respond to the text beyond "
            f"the features (p {self.p_value:.2g}; most surely to {self.worst!r}, "
            f"z {self.z:+.1f}). What policies change beyond the features is then not valued: widen "
            "the features, or take sequence weights (ratio: sequence) where they are even enough."
        ))]  # fmt: skip


def text_response(
    outcome: FloatArray,
    latent: FloatArray,
    features: FloatArray,
    *,
    codes: IntArray | None = None,
    names: Sequence[str] | None = None,
) -> TextResponse | None:
    r"""Test whether outcomes respond to further features of the text, given some.

    The score test of :math:`\gamma = 0` where :math:`y = a + b^\top z + \gamma^\top F + e` and the
    :math:`\gamma_k` are many and small: with F and y cleaned of z,

    .. math:: Q = \sum_k \Big(\sum_i \tilde F_{ik}\, \tilde y_i\Big)^2,

    whose law without response is that of a weighted sum of chi-squares, the weights being
    eigenvalues of the (clustered, heteroskedasticity-robust) covariance of the sums; three moments
    are matched. Features of large variance count most. As one that matters may be drowned by many
    that do not, the largest single term is tested besides. Neither asks anything of a policy, so
    that all rows of a log may be used, those of training too.

    Parameters
    ----------
    outcome : array, shape (n,)
    latent : array, shape (n, q)
        Features that outcomes are taken to respond to (linearly).
    features : array, shape (n, d)
        Further features; those the latent explains are left out.
    codes : integer array, shape (n,), optional
        Clusters.
    names : sequence of str, length d, optional

    Returns
    -------
    TextResponse, or ``None`` where the features say nothing beyond the latent, or with fewer than
    three rows (clusters) for each column of the latent.

    Notes
    -----
    A response that is curved in the latent is seen too, as far as the further features tell of it.
    Source: Goeman, van de Geer and van Houwelingen (2006), the global test; Imhof (1961), Pearson's
    approximation by three moments.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> z, F = rng.normal(size=(500, 1)), rng.normal(size=(500, 30))
    >>> text_response(z[:, 0] + rng.normal(size=500), z, F).seen
    False
    >>> text_response(F[:, 3] + rng.normal(size=500), z, F).worst
    'feature 3'
    """
    n, d = features.shape
    known = np.column_stack([np.ones(n), latent])
    units = n if codes is None else int(np.unique(codes).size)
    if 3 * known.shape[1] > units:
        return None
    q = _orthonormal(known)
    clean = features - features.mean(axis=0)
    spread = (clean**2).sum(axis=0)
    clean = clean - q @ (q.T @ clean)
    some = np.flatnonzero((clean**2).sum(axis=0) > 1e-6 * spread)
    if not some.size:
        return None
    clean = clean[:, some]
    left = outcome - q @ (q.T @ outcome)
    left = left / np.sqrt(np.maximum(1.0 - np.einsum("ij,ij->i", q, q), 0.05))
    parts = clean * left[:, None]
    if codes is not None:
        compact = np.unique(codes, return_inverse=True)[1]
        parts = np.stack([np.bincount(compact, weights=x) for x in parts.T], axis=1)
    sums = parts.sum(axis=0)
    covariance = parts.T @ parts
    together = _quadratic_form_p(float(sums @ sums), np.linalg.eigvalsh(covariance))
    floor = 1e-9 * (float(np.abs(outcome).max()) + 1e-300)
    each = [_ratio(v, math.sqrt(c), floor) for v, c in zip(sums, np.diag(covariance), strict=True)]
    k = int(np.argmax(np.abs(each)))
    alone = 2.0 * float(special.ndtr(-abs(each[k]))) * some.size
    worst = f"feature {some[k]}" if names is None else str(names[some[k]])
    return TextResponse(min(1.0, 2.0 * min(together, alone)), worst, each[k], n, d)


def _orthonormal(columns: FloatArray) -> FloatArray:
    """Orthonormal basis of the columns' span, (n, rank)."""
    u, scale, _ = np.linalg.svd(columns / np.maximum(np.abs(columns).max(axis=0), 1e-300),
                                full_matrices=False)  # fmt: skip
    return np.asarray(u[:, scale > 1e-9 * scale[0]])


def _quadratic_form_p(q: float, eigenvalues: FloatArray) -> float:
    """P(sum of eigenvalue times chi-square(1) > q), by a scaled and shifted chi-square."""
    lam = eigenvalues[eigenvalues > 1e-9 * max(float(eigenvalues.max()), 0.0)]
    if not lam.size:
        return 1.0
    first, second, third = lam.sum(), (lam**2).sum(), (lam**3).sum()
    df = second**3 / third**2
    return float(stats.chi2.sf((q - first) / math.sqrt(2 * second) * math.sqrt(2 * df) + df, df))
