"""From a log to a policy and the value that may be published of it."""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from causal_lm_opt._training_rows import TrainingRows
from causal_lm_opt._validation import digest
from causal_lm_opt._version import __version__
from causal_lm_opt.exceptions import DataError, OtherRunError, OverlapError
from causal_lm_opt.lm._features import TextFeatures
from causal_lm_opt.lm._heldout import NAMES, HeldOut, draw_for
from causal_lm_opt.lm._left_out import LoggedTexts, fixed_prompts, judged, response_beyond
from causal_lm_opt.lm._loading import transformers
from causal_lm_opt.lm._optimizer_files import (
    HISTORY,
    RECORD,
    RUN,
    START,
    TRAINED,
    TRAINING,
    evaluations,
    from_runs,
    json_rows,
    opened_trained,
    plain_settings,
    read_json,
    run_differs,
    runs_of,
    setting_words,
    write_json,
)
from causal_lm_opt.lm._optimizer_result import OptimizerResult
from causal_lm_opt.lm._optimizer_rows import Parts, Rows, dealt, joined, read_rows, split
from causal_lm_opt.lm._optimizer_settings import (
    check_settings,
    decide,
    on_policy,
    trainer_settings,
)
from causal_lm_opt.lm._optimizer_steps import (
    Bar,
    FloorStop,
    LostStop,
    Nuisances,
    Watch,
    is_tiny,
    make_objective,
    most_tokens,
    nuisances_of,
    on_gpu,
    opened_policy,
    plain_model,
    quiet,
    start_epochs,
    start_policy,
    training_data,
)
from causal_lm_opt.lm._targeted import TargetedReward
from causal_lm_opt.lm.draws import Draws
from causal_lm_opt.lm.objectives import Objective
from causal_lm_opt.lm.policy import LanguageModelPolicy
from causal_lm_opt.lm.trainer import CausalPreferenceConfig, CausalPreferenceTrainer

__all__ = ["CausalLMOptimizer"]

NOT_KEPT = {"out", "progress"}
SELECT, REPORT, TRAIN = (0, 1), (0, 2), (0, 3)  # streams of draws; an evaluation's is its step


@dataclass(eq=False)
class CausalLMOptimizer:
    r"""Train a language model to raise an outcome, and value it on rows it has not seen.

    The log is split three ways by cluster. On *train* rows an outcome model is cross-fitted and the
    policy trained; on *select* rows every checkpoint is valued, training stopped and a checkpoint
    chosen, by the lower end of the interval of V(f) - V(f0); on *report* rows the chosen policy is
    valued, once.

    Parameters
    ----------
    model : "tiny", folder, hub name, LanguageModelPolicy or (model, tokenizer), default "tiny"
        What training starts from. "tiny": a small GPT made from the training texts.
    objective : {"targeted", "dr", "ipw", "or", "likelihood"} or Objective, default "targeted"
        ``"targeted"``: rounds of fresh draws, rewarded by an outcome model that is retargeted to
        the randomised rows at each round; right if the outcome model or the weights of the
        features are. ``"dr"`` (DR-CPO), ``"ipw"`` (CPO), ``"or"`` (OO-RLHF): the papers'
        objectives on logged texts, whose sequence weights degenerate after some steps.
        ``"likelihood"``: fine-tuning on the better half of the texts, a baseline.
    outcome_model : scikit-learn regressor of texts, optional
        Predicts an outcome from the text (after its prompt, if any, and an empty line). By default
        ridge regression on ``features``.
    features : transformer, callable texts -> (n, p) numbers, or int, default 20
        What outcomes are taken to respond to: basis of weights and retargeting. A callable gets
        the texts, after their prompts (and an empty line) if any. A number: so many TF-IDF topics
        of the texts' words (which add up over words, as log odds do) and, where there are prompts,
        up to as many of theirs (a tenth of the number of prompts, where these are many).
    ratio : {"auto", "sequence", "latent", "classifier", "balance"}, default "auto"
        Weights of values on select and report rows: ratios of whole texts' probabilities (needs
        ``logp_logging``), odds on the features, odds on words, or entropy balancing of the
        features. "auto": sequences where the diagnostics of the select rows allow it, else the
        features; ``result_.ratio`` says which.
    safe : bool, default True
        Return f0 unless the report rows' lower limit of V(f) - V(f0) is above 0, the verdict is
        not "do not use", and the weights leave 20 rows (and 10 clusters) of effective sample size.
    split : (train, select, report), default (0.5, 0.2, 0.3)
        Shares of the rows.
    cv : int, default 5
        Folds of the outcome model.
    fine_tune_epochs : int, optional
        Of f0 on the training texts, before anything else. By default 12 for "tiny"; for another
        model 1 where ``logp_logging`` is not given, as f0 then stands for the policy that wrote the
        log, else 0.
    steps, batch_size : int, default 160, 64
    learning_rate : float, optional
        By default 1e-4 for adapters and models of less than 20 million parameters ("tiny" has
        fewer), else 1e-5; constant.
    round_size, round_passes : int, default 512, 2
        "targeted": texts of a round, and passes over them.
    tilt : float or None, default 2.0
        "targeted": how far the policy may leave the log in what outcomes respond to, in standard
        deviations of the retargeted outcome model; None: as far as it takes it.
    eval_every : int, optional
        Steps between evaluations; by default every round, or an eighth of the steps.
    patience : int, default 3
        Evaluations without a better checkpoint before training stops.
    choose : {"lower", "last"}, default "lower"
        Checkpoint that is valued: that of the largest lower limit on the select rows, where
        training also stops early; or that of the last step, whatever the select rows say: nothing
        then keeps the papers' objectives near the log but ``kl``.
    n_draws : int, default 1000
        Texts drawn of a policy for each of its values; with prompts at least one for each row.
    max_new_tokens : int, optional
        Most tokens of a draw; by default a quarter more than the longest training text has.
    kl, entropy : float, default 0
        As for the objectives, in outcome units per nat.
    ess_floor : float, default 0.05
        Effective sample size of the select rows' weights, a share, below which a checkpoint is not
        chosen; training stops after two such in a row.
    level : float, default 0.95
    logging_policy : object with log_prob, optional
        The policy that wrote the log, such as a :class:`PiecePolicy`, to score draws: without it
        nobody knows what share of a policy's texts the log could not hold, and ratios of sequences
        have no better verdict than "caution".
    monitor : mapping of name -> callable texts -> number, optional
        Further figures of each evaluation's fresh texts (after their prompts, if any), as columns
        of ``history_``: their length, an oracle, a classifier's share. Nothing is chosen by them.
    training : mapping, optional
        Other settings of :class:`CausalPreferenceConfig`, as in ``{"bf16": True}`` (on a CPU with
        ``"use_cpu": True``): steps in mixed precision; weights and values of policies in float32.
    peft_config : peft configuration, optional
        Train an adapter.
    progress : bool or "lines", optional
        A bar on stderr that tells the newest value; by default on a terminal only. "lines": a line
        for each evaluation instead, as log files want it.
    out : folder, optional
        Where the run is kept: an interrupted fit is resumed from there, a finished one loaded.
    random_state : int, default 0

    Attributes
    ----------
    policy_ : LanguageModelPolicy
        The trained policy, or f0 where ``safe`` says so.
    max_new_tokens_ : int
        Most tokens of the draws that were valued.
    trained_ : LanguageModelPolicy or None
        The chosen checkpoint, accepted or not; None where none was eligible.
    start_ : LanguageModelPolicy
        f0.
    history_ : DataFrame
        One row an evaluation on the select rows: step, V(f) (``value``), V(f0) (``start``),
        ``difference``, with intervals, effective sample size (``ess``, a share), verdict and why,
        and the outcome model's mean over fresh texts (``model_based``).
    steps_ : DataFrame
        What every optimiser step told: loss, gradient norm, raw effective sample size, KL, ...
    result_ : OptimizerResult
    sizes_ : dict
        Rows of each part.
    prompted_ : bool
        Whether the log had prompts.
    parts_ : (n,) array of str
        The part of each row of the log: "train", "select" or "report". Of a run that was loaded
        only where the run's own version kept it.

    Notes
    -----
    **Assumptions**: readers' outcomes independent of who got which text given the log's
    randomisation; for "latent" and "balance" (and "targeted"), outcomes respond to the text through
    ``features`` alone. What the features leave out, the verdict's tests look for: one on the report
    rows, and one on all rows of the log (``diagnostics.text_response``), as it asks nothing of a
    policy.

    *Features fitted on train rows* are taken as given by the interval.

    Sources: Lin, Ben-Michael and Morency (2024), Prop. 4.1-4.3 (objectives); Kang and Schafer
    (2007) (retargeting).

    Examples
    --------
    >>> import numpy as np
    >>> words = np.array(["Join us.", "Do join us today.", "Stay at home.", "Stay away."])
    >>> rng = np.random.default_rng(0)
    >>> texts = [f"{w} {i}" for i, w in enumerate(words[rng.integers(0, 4, 120)])]
    >>> y = [float("join" in t.lower()) + rng.normal() for t in texts]
    >>> join = lambda texts: np.array([["join" in t.lower()] for t in texts], dtype=float)
    >>> run = CausalLMOptimizer(features=join, fine_tune_epochs=1, steps=4, batch_size=16,
    ...                         round_size=32, round_passes=1, n_draws=50)
    >>> run = run.fit(texts, y)
    >>> run.result_.accepted, len(run.sample(2, random_state=0))
    (False, 2)
    """

    model: Any = "tiny"
    _: dataclasses.KW_ONLY
    objective: str | Objective = "targeted"
    outcome_model: Any = None
    features: Any = None
    ratio: str = "auto"
    safe: bool = True
    split: Sequence[float] = (0.5, 0.2, 0.3)
    cv: int = 5
    fine_tune_epochs: int | None = None
    steps: int = 160
    batch_size: int = 64
    learning_rate: float | None = None
    round_size: int = 512
    round_passes: int = 2
    tilt: float | None = 2.0
    eval_every: int | None = None
    patience: int = 3
    choose: str = "lower"
    n_draws: int = 1000
    max_new_tokens: int | None = None
    kl: float = 0.0
    entropy: float = 0.0
    ess_floor: float = 0.05
    level: float = 0.95
    logging_policy: Any = None
    monitor: Mapping[str, Callable[[list[str]], float]] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    peft_config: Any = None
    progress: bool | Literal["lines"] | None = None
    out: str | os.PathLike[str] | None = None
    random_state: int = 0

    # ------------------------------------------------------------------ fit
    def fit(
        self,
        texts: Sequence[str],
        outcomes: npt.ArrayLike,
        prompts: Sequence[Any] | None = None,
        logp_logging: npt.ArrayLike | None = None,
        groups: npt.ArrayLike | None = None,
    ) -> CausalLMOptimizer:
        """Split, train, choose, report.

        Parameters
        ----------
        texts : sequence of n str
        outcomes : (n,) array
            Numbers; more is better.
        prompts : sequence of n, optional
            Strings or conversations, for policies that answer prompts.
        logp_logging : (n,) array, optional
            Natural log-probability of each text under the policy (or design) that wrote it.
        groups : (n,) array, optional
            Clusters, which no two parts share. By default rows with the same prompt (of at least 50
            distinct ones), else rows with the same text.

        Returns
        -------
        CausalLMOptimizer
            Itself.

        Raises
        ------
        TypeError, ValueError
            For bad input; outcomes that are all the same.
        DataError
            If too few rows or clusters are left after splitting, or ``out`` holds another run.
        """
        check_settings(self)
        rows = read_rows(texts, outcomes, prompts, logp_logging, groups)
        if self.ratio == "sequence" and rows.logp_logging is None:
            raise ValueError("ratio='sequence' needs logp_logging; or use ratio='latent'.")
        parts = split(rows, self.split, self.random_state)
        self.sizes_ = {name: len(part) for name, part in parts._asdict().items()}
        self.parts_ = np.array(Parts._fields)[dealt(rows, self.split, self.random_state)]
        self.prompted_ = rows.prompts is not None
        train = parts.train
        features = TextFeatures(self.features, train.read, prompted=self.prompted_)
        self.nuisances_ = nuisances_of(
            train, self.outcome_model, features, self.cv, self.random_state
        )
        with self._folder(rows, features, parts) as folder:
            if (folder / RECORD).is_file():
                return self._take_up(folder)
            self.response_, self._logged = response_beyond(rows, features), LoggedTexts.of(rows)
            self._fixed = fixed_prompts(rows)
            self._fit(parts, features, folder)
            if self.out is not None:
                self._keep(folder)
        return self

    def _fit(self, parts: Parts, features: TextFeatures, folder: Path) -> None:
        train, seed, nuisances = parts.train, self.random_state, self.nuisances_
        start = self._start(train, folder)
        if on_gpu():
            start.model.to("cuda")
        self.start_ = start
        limit = self.max_new_tokens or most_tokens(start, train)
        self.max_new_tokens_ = limit
        logger = self.logging_policy
        held = HeldOut(parts.select, features, nuisances.predict, self.ratio)
        drawn = draw_for(start, parts.select, self.n_draws, (seed, *SELECT), limit, logger)
        known = None
        if parts.select.logp_logging is not None:
            known = start.log_prob(parts.select.texts, parts.select.prompts)
        watch = Watch(held, self._logged, drawn, known, logger, self.n_draws, limit, seed,
                      self.ess_floor, self.level, self.monitor)  # fmt: skip
        trainer = self._trainer(start, train, features, nuisances, watch, limit, folder)
        trainer.train(resume_from_checkpoint="auto")
        lines = trainer.state.log_history
        self.history_ = evaluations(lines, self.monitor)
        self.steps_ = pd.DataFrame([x for x in lines if "grad_norm" in x])
        step = trainer.state.global_step
        if self.choose == "lower":
            step = self._chosen_step(trainer.state.best_model_checkpoint)
        trained = LanguageModelPolicy(plain_model(trainer), start.tokenizer, name="trained")
        trained.training_rows = (*start.training_rows, self._rows_used(self.parts_ != "report"))
        self.result_ = self._report(parts.report, held, trained if step else None, step, limit)

    def _chosen_step(self, checkpoint: str | None) -> int:
        """Step of the checkpoint that is loaded, 0 where it is not eligible.

        Raises
        ------
        OSError
            If an eligible checkpoint could not be written.
        """
        eligible = self.history_.loc[self.history_["chosen_by"].notna(), "step"].tolist()
        if not eligible:
            return 0
        if checkpoint is None:
            raise OSError(
                "no checkpoint could be written, so that none can be chosen: make room where the "
                "run is kept (out) and fit again."
            )
        step = int(checkpoint.rpartition("-")[2])
        return step if step in eligible else 0

    def _start(self, train: Rows, folder: Path) -> LanguageModelPolicy:
        if (folder / START / "config.json").is_file():
            return LanguageModelPolicy(folder / START, name="start")
        model = self.model if is_tiny(self.model) else opened_policy(self.model)
        if isinstance(model, LanguageModelPolicy):
            self._check_unseen(model)
        policy = start_policy(
            model, train, self.fine_tune_epochs, self.random_state,
            trainer_settings(self, folder / TRAINING, model), folder / TRAINING, self.progress,
        )  # fmt: skip
        logged = train.logp_logging is not None
        if start_epochs(self.model, self.fine_tune_epochs, logged=logged):
            policy.training_rows += (self._rows_used(self.parts_ == "train"),)
        policy.save(folder / START)
        return policy

    def _rows_used(self, used: npt.NDArray[np.bool_]) -> TrainingRows:
        return TrainingRows.of(self._logged.texts, used, prompts=self._logged.prompts)

    def _check_unseen(self, start: LanguageModelPolicy) -> None:
        """``DataError`` where what training starts from was trained on the report rows."""
        for training in start.training_rows:
            own = training.among(self._logged.texts, self._logged.prompts)
            seen = int(np.sum(own & (self.parts_ == "report")))
            if seen:
                raise DataError(
                    f"the model was trained, or chosen, on {seen:,} of the "
                    f"{self.sizes_['report']:,} rows that its value would be reported from: give "
                    "other rows, or the random_state (--seed), split and groups of the run that "
                    "trained it."
                )

    def _trainer(
        self, start: LanguageModelPolicy, train: Rows, features: TextFeatures,
        nuisances: Nuisances, watch: Watch, limit: int, folder: Path,
    ) -> CausalPreferenceTrainer:  # fmt: skip
        data: Any = None
        target, reward = None, None
        lost: list[Any] = []
        objective = make_objective(self.objective, self.kl, self.entropy)
        if on_policy(self):
            kind = "latent" if self.ratio in ("auto", "sequence") else self.ratio
            reward = TargetedReward(
                train, nuisances.predicted, nuisances.predict, features, kind, self.tilt
            )
            lost = [LostStop(reward)]
            data = None if train.prompts is None else {"prompt": list(train.prompts)}
        else:
            data = training_data(train, nuisances, train.logp_logging)
            if "target" in objective.samples:
                target = self._second_sample(start, train, nuisances, limit)
        stoppers = [transformers().EarlyStoppingCallback(self.patience), FloorStop()]
        if self.choose == "last":
            stoppers = []
        config = CausalPreferenceConfig(
            **{"max_new_tokens": limit, **trainer_settings(self, folder / TRAINING, start)}
        )
        model = copy.deepcopy(start.model)  # f0 itself stays as it is
        trainer = CausalPreferenceTrainer(
            model, objective, config, data, target, processing_class=start.tokenizer,
            evaluator=watch, reward=reward, peft_config=self.peft_config,
            callbacks=[*stoppers, *lost, Bar(self.progress)],
        )  # fmt: skip
        quiet(trainer)
        return trainer

    def _second_sample(
        self, start: LanguageModelPolicy, train: Rows, nuisances: Nuisances, limit: int
    ) -> dict[str, Any]:
        """Draws of f0 with their predictions, as many as there are rows."""
        rng = np.random.default_rng([self.random_state, *TRAIN])
        n = len(train) if train.prompts is None else 1
        draws = start.sample(n, rng, prompts=train.prompts, max_new_tokens=limit)
        prompts = train.prompts
        some = Rows(draws.texts, np.zeros(len(draws)), prompts, None, np.zeros(len(draws), np.intp))
        found: dict[str, Any] = {"completion": list(draws.texts)}
        found["prediction"] = nuisances.by_fold(some.read).tolist()
        return found if prompts is None else found | {"prompt": list(prompts)}

    # ------------------------------------------------------------------ report
    def _report(
        self, rows: Rows, chosen_by: HeldOut, trained: LanguageModelPolicy | None, step: int,
        limit: int,
    ) -> OptimizerResult:  # fmt: skip
        """Value the chosen policy and f0 on the report rows; decide."""
        kind = "latent" if self.ratio == "auto" else self.ratio
        if trained is not None and len(self.history_):
            kind = str(self.history_.loc[self.history_["step"] <= step, "ratio"].iloc[-1])
        held = dataclasses.replace(chosen_by, rows=rows, ratio=kind)
        logger = self.logging_policy
        policies = [self.start_] if trained is None else [trained, self.start_]
        names = NAMES[1:] if trained is None else NAMES
        draws = {
            name: draw_for(p, rows, self.n_draws, (self.random_state, *REPORT, i), limit, logger)
            for i, (name, p) in enumerate(zip(names, policies, strict=True))
        }
        logp = None
        if kind == "sequence":
            logp = {
                name: p.log_prob(rows.texts, rows.prompts)
                for name, p in zip(names, policies, strict=True)
            }
        try:
            values = held.value(draws, logp, kind)
        except OverlapError as error:
            if trained is None:
                raise
            known = self._report(rows, chosen_by, None, 0, limit)
            # kept to look at; nothing is said of its value
            self.trained_: LanguageModelPolicy | None = trained
            why = f"policy_ is the start: the report rows cannot value the trained policy ({error})"
            return dataclasses.replace(known, decision=why)
        by_features = kind in ("latent", "balance")
        found = self._logged.beyond(draws, estimated=kind != "sequence")
        response = self.response_.findings if by_features and self.response_ is not None else []
        values = judged(values, [*response, *self._fixed], found)
        start = values["start"]
        value = start if trained is None else values["trained"]
        difference = value - start
        told = {name: values[name] for name in names} | {"difference": difference}
        accepted, decision = decide(self, told, step)
        self.trained_ = trained
        self.policy_ = self.start_ if trained is None or not accepted else trained
        based = math.nan
        if trained is not None:
            based = float(held.predict(draws["trained"].read).mean())
        return OptimizerResult(
            value, start, difference, accepted, decision, kind, step, based, self.level
        )

    # ------------------------------------------------------------------ use
    def sample(
        self, n: int = 1, random_state: int | np.random.Generator | None = None, *,
        prompts: Sequence[Any] | None = None, max_new_tokens: int | None = None,
    ) -> Draws:  # fmt: skip
        """Draw texts of ``policy_``: see :meth:`LanguageModelPolicy.sample`.

        ``n`` texts for each prompt, where there are prompts: ``sample(1, prompts=P)`` draws one for
        each. ``max_new_tokens`` is by default ``max_new_tokens_``, the limit under which the policy
        was valued.

        Raises
        ------
        ValueError
            Without ``prompts`` where the policy was trained with some.
        """
        self._need_prompts(prompts)
        limit = self._fitted().max_new_tokens_ if max_new_tokens is None else max_new_tokens
        return self.policy_.sample(n, random_state, prompts=prompts, max_new_tokens=limit)

    def predict_outcome(self, texts: Sequence[str], prompts: Sequence[Any] | None = None) -> Any:
        """The cross-fitted outcome model's predictions (m,): right only if that model is.

        Not kept by `save`: the run that was fitted has it, a loaded one has not.

        Raises
        ------
        ValueError
            Without ``prompts`` where the model was fitted with some.
        AttributeError
            Where the run was loaded.
        """
        self._need_prompts(prompts)
        model = getattr(self, "nuisances_", None)
        if model is None:
            raise AttributeError(
                "the outcome model is with the run that was fitted here only: fit again."
            )
        return model.predict(joined(texts, prompts))

    def summary(self) -> str:
        """The result in words."""
        return str(self._fitted().result_)

    def _need_prompts(self, prompts: Any) -> None:
        if prompts is None and getattr(self, "prompted_", False):
            raise ValueError("the log had prompts, which texts answer: give prompts=.")

    def _fitted(self) -> CausalLMOptimizer:
        if not hasattr(self, "result_"):
            raise AttributeError("this optimizer is not fitted yet: call fit(texts, outcomes).")
        return self

    # ------------------------------------------------------------------ files
    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write policy, start, history and result; no pickle.

        Raises
        ------
        FileExistsError
            If the folder exists and is not empty.
        """
        self._fitted()
        target = Path(folder)
        if target.exists() and any(target.iterdir()):
            raise FileExistsError(f"{target} is not empty; choose another folder.")
        target.mkdir(parents=True, exist_ok=True)
        self.start_.save(target / START)
        self._keep(target)
        return target

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> CausalLMOptimizer:
        """What `save` wrote, or a finished run's ``out``: settings, policies, history and result.

        Settings that were objects (a model, features, an outcome model) are not kept, and are the
        defaults.

        Raises
        ------
        DataError
            If the folder holds no finished run, or it is damaged.
        """
        record = read_json(Path(folder) / RECORD)
        kept = record.get("settings") if isinstance(record, dict) else None
        known = {f.name for f in dataclasses.fields(cls)} - NOT_KEPT
        own = {k: v for k, v in kept.items() if k in known} if isinstance(kept, dict) else {}
        return cls(**own, out=folder)._take_up(Path(folder))

    def _keep(self, folder: Path) -> None:
        """Write the trained policy and, last of all, the record."""
        if self.trained_ is not None and not (folder / TRAINED).exists():
            self.trained_.save(folder / TRAINED)
        record = {
            "version": __version__, "sizes": self.sizes_, "parts": runs_of(self.parts_),
            "max_new_tokens": self.max_new_tokens_, "prompted": self.prompted_,
            "history": json_rows(self.history_), "steps": json_rows(self.steps_),
            "result": self.result_.to_dict(),
            "settings": plain_settings({
                f.name: getattr(self, f.name)
                for f in dataclasses.fields(self) if f.name not in NOT_KEPT
            }),
        }  # fmt: skip
        write_json(folder / RECORD, record)

    def _take_up(self, folder: Path) -> CausalLMOptimizer:
        record = read_json(folder / RECORD)
        try:
            self.sizes_ = {str(k): int(v) for k, v in record["sizes"].items()}
            self.max_new_tokens_ = int(record["max_new_tokens"])
            self.prompted_ = bool(record.get("prompted", False))
            if "parts" in record:
                self.parts_ = from_runs(record["parts"])
            lines = record["history"]
            self.history_ = pd.DataFrame(lines) if lines else pd.DataFrame(columns=HISTORY)
            self.steps_ = pd.DataFrame(record["steps"])
            self.result_ = OptimizerResult.from_dict(record["result"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{folder / RECORD} is damaged ({error!r}); fit again.") from error
        self.start_ = LanguageModelPolicy(folder / START, name="start")
        self.trained_ = None
        if self.result_.step or (folder / TRAINED).exists():
            self.trained_ = opened_trained(folder)
        self.policy_ = self.start_
        if self.trained_ is not None and self.result_.accepted:
            self.policy_ = self.trained_
        return self

    @contextmanager
    def _folder(self, rows: Rows, features: TextFeatures, parts: Parts) -> Any:
        """The run's folder, checked to hold this run or none; a temporary one without ``out``."""
        if self.out is None:
            with tempfile.TemporaryDirectory() as scratch:
                yield Path(scratch)
            return
        folder = Path(self.out).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        read = parts.train.read
        own = {
            "version": __version__, "rows": rows.digest(),
            "rows_without_logp": rows.digest(logged=False), "settings": self._identity(),
            "features": digest(features(read).to_numpy()),
            "outcome_model": digest(self.nuisances_.predicted, self.nuisances_.predict(read)),
        }  # fmt: skip
        if (folder / RUN).is_file():
            kept = read_json(folder / RUN)
            differs = run_differs(kept, own)
            if differs:
                raise OtherRunError(
                    f"{folder} holds another run: {differs}. Choose another folder, or delete it "
                    "(on the command line: --overwrite)."
                )
        elif any(p for p in folder.iterdir() if p.suffix != ".partial"):
            raise OtherRunError(f"{folder} is not empty and holds no run; choose another folder.")
        else:
            write_json(folder / RUN, own)
        yield folder

    def _identity(self) -> dict[str, str]:
        """Settings as words, to tell whether a kept run is this one."""
        told_apart = ("out", "progress", "features", "outcome_model", "monitor")
        return {
            f.name: setting_words(getattr(self, f.name))
            for f in dataclasses.fields(self) if f.name not in told_apart
        }  # fmt: skip
