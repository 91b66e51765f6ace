"""Saved models come back the same; damaged ones say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from causal_lm_opt.exceptions import DataError
from causal_lm_opt.rewards import AdversarialReward, BradleyTerryReward, MultiHeadReward

FILES = {"reward.safetensors", "reward.json"}


@pytest.mark.parametrize("kind", [BradleyTerryReward, MultiHeadReward, AdversarialReward])
def test_a_saved_model_is_the_same_model(kind, pairs, small, tmp_path) -> None:
    model = kind(**small, calibration="temperature", standardize=True)
    model.fit(pairs.chosen, pairs.rejected, objective=pairs.objective, label=pairs.label)
    model.save(tmp_path / "m")
    assert {f.name for f in (tmp_path / "m").iterdir()} == FILES
    assert [f.name for f in tmp_path.iterdir()] == ["m"]  # nothing half written beside it
    twin = kind.load(tmp_path / "m")
    assert twin.get_params() == model.get_params()
    for name in ("objectives_", "n_features_in_", "temperature_", "history_", "best_epoch_"):
        np.testing.assert_array_equal(getattr(twin, name), getattr(model, name))
    np.testing.assert_array_equal(
        twin.predict(pairs.chosen, pairs.objective), model.predict(pairs.chosen, pairs.objective)
    )
    np.testing.assert_array_equal(
        twin.transform(pairs.chosen, pairs.objective),
        model.transform(pairs.chosen, pairs.objective),
    )
    with pytest.raises(FileExistsError, match="save to a new folder"):
        model.save(tmp_path / "m")


@pytest.mark.parametrize("labels", [[0, 1], [0.5, 1.5], ["a", "b"], [True, False]])
def test_labels_come_back_as_they_were(labels, small, tmp_path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(40, 2)), columns=["u", "v"])
    objective = np.array(labels * 20)
    model = MultiHeadReward(**small).fit(frame, frame[::-1], objective=objective)
    model.save(tmp_path / "m")
    twin = MultiHeadReward.load(tmp_path / "m")
    assert twin.objectives_.tolist() == sorted(labels)
    np.testing.assert_array_equal(twin.predict(frame, objective), model.predict(frame, objective))
    assert twin.feature_names_in_.tolist() == ["u", "v"]


def test_an_encoder_of_ones_own_is_given_again(pairs, small, tmp_path) -> None:
    encoder = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.BatchNorm1d(4))
    model = BradleyTerryReward(**small, encoder=encoder).fit(pairs.chosen, pairs.rejected)
    model.save(tmp_path / "m")
    twin = BradleyTerryReward.load(tmp_path / "m", encoder=encoder)
    np.testing.assert_array_equal(twin.predict(pairs.chosen), model.predict(pairs.chosen))
    with pytest.raises(ValueError, match="pass encoder="):
        BradleyTerryReward.load(tmp_path / "m")
    with pytest.raises(DataError, match="do not fit each other"):
        BradleyTerryReward.load(tmp_path / "m", encoder=torch.nn.Linear(6, 4))


@pytest.fixture
def saved(pairs: Any, small: Any, tmp_path: Path) -> Path:
    BradleyTerryReward(**small).fit(pairs.chosen, pairs.rejected).save(tmp_path / "m")
    return tmp_path / "m"


def test_damaged_folders_are_refused(saved) -> None:
    weights, settings = saved / "reward.safetensors", saved / "reward.json"
    whole, text = weights.read_bytes(), settings.read_text()
    for spoil, said in (
        (lambda: weights.write_bytes(whole[:200]), "reward.safetensors: is damaged"),
        (lambda: weights.write_bytes(b""), "reward.safetensors: is damaged"),
        (lambda: settings.write_text(text[:50]), "reward.json: cannot be read"),
        (lambda: settings.write_text("[]"), "no reward model of layout 1"),
        (lambda: settings.write_text(text.replace('"layout": 1', '"layout": 2')), "of layout 1"),
        (lambda: settings.write_text(text.replace('"width": 6', '"width": 7')), "do not fit"),
        (lambda: settings.write_text(text.replace('"epochs"', '"epoches"')), "do not fit"),
        (lambda: settings.write_text('{"layout": 1, "class": "BradleyTerryReward"}'), "do not fit"),
    ):
        spoil()
        with pytest.raises(DataError, match=said):
            BradleyTerryReward.load(saved)
        weights.write_bytes(whole)
        settings.write_text(text)
    with pytest.raises(DataError, match="holds a BradleyTerryReward"):
        MultiHeadReward.load(saved)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no reward\.safetensors"):
        BradleyTerryReward.load(saved)
    with pytest.raises(FileNotFoundError, match=r"holds no reward\.json"):
        BradleyTerryReward.load(saved.parent)
    assert "layout" in json.loads(text)
