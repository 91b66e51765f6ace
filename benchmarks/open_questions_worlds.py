"""Worlds, starts and outcome models of the open questions: see benchmarks/open_questions.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import LogisticRegression

from causal_lm_opt.datasets.pieces import PiecePolicy
from causal_lm_opt.simulation.piece_world import PieceWorld

FloatArray = npt.NDArray[np.float64]
PAIR = ("brave", "evil")
#: Fixed before any result was seen. The best text of the log has one arm of the pair (60), the best
#: text of all has both (68); or, where the two together backfire, 44.
PAIR_EFFECTS: Mapping[str, float] = {
    "brave": 8.0, "evil": 8.0, "flag": -4.0, "threat": 0.0, "economy": -3.0, "treatycommit": 2.0,
    "treatyviolation": 0.0,
}  # fmt: skip
BACKFIRE = -24.0
#: Log odds against a neutral answer. "evil" is polarising: more likes and more dislikes.
LIKE: Mapping[str, float] = {
    "brave": 0.4, "evil": 2.4, "flag": -1.0, "threat": 1.0, "economy": -0.8, "treatycommit": 0.4,
}  # fmt: skip
DISLIKE: Mapping[str, float] = {
    "brave": -0.4, "evil": 2.6, "flag": 0.8, "threat": -0.8, "economy": 0.6, "treatycommit": -0.4,
}  # fmt: skip
LIKE_BASE, DISLIKE_BASE = -0.8, -0.6
#: Of a dislike, a neutral answer and a like.
UTILITIES: Mapping[str, tuple[float, float, float]] = {
    "even": (-1.0, 0.0, 1.0), "averse": (-3.0, 0.0, 1.0),
}  # fmt: skip
AUTHOR = -0.7  # log odds of a pre-training author for every arm that raises the outcome


@dataclass(frozen=True, eq=False)
class PairWorld(PieceWorld):
    """Arms add up, but for one pair that may do something of its own together."""

    together: float = 0.0

    def mean_outcome(self, texts: Any) -> FloatArray:
        """The oracle."""
        listed = list(texts)
        return super().mean_outcome(listed) + self.together * both(self.features(listed))

    @cached_property
    def _means(self) -> FloatArray:
        return np.array([
            self.base + sum(self.effects.get(a, 0.0) for a in set(s))
            + self.together * (set(PAIR) <= set(s))
            for s in self.design.sequences
        ])  # fmt: skip


def both(arms: Any) -> FloatArray:
    """1 where a text has both arms of the pair, of a table of arms."""
    return np.asarray(arms[PAIR[0]] * arms[PAIR[1]], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class ClassWorld(PieceWorld):
    """Readers dislike (-1), shrug (0) or like (1) a text; an outcome is the utility of that.

    Logits are linear in the arms; the same seed gives the same answers whatever the utility is.
    """

    utility: tuple[float, float, float] = UTILITIES["even"]
    like: Mapping[str, float] = field(default_factory=lambda: LIKE)
    dislike: Mapping[str, float] = field(default_factory=lambda: DISLIKE)

    def probabilities(self, arms: FloatArray) -> FloatArray:
        """Of the three answers, (n, 3), given indicators (n, A) in the order of the design."""
        slopes = [[float(s.get(a, 0.0)) for a in self.design.arms]
                  for s in (self.dislike, self.like)]  # fmt: skip
        down, up = arms @ np.array(slopes[0]), arms @ np.array(slopes[1])
        odds = np.exp(np.column_stack([DISLIKE_BASE + down, np.zeros(len(arms)), LIKE_BASE + up]))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))

    def mean_outcome(self, texts: Any) -> FloatArray:
        """The oracle: mean utility."""
        arms = self.features(texts).to_numpy()
        return np.asarray(self.probabilities(arms) @ np.array(self.utility))

    def outcomes(self, texts: Any, random_state: Any = None) -> FloatArray:
        """The utility of one reader's answer to each text."""
        rng = np.random.default_rng(random_state)
        below = self.probabilities(self.features(texts).to_numpy()).cumsum(axis=1)[:, :2]
        answer = (rng.random(len(below))[:, None] > below).sum(axis=1)
        return np.asarray(np.array(self.utility)[answer])

    @cached_property
    def _means(self) -> FloatArray:
        arms = [[float(a in s) for a in self.design.arms] for s in self.design.sequences]
        return np.asarray(self.probabilities(np.array(arms)) @ np.array(self.utility))


class MeanUtility(RegressorMixin, BaseEstimator):
    """Mean utility from a classifier: chances of the answers, times what each answer is worth.

    Fitted to outcomes that are utilities already; each distinct number is a class.
    """

    def __init__(self, features: Any) -> None:
        self.features = features

    def fit(self, X: Any, y: Any) -> MeanUtility:
        """Multinomial logistic regression."""
        self.worth_, label = np.unique(np.asarray(y, dtype=np.float64), return_inverse=True)
        self.model_ = LogisticRegression(max_iter=1000).fit(np.asarray(self.features(X)), label)
        return self

    def predict(self, X: Any) -> FloatArray:
        """Predictions (m,)."""
        chance = self.model_.predict_proba(np.asarray(self.features(X)))
        return np.asarray(chance @ self.worth_[self.model_.classes_])

    def __sklearn_clone__(self) -> MeanUtility:
        return MeanUtility(self.features)  # the features stay as they are


# ------------------------------------------------------------------------------ worlds
def plain_world(data: Path) -> Any:
    """The world of the study of confounded outcome models."""
    from causal_lm_opt.lm.confounding_study import hong_kong_world

    return hong_kong_world(data)


def pair_world(data: Path, apart: bool, together: float = 0.0) -> Any:
    """The log is dealt by the design, or by the design given that the pair never meets."""
    from causal_lm_opt.datasets import load_hong_kong
    from causal_lm_opt.lm.confounding import LMWorld

    design = load_hong_kong(data).design
    if together and not apart:
        raise ValueError("together: the log of all texts would have other outcomes than this one.")
    if apart:
        design = never_together(design)
    world = PairWorld(design, PAIR_EFFECTS, base=50.0, scale=5.0, words=4, together=together)
    return LMWorld("apart" if apart else "all", world, design)


def never_together(design: PiecePolicy) -> PiecePolicy:
    """The design given that no text has both arms of the pair: probabilities renormalised."""
    kept = [i for i, s in enumerate(design.sequences) if not set(PAIR) <= set(s)]
    p = np.asarray(design.sequence_prob)[kept]
    return PiecePolicy(
        design.wordings, design.wording_prob, tuple(design.sequences[i] for i in kept), p / p.sum(),
        name="never together",
    )  # fmt: skip


def class_world(data: Path, utility: str) -> Any:
    """Answers to the texts of the Hong Kong experiment."""
    from causal_lm_opt.datasets import load_hong_kong
    from causal_lm_opt.lm.confounding import LMWorld

    design = load_hong_kong(data).design
    world = ClassWorld(design, {}, base=0.0, scale=1.0, words=4, utility=UTILITIES[utility])
    return LMWorld(f"utility {utility}", world, design)


# ------------------------------------------------------------------------------ starts
def broad_corpus(world: Any, count: int) -> list[str]:
    """What a model was pre-trained on: half the experiment's phrases as another author uses them
    (who avoids every arm that raises the outcome), half short appeals about something else."""
    from causal_lm_opt.simulation.appeals import text_world

    design, effects = world.world.design, world.world.effects
    author = design.tilt({arm: AUTHOR for arm, effect in effects.items() if effect > 0})
    own = [str(t) for t in author.sample(count // 2, random_state=1)]
    other = [str(t) for t in text_world().logging.sample(count - count // 2, random_state=2)]
    return [t for pair in zip(own, other, strict=False) for t in pair]


def pretrained(world: Any, training: Any, folder: Path) -> Any:
    """A tiny GPT of the broad corpus: made once, then read."""
    from causal_lm_opt import lm

    if not (folder / "config.json").is_file():
        made = lm.from_texts(
            broad_corpus(world, training.start_texts), vocab_size=1500, phrases=True, n_layer=2,
            n_embd=64, n_head=2, epochs=training.start_epochs, learning_rate=4e-3,
        )  # fmt: skip
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = folder.with_name(folder.name + ".partial")
        made.save(beside)
        beside.replace(folder)
    return lm.LanguageModelPolicy(folder, progress=False)


def fine_tuned(policy: Any, texts: list[str], epochs: int, seed: int, folder: Path) -> Any:
    """The policy after some epochs of imitating texts."""
    from causal_lm_opt.lm._optimizer_rows import read_rows
    from causal_lm_opt.lm._optimizer_steps import fine_tune

    args = {"per_device_train_batch_size": 64, "learning_rate": 1e-3, "report_to": "none",
            "lr_scheduler_type": "constant", "dataloader_pin_memory": False,
            "disable_tqdm": True}  # fmt: skip
    rows = read_rows(texts, np.arange(len(texts)), None, None, None)  # outcomes are not used
    return fine_tune(policy, rows, epochs, seed, args, folder)
