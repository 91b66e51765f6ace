"""transformers' Trainer on pairs of texts: batches, loss, evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from causal_lm_opt.lm._atomic_trainer import AtomicTrainer
from causal_lm_opt.lm._encoding import Encoded
from causal_lm_opt.lm.sequence import pad_batch
from causal_lm_opt.rewards._training import accuracy, risk

__all__ = ["PairCollator", "PairRows", "PairTrainer"]

FloatArray = npt.NDArray[np.float64]


class PairRows(Dataset[dict[str, Any]]):
    """Encoded pairs with the coefficients of their risk."""

    def __init__(
        self, chosen: list[Encoded], rejected: list[Encoded], coefficients: FloatArray
    ) -> None:
        self.chosen, self.rejected, self.coefficients = chosen, rejected, coefficients

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {
            "chosen": self.chosen[i], "rejected": self.rejected[i],
            "coefficients": self.coefficients[i],
        }  # fmt: skip


class PairCollator:
    """Pads texts; pairs become one batch, the chosen texts first."""

    def __init__(self, end_id: int, model: Any) -> None:
        pad = model.config.pad_token_id
        self.pad = end_id if pad is None else int(pad)

    def texts(self, rows: Sequence[Encoded]) -> dict[str, Tensor]:
        """Token ids and mask, padding on the right."""
        batch = pad_batch(
            [row.context for row in rows], [row.completion for row in rows], pad_id=self.pad
        )
        return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}

    def __call__(self, pairs: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        rows = [pair["chosen"] for pair in pairs] + [pair["rejected"] for pair in pairs]
        sums = torch.as_tensor(np.stack([pair["coefficients"] for pair in pairs]))
        return self.texts(rows) | {"coefficients": sums.float()}


class PairTrainer(AtomicTrainer):
    """Minimises the mean pair loss; evaluates accuracy and loss."""

    model_accepts_loss_kwargs = False
    control: Any  # of transformers, which has no types here

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        # otherwise the loss is taken for a sum over accumulated batches, and is not divided
        self.model_accepts_loss_kwargs = False

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:  # fmt: skip
        """Mean pair loss of a batch."""
        margin = _margin(model, inputs)
        loss = risk(margin, inputs["coefficients"]) / len(margin)
        return (loss, {"margin": margin}) if return_outputs else loss

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Accuracy and loss on the validation pairs; logged."""
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        model = self.accelerator.unwrap_model(self.model)
        training = model.training
        model.eval()
        right = loss = 0.0
        size = self.args.eval_batch_size
        for start in range(0, len(rows), size):  # every process reads all rows: sums are whole
            some = [rows[i] for i in range(start, min(start + size, len(rows)))]
            given = self._prepare_inputs(self.data_collator(some))
            with torch.inference_mode(), self.compute_loss_context_manager():
                margin = _margin(model, given)
            right += float(accuracy(margin, given["coefficients"]))
            loss += float(risk(margin, given["coefficients"]))
        model.train(training)
        found = {
            f"{metric_key_prefix}_accuracy": right / len(rows),
            f"{metric_key_prefix}_loss": loss / len(rows),
        }
        self.log(found)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found


def _margin(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """Reward of the first half of the batch less that of the second."""
    rewards = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    first, second = rewards[:, 0].float().chunk(2)
    gap: Tensor = first - second
    return gap
