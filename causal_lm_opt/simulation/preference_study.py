"""Studies of preference rewards: what is fitted on what, the paper's figures, and tables of ours.

No model is trained here (:mod:`causal_lm_opt.rewards.studies` does); these are the settings, the
random numbers that follow from them, and the paper's figures.
:mod:`causal_lm_opt.simulation.preference_tables` has the tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from causal_lm_opt.simulation._checks import check_choice, check_count, check_number
from causal_lm_opt.simulation._embedding import PreferencePairs
from causal_lm_opt.simulation.correlation_shift import NOISE_LEVELS
from causal_lm_opt.simulation.latent_positivity import LatentPositivityWorld
from causal_lm_opt.simulation.study import random_generator
from causal_lm_opt.simulation.user_objectives import UserObjectiveWorld

__all__ = [
    "LATENT",
    "OBJECTIVES",
    "BASE",
    "MULTI",
    "ADVERSARIAL",
    "ADVERSARY_RATE",
    "LINEAR",
    "PAPER",
    "WEIGHTED",
    "TESTS",
    "Fit",
    "PreferenceStudy",
    "Sizes",
    "draw_pairs",
    "preference_study",
]

StudyName = Literal["latent-positivity", "user-objectives"]
LATENT: StudyName = "latent-positivity"
OBJECTIVES: StudyName = "user-objectives"
BASE, WEIGHTED = "Base", "Base, stratum weights"
MULTI, ADVERSARIAL = "Multihead", "Adversarial"
LINEAR = "Large-sample linear"
TESTS: Mapping[str, tuple[str, str]] = {
    LATENT: ("id", "ood"), OBJECTIVES: ("consistent", "inconsistent"),
}  # fmt: skip
OBJECTIVE_MODEL: Mapping[str, Any] = {"hidden": (512,), "latent_dim": 512, "patience": 3}
#: The one setting of the adversary alone among those of the reward models.
ADVERSARY_RATE = "discriminator_learning_rate"
COLUMNS = ("study", "noise", "rho", "seed", "model", "lambda", "test", "accuracy")

#: Accuracies of Kobalczyk and van der Schaar (2025): Table 1 (3 seeds, +-.1 to .2) and Table 2
#: (5 seeds), by (rho, model, test).
PAPER: Mapping[str, Mapping[tuple[float, str, str], float]] = {
    LATENT: {
        (rho, BASE, test): value / 100
        for test, row in {"id": (69.3, 68.3, 67.8, 67.6), "ood": (64.5, 62.0, 59.7, 57.8)}.items()
        for rho, value in zip((0.0, 0.3, 0.6, 0.9), row, strict=True)
    },
    OBJECTIVES: {
        (rho, model, test): value / 100
        for test, rows in {
            "inconsistent": {
                0.5: (60.0, 62.9, 63.7), 0.6: (59.6, 62.4, 63.0), 0.7: (58.4, 60.6, 62.3),
                0.8: (56.7, 58.6, 61.3), 0.9: (55.9, 56.3, 58.9), 1.0: (54.9, 53.8, 53.5),
            },
            "consistent": {
                0.5: (60.9, 66.0, 66.3), 0.7: (62.5, 67.2, 67.6), 0.9: (64.2, 67.9, 68.4),
                1.0: (64.1, 67.9, 68.4),
            },
        }.items()
        for rho, row in rows.items()
        for model, value in zip((BASE, MULTI, ADVERSARIAL), row, strict=True)
    },
}  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """Pairs to train on, to choose the epoch by, and of each test."""

    train: int
    valid: int
    test: int


@dataclass(frozen=True)
class Fit:
    """One model on one draw of the data.

    Attributes
    ----------
    noise : str
    rho : float
    seed : int
    model : str
    lambda_ : float or None
        Of the adversary.
    """

    noise: str
    rho: float
    seed: int
    model: str
    lambda_: float | None = None

    @property
    def name(self) -> str:
        """Readable and unique within a study."""
        shown = "" if self.lambda_ is None else f" lambda {self.lambda_:g}"
        return f"{self.noise} rho {self.rho:g} seed {self.seed} {self.model}{shown}"


@dataclass(frozen=True)
class PreferenceStudy:
    """Settings of a study: everything that decides its figures.

    Attributes
    ----------
    name : {"latent-positivity", "user-objectives"}
    rhos : tuple of float
        Correlation of the differences, or share of pairs whose objective is the prompt's type.
    seeds, first_seed : int
        Seeds ``first_seed, ..., first_seed + seeds - 1``.
    noises : tuple of str
    sizes : Sizes
    lambdas, lambda_rho : tuple of float, float
        Strengths of the adversary looked at besides 1, at one rho (user-objectives).
    dimension : int
    entanglement : float
        Of :class:`UserObjectiveWorld`.
    nuisance : int
        Nuisance latents of each response in :class:`UserObjectiveWorld`; the prompt has half as
        many.
    model : mapping
        Settings of the reward models in place of their defaults.
    """

    name: StudyName
    rhos: tuple[float, ...]
    seeds: int
    sizes: Sizes
    first_seed: int = 0
    noises: tuple[str, ...] = ("high",)
    lambdas: tuple[float, ...] = ()
    lambda_rho: float = 0.9
    dimension: int = 256
    entanglement: float = 0.0
    nuisance: int = 8
    model: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice(self.name, "study", (LATENT, OBJECTIVES))
        check_count(self.seeds, "seeds")
        check_count(self.first_seed, "first_seed", 0)
        check_count(self.dimension, "dimension")
        check_count(self.nuisance, "nuisance", 0)
        for noise in self.noises:
            check_choice(noise, "noise", tuple(NOISE_LEVELS))

    def world(self, noise: str) -> LatentPositivityWorld | UserObjectiveWorld:
        """The world at a noise level, at the parameters that were fixed before any result."""
        if self.name == LATENT:
            return LatentPositivityWorld(noise=noise, dimension=self.dimension)
        return UserObjectiveWorld(
            noise=noise, dimension=self.dimension, entanglement=self.entanglement,
            nuisance=self.nuisance, prompt_nuisance=self.nuisance // 2,
        )  # fmt: skip

    def fits(self) -> list[Fit]:
        """Every fit, noise by noise and seed by seed, so that a stopped run has whole seeds."""
        found = []
        for noise in self.noises:
            for seed in range(self.first_seed, self.first_seed + self.seeds):
                for rho in self.rhos:
                    found += [Fit(noise, rho, seed, *m) for m in self._models(rho)]
        return found

    def _models(self, rho: float) -> list[tuple[str, float | None]]:
        if self.name == LATENT:
            # At rho 0 all weights are 1: the two models are one.
            return [(BASE, None), (WEIGHTED, None)] if rho else [(BASE, None)]
        more = [(ADVERSARIAL, v) for v in self.lambdas] if rho == self.lambda_rho else []
        return [(BASE, None), (MULTI, None), (ADVERSARIAL, 1.0), *more]

    def facts(self) -> dict[str, Any]:
        """JSON-safe settings."""
        return {**asdict(self), "worlds": {n: asdict(self.world(n)) for n in self.noises}}


def preference_study(
    name: StudyName,
    *,
    seeds: int | None = None,
    first_seed: int = 0,
    noises: tuple[str, ...] = ("high",),
    dimension: int | None = None,
    entanglement: float = 0.0,
    nuisance: int | None = None,
    discriminator_learning_rate: float | None = None,
    quick: bool = False,
) -> PreferenceStudy:
    """A study at the paper's sizes, or a tiny one.

    Parameters
    ----------
    name : {"latent-positivity", "user-objectives"}
    seeds : int, optional
        Default 5; quick: 2.
    first_seed : int
    noises : tuple of {"low", "medium", "high"}
        "high" is the level whose accuracy at rho 0 is near the paper's.
    dimension : int, optional
        Of the embeddings: 256 (quick: 32). The paper's have 4,096.
    entanglement : float
        Of :class:`UserObjectiveWorld`.
    nuisance : int, optional
        Nuisance latents of each response in :class:`UserObjectiveWorld` (its 8 by default), and
        twice as many as those of the prompt.
    discriminator_learning_rate : float, optional
        Of the adversary; by default that of the rest of the network.
    quick : bool
        A few hundred pairs and small networks: shows that all runs, not what is true.

    Examples
    --------
    >>> study = preference_study("latent-positivity")
    >>> study.sizes, len(study.fits())
    (Sizes(train=15000, valid=2000, test=15000), 55)
    """
    check_choice(name, "study", (LATENT, OBJECTIVES))
    if name == LATENT:
        made = PreferenceStudy(
            LATENT,
            (0.0, 0.3, 0.6, 0.9, 0.99, 0.999),
            5,
            Sizes(15_000, 2_000, 15_000),
            noises=noises,
        )
    else:
        # Networks: one hidden layer of 512 and a latent of 512; training ends early after three
        # epochs without a better validation accuracy. Half the test pairs are of each kind:
        # 46,518 in all, as in the paper.
        made = PreferenceStudy(
            OBJECTIVES, (0.5, 0.6, 0.7, 0.8, 0.9, 1.0), 5, Sizes(30_000, 6_000, 23_259),
            noises=noises, lambdas=(0.0, 0.5, 2.0), model=OBJECTIVE_MODEL,
        )  # fmt: skip
    if quick:
        made = replace(
            made, rhos=(0.0, 0.9) if name == LATENT else (0.5, 0.9), seeds=2, dimension=32,
            sizes=Sizes(600, 200, 500), lambdas=made.lambdas[:1],
            model={"hidden": (32,), "latent_dim": 16, "epochs": 2, "learning_rate": 1e-3},
        )  # fmt: skip
    made = replace(made, first_seed=first_seed, seeds=made.seeds if seeds is None else seeds)
    only = {"entanglement": entanglement or None, "nuisance": nuisance,
            "discriminator_learning_rate": discriminator_learning_rate}  # fmt: skip
    strange = [option for option, value in only.items() if value is not None]
    if strange and name == LATENT:
        raise ValueError(f"{strange[0]} goes with user-objectives.")
    made = replace(made, entanglement=entanglement)
    if nuisance is not None:
        made = replace(made, nuisance=nuisance)
    if discriminator_learning_rate is not None:
        rate = check_number(discriminator_learning_rate, "discriminator_learning_rate", least=0.0)
        made = replace(made, model={**made.model, ADVERSARY_RATE: rate})
    return made if dimension is None else replace(made, dimension=dimension)


def draw_pairs(study: PreferenceStudy, fit: Fit, part: str) -> PreferencePairs:
    """Pairs of a part of the data: "train", "valid", or a test.

    They depend on study, noise, rho and seed, not on the model, so that models are compared on the
    same pairs. The tests "ood", "consistent" and "inconsistent" do not depend on rho either.
    """
    world = study.world(fit.noise)
    free = part in ("ood", *TESTS[OBJECTIVES])
    words = f"{study.name}|{fit.noise}|{part}|{'' if free else f'{fit.rho:g}'}"
    n = {"train": study.sizes.train, "valid": study.sizes.valid}.get(part, study.sizes.test)
    rng = random_generator(fit.seed, words, n, 0)
    if isinstance(world, UserObjectiveWorld):
        if part in ("consistent", "inconsistent"):
            return world.test_pairs(n, part, rng)  # type: ignore[arg-type]
        return world.pairs(n, fit.rho, rng)
    return world.pairs(n, world.opposite_law() if part == "ood" else fit.rho, rng)
