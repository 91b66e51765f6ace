"""Bradley-Terry rewards with one head, a head for each objective, or an adversary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from causal_lm_opt.rewards._base import PairReward
from causal_lm_opt.rewards._modules import make_discriminator
from causal_lm_opt.rewards._training import Adversary

__all__ = ["AdversarialReward", "BradleyTerryReward", "MultiHeadReward"]


class BradleyTerryReward(PairReward):
    r"""A reward from preferences between two texts: one network, one number a text.

    .. math:: P(x \text{ beats } x') = \sigma(R(x) - R(x')), \qquad R = \beta^\top z(x)

    fitted by maximum likelihood (Bradley and Terry 1952; Kobalczyk and van der Schaar 2025, eq. 1).
    Use it where all choices go by one criterion. With ``objective`` it reads the objective as a
    further column: their "Base" model.

    Parameters
    ----------
    encoder : "mlp" or torch.nn.Module
        Maps (n, d) features to a latent (n, k). A module is copied at every fit and trained from
        the weights it has; it reads features, prompt columns and (without heads) one column an
        objective, and its precision is that of all.
    hidden : tuple of int
        Widths of the MLP's hidden layers, GELU between them. The default with ``latent_dim=64`` is
        the paper's study 1.
    latent_dim : int, optional
        Width of the MLP's latent: by default 64, and 512 where objectives have heads (study 2).
    learning_rate, weight_decay : float
        Of AdamW; without decay it is Adam.
    epochs, batch_size : int
        Most passes over the pairs, and pairs in a step.
    validation_fraction : float, default 0.1
        Share of the pairs held out, unless ``fit`` is given ``validation``. The epoch of the best
        validation accuracy is kept (the first of equals). 0: no choice, the last epoch is kept.
    patience : int, optional
        Stop after so many epochs without a better one. By default all are run.
    calibration : "temperature" or None
        Divide rewards by the temperature that is best on the validation pairs.
    standardize : bool, default False
        Bring features to mean 0 and variance 1 over the training texts. Embeddings of length 1 have
        tiny entries, from which the paper's learning rate gets nowhere in ten epochs.
    embed : object with ``transform``, optional
        Turns texts into (n, d) arrays where texts are given, such as
        `causal_lm_opt.lm.TextEmbedder`. It is used as it is and never fitted.
    device : str or torch.device, default "auto"
        "auto" is the GPU where there is one. All pairs are held there.
    random_state : int, RandomState or None
        The same on the same machine gives the same weights; torch's own state is left alone.
    progress : bool or None
        A bar over epochs; None: on a terminal only.

    Attributes
    ----------
    network_ : torch.nn.Module
    history_ : list of dict
        Figures of each epoch: ``epoch``, ``train_loss``, ``validation_accuracy``,
        ``validation_loss``.
    best_epoch_, n_epochs_ : int
        Epoch kept, and epochs run.
    objectives_ : array or None
        The values of ``objective``, sorted.
    temperature_ : float
    latent_dim_, n_features_in_ : int

    Notes
    -----
    **Assumptions.** Choices follow one reward (consistency), pairs were not picked by what people
    would choose (no hidden confounding), and every combination of what people respond to occurs
    (positivity; `cell_weights` where some are rare). A likelihood is a likelihood: under a
    correlation of two factors the reward may rest on either.

    **Weights** are divided by their mean over all pairs, never over a batch, so that a step's
    gradient is unbiased for that of the weighted risk.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> first, second = rng.normal(size=(2, 400, 5))
    >>> won = first[:, 0] > second[:, 0]
    >>> chosen = np.where(won[:, None], first, second)
    >>> rejected = np.where(won[:, None], second, first)
    >>> model = BradleyTerryReward(hidden=(32,), learning_rate=1e-2, epochs=5)
    >>> model.fit(chosen[:300], rejected[:300]).score(chosen[300:], rejected[300:]) > 0.9
    True
    >>> p = model.predict_proba(chosen[300:], rejected[300:])
    >>> bool(np.allclose(p + model.predict_proba(rejected[300:], chosen[300:]), 1))
    True
    """


class MultiHeadReward(PairReward):
    r"""A reward for each objective on a latent they share.

    .. math:: P(x \text{ beats } x' \mid c) = \sigma(f_c(z(x)) - f_c(z(x')))

    with linear heads :math:`f_c` (Kobalczyk and van der Schaar 2025, section 5: "Multihead"). Use
    it where people were asked to choose by different criteria, one of which is recorded for each
    pair. ``objective`` is needed to fit and to predict.

    Parameters and attributes are those of `BradleyTerryReward`; the latent has width 512.

    Notes
    -----
    **Assumptions.** Those of `BradleyTerryReward` within each objective: where objectives were
    given to other kinds of texts, the latent may hold the kind instead of what is asked
    (`AdversarialReward`).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> chosen, rejected = rng.normal(size=(2, 400, 2))
    >>> objective = np.where(np.arange(400) % 2, "short", "kind")
    >>> own = np.where(objective == "kind", 0, 1), np.arange(400)
    >>> label = (chosen.T[own] > rejected.T[own]).astype(float)
    >>> model = MultiHeadReward(hidden=(32,), latent_dim=8, learning_rate=1e-2, epochs=10)
    >>> model.fit(chosen, rejected, objective=objective, label=label).objectives_.tolist()
    ['kind', 'short']
    >>> a, b = model.predict([[1.0, 0.0], [0.0, 1.0]], "kind")
    >>> bool(a > b)
    True
    """

    _heads = True
    _latent = 512


class AdversarialReward(MultiHeadReward):
    r"""Heads on a latent from which a discriminator cannot tell the objective.

    .. math:: \min_{\theta, w} \max_\phi\; L_R(\theta, w) - \lambda\, L_{adv}(\theta, \phi)

    with :math:`L_{adv}` the cross-entropy of a discriminator :math:`h_\phi(z)` for the objective,
    over both texts of each pair, by gradient reversal (Kobalczyk and van der Schaar 2025,
    section 5: "Adversarial"; Ganin et al. 2016). Use it where the texts shown and the objective
    asked for go together in the training pairs, and will not later.

    Parameters
    ----------
    lambda_ : float, default 1.0
        Strength of the reversal. 0 is `MultiHeadReward` exactly, with a discriminator that looks
        on; large values cost accuracy.
    discriminator_hidden : tuple of int
        Hidden layers of the discriminator.
    discriminator_learning_rate : float, optional
        By default ``learning_rate``, as in the papers. Ten times that keeps the discriminator near
        its best answer to the latent of the moment; at equal rates it trails behind, and encoder
        and discriminator may go round each other (see Notes).

    Notes
    -----
    The other parameters and attributes are those of `MultiHeadReward`; ``history_`` also has
    ``discriminator_accuracy`` and ``discriminator_loss`` of each epoch, on the validation pairs
    (without any, on the training batches as they came).
    Chance is the share of the commonest objective. This discriminator learns while the latent
    moves: that it fails does not prove that another one, fitted to the final latent, would
    (`fresh_discriminator_accuracy`), and that it is right less often than by chance only says that
    the latent has just turned round.

    **Rates.** Let the latents of two equally frequent objectives differ by :math:`m` along a
    direction of variance :math:`v`, and a linear discriminator have weight :math:`\phi`. To first
    order in :math:`\phi`, and with rates :math:`\eta_\phi, \eta_m`,

    .. math:: \dot\phi = \eta_\phi (m / 4 - v \phi / 4), \qquad
              \dot m = -\eta_m \lambda \phi / 4,

    a damped oscillator, which does not swing where
    :math:`\eta_\phi v^2 \ge 4 \eta_m \lambda`: where the discriminator is fast enough.
    Below that :math:`m` passes through 0, and the discriminator, still at its old sign, is wrong
    more often than right. (Adam scales steps, so that this is a guide, not a bound.)

    **Assumptions.** Those of `MultiHeadReward`, and that what people respond to can be read from a
    latent that does not tell the objective: where kind of text and objective always coincide it
    cannot, and the reward collapses.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> objective = np.arange(400) % 2
    >>> chosen, rejected = rng.normal(size=(2, 400, 3)) + 2 * objective[:, None] * [0, 0, 1]
    >>> label = (chosen[:, 0] > rejected[:, 0]).astype(float)
    >>> model = AdversarialReward(hidden=(32,), latent_dim=8, learning_rate=1e-2, epochs=5)
    >>> fitted = model.fit(chosen, rejected, objective=objective, label=label)
    >>> sorted(fitted.history_[0])[:2]
    ['discriminator_accuracy', 'discriminator_loss']
    """

    def __init__(
        self,
        lambda_: float = 1.0,
        *,
        discriminator_hidden: Sequence[int] = (512,),
        discriminator_learning_rate: float | None = None,
        encoder: str | nn.Module = "mlp",
        hidden: Sequence[int] = (512, 512),
        latent_dim: int | None = None,
        learning_rate: float = 1e-4,
        weight_decay: float = 0.0,
        epochs: int = 10,
        batch_size: int = 64,
        validation_fraction: float = 0.1,
        patience: int | None = None,
        calibration: Literal["temperature"] | None = None,
        standardize: bool = False,
        embed: Any = None,
        device: str | torch.device = "auto",
        random_state: Any = 0,
        progress: bool | None = False,
    ) -> None:
        super().__init__(
            encoder=encoder, hidden=hidden, latent_dim=latent_dim, learning_rate=learning_rate,
            weight_decay=weight_decay, epochs=epochs, batch_size=batch_size,
            validation_fraction=validation_fraction, patience=patience, calibration=calibration,
            standardize=standardize, embed=embed, device=device, random_state=random_state,
            progress=progress,
        )  # fmt: skip
        self.lambda_ = lambda_
        self.discriminator_hidden = discriminator_hidden
        self.discriminator_learning_rate = discriminator_learning_rate

    def _check(self) -> None:
        super()._check()
        if not 0 <= self.lambda_ < float("inf"):
            raise ValueError(f"lambda_ must be a number >= 0, got {self.lambda_!r}.")
        rate = self.discriminator_learning_rate
        if rate is not None and not 0 < rate < float("inf"):
            raise ValueError(f"discriminator_learning_rate must be positive or None, got {rate!r}.")

    def _adversary(self, latent: int, k: int, dtype: torch.dtype) -> Adversary | None:
        discriminator = make_discriminator(latent, self.discriminator_hidden, k)
        rate = self.discriminator_learning_rate
        return Adversary(
            discriminator.to(dtype), float(self.lambda_),
            float(self.learning_rate if rate is None else rate),
        )  # fmt: skip
