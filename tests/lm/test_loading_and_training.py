"""Folders, adapters, safety; and a model trained from texts."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from causal_lm_opt import lm
from causal_lm_opt.lm import LanguageModelPolicy, from_texts, objectives

pytestmark = pytest.mark.torch
TEXTS = ["Join us today.", "Join us.", "Stay at home. Ünïcode 🎈", "Stay at home."] * 8


@pytest.fixture(scope="module")
def trained() -> LanguageModelPolicy:
    return from_texts(
        TEXTS, epochs=25, vocab_size=300, n_layer=1, n_embd=32, n_head=2, batch_size=8,
        learning_rate=1e-2,
    )  # fmt: skip


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **given: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_it_learns_and_is_reproducible(trained: LanguageModelPolicy) -> None:
    p = np.exp(trained.log_prob(sorted(set(TEXTS))))
    assert p.sum() > 0.7  # each is a quarter of the texts
    assert p.min() > 0.03
    draws = trained.sample(50, random_state=0, max_new_tokens=60)
    share = np.mean([text in TEXTS for text in draws])
    assert share > 0.6
    one, two = (from_texts(TEXTS, epochs=2, n_layer=1, n_embd=16, n_head=1) for _ in range(2))
    np.testing.assert_array_equal(one.log_prob(TEXTS), two.log_prob(TEXTS))


def test_a_small_folder_opens_without_progress_bars(
    trained: LanguageModelPolicy, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """In notebooks a bar for milliseconds of reading stands among the results."""
    trained.save(tmp_path / "model")
    capfd.readouterr()
    LanguageModelPolicy(tmp_path / "model")
    assert "Loading weights" not in capfd.readouterr().err


def test_training_leaves_the_global_seed_alone() -> None:
    before = torch.random.get_rng_state()
    from_texts(TEXTS, epochs=1, n_layer=1, n_embd=16, n_head=1)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    "given, message",
    [({"texts": []}, "non-empty"), ({"vocab_size": 100}, "at least 258"),
     ({"n_head": 3, "n_embd": 16}, "multiple of n_head"), ({"context": 5}, "shorter than"),
     ({"batch_size": 0}, "batch_size >= 1")],
)  # fmt: skip
def test_bad_training(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_texts(**({"texts": TEXTS, "epochs": 1} | given))


@pytest.mark.usefixtures("no_network")
def test_save_and_load(trained: LanguageModelPolicy, tmp_path: Path) -> None:
    folder = trained.save(tmp_path / "made" / "model")
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    again = LanguageModelPolicy(folder)
    np.testing.assert_array_equal(again.log_prob(TEXTS), trained.log_prob(TEXTS))
    assert (
        again.sample(3, 0, max_new_tokens=20).texts == trained.sample(3, 0, max_new_tokens=20).texts
    )
    double = LanguageModelPolicy(str(folder), dtype="float64", device="cpu", name="d")
    assert double.dtype_name == "float64"
    np.testing.assert_allclose(double.log_prob(TEXTS), trained.log_prob(TEXTS), rtol=1e-5)
    with pytest.raises(FileExistsError, match="save to a new folder"):
        trained.save(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


@pytest.mark.usefixtures("no_network")
def test_pickles_are_refused(trained: LanguageModelPolicy, tmp_path: Path) -> None:
    folder = trained.save(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    torch.save(trained.model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"as a pickle only .pytorch_model.bin.*allow_pickle=True"):
        LanguageModelPolicy(folder)
    trusted = LanguageModelPolicy(folder, allow_pickle=True)
    np.testing.assert_allclose(trusted.log_prob(TEXTS), trained.log_prob(TEXTS), rtol=1e-6)


@pytest.mark.usefixtures("no_network")
def test_remote_code_is_refused(trained: LanguageModelPolicy, tmp_path: Path) -> None:
    import json

    folder = trained.save(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "evil.Evil", "AutoConfig": "evil.EvilConfig"}
    config["model_type"] = "evil"
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ValueError, match=r"trust_remote_code|custom code|evil"):
        LanguageModelPolicy(folder)


# peft asks transformers for a name that is going away.
PEFT_WARNING = "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"


@pytest.mark.filterwarnings(PEFT_WARNING)
def test_an_adapter_counts(tiny: Any, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    base = tiny.policy(tiny.model()).log_prob(["ab", "b"])
    settings = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "v_proj"])
    wrapped = peft.get_peft_model(tiny.model(), settings)
    with torch.no_grad():
        for name, p in wrapped.named_parameters():
            if "lora_B" in name:
                p.fill_(0.3)
    policy = tiny.policy(wrapped.eval(), cache=tmp_path / "cache")
    found = policy.log_prob(["ab", "b"])
    assert np.abs(found - base).max() > 0.01
    assert policy.engine.head.kind == "chunked"
    expected = [tiny.loop(wrapped, c, x) for c, x in policy.encode(["ab", "b"])]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    wrapped.save_pretrained(tmp_path / "adapter")
    loaded = tiny.policy(tiny.model(), adapter=tmp_path / "adapter")
    np.testing.assert_allclose(loaded.log_prob(["ab", "b"]), found, rtol=1e-5)
    with wrapped.disable_adapter():
        np.testing.assert_allclose(tiny.policy(wrapped).log_prob(["ab", "b"]), base, rtol=1e-5)


@pytest.mark.filterwarnings(PEFT_WARNING)
def test_an_adapter_of_virtual_tokens_is_refused(tiny: Any) -> None:
    peft = pytest.importorskip("peft")
    settings = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    policy = tiny.policy(peft.get_peft_model(tiny.model(), settings))
    with pytest.raises(ValueError, match="virtual tokens"):
        policy.log_prob(["ab"])


def test_what_is_no_model(tiny: Any) -> None:
    with pytest.raises(TypeError, match="needs its tokenizer"):
        LanguageModelPolicy(tiny.model())
    with pytest.raises(TypeError, match="must be a folder, a hub name"):
        LanguageModelPolicy(3, tiny.tokenizer())
    with pytest.raises(TypeError, match="for models loaded here"):
        LanguageModelPolicy(tiny.model(), tiny.tokenizer(), dtype="float64")
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        LanguageModelPolicy("./no/such/folder")
    with pytest.raises(ValueError, match="dtype must be like"):
        LanguageModelPolicy(".", dtype="int8")


def test_every_public_name_is_there() -> None:
    """`Columns` too: what an objective is given by hand."""
    assert all(getattr(lm, name) is not None for name in lm.__all__)
    assert lm.Columns is objectives.Columns
    columns = lm.Columns(*(torch.zeros(2, dtype=torch.float64) for _ in range(3)))
    lm.IPWObjective(ess_floor=0).begin([columns])


def test_importing_the_room_loads_no_torch() -> None:
    code = (
        "import sys, causal_lm_opt.lm as lm; assert lm.Policy; "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
