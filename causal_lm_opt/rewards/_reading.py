"""How reward models read what they are given: texts, prompts and objectives as columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, check_is_fitted
from torch import nn

from causal_lm_opt._validation import as_text_rows
from causal_lm_opt.rewards import _inputs as inputs
from causal_lm_opt.rewards._inputs import Pairs

__all__ = ["PairReader"]

FloatArray = npt.NDArray[np.float64]


class PairReader(BaseEstimator):
    """The part of a reward model that turns arguments into numbers; abstract.

    Fitted attributes it sets: ``n_features_in_``, ``feature_names_in_`` (frames),
    ``n_prompt_features_``, ``text_prompts_``, ``objectives_``, ``center_``, ``scale_``.
    """

    #: Whether each objective has a head of its own; otherwise it is a column of the features.
    _heads = False
    embed: Any
    encoder: Any
    standardize: bool
    objectives_: npt.NDArray[Any] | None
    center_: FloatArray | None
    scale_: FloatArray | None
    n_prompt_features_: int
    text_prompts_: bool

    def _read_training(
        self, chosen: Any, rejected: Any, objective: Any, prompts: Any, weight: Any, label: Any
    ) -> Pairs:
        """Training pairs as numbers; learns names, widths, objectives and scales on the way."""
        first = self._embedded(chosen, "chosen", prompts, reset=True)
        n = len(first)
        counted = inputs.check_weight(weight, n) > 0
        self.objectives_, objective = self._known_objectives(objective, counted)
        beside = self._beside(prompts, n, reset=True)
        second = self._embedded(rejected, "rejected", prompts)
        inputs.check_rows(n, len(second), "rejected", "chosen")
        sums = inputs.coefficients(label, weight, n)
        self.center_, self.scale_ = self._scales([first, second], beside, sums[:, 0])
        codes = self._codes(objective, n)
        return Pairs(
            self._join(first, beside, codes), self._join(second, beside, codes), codes, sums
        )

    def _read(
        self, chosen: Any, rejected: Any, objective: Any = None, prompts: Any = None,
        sample_weight: Any = None, label: Any = None, called: str = "",
    ) -> Pairs:  # fmt: skip
        """Pairs as numbers, as a fitted model reads them."""
        prefix = f"{called}: " if called else ""
        first = self._embedded(chosen, f"{prefix}chosen", prompts)
        second = self._embedded(rejected, f"{prefix}rejected", prompts)
        n = len(first)
        inputs.check_rows(n, len(second), f"{prefix}rejected", f"{prefix}chosen")
        beside, codes = self._beside(prompts, n), self._codes(objective, n)
        return Pairs(
            self._join(first, beside, codes), self._join(second, beside, codes), codes,
            inputs.coefficients(label, sample_weight, n),
        )  # fmt: skip

    def _features(
        self, X: Any, name: str, objective: Any, prompts: Any, *, for_latent: bool = False
    ) -> tuple[inputs.Matrix, inputs.IntArray | None]:
        """What the network reads of texts (n, D), and the objective of each."""
        check_is_fitted(self, "network_")
        x = self._embedded(X, name, prompts)
        codes = None if for_latent and objective is None else self._codes(objective, len(x))
        return self._join(x, self._beside(prompts, len(x)), codes), codes

    def _embedded(
        self, X: Any, name: str, prompts: Any = None, *, reset: bool = False
    ) -> inputs.Matrix:
        """Features of texts or features as given, (n, d)."""
        texts = as_text_rows(X, name)
        read = prompts is not None and as_text_rows(prompts, "prompts") is not None
        if read and texts is None:
            raise TypeError(
                f"prompts are texts, but {name} is not: embed both yourself, or neither."
            )
        if reset:
            self.text_prompts_ = read
        elif read != self.text_prompts_:
            raise ValueError(
                f"prompts: the model was fitted {'with' if self.text_prompts_ else 'without'} "
                f"prompt texts, and here they are {'given' if read else 'missing'}."
            )
        if texts is not None:
            if self.embed is None:
                raise TypeError(
                    f"{name} holds texts: pass embed= (an object with transform, such as "
                    "causal_lm_opt.lm.TextEmbedder), or their embeddings, (n, d)."
                )
            X = self.embed.transform(inputs.texts_with_prompts(texts, prompts if read else None))
        return inputs.matrix(self, X, name, self._dtype(), reset=reset)

    def _beside(self, prompts: Any, n: int, *, reset: bool = False) -> inputs.Matrix | None:
        """Prompt features that stand beside a text's own, (n, k); None where there are none."""
        array = None
        if prompts is not None and as_text_rows(prompts, "prompts") is None:
            array = np.asarray(prompts)
            if array.ndim != 2:
                raise ValueError(
                    f"prompts must be texts or an (n, k) array, got shape {array.shape}."
                )
            inputs.check_rows(n, len(array), "prompts", "the texts")
            array = check_array(array, dtype=self._dtype(), input_name="prompts")
        width = 0 if array is None else array.shape[1]
        if reset:
            self.n_prompt_features_ = width
        elif width != self.n_prompt_features_:
            raise ValueError(
                f"prompts must have the {self.n_prompt_features_} columns that the model was "
                f"fitted with, got {width}."
            )
        return array

    def _join(
        self, x: inputs.Matrix, beside: inputs.Matrix | None, codes: inputs.IntArray | None
    ) -> inputs.Matrix:
        """Columns of text, prompt and (without heads) objective, on the common scale."""
        parts = [x] if beside is None else [x, beside]
        if self.center_ is not None and self.scale_ is not None:
            joined = parts[0] if len(parts) == 1 else np.hstack(parts)
            parts = [((joined - self.center_) / self.scale_).astype(x.dtype)]
        if codes is not None and self.objectives_ is not None and not self._heads:
            parts.append(np.eye(len(self.objectives_), dtype=x.dtype)[codes])
        return parts[0] if len(parts) == 1 else np.hstack(parts)

    def _scales(
        self, texts: list[inputs.Matrix], beside: inputs.Matrix | None, weight: FloatArray
    ) -> tuple[FloatArray | None, FloatArray | None]:
        """Centre and scale of the columns over both texts of all pairs."""
        if not self.standardize:
            return None, None
        rows = [x if beside is None else np.hstack([x, beside]) for x in texts]
        centre = np.mean([np.average(x, axis=0, weights=weight) for x in rows], axis=0)
        spread = np.mean(
            [np.average((x - centre) ** 2, axis=0, weights=weight) for x in rows], axis=0
        )
        return centre, np.where(spread > 0, np.sqrt(spread), 1.0)

    # ------------------------------------------------------------------ objectives
    def _known_objectives(
        self, objective: Any, counted: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[Any] | None, Any]:
        """The values objectives take, sorted, and each row's; None where there are none."""
        if objective is None:
            if self._heads:
                raise ValueError(
                    f"{type(self).__name__} needs objective=, the label (n,) each choice went by; "
                    "BradleyTerryReward needs none."
                )
            return None, None
        labels = inputs.check_objective(objective, len(counted))
        try:
            known: npt.NDArray[Any] = np.unique(labels[counted])
        except TypeError as error:
            raise TypeError(f"objective mixes labels of different kinds: {error}.") from error
        if len(known) < 2:
            raise ValueError(
                f"objective has one value only ({known[0]!r}; n_samples = {len(counted)}), and two "
                "at least are needed. Leave it out and use BradleyTerryReward."
            )
        # A pair of weight 0 is no pair: its objective need not be known.
        return known, np.where(counted, labels, known[0])

    def _codes(self, objective: Any, n: int) -> inputs.IntArray | None:
        """Position of each row's objective among the known ones."""
        if self.objectives_ is None:
            if objective is not None:
                raise ValueError("objective is given, but the model was fitted without objectives.")
            return None
        if objective is None:
            raise ValueError(
                f"objective is needed: the model was fitted on {list(self.objectives_)}."
            )
        return inputs.objective_codes(inputs.check_objective(objective, n), self.objectives_)

    def _dtype(self) -> Any:
        """Precision of the numbers a network reads: that of an encoder that is a module."""
        if not isinstance(self.encoder, nn.Module):
            return np.float32
        parameter = next(self.encoder.parameters(), None)
        double = parameter is not None and parameter.dtype == torch.float64
        return np.float64 if double else np.float32
