"""Fresh draws with rewards, round by round, for on-policy training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed

from causal_lm_opt.lm._encoding import Encoded
from causal_lm_opt.lm._scorer import world
from causal_lm_opt.lm.policy import LanguageModelPolicy

__all__ = ["Reward", "Rounds"]

#: ``reward(texts, prompts)``: one number per text; prompts is None where there are none.
Reward = Callable[[list[str], list[Any] | None], Sequence[float]]
FILE = "round.safetensors"


@dataclass
class Rounds:
    """How a round's texts are drawn and rewarded.

    Attributes
    ----------
    reward : callable
    prompts : list or None
        A round takes ``size`` of them at random; None draws without a prompt.
    size, seed, max_new_tokens : int
    """

    reward: Reward
    prompts: list[Any] | None
    size: int
    seed: int
    max_new_tokens: int
    rows: list[Encoded] = field(default_factory=list)

    def draw(self, policy: LanguageModelPolicy, number: int) -> tuple[list[Encoded], Tensor]:
        """Encoded draws and their rewards (size,); process 0 draws for all."""
        found: list[Any] = [None]
        if world()[0] == 0:
            found[0] = self._draw(policy, number)
        if world()[1] > 1:
            distributed.broadcast_object_list(found, src=0)
        self.rows, rewards = found[0]
        return self.rows, torch.as_tensor(rewards, dtype=torch.float64)

    def _draw(self, policy: LanguageModelPolicy, number: int) -> tuple[list[Encoded], list[float]]:
        rng = np.random.default_rng([self.seed, number])
        prompts = None
        if self.prompts is not None:
            n = len(self.prompts)
            at = np.concatenate([rng.permutation(n) for _ in range(-(-self.size // n))])
            prompts = [self.prompts[i] for i in at[: self.size]]
        draws = policy.sample(
            self.size if prompts is None else 1, rng, prompts=prompts,
            max_new_tokens=self.max_new_tokens,
        )  # fmt: skip
        rewards = [float(r) for r in self.reward(list(draws.texts), prompts)]
        if len(rewards) != self.size or not np.isfinite(rewards).all():
            raise ValueError(
                f"reward must return one finite number per text ({self.size}), got "
                f"{len(rewards)} of which {int(np.isfinite(rewards).sum())} are finite."
            )
        contexts = policy.encoder.contexts(prompts, self.size)
        rows = [Encoded(c, x) for c, x in zip(contexts, draws.token_ids, strict=True)]
        return rows, rewards

    def save(self, folder: Path) -> None:
        """The round's tokens; its rewards and log-probabilities are in the objective's state."""
        from safetensors.torch import save_file

        lengths = torch.tensor([[len(r.context), len(r.completion)] for r in self.rows])
        ids = torch.tensor([i for r in self.rows for i in (*r.context, *r.completion)])
        save_file({"lengths": lengths, "ids": ids}, folder / FILE)

    def load(self, folder: Path) -> list[Encoded]:
        """The rows that `save` wrote."""
        from safetensors.torch import load_file

        saved = load_file(folder / FILE)
        ids, at, rows = saved["ids"].tolist(), 0, []
        for context, completion in saved["lengths"].tolist():
            middle, end = at + context, at + context + completion
            rows.append(Encoded(tuple(ids[at:middle]), tuple(ids[middle:end])))
            at = end
        self.rows = rows
        return rows
