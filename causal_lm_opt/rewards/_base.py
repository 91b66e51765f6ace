"""What the reward models share: reading pairs, training, predicting, saving."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import Any, Literal, Self, cast

import numpy as np
import numpy.typing as npt
import torch
from scipy import special
from sklearn.utils import TransformerTags, check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from causal_lm_opt._validation import check_groups
from causal_lm_opt.lm._loading import check_counts
from causal_lm_opt.rewards import _inputs as inputs
from causal_lm_opt.rewards._calibration import PairCalibration, fit_temperature, pair_calibration
from causal_lm_opt.rewards._inputs import Pairs
from causal_lm_opt.rewards._modules import RewardNetwork, make_encoder
from causal_lm_opt.rewards._reading import PairReader
from causal_lm_opt.rewards._saving import load_reward, save_reward
from causal_lm_opt.rewards._training import (
    CHUNK,
    Adversary,
    Rows,
    Schedule,
    margins,
    train,
)
from causal_lm_opt.rewards.losses import expected_accuracy

__all__ = ["PairReward"]

FloatArray = npt.NDArray[np.float64]


class PairReward(PairReader):
    """Shared behaviour of the reward models; abstract."""

    #: Width of the latent by default.
    _latent = 64

    def __init__(
        self,
        *,
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
        self.encoder = encoder
        self.hidden = hidden
        self.latent_dim = latent_dim
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.calibration = calibration
        self.standardize = standardize
        self.embed = embed
        self.device = device
        self.random_state = random_state
        self.progress = progress

    # ------------------------------------------------------------------ learning
    def fit(
        self,
        chosen: Any,
        rejected: Any,
        *,
        objective: Any = None,
        prompts: Any = None,
        sample_weight: Any = None,
        groups: Any = None,
        label: Any = None,
        validation: Any = None,
    ) -> Self:
        r"""Learn the reward from pairs.

        Parameters
        ----------
        chosen, rejected : (n, d) arrays or frames, or n texts each
            The text that won and the one that lost. Texts need ``embed``.
        objective : (n,) labels
            What the choice was asked to go by; at least two values.
        prompts : n texts, or (n, k) array, optional
            Joined to texts as ``"prompt\n\ntext"``; columns put beside features.
        sample_weight : (n,) array, optional
            Importance weights; their scale does not matter.
        groups : (n,) labels, optional
            Rows of a group stay on one side of the validation split.
        label : (n,) array, optional
            Probability in [0, 1] that ``chosen`` wins; 0.5 is a tie. By default 1.
        validation : tuple or mapping, optional
            (chosen, rejected), (chosen, rejected, objective), or a mapping with keys of fit's
            arguments, in place of ``validation_fraction``.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If arguments do not fit each other, or training diverges.
        """
        self._check()
        pairs = self._read_training(chosen, rejected, objective, prompts, sample_weight, label)
        if groups is not None:
            groups = check_groups(groups, "groups", len(pairs))
        kept = pairs.coefficients[:, 0] > 0  # a pair of weight 0 is no pair
        groups = None if groups is None else groups[kept]
        return self._learn(*self._split(pairs.take(kept), groups, validation))

    def _split(self, pairs: Pairs, groups: Any, validation: Any) -> tuple[Pairs, Pairs | None]:
        """Pairs to learn from, and pairs to choose the epoch by."""
        if validation is not None:
            return pairs, self._read(**inputs.as_validation(validation), called="validation")
        if not self.validation_fraction:
            return pairs, None
        rng = check_random_state(self._seed)
        held = inputs.validation_rows(len(pairs), groups, self.validation_fraction, rng)
        return pairs.take(~held), pairs.take(held)

    def _learn(self, pairs: Pairs, held: Pairs | None) -> Self:
        """Train on pairs, choosing the epoch by held ones."""
        if self.calibration is not None and held is None:
            raise ValueError("calibration needs validation pairs: validation_fraction is 0.")
        device = _device(self.device)
        given = pairs.objective is not None
        self.network_, adversary = self._build(pairs.chosen.shape[1], device)
        rows, choosing = self._rows(pairs), None if held is None else self._rows(held)
        schedule = Schedule(
            float(self.learning_rate), float(self.weight_decay), self.epochs, self.batch_size,
            self.patience, self._seed, self.progress, heads=self._heads and given,
        )  # fmt: skip
        with _seeded(self._seed, device):
            self.history_ = train(self.network_, rows, choosing, schedule, adversary)
        self.n_epochs_ = len(self.history_)
        accuracy = [epoch.get("validation_accuracy", np.nan) for epoch in self.history_]
        self.best_epoch_ = self.n_epochs_ if held is None else int(np.argmax(accuracy)) + 1
        self.temperature_ = 1.0
        if self.calibration is not None and held is not None:
            self.temperature_ = fit_temperature(self._margin(held), held.coefficients)
        return self

    def _build(self, width: int, device: torch.device) -> tuple[RewardNetwork, Adversary | None]:
        """A network with fresh weights, the same on every device, and its adversary."""
        k = len(self.objectives_) if self.objectives_ is not None else 1
        latent = self._latent if self.latent_dim is None else self.latent_dim
        with _seeded(self._seed, None):
            encoder, latent = make_encoder(self.encoder, width, self.hidden, latent)
            network = RewardNetwork(encoder, latent, k if self._heads else 1)
        self.network_width_, self.latent_dim_ = width, latent
        # A stream of its own: whether there is an adversary changes no other weight.
        with _seeded(self._seed + 1, None):
            adversary = self._adversary(latent, k, network.dtype)
        if adversary is not None:
            adversary.discriminator.to(device)
        return network.to(device), adversary

    def _adversary(self, latent: int, k: int, dtype: torch.dtype) -> Adversary | None:
        """Who works against the encoder, if anybody."""
        return None

    # ------------------------------------------------------------------ using it
    def predict(self, X: Any, objective: Any = None, prompts: Any = None) -> FloatArray:
        """Reward of texts.

        Parameters
        ----------
        X : (n, d) array or frame, or n texts
        objective : (n,) labels, or one label for all rows
            Needed where the model was fitted with objectives.
        prompts : as in `fit`, where the model was fitted with prompts

        Returns
        -------
        (n,) array
            In natural-log odds: the difference of two rewards is the logit of a preference. Only
            differences have a meaning.
        """
        return self._rewards(X, "X", objective, prompts)

    def _rewards(self, X: Any, name: str, objective: Any, prompts: Any) -> FloatArray:
        x, codes = self._features(X, name, objective, prompts)
        out = np.empty(len(x))
        with torch.inference_mode():
            for at, z, chunk in self._latents(x, codes):
                out[at] = self.network_.reward(z, chunk).double().cpu().numpy()
        return out / self.temperature_

    def _gap(self, chosen: Any, rejected: Any, objective: Any, prompts: Any) -> FloatArray:
        """Reward of the chosen less that of the rejected, (n,)."""
        first = self._rewards(chosen, "chosen", objective, prompts)
        second = self._rewards(rejected, "rejected", objective, prompts)
        inputs.check_rows(len(first), len(second), "rejected", "chosen")
        return first - second

    def predict_proba(
        self, chosen: Any, rejected: Any, objective: Any = None, prompts: Any = None
    ) -> FloatArray:
        """Probability that ``chosen`` beats ``rejected``, (n,).

        One column, unlike a classifier's: the other is one less it, and is what swapping the two
        arguments gives.
        """
        return np.asarray(special.expit(self._gap(chosen, rejected, objective, prompts)))

    def score(
        self,
        chosen: Any,
        rejected: Any,
        objective: Any = None,
        sample_weight: Any = None,
        label: Any = None,
        prompts: Any = None,
    ) -> float:
        """Share of labels told right, ties (equal rewards, or label 0.5) counting half."""
        gap = self._gap(chosen, rejected, objective, prompts)
        right = expected_accuracy(gap, inputs.check_label(label, len(gap)))
        return float(np.average(right, weights=inputs.check_weight(sample_weight, len(gap))))

    def transform(self, X: Any, objective: Any = None, prompts: Any = None) -> FloatArray:
        """Latent of texts, ``(n, latent_dim_)``.

        ``objective`` is needed only where it is a column of the features (`BradleyTerryReward`).
        """
        x, codes = self._features(X, "X", objective, prompts, for_latent=self._heads)
        out = np.empty((len(x), self.latent_dim_))
        with torch.inference_mode():
            for at, z, _ in self._latents(x, codes):
                out[at] = z.double().cpu().numpy()
        return out

    def calibration_report(
        self,
        chosen: Any,
        rejected: Any,
        objective: Any = None,
        sample_weight: Any = None,
        label: Any = None,
        prompts: Any = None,
        *,
        bins: int = 10,
    ) -> PairCalibration:
        """Calibration error, Brier score and log loss of `predict_proba` on labelled pairs.

        Use pairs that had no part in the fit, its validation pairs included.
        """
        p = self.predict_proba(chosen, rejected, objective, prompts)
        y, w = inputs.check_label(label, len(p)), inputs.check_weight(sample_weight, len(p))
        return pair_calibration(p, y, w, bins=bins)

    # ------------------------------------------------------------------ keeping it
    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the fitted model to a new folder: weights as safetensors, the rest as JSON.

        ``embed``, and the architecture of an ``encoder`` that is a module, are not written: give
        them to `load`.

        Raises
        ------
        FileExistsError
            If the folder exists and is not empty.
        """
        check_is_fitted(self, "network_")
        save_reward(self, folder)

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], *, embed: Any = None, encoder: nn.Module | None = None
    ) -> Self:
        """Read what `save` wrote; the network is on the CPU.

        Raises
        ------
        FileNotFoundError, DataError
            If a file is missing, damaged, or another class's.
        """
        return cast(Self, load_reward(cls, folder, embed=embed, encoder=encoder))

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        network = state.get("network_")
        if network is not None and network.device.type != "cpu":
            state["network_"] = copy.deepcopy(network).cpu()  # read on machines without a GPU too
        return state

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = self.embed is not None
        tags.target_tags.required = True  # the rejected texts stand where y does
        tags.transformer_tags = TransformerTags()
        return tags

    # ------------------------------------------------------------------ reading
    def _check(self) -> None:
        """Refuse settings that cannot be meant."""
        check_counts(epochs=self.epochs, batch_size=self.batch_size, patience=self.patience,
                     latent_dim=self.latent_dim)  # fmt: skip
        for name in ("epochs", "batch_size"):
            if getattr(self, name) is None:
                raise ValueError(f"{name} must be an integer >= 1, got None.")
        if isinstance(self.hidden, int | str) or any(
            not isinstance(h, int | np.integer) or h < 1 for h in self.hidden
        ):
            raise ValueError(f"hidden must be a tuple of integers >= 1, got {self.hidden!r}.")
        if not 0 < self.learning_rate < np.inf or not 0 <= self.weight_decay < np.inf:
            raise ValueError(
                "learning_rate must be positive and weight_decay not negative, got "
                f"{self.learning_rate!r} and {self.weight_decay!r}."
            )
        if not 0 <= (self.validation_fraction or 0.0) < 1:
            raise ValueError(
                f"validation_fraction must be in [0, 1), got {self.validation_fraction!r}."
            )
        if self.calibration not in (None, "temperature"):
            raise ValueError(
                f'calibration must be "temperature" or None, got {self.calibration!r}.'
            )
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 2))

    # ------------------------------------------------------------------ tensors
    def _tensor(self, values: npt.NDArray[Any]) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(values)).to(
            self.network_.device, self.network_.dtype
        )

    def _rows(self, pairs: Pairs) -> Rows:
        codes = None if pairs.objective is None else torch.as_tensor(pairs.objective)
        return Rows(
            self._tensor(pairs.chosen), self._tensor(pairs.rejected),
            None if codes is None else codes.to(self.network_.device),
            self._tensor(pairs.scaled().coefficients),
        )  # fmt: skip

    def _margin(self, pairs: Pairs) -> FloatArray:
        """Margins of pairs before any temperature, (n,)."""
        rows = self._rows(pairs)
        found = margins(
            self.network_, rows.chosen, rows.rejected, rows.objective if self._heads else None
        )
        return np.asarray(found.double().cpu().numpy())

    def _latents(self, x: inputs.Matrix, codes: inputs.IntArray | None) -> Any:
        """Slices of rows, their latents and (with heads) objectives."""
        for start in range(0, len(x), CHUNK):
            at = slice(start, min(start + CHUNK, len(x)))
            z = self.network_.latent(self._tensor(x[at]))
            some = None if codes is None or not self._heads else codes[at]
            yield at, z, None if some is None else torch.as_tensor(some, device=z.device)


# ------------------------------------------------------------------------------ helpers
def _device(asked: str | torch.device) -> torch.device:
    """The device asked for; "auto" is the GPU where there is one."""
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(asked)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f'device must be like "auto", "cpu" or "cuda", got {asked!r}.') from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device is {asked!r}, but torch finds no GPU here.")
    return found


def _seeded(seed: int, device: torch.device | None) -> Any:
    """A context with torch's random state set, and put back afterwards."""
    return _Seeded(seed, device)


class _Seeded:
    def __init__(self, seed: int, device: torch.device | None) -> None:
        devices = [device] if device is not None and device.type == "cuda" else []
        self._fork = torch.random.fork_rng(devices=devices)
        self._seed = seed

    def __enter__(self) -> None:
        self._fork.__enter__()
        torch.manual_seed(self._seed)

    def __exit__(self, *exception: Any) -> None:
        self._fork.__exit__(*exception)
