"""transformers' Trainer, with checkpoints that are whole or not there."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from causal_lm_opt.exceptions import EstimationWarning
from causal_lm_opt.lm._checkpoints import (
    PARTIAL,
    SEAL,
    is_write_error,
    newest_complete,
    place,
    problem,
    remove_partial,
    rotate,
    seal,
)
from causal_lm_opt.lm._loading import transformers
from causal_lm_opt.lm._scorer import world

Trainer = transformers().Trainer

__all__ = ["AtomicTrainer"]


class AtomicTrainer(Trainer):  # type: ignore[misc,valid-type]
    """Checkpoints are written beside their name, sealed and renamed; damaged ones passed over.

    Attributes
    ----------
    restored : bool
        Whether the run resumes from a checkpoint.
    """

    restored = False
    _staging: Path | None = None

    def write_extra(self, folder: Path) -> None:
        """A subclass writes what else belongs to the checkpoint; on the writing process only."""

    def read_extra(self, folder: Path) -> None:
        """A subclass reads it; on every process."""

    def train(
        self, resume_from_checkpoint: str | os.PathLike[str] | bool | None = None, **given: Any
    ) -> Any:
        """Train; see `transformers.Trainer.train`.

        Parameters
        ----------
        resume_from_checkpoint : True, "auto" or folder, optional
            True: the newest complete checkpoint of ``output_dir``; "auto": the same, or a new
            beginning where there is none.
        **given
            As for `transformers.Trainer.train`.

        Raises
        ------
        ValueError
            If there is no complete checkpoint to resume from, or the one named is damaged.
        """
        output = Path(self.args.output_dir)
        if self.args.should_save:
            remove_partial(output)
        found: str | os.PathLike[str] | None = None
        if resume_from_checkpoint is True or resume_from_checkpoint == "auto":
            newest, skipped = newest_complete(output)
            for line in skipped:
                warnings.warn(line, EstimationWarning, stacklevel=2)
            if newest is None and resume_from_checkpoint is True:
                raise ValueError(
                    f"{output} has no complete checkpoint; begin anew (resume_from_checkpoint=None "
                    'or "auto").'
                )
            found = newest
        elif resume_from_checkpoint:
            found = resume_from_checkpoint
            wrong = problem(Path(found)) if (Path(found) / SEAL).is_file() else None
            if wrong is not None:
                raise ValueError(f"{found} is damaged: {wrong}. Resume from an earlier one (True).")
        self.restored = False
        return super().train(None if found is None else os.fspath(found), **given)

    def _get_output_dir(self, trial: Any) -> str:
        return str(super()._get_output_dir(trial) if self._staging is None else self._staging)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write beside, seal, rename; a write that fails leaves the run and older ones alone."""
        output = Path(super()._get_output_dir(trial))
        name, best = f"checkpoint-{self.state.global_step}", self.state.best_model_checkpoint
        self._staging = output / f"{PARTIAL}{self.state.global_step}"
        staged, failure = self._staging / name, None
        try:
            super()._save_checkpoint(model, trial)
            if self.args.should_save:
                self._finish_checkpoint(staged, output / name)
        except Exception as error:
            if not is_write_error(error):
                raise
            failure = str(error) or type(error).__name__
        finally:
            staging, self._staging = self._staging, None
        if _any_process(failure is not None, self.args.device):
            self.state.best_model_checkpoint = best
            self._forget_unwritten()
            if self.args.should_save:
                remove_partial(output)
            warnings.warn(
                f"{name} could not be written ({failure or 'by another process'}); training goes "
                f"on, older checkpoints are whole. Make room in {output}.",
                EstimationWarning, stacklevel=2,
            )  # fmt: skip
            return
        if self.args.should_save:
            place(staging / name, output / name)
            rotate(output, self.args.save_total_limit, self.state.best_model_checkpoint)
        if world()[1] > 1:
            distributed.barrier()

    def find_best(self) -> None:
        """Name the best checkpoint by where it lies now: a run's folder may have moved."""
        step = self.state.best_global_step
        here = Path(self.args.output_dir) / f"checkpoint-{step}"
        if step and here.is_dir():
            self.state.best_model_checkpoint = str(here)

    def _forget_unwritten(self) -> None:
        """The best metric is again that of the best checkpoint that is there."""
        best = self.state.best_model_checkpoint
        step = None if best is None else int(str(best).rpartition("-")[2])
        name = self.args.metric_for_best_model
        if name is None:
            return
        key = name if name.startswith("eval_") else f"eval_{name}"
        known = [x[key] for x in self.state.log_history if key in x and x.get("step") == step]
        self.state.best_metric = known[-1] if known else None
        self.state.best_global_step = step

    def _finish_checkpoint(self, staged: Path, target: Path) -> None:
        """What a subclass adds; the name the folder will have; the seal."""
        self.write_extra(staged)
        if self.state.best_model_checkpoint == str(staged):
            self.state.best_model_checkpoint = str(target)
            self.state.save_to_json(str(staged / "trainer_state.json"))
        seal(staged)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.read_extra(Path(resume_from_checkpoint))
        self.restored = True


def _any_process(flag: bool, device: torch.device) -> bool:
    """Whether the flag is up on any process."""
    if world()[1] == 1:
        return flag
    raised = torch.tensor(float(flag), device=device)
    distributed.all_reduce(raised)
    return bool(raised > 0)
