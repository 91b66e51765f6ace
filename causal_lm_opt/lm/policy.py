"""A causal language model as a policy: exact log-probabilities and draws."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from causal_lm_opt._training_rows import (
    FILE,
    MARK,
    TrainingRows,
    lost_training_rows,
    needs_prompts,
    read_training_rows,
    write_training_rows,
)
from causal_lm_opt.exceptions import EstimationWarning
from causal_lm_opt.lm._cache import ScoreCache, fingerprint
from causal_lm_opt.lm._decoding import Decoding
from causal_lm_opt.lm._encoding import Encoded, Encoder, Prompt
from causal_lm_opt.lm._engine import Engine
from causal_lm_opt.lm._loading import (
    Loading,
    check_counts,
    context_length,
    end_token,
    open_model,
    save_folder,
)
from causal_lm_opt.lm._sampling import DrawnTokens
from causal_lm_opt.lm.draws import Draws
from causal_lm_opt.lm.sequence import PaddingSide

__all__ = ["LanguageModelPolicy"]

Float = NDArray[np.float64]
#: Most tokens of a draw unless the caller says otherwise.
NEW_TOKENS = 512
MANY_DRAWS = 100_000  # of several prompts, of which more is said before they are drawn


class LanguageModelPolicy:
    r"""A Hugging Face causal language model as a distribution over texts.

    .. math:: \log P(x \mid c) = \sum_t \log P(x_t \mid c, x_{<t}), \quad x_T = \text{end of text}

    Parameters
    ----------
    model : folder, hub name, or model object
        A folder or name is loaded from safetensors only. An object is used as it is, where it is,
        and scored in evaluation mode (no dropout); its own mode is put back.
    tokenizer : folder, hub name or tokenizer, optional
        By default the one beside the model; needed with a model object.
    adapter : folder or hub name, optional
        A PEFT adapter to put on the model.
    dtype : str or torch.dtype, optional
        Precision to load in, as in ``"bfloat16"``; by default that of the stored weights.
    device : str or torch.device, optional
    quantization_config : object, optional
        Passed to ``from_pretrained``.
    gguf_file : str, optional
        Name of a GGUF file in the folder.
    temperature, top_k, top_p : float, int, float
        The policy is the model decoded so: both scores and draws follow it, with ``-inf`` for a
        text that truncation rules out. By default the model's own distribution. To score a log
        written by ``generate``, give the settings it was written with (``top_k`` of ``generate``
        is 50 unless it was set).
    eos_token : str or int, optional
        The token that closes a text, by default the tokenizer's. Chat models may end a turn with
        another one.
    bos : {"auto", True, False}
        Whether a plain prompt is preceded by the beginning-of-text token; "auto" does what the
        tokenizer does. Without a prompt a text always follows that token (or end of text, where
        there is none); a chat template is taken as it stands.
    special_tokens : {"text", "parse"}
        Whether the name of a special token inside a text is read as plain characters or as that
        token.
    too_long : {"error", "truncate"}
        What to do with texts beyond the context; "truncate" scores the beginning that fits,
        without end of text, and warns.
    max_length : int, optional
        Longest context plus text, in tokens; by default what the model's configuration says.
    batch_tokens, batch_size : int, optional
        Most tokens (padding included) and rows of a batch. Halved when memory runs out.
    padding_side : {"right", "left"}
        Changes nothing but rounding.
    cache : folder, optional
        Log-probabilities are kept there, keyed by every weight of the model, its configuration,
        the decoding, and the tokens of prompt and text. An interrupted run resumes from it.
    progress : bool, optional
        A bar on stderr; by default on a terminal only.
    name : str, default "policy"
    trust_remote_code, allow_pickle : bool, default False
        Both let a downloaded model run code on this machine.
    local_files_only : bool, default False
        Never ask the hub; a folder is never asked for there anyway.

    Attributes
    ----------
    training_rows : tuple
        Keys of the logged texts that trained the model, where this package did it, one element for
        each log; `save` writes them, and by them `evaluate` leaves those rows out.

    Raises
    ------
    ImportError
        If transformers (or peft, for an adapter) is not installed.
    FileNotFoundError, OSError
        If the model cannot be found.
    TypeError, ValueError
        If arguments do not fit each other; the message says which.

    Notes
    -----
    *Tokens, not characters.* A completion is encoded by itself and its ids are put after the
    prompt's: encoding both together could merge characters across the boundary. A tokenizer that
    adds a space before a text does so here as well. The score is that of the usual encoding; the
    probability of a text added up over all its spellings is slightly larger. See `Draws.canonical`.

    *Precision.* Token log-probabilities are float32 or better, their sum is float64. In bf16 the
    logits themselves carry about three digits, as they do when the model writes.

    *Memory.* The head runs in chunks over the scored positions only, checked on the first batch
    against the model's own logits; where they differ, the model's own are used, a few rows at a
    time.

    Examples
    --------
    >>> from causal_lm_opt.lm import from_texts
    >>> texts = ["Join us today.", "Join us.", "Stay at home."] * 4
    >>> policy = from_texts(texts, epochs=1, vocab_size=280, n_layer=1, n_embd=16, n_head=1)
    >>> policy.log_prob(["Join us.", "Stay at home."]).shape
    (2,)
    >>> draws = policy.sample(3, random_state=0, max_new_tokens=8)
    >>> len(draws), draws.log_prob.shape
    (3, (3,))
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        *,
        adapter: str | os.PathLike[str] | None = None,
        dtype: str | torch.dtype | None = None,
        device: str | torch.device | None = None,
        quantization_config: Any = None,
        gguf_file: str | None = None,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        eos_token: str | int | None = None,
        bos: bool | Literal["auto"] = "auto",
        special_tokens: Literal["text", "parse"] = "text",
        too_long: Literal["error", "truncate"] = "error",
        max_length: int | None = None,
        batch_tokens: int | None = None,
        batch_size: int | None = None,
        padding_side: PaddingSide = "right",
        cache: str | os.PathLike[str] | None = None,
        progress: bool | None = None,
        name: str = "policy",
        trust_remote_code: bool = False,
        allow_pickle: bool = False,
        local_files_only: bool = False,
    ) -> None:
        self.decoding = Decoding(temperature, top_k, top_p)
        if padding_side not in ("right", "left"):
            raise ValueError(f'padding_side must be "right" or "left", got {padding_side!r}.')
        check_counts(max_length=max_length, batch_tokens=batch_tokens, batch_size=batch_size)
        loading = Loading(
            dtype, device, quantization_config, gguf_file, trust_remote_code, allow_pickle,
            local_files_only,
        )  # fmt: skip
        weights, given = model, not isinstance(model, str | os.PathLike)
        model, tokenizer = open_model(model, tokenizer, adapter, loading)
        self.model, self.tokenizer, self.name = model, tokenizer, name
        end = end_token(tokenizer, eos_token)
        start = tokenizer.bos_token_id
        self.encoder = Encoder(
            tokenizer, end_token(tokenizer, None) if start is None else int(start), end,
            context_length(model) if max_length is None else max_length,
            bos, special_tokens, too_long,
        )  # fmt: skip
        self.engine = Engine(model, batch_tokens, batch_size, padding_side, progress, name)
        self.cache = cache
        source = getattr(model, "name_or_path", "") if given else weights
        places = [Path(place).expanduser() for place in (source, adapter) if place]
        self._training_rows = tuple(rows for p in places for rows in read_training_rows(p))
        for place in filter(lost_training_rows, places):
            warnings.warn(
                f"{place}: rows of a log trained this model, and {FILE}, which tells them, is not "
                "there: its value must not come from those rows. Copy the file from where the "
                "model was trained (LanguageModelPolicy.save writes it, save_pretrained does not).",
                EstimationWarning,
                stacklevel=2,
            )

    @property
    def training_rows(self) -> tuple[TrainingRows, ...]:
        """Rows that trained the model: one entry for each log."""
        return self._training_rows

    @training_rows.setter
    def training_rows(self, rows: tuple[TrainingRows, ...]) -> None:
        self._training_rows = rows
        config = getattr(self.model, "config", None)
        if config is None or hasattr(self.model, "peft_config"):
            return
        if rows:
            setattr(config, MARK, FILE)  # transformers writes it with the model, wherever to
        elif hasattr(config, MARK):
            delattr(config, MARK)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.engine.device

    def __repr__(self) -> str:
        return f"<LanguageModelPolicy {self.name!r}: {self.decoding.describe()}>"

    # ------------------------------------------------------------------ scores
    def log_prob(
        self, texts: Iterable[str], prompts: Sequence[Prompt] | None = None, *, eos: bool = True
    ) -> Float:
        """Natural log-probability of each text (given its prompt), closed by end of text.

        Parameters
        ----------
        texts : iterable of n str
            Completions; an empty one has the probability of ending at once.
        prompts : sequence of n, optional
            Strings, or conversations (lists of messages with ``role`` and ``content``), which the
            tokenizer's chat template renders.
        eos : bool, default True
            Count the end token. Without it the result is the probability that a text BEGINS so,
            which does not sum to one over texts.

        Returns
        -------
        (n,) float64 array

        Raises
        ------
        TypeError, ValueError
            If texts or prompts are of the wrong kind or number, or too long for the model.
        MemoryError
            If a single text does not fit.
        """
        self._check_prompted(prompts)
        return self._totals(self.encoder.rows(texts, prompts, eos=eos))

    def token_log_prob(
        self, texts: Iterable[str], prompts: Sequence[Prompt] | None = None, *, eos: bool = True
    ) -> list[Float]:
        """Log-probability of every token of each text; see `log_prob`, which sums them.

        Returns
        -------
        list of n (T_i,) float64 arrays
            In the order of ``encode(texts, prompts)``; not kept in the cache.
        """
        self._check_prompted(prompts)
        rows = self.encoder.rows(texts, prompts, eos=eos)
        found: dict[Encoded, Float] = {}
        self.engine.score(list(dict.fromkeys(rows)), self.decoding, found.__setitem__)
        return [found[row].copy() for row in rows]

    def log_prob_ids(
        self, completions: Iterable[Sequence[int]], prompts: Sequence[Prompt] | None = None
    ) -> Float:
        """Log-probability of completions given as token ids, nothing added: see `Draws.token_ids`.

        Parameters
        ----------
        completions : iterable of n sequences of int
            With the end token where it is to count.
        prompts : sequence of n, optional

        Returns
        -------
        (n,) float64 array
        """
        listed = [tuple(int(i) for i in ids) for ids in completions]
        vocabulary = int(self.model.config.get_text_config().vocab_size)
        for i, ids in enumerate(listed):
            if ids and not 0 <= min(ids) <= max(ids) < vocabulary:
                raise ValueError(
                    f"completions[{i}] has a token outside the vocabulary of {vocabulary}."
                )
        contexts = self.encoder.contexts(prompts, len(listed))
        rows = [Encoded(c, x) for c, x in zip(contexts, listed, strict=True)]
        return self._totals(self.encoder.fitted(rows))

    def encode(
        self, texts: Iterable[str], prompts: Sequence[Prompt] | None = None, *, eos: bool = True
    ) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Tokens conditioned on and tokens scored, for each text."""
        rows = self.encoder.rows(texts, prompts, eos=eos)
        return [(row.context, row.completion) for row in rows]

    def _check_prompted(self, prompts: object) -> None:
        """A warning where a model of prompts is given none, or one without is given some."""
        said = needs_prompts(self.training_rows, given=prompts is not None)
        if said:
            warnings.warn(f"{self.name}: {said}", EstimationWarning, stacklevel=3)

    def _totals(self, rows: list[Encoded]) -> Float:
        """Log-probabilities of rows, from the cache where they are there; each row once."""
        unique = list(dict.fromkeys(rows))
        if self.cache is None:
            found: dict[Encoded, float] = {}
            self.engine.score(unique, self.decoding, lambda row, t: found.update({row: t.sum()}))
        else:
            found = self._through_cache(unique, self.cache)
        return np.array([found[row] for row in rows], dtype=np.float64)

    def _through_cache(
        self, rows: list[Encoded], folder: str | os.PathLike[str]
    ) -> dict[Encoded, float]:
        kept = ScoreCache(folder, fingerprint(self.model, self.decoding, self.dtype_name))
        keys = {row: row.key() for row in rows}
        found = {row: value for row, key in keys.items() if (value := kept.get(key)) is not None}

        def keep(row: Encoded, tokens: Float) -> None:
            found[row] = float(tokens.sum())
            kept.put(keys[row], found[row])

        try:
            self.engine.score([row for row in rows if row not in found], self.decoding, keep)
        finally:  # also on Ctrl-C: what is done is kept
            kept.flush()
        return found

    @property
    def dtype_name(self) -> str:
        """Precision of the weights, as in ``"float32"``."""
        return str(self.model.dtype).removeprefix("torch.")

    # ------------------------------------------------------------------ draws
    def sample(
        self,
        n: int = 1,
        random_state: int | np.random.Generator | None = None,
        *,
        prompts: Sequence[Prompt] | None = None,
        max_new_tokens: int | None = None,
    ) -> Draws:
        """Draw texts, with their log-probabilities under the distribution drawn from.

        Parameters
        ----------
        n : int, default 1
            Number of texts; with prompts, of texts per prompt.
        random_state : int, numpy Generator or None
            An int makes the draws reproducible, whatever the batch size; the first texts of a
            longer run are those of a shorter one.
        prompts : sequence, optional
            As in `log_prob`; draws come prompt by prompt.
        max_new_tokens : int, optional
            Most tokens of a draw. By default 512 or what the context leaves, with a warning where
            a text did not end by then.

        Returns
        -------
        Draws
            A sequence of texts that also holds ``log_prob``, ``token_ids``, ``finished`` and
            ``canonical``.

        Warns
        -----
        EstimationWarning
            If texts were cut at the default limit: such draws are beginnings of texts. If the
            model was trained with prompts and is given none. If ``n`` of each prompt are 100,000
            texts or more.
        """
        check_counts(max_new_tokens=max_new_tokens)
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0:
            raise ValueError(f"n must be an integer >= 0, got {n!r}.")
        self._check_prompted(prompts)
        if prompts is not None and n > 1 and n * len(prompts) >= MANY_DRAWS:
            warnings.warn(
                f"n is of each prompt: {n * len(prompts):,} texts are drawn of {len(prompts):,} "
                "prompts. For one of each give n=1.",
                EstimationWarning, stacklevel=2,
            )  # fmt: skip
        distinct = self.encoder.contexts(prompts, 1 if prompts is None else len(prompts))
        index = np.repeat(np.arange(len(distinct)), n)
        contexts = [distinct[i] for i in index]
        wanted = NEW_TOKENS if max_new_tokens is None else max_new_tokens
        limits = [self._room(context, wanted) for context in contexts]
        seeds = np.random.default_rng(random_state).integers(2**63, size=len(contexts)).tolist()
        drawn = self.engine.draw(contexts, limits, seeds, self.decoding, self.encoder.end_id)
        if max_new_tokens is None and not all(d.finished for d in drawn):
            cut = sum(not d.finished for d in drawn)
            warnings.warn(
                f"{cut} of {len(drawn)} draws were cut at {max(limits)} tokens or the end of the "
                "context, so they are beginnings of texts; set max_new_tokens, or use only "
                "those that are .finished.",
                EstimationWarning, stacklevel=2,
            )  # fmt: skip
        return self._as_draws(drawn, index)

    def _room(self, context: tuple[int, ...], wanted: int) -> int:
        limit = self.encoder.max_length
        if limit is None:
            return wanted
        if len(context) > limit:
            raise ValueError(
                f"a prompt of {len(context)} tokens does not fit the model's context of {limit}."
            )
        # The last token drawn is never read, so it needs no place of its own.
        return min(wanted, limit + 1 - len(context))

    def _as_draws(self, drawn: list[DrawnTokens], index: NDArray[np.intp]) -> Draws:
        bodies = [d.ids[:-1] if d.finished else d.ids for d in drawn]
        texts = tuple(self.encoder.decode(ids) for ids in bodies)
        again = self.encoder.texts(texts)
        return Draws(
            texts,
            np.array([d.log_prob for d in drawn], dtype=np.float64),
            tuple(d.ids for d in drawn),
            np.array([d.finished for d in drawn], dtype=bool),
            np.array([a == b for a, b in zip(again, bodies, strict=True)], dtype=bool),
            index.astype(np.intp),
            self.decoding.describe(),
        )

    # ------------------------------------------------------------------ copies and files
    def with_decoding(
        self, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0,
        name: str | None = None,
    ) -> LanguageModelPolicy:  # fmt: skip
        """The same model (not copied) decoded in another way."""
        other = copy.copy(self)
        other.decoding = Decoding(temperature, top_k, top_p)
        other.name = self.name if name is None else name
        return other

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write model and tokenizer as an ordinary Hugging Face folder (safetensors).

        Temperature and truncation are the policy's and not the model's: they are not written. Keys
        of the texts that trained it are (``training_rows.json``), so that ``evaluate`` leaves those
        rows of a log out.

        Raises
        ------
        FileExistsError
            If the folder exists and is not empty.
        """
        return save_folder(
            self.model, self.tokenizer, folder,
            lambda staged: write_training_rows(staged, self.training_rows),
        )  # fmt: skip
