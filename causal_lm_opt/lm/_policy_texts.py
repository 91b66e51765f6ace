"""The texts that policies are compared by: each policy drawn from once, on the same prompts."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from causal_lm_opt._validation import check_groups
from causal_lm_opt.lm.draws import Draws

__all__ = ["DEFAULT_N", "Rows", "draw_texts", "named_seed", "rows_of"]

Codes = npt.NDArray[np.intp]
DEFAULT_N = 200


@dataclass(frozen=True)
class Rows:
    """The rows every policy has a text for.

    Attributes
    ----------
    n : int
    prompts : tuple or None
        Distinct asks, in order; row i has prompt ``i // per_prompt``.
    per_prompt : int
    units : (n,) int array or None
        Cluster of each row; ``None`` where rows are independent.
    """

    n: int
    prompts: tuple[Any, ...] | None
    per_prompt: int
    units: Codes | None

    @property
    def asked(self) -> tuple[Any, ...] | None:
        """The prompt of each row (n,)."""
        if self.prompts is None:
            return None
        return tuple(p for p in self.prompts for _ in range(self.per_prompt))

    def prompt_rows(self) -> list[Any] | None:
        """The prompt of each row."""
        if self.prompts is None:
            return None
        return [p for p in self.prompts for _ in range(self.per_prompt)]


def rows_of(
    policies: Mapping[str, Any],
    prompts: Sequence[Any] | None,
    n: int | None,
    draws_per_prompt: int,
    groups: npt.ArrayLike | None,
) -> Rows:
    """The design of a comparison; see `win_rates` for the arguments and the errors."""
    _check_count(draws_per_prompt, "draws_per_prompt")
    if prompts is None:
        if draws_per_prompt != 1:
            raise ValueError("draws_per_prompt needs prompts; without them n is the number drawn.")
        n = _number(policies, n)
        labels = None if groups is None else check_groups(groups, "groups", n)
        return Rows(n, None, 1, _units(labels))
    if isinstance(prompts, str):
        raise TypeError("prompts is one string; pass a list of prompts.")
    if n is not None:
        raise ValueError("n is for texts without prompts; with prompts say draws_per_prompt.")
    asked = tuple(prompts)
    if not asked:
        raise ValueError("prompts is empty; pass at least two, or None for texts without prompts.")
    own = (
        np.array([_content(p) for p in asked], dtype=object)
        if groups is None
        else check_groups(groups, "groups", len(asked))
    )
    return Rows(
        len(asked) * draws_per_prompt,
        asked,
        draws_per_prompt,
        _units(np.repeat(own, draws_per_prompt)),
    )


def draw_texts(
    policies: Mapping[str, Any], rows: Rows, random_state: int, max_new_tokens: int | None = None
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Each policy's n texts, and what is to be said of them.

    A policy's draws depend on ``random_state`` and its name alone: two policies are drawn
    independently, and one more policy changes nothing for the others. ``max_new_tokens`` is handed
    to the policies that are drawn from.
    """
    limit = {}
    if max_new_tokens is not None:
        _check_count(max_new_tokens, "max_new_tokens")
        limit = {"max_new_tokens": int(max_new_tokens)}
    texts, notes = {}, []
    for name, policy in policies.items():
        found = _texts(name, policy, rows, named_seed(random_state, name), limit)
        if isinstance(found, Draws) and not found.finished.all():
            cut = int((~found.finished).sum())
            notes.append(
                f"{name}: {cut} of {rows.n} draws were cut at the limit, so that beginnings of "
                "texts are compared; use a larger max_new_tokens."
            )
        texts[name] = tuple(found)
    return texts, tuple(notes)


def named_seed(random_state: int, *names: str) -> int:
    """A seed of 32 bits of its own for each (tuple of) names.

    >>> named_seed(0, "a") != named_seed(0, "b")
    True
    """
    key = json.dumps([random_state, *names]).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=4).digest(), "big")


def _texts(
    name: str, policy: Any, rows: Rows, seed: int, limit: Mapping[str, int]
) -> Sequence[str]:
    if hasattr(policy, "sample") and not isinstance(policy, Draws):
        found = _sampled(name, policy, rows, seed, limit)
    elif isinstance(policy, str):
        raise TypeError(f"policies[{name!r}] is one string; pass a list of texts.")
    elif isinstance(policy, Sequence | np.ndarray):
        found = policy if isinstance(policy, Draws) else list(policy)
        _check_prompt_order(name, found, rows)
    else:
        raise TypeError(
            f"policies[{name!r}] is {type(policy).__name__}; pass a policy with .sample, or a list "
            "of texts."
        )
    if len(found) != rows.n:
        of = "" if rows.prompts is None else f" ({rows.per_prompt} for each prompt, in their order)"
        raise ValueError(f"policies[{name!r}] has {len(found)} texts; {rows.n} are needed{of}.")
    for i, text in enumerate(found):
        if not isinstance(text, str):
            raise TypeError(f"policies[{name!r}][{i}] is {text!r} where a text (str) is expected.")
    return found


def _sampled(
    name: str, policy: Any, rows: Rows, seed: int, limit: Mapping[str, int]
) -> Sequence[str]:
    taken = inspect.signature(policy.sample).parameters
    if limit and "max_new_tokens" not in taken:
        raise TypeError(
            f"policies[{name!r}].sample takes no max_new_tokens; leave max_new_tokens out, or pass "
            "this policy's texts as a list."
        )
    if rows.prompts is None:
        drawn: Sequence[str] = policy.sample(rows.n, random_state=seed, **limit)
        return drawn
    if "prompts" not in taken:
        raise TypeError(
            f"policies[{name!r}].sample takes no prompts; leave prompts out, or pass its texts as "
            "a list in the order of the prompts."
        )
    drawn = policy.sample(rows.per_prompt, random_state=seed, prompts=list(rows.prompts), **limit)
    return drawn


def _check_prompt_order(name: str, found: Any, rows: Rows) -> None:
    if not isinstance(found, Draws) or len(found) != rows.n:
        return
    expected = np.arange(rows.n) // rows.per_prompt if rows.prompts is not None else 0
    if (found.prompt_index != expected).any():
        raise ValueError(
            f"policies[{name!r}]: the draws are not of these prompts, {rows.per_prompt} for each "
            "in their order; draw them with the same prompts."
        )


def _number(policies: Mapping[str, Any], n: int | None) -> int:
    given = [len(p) for p in policies.values() if isinstance(p, Sequence | np.ndarray)]
    if n is None:
        n = given[0] if given else DEFAULT_N
    _check_count(n, "n")
    return int(n)


def _check_count(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be an integer >= 1, got {value!r}.")


def _content(prompt: Any) -> str:
    """A prompt (text or messages) as one string, so that equal prompts are one unit."""
    return prompt if isinstance(prompt, str) else repr(prompt)


def _units(labels: npt.NDArray[Any] | None) -> Codes | None:
    if labels is None:
        return None
    codes = np.unique(labels, return_inverse=True)[1].astype(np.intp)
    return None if codes.max() + 1 == codes.size else codes
