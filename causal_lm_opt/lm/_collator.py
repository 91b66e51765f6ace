"""Training rows: tables as TRL users have them, to tokens and numbers."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from causal_lm_opt.core import weighted_mean
from causal_lm_opt.exceptions import DataError, NotIdentifiedError
from causal_lm_opt.lm._encoding import Encoded, Encoder, prompt_words
from causal_lm_opt.lm._objective_base import Objective
from causal_lm_opt.lm._objective_state import Columns
from causal_lm_opt.lm.sequence import PaddedBatch, pad_batch

__all__ = ["Collator", "EncodedRows", "Examples", "as_batch", "read_examples", "read_table"]

Table = dict[str, list[Any]]
Float = NDArray[np.float64]

LOGGED = (
    "prompt", "completion", "outcome", "logp_logging", "logp_reference", "prediction", "fold",
    "target_completion", "target_prediction", "target_logp_sampling",
)  # fmt: skip
TARGET = ("prompt", "completion", "prediction", "logp_sampling", "logp_reference")


@dataclass(frozen=True)
class Examples:
    """Encoded rows of all samples of an objective, the columns of each, the logged texts and their
    prompts.
    """

    rows: list[Encoded]
    columns: list[Columns] = field(default_factory=list)
    logged: tuple[str, ...] = ()
    prompts: tuple[str, ...] | None = None


class EncodedRows(Dataset[tuple[int, Encoded]]):
    """Rows with their numbers; may be replaced between epochs."""

    def __init__(self, rows: list[Encoded]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[int, Encoded]:
        return index, self.rows[index]


@dataclass(frozen=True)
class Collator:
    """Rows to one rectangle of tokens and the rows' numbers; their outcomes stay in float64
    with the objective, where nothing drops or casts them.
    """

    pad_id: int = 0

    def __call__(self, items: Sequence[tuple[int, Encoded]]) -> dict[str, Tensor]:
        batch = pad_batch(
            [row.context for _, row in items], [row.completion for _, row in items],
            pad_id=self.pad_id,
        )  # fmt: skip
        return {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask,
            "target_mask": batch.target_mask,
            "rows": torch.tensor([i for i, _ in items]),
        }


def as_batch(inputs: Mapping[str, Tensor]) -> PaddedBatch:
    """The collator's tokens."""
    return PaddedBatch(inputs["input_ids"], inputs["attention_mask"], inputs["target_mask"])


# -------------------------------------------------------------------------------- tables
def read_table(data: Any, name: str, known: Sequence[str]) -> Table:
    """Columns of a `datasets.Dataset`, a DataFrame, a mapping of columns or a list of mappings.

    Raises
    ------
    TypeError
        If it is none of these, or a stream: weights are normalised over all rows.
    DataError
        If it is empty, ragged, or a column's name is nearly a known one.
    """
    if hasattr(data, "column_names") and hasattr(data, "__len__"):
        table = {c: list(data[c]) for c in data.column_names}
    elif hasattr(data, "columns") and hasattr(data, "to_dict"):
        table = {str(c): data[c].tolist() for c in data.columns}
    elif isinstance(data, Mapping):
        table = {str(c): list(v) for c, v in data.items()}
    elif isinstance(data, Sequence) and data and all(isinstance(r, Mapping) for r in data):
        names = sorted({key for row in data for key in row})
        table = {c: [row.get(c) for row in data] for c in names}
    else:
        raise TypeError(
            f"{name} must be a datasets.Dataset, a DataFrame, a mapping of columns or a list of "
            f"rows, got {type(data).__name__} (a stream will not do: weights are normalised over "
            "all rows)."
        )
    lengths = {len(column) for column in table.values()}
    if len(lengths) != 1 or lengths == {0}:
        raise DataError(f"{name} must have rows, equally many in every column; got {lengths}.")
    for column in table.keys() - set(known):
        near = difflib.get_close_matches(column, known, 1, cutoff=0.85)
        if near:
            raise DataError(f"{name} has a column {column!r}; did you mean {near[0]!r}?")
    return table


def numbers(table: Table, column: str, name: str) -> Float | None:
    """A column as float64, None where it is not there; every value finite."""
    if column not in table:
        return None
    out = np.empty(len(table[column]))
    for i, value in enumerate(table[column]):
        try:
            out[i] = np.nan if isinstance(value, str) else float(value)
        except (TypeError, ValueError):
            out[i] = np.nan
        if not np.isfinite(out[i]):
            raise DataError(
                f"{name}, row {i}: column {column!r} must be a finite number, got {value!r:.60}; "
                "drop the row or fill it in."
            )
    return out


# -------------------------------------------------------------------------------- tokens
def encode(table: Table, encoder: Encoder, name: str, *, eos: bool = True) -> list[Encoded]:
    """Rows of tokens from columns `prompt` (optional) and `completion`, text or conversational."""
    if "completion" not in table:
        raise DataError(f"{name} needs a column 'completion'; it has {sorted(table)}.")
    prompts, completions = table.get("prompt"), table["completion"]
    if not any(_is_messages(x) for x in completions):
        return encoder.rows(completions, prompts, eos=eos)
    if prompts is None or not all(map(_is_messages, [*prompts, *completions])):
        raise DataError(
            f"{name}: where a completion is a list of messages, every prompt and completion must "
            "be one."
        )
    contexts = encoder.contexts(prompts, len(completions))
    rows = [
        Encoded(context, _reply(encoder, list(prompt), list(completion), context, name, i))
        for i, (context, prompt, completion) in enumerate(
            zip(contexts, prompts, completions, strict=True)
        )
    ]
    return encoder.fitted(rows)


def _is_messages(x: Any) -> bool:
    return isinstance(x, Sequence) and not isinstance(x, str)


def _reply(
    encoder: Encoder, prompt: list[Any], completion: list[Any], context: tuple[int, ...],
    name: str, i: int,
) -> tuple[int, ...]:  # fmt: skip
    """Tokens of the last turn: what the chat template puts after the prompt, to the end token."""
    ids = tuple(
        encoder.tokenizer.apply_chat_template(
            [dict(m) for m in [*prompt, *completion]], tokenize=True, return_dict=False
        )
    )
    if ids[: len(context)] != context:
        raise DataError(
            f"{name}, row {i}: the chat template writes the prompt otherwise when an answer "
            "follows, so the answer's tokens cannot be told; give prompt and completion as text."
        )
    reply = ids[len(context) :]
    if encoder.end_id not in reply:
        return (*reply, encoder.end_id)
    # What the template writes after the turn's end is not the model's doing.
    return reply[: len(reply) - reply[::-1].index(encoder.end_id)]


# -------------------------------------------------------------------------------- samples
def read_examples(
    data: Any, target: Any, objective: Objective, encoder: Encoder, *, eos: bool = True,
    name: str = "train_dataset",
) -> Examples:  # fmt: skip
    """Rows and columns that an objective rests on.

    Parameters
    ----------
    data : logged rows, see `read_table`
    target : the second sample, or None (then columns ``target_*`` of ``data`` may hold it)

    Raises
    ------
    NotIdentifiedError
        If the objective needs a sample or column that is not there.
    """
    logged = None if data is None else read_table(data, name, LOGGED)
    second = None if target is None else read_table(target, "target_dataset", TARGET)
    if second is None and logged is not None and "target_completion" in logged:
        second = _unfold(logged)
    tables = {"logged": logged, "target": second}
    for sample, column in objective.needs:
        table = tables[sample]
        if table is None or column not in table:
            where = name if sample == "logged" else "target_dataset (or columns target_*)"
            raise NotIdentifiedError(
                f"{objective.name} needs column {column!r} in {where}"
                + ("." if table is None else f"; it has {sorted(table)}.")
            )
    rows: list[Encoded] = []
    columns = []
    for sample in objective.samples:
        table = tables[sample]
        assert table is not None  # every sample is in `needs`
        label = name if sample == "logged" else "target_dataset"
        rows += encode(table, encoder, label, eos=eos)
        payoff = _payoff(sample, table, logged, objective, label)
        by = "logp_logging" if sample == "logged" else "logp_sampling"
        columns.append(
            Columns(*(_tensor(x, len(payoff)) for x in (
                payoff, numbers(table, by, label), numbers(table, "logp_reference", label)
            )))
        )  # fmt: skip
    texts = () if logged is None else tuple(map(prompt_words, logged.get("completion", ())))
    prompts = None if logged is None or "prompt" not in logged else logged["prompt"]
    asked = None if prompts is None else tuple(map(prompt_words, prompts))
    return Examples(rows, columns, texts, asked)


def _tensor(x: Float | None, n: int) -> Tensor:
    return torch.full((n,), torch.nan, dtype=torch.float64) if x is None else torch.as_tensor(x)


def _payoff(
    sample: str, table: Table, logged: Table | None, objective: Objective, name: str
) -> Float:
    if sample == "target":
        return _fold_mean(table["prediction"], logged, name)
    outcome = numbers(table, "outcome", name)
    assert outcome is not None
    if ("logged", "prediction") not in objective.needs:
        return outcome
    prediction = numbers(table, "prediction", name)
    assert prediction is not None
    return outcome - prediction


def _fold_mean(prediction: list[Any], logged: Table | None, name: str) -> Float:
    """Predictions of draws; where there is one per fold, their mean by the folds' sizes.

    A refit on all rows in their place would not make the value doubly robust.
    """
    if not any(isinstance(p, Sequence | np.ndarray) and not isinstance(p, str) for p in prediction):
        found = numbers({"prediction": prediction}, "prediction", name)
        assert found is not None
        return found
    if logged is None or "fold" not in logged:
        raise NotIdentifiedError(
            f"{name}: predictions are lists, one per fold, so train_dataset needs column 'fold'."
        )
    names, sizes = np.unique(np.asarray(logged["fold"]), return_counts=True)
    wrong = [i for i, p in enumerate(prediction) if np.shape(p) != names.shape]
    if wrong:
        raise DataError(
            f"{name}, row {wrong[0]}: expected {len(names)} predictions, one for each fold "
            f"{names.tolist()}, got {prediction[wrong[0]]!r:.60}."
        )
    by_fold = np.asarray(prediction, dtype=np.float64).T
    return np.asarray(weighted_mean(by_fold, sizes.astype(np.float64)))


def _unfold(table: Table) -> Table:
    """The second sample kept in the logged rows' columns: a text, or some, for each prompt."""
    out: Table = {"completion": [], "prediction": []}
    optional = [("prompt", "prompt"), ("target_logp_sampling", "logp_sampling")]
    present = [(old, new) for old, new in optional if old in table]
    out |= {new: [] for _, new in present}
    if "target_prediction" not in table:
        raise NotIdentifiedError("column 'target_completion' needs column 'target_prediction'.")
    for i, texts in enumerate(table["target_completion"]):
        one = isinstance(texts, str)
        cells = {"completion": texts, "prediction": table["target_prediction"][i]}
        cells |= {new: table[old][i] for old, new in present if new != "prompt"}
        if one:
            cells = {key: [value] for key, value in cells.items()}
        lengths = {key: len(value) for key, value in cells.items()}
        if len(set(lengths.values())) != 1:
            raise DataError(f"row {i}: columns target_* must be equally long, got {lengths}.")
        for key, value in cells.items():
            out[key] += list(value)
        if "prompt" in out:
            out["prompt"] += [table["prompt"][i]] * lengths["completion"]
    return out
