"""Scores kept on disk, batches halved when memory runs out."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from causal_lm_opt.exceptions import EstimationWarning
from causal_lm_opt.lm import _cache
from causal_lm_opt.lm._batching import MemoryLimit, plan_batches, run_batches
from causal_lm_opt.lm._cache import ScoreCache, fingerprint

pytestmark = pytest.mark.torch
TEXTS = ["ab", "", "b", "aabbab", "ab", "bbbbbbbbbbb"]


def parts(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.scores"))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of rows of every batch that a model really scored."""
    from causal_lm_opt.lm import _engine

    seen: list[int] = []
    plain = _engine.token_log_prob

    def counted(model: Any, batch: Any, head: Any, **given: Any) -> Any:
        seen.append(len(batch.input_ids))
        return plain(model, batch, head, **given)

    monkeypatch.setattr(_engine, "token_log_prob", counted)
    return seen


def test_the_second_run_reads_the_cache(tiny: Any, tmp_path: Path, calls: list[int]) -> None:
    model = tiny.model()
    expected = tiny.policy(model).log_prob(TEXTS, ["a"] * 6)
    assert sum(calls) == 5  # the repeated text once
    calls.clear()
    for _ in range(2):
        found = tiny.policy(model, cache=tmp_path).log_prob(TEXTS, ["a"] * 6)
        np.testing.assert_array_equal(found, expected)
    assert sum(calls) == 5
    more = tiny.policy(model, cache=tmp_path).log_prob([*TEXTS, "bab"], ["a"] * 7)
    np.testing.assert_allclose(more[:6], expected)
    assert sum(calls) == 6


def test_the_key_holds_all_that_matters(tiny: Any, tmp_path: Path, calls: list[int]) -> None:
    model = tiny.model()
    policy = tiny.policy(model, cache=tmp_path)
    policy.log_prob(["ab"])
    policy.log_prob(["ab"], eos=False)
    policy.log_prob(["ab"], ["b"])
    policy.log_prob(["ba"])
    policy.with_decoding(temperature=0.5).log_prob(["ab"])
    tiny.policy(tiny.model(seed=1), cache=tmp_path).log_prob(["ab"])
    tiny.policy(tiny.model().double(), cache=tmp_path).log_prob(["ab"])
    other = tiny.tokenizer(("</s>", "b", "a"))  # the same weights, other words
    tiny.policy(model, other, cache=tmp_path).log_prob(["aab"])
    assert len(calls) == 8
    tiny.policy(model, other, cache=tmp_path).log_prob(["ba"])  # tokens of "ab" in the first
    assert len(calls) == 8
    with torch.no_grad():
        model.model.norm.weight.data[0] += 1e-3  # .data hides the change from torch's counters
    policy.log_prob(["ab"])
    assert len(calls) == 9


def test_fingerprint_reads_configuration_and_weights(tiny: Any) -> None:
    one, two = tiny.model("granite"), tiny.model("granite")
    assert fingerprint(one) == fingerprint(two)
    two.config.logits_scaling = 7.0
    assert fingerprint(one) != fingerprint(two)
    assert fingerprint(one) != fingerprint(one, "x")
    assert len(fingerprint(one)) == 32
    assert fingerprint(tiny.model().bfloat16()) != fingerprint(tiny.model())


@pytest.mark.parametrize(
    "damage",
    [lambda raw: raw[:-3], lambda raw: b"", lambda raw: raw[:70] + b"\x01" + raw[71:],
     lambda raw: b"x" + raw[1:], lambda raw: raw + b"\x00" * 24],
)  # fmt: skip
def test_damage_is_noticed_and_mended(
    tiny: Any, tmp_path: Path, calls: list[int], damage: Any
) -> None:
    policy = tiny.policy(tiny.model(), cache=tmp_path)
    expected = policy.log_prob(TEXTS)
    (part,) = parts(tmp_path)
    part.write_bytes(damage(part.read_bytes()))
    with pytest.warns(EstimationWarning, match="is damaged; it is set aside"):
        np.testing.assert_array_equal(policy.log_prob(TEXTS), expected)
    assert sum(calls) == 10
    assert [path for path in parts(tmp_path) if path == part] == []
    np.testing.assert_array_equal(policy.log_prob(TEXTS), expected)
    assert sum(calls) == 10


def test_an_interrupted_run_resumes(
    tiny: Any, tmp_path: Path, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tiny.policy(tiny.model(), cache=tmp_path, batch_size=1)
    score = policy.engine._score_batch

    def interrupted(rows: Any, decoding: Any) -> Any:
        if len(calls) == 3:
            raise KeyboardInterrupt
        return score(rows, decoding)

    monkeypatch.setattr(policy.engine, "_score_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        policy.log_prob(TEXTS)
    monkeypatch.undo()
    assert len(parts(tmp_path)) == 1
    again = tiny.policy(tiny.model(), cache=tmp_path)
    expected = tiny.policy(tiny.model()).log_prob(TEXTS)
    np.testing.assert_allclose(again.log_prob(TEXTS), expected, rtol=1e-6)
    assert not list(tmp_path.rglob("*.partial"))


def killed(folder: str) -> None:
    """Write one part, then die without cleaning up, as a killed process does."""
    import os

    kept = ScoreCache(folder, "model")
    kept.put(b"k" * 16, -1.0)
    kept.flush()
    kept.put(b"l" * 16, -2.0)
    (kept.folder / "00-half.partial").write_bytes(b"half")
    os._exit(9)


def test_a_killed_process_leaves_whole_parts(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=killed, args=(str(tmp_path),))
    process.start()
    process.join()
    assert process.exitcode == 9
    kept = ScoreCache(tmp_path, "model")
    assert (kept.get(b"k" * 16), kept.get(b"l" * 16)) == (-1.0, None)


def test_parts_are_merged_and_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cache, "MANY_PARTS", 3)
    writers = [ScoreCache(tmp_path, "model") for _ in range(5)]
    for i, writer in enumerate(writers):
        writer.put(bytes([i]) * 16, -float(i))
        writer.flush()
        writer.flush()  # nothing new: nothing written
    assert len(parts(tmp_path)) == 5
    merged = ScoreCache(tmp_path, "model")
    assert len(parts(tmp_path)) == 1
    for kept in (merged, ScoreCache(tmp_path, "model")):
        assert [kept.get(bytes([i]) * 16) for i in range(5)] == [0, -1, -2, -3, -4]
    assert ScoreCache(tmp_path, "other").get(bytes(16)) is None


def test_a_long_run_is_written_as_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cache, "FLUSH_SECONDS", -1.0)
    kept = ScoreCache(tmp_path, "model")
    kept.put(bytes(16), -1.0)
    assert len(parts(tmp_path)) == 1


# ------------------------------------------------------------------ memory
def test_batches_cover_every_row_within_the_limit() -> None:
    lengths = np.random.default_rng(0).integers(1, 50, 200).tolist()
    batches = plan_batches(lengths, max_tokens=120, max_rows=7)
    assert sorted(np.concatenate(batches).tolist()) == list(range(200))
    for batch in batches:
        assert len(batch) <= 7
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 120
    widest = [max(lengths[i] for i in batch) for batch in batches]
    assert widest == sorted(widest, reverse=True)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(),
     RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")],
)  # fmt: skip
def test_batches_halve_until_they_fit(
    tiny: Any, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tiny.policy(tiny.model())
    expected = policy.log_prob(TEXTS)
    score, sizes = policy.engine._score_batch, []

    def small_memory(rows: Any, decoding: Any) -> Any:
        sizes.append(len(rows))
        if len(rows) * max(map(len, rows)) > 13:
            raise error
        return score(rows, decoding)

    monkeypatch.setattr(policy.engine, "_score_batch", small_memory)
    np.testing.assert_allclose(policy.log_prob(TEXTS), expected, rtol=1e-6)
    assert sizes[0] == 5
    sizes.clear()
    policy.log_prob(TEXTS)
    assert sizes[0] < 5  # what did not fit is not tried again


def test_one_row_that_does_not_fit_is_an_error() -> None:
    def never(rows: Any) -> None:
        raise MemoryError("no")

    with pytest.raises(MemoryError, match="one text of 7 tokens does not fit"):
        list(run_batches([np.array([0, 1])], [7, 5], never, MemoryLimit()))


def test_other_errors_pass() -> None:
    def broken(rows: Any) -> None:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        list(run_batches([np.array([0])], [7], broken, MemoryLimit()))


def test_progress_is_shown_when_asked(tiny: Any, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.policy(tiny.model(), progress=True, name="mine").log_prob(TEXTS)
    assert "mine" in capsys.readouterr().err
    tiny.policy(tiny.model()).log_prob(TEXTS)
    assert capsys.readouterr().err == ""
