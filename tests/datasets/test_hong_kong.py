"""The Hong Kong loader: on a small made-up file of its layout, and on the real one where it is."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causal_lm_opt.datasets import (
    HongKong,
    PiecePolicy,
    hong_kong_design,
    hong_kong_policies,
    load_hong_kong,
)
from causal_lm_opt.datasets import _design_checks as checks
from causal_lm_opt.exceptions import DataError

OTHERS = ["brave", "evil", "flag", "threat", "economy", "treatyviolation"]
LISTED = {
    "treatycommit": [f"Congress made promise {i}." for i in range(5)],
    **{
        arm: [f"Words of {arm} {i}.", f"Words of {arm} {i}. And more."]
        for i, arm in enumerate(OTHERS)
    },
}
LISTED["treatyviolation"] = ["The treaty is broken.", "The treaty is broken.", "Promises fail."]


def write_files(folder: Path, design: PiecePolicy, n: int = 300, seed: int = 0) -> pd.DataFrame:
    """Write files of the real layout; returns the rows."""
    texts = design.sample(n, random_state=seed)
    arm_of = {text: arm for arm, listed in LISTED.items() for text in listed}
    rng = np.random.default_rng(seed)
    rows = []
    for text in texts:
        pieces = split(text, arm_of)
        arms = [arm_of[piece] for piece in pieces]
        rows.append(
            {
                "resp": int(rng.integers(0, 101)),
                "numtexts": len(pieces),
                **{arm: int(arm in arms) for arm in LISTED},
                **{f"text{k + 1}": piece for k, piece in enumerate([*pieces, ""][:3])},
                "text": text,
            }
        )
    frame = pd.DataFrame(rows)
    frame.to_csv(folder / "hong_kong_2019.csv", index=False)
    listed = [(arm, text) for arm, texts in LISTED.items() for text in texts]
    pd.DataFrame(listed, columns=["arm", "text"]).to_csv(
        folder / "hong_kong_arm_texts.csv", index=False
    )
    return frame


def split(text: str, arm_of: dict[str, str]) -> list[str]:
    """Longest piece first: enough for these words."""
    if not text:
        return []
    piece = max((p for p in arm_of if text == p or text.startswith(p + " ")), key=len)
    return [piece, *split(text[len(piece) + 1 :], arm_of)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(tmp_path, hong_kong_design(LISTED))
    return tmp_path


def rewrite(folder: Path, **cells: str) -> Path:
    """Change cells of the second data row, as text."""
    path = folder / "hong_kong_2019.csv"
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    for column, value in cells.items():
        frame.loc[1, column] = value
    frame.to_csv(path, index=False)
    return path


# ---------------------------------------------------------------------- the design


def test_design_follows_from_its_steps() -> None:
    design = hong_kong_design(LISTED)
    z, prob = design.support()
    assert prob.sum() == pytest.approx(1.0)
    for length in (2, 3):
        assert prob[z["n_pieces"] == length].sum() == pytest.approx(0.5)
    two = z["n_pieces"] == 2
    assert prob[two & (z["treatycommit"] == 1)].sum() == pytest.approx(0.5 * 2 / 3)
    assert (z.loc[~two, "treatycommit"] == 1).all()
    np.testing.assert_allclose(prob[~two], 0.5 / 15)
    np.testing.assert_allclose(prob[two & (z["treatycommit"] == 1)], 0.5 * 2 / 3 / 6)
    np.testing.assert_allclose(prob[two & (z["treatycommit"] == 0)], 0.5 / 3 / 15)
    # One ordered text: pieces, arms, order, wordings.
    logp = design.log_prob(["Congress made promise 0. The treaty is broken."])[0]
    assert logp == pytest.approx(math.log(0.5 * 2 / 3 / 6 / 2 / 5 * 2 / 3))


def test_design_needs_the_anchor_and_two_others() -> None:
    with pytest.raises(ValueError, match="must hold 'treatycommit'"):
        hong_kong_design({"brave": ["B."], "evil": ["E."], "flag": ["F."]})
    with pytest.raises(ValueError, match="at least two other arms"):
        hong_kong_design({"treatycommit": ["T."], "evil": ["E."]})


def test_policies_are_what_they_say() -> None:
    design = hong_kong_design(LISTED)
    policies = hong_kong_policies(design)
    z, prob = policies["commit_and_brave"].support()
    assert (z[["treatycommit", "brave"]] == 1).all(axis=None)
    z, prob = policies["more_commit"].support()
    assert prob[z["n_pieces"] == 2].sum() == pytest.approx(0.5)
    share = prob[(z["n_pieces"] == 2) & (z["treatycommit"] == 1)].sum() / 0.5
    assert share == pytest.approx(2 * math.exp(0.5) / (2 * math.exp(0.5) + 1))

    def mean(policy: PiecePolicy, arm: str) -> float:
        z, prob = policy.support()
        return float(prob @ z[arm])

    assert mean(policies["more_brave"], "brave") > mean(design, "brave")
    assert mean(policies["less_evil"], "evil") < mean(design, "evil")


# ---------------------------------------------------------------------- the loader


def test_loader_returns_aligned_rows(folder: Path) -> None:
    data = load_hong_kong(folder)
    assert len(data) == len(data.texts) == len(data.outcome) == len(data.frame) == 300
    z = data.design.arms_of(data.texts)
    pd.testing.assert_frame_equal(data.arms, z[list(LISTED)])
    np.testing.assert_array_equal(data.n_pieces, z["n_pieces"])
    np.testing.assert_array_equal(data.logp_logging, data.design.log_prob(data.texts))
    assert np.isfinite(data.logp_logging).all()
    by_text = pd.Series(data.groups).groupby(pd.Series(data.texts)).nunique()
    assert (by_text == 1).all()
    assert data.groups.max() + 1 == len(set(data.texts))


def test_any_rows_in_any_order_load(folder: Path, tmp_path: Path) -> None:
    whole = load_hong_kong(folder)
    part = whole.frame.sample(40, random_state=1)
    path = tmp_path / "part.csv"
    part.to_csv(path, index=False)
    loaded = load_hong_kong(path, folder / "hong_kong_arm_texts.csv")
    assert loaded.frame.index.tolist() == list(range(40))
    np.testing.assert_array_equal(loaded.logp_logging, whole.logp_logging[part.index])
    np.testing.assert_array_equal(loaded.outcome, whole.outcome[part.index])
    assert load_hong_kong(path).sequences == loaded.sequences


def test_one_row_loads_and_empty_steps_have_no_p_value(folder: Path) -> None:
    path = folder / "hong_kong_2019.csv"
    pd.read_csv(path, dtype=str, keep_default_na=False).head(1).to_csv(path, index=False)
    table = load_hong_kong(folder).check_design()
    assert table["p_value"].isna().any()
    assert table.loc["number of pieces", "n"] == 1


def test_a_byte_order_mark_is_no_column(folder: Path) -> None:
    path = folder / "hong_kong_2019.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(load_hong_kong(folder)) == 300


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"resp": "101"}, r"row 2, column 'resp': 101 is not within 0 to 100"),
        ({"resp": "-1"}, r"row 2, column 'resp': -1 is not within"),
        ({"resp": ""}, r"row 2, column 'resp': '' is not a finite number"),
        ({"resp": "NA"}, r"row 2, column 'resp': 'NA' is not a finite number"),
        ({"resp": "inf"}, r"row 2, column 'resp': 'inf' is not a finite number"),
        ({"resp": "high"}, r"row 2, column 'resp': 'high' is not a finite number"),
        ({"numtexts": "4"}, r"row 2, column 'numtexts': 4 is neither 2 nor 3"),
        ({"brave": "2"}, r"row 2, column 'brave': 2 is neither 0 nor 1"),
        ({"text1": "Unheard of."}, r"row 2, column 'text1': 'Unheard of.' is not in the list"),
        ({"text1": ""}, r"row 2, columns .*: an empty piece before another"),
        ({"text": "Other words."}, r"row 2, column 'text': not the row's pieces"),
    ],
)
def test_wrong_cells_are_named(folder: Path, cells: dict[str, str], message: str) -> None:
    path = rewrite(folder, **cells)
    with pytest.raises(DataError, match=message) as caught:
        load_hong_kong(folder)
    assert str(path) in str(caught.value)


def test_contradictions_are_named(folder: Path) -> None:
    frame = load_hong_kong(folder).frame
    brave, length = int(frame["brave"].iloc[1]), int(frame["numtexts"].iloc[1])
    rewrite(folder, brave=str(1 - brave))
    with pytest.raises(DataError, match=r"row 2, column 'brave': \d, but the pieces say \d"):
        load_hong_kong(folder)
    rewrite(folder, brave=str(brave), numtexts=str(5 - length))
    with pytest.raises(DataError, match=r"row 2, column 'numtexts': \d, but the row has \d pieces"):
        load_hong_kong(folder)


def test_a_text_the_design_cannot_write_is_named(folder: Path) -> None:
    pieces = ["Words of brave 0.", "Words of evil 1.", "Words of flag 2."]
    cells = {arm: str(int(arm in ("brave", "evil", "flag"))) for arm in LISTED}
    texts = {f"text{k + 1}": piece for k, piece in enumerate(pieces)}
    rewrite(folder, numtexts="3", text=" ".join(pieces), **cells, **texts)
    with pytest.raises(DataError, match="row 2, column 'text': its arms cannot occur together"):
        load_hong_kong(folder)


def test_missing_columns_files_and_rows_are_named(folder: Path, tmp_path: Path) -> None:
    path = folder / "hong_kong_2019.csv"
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame.drop(columns=["resp", "flag"]).to_csv(path, index=False)
    with pytest.raises(DataError, match=r"columns \['resp', 'flag'\] are missing; the file has"):
        load_hong_kong(folder)
    frame.head(0).to_csv(path, index=False)
    with pytest.raises(DataError, match="no rows below the header"):
        load_hong_kong(folder)
    path.write_text("")
    with pytest.raises(DataError, match="not a readable CSV"):
        load_hong_kong(folder)
    path.write_bytes(frame.to_csv(index=False).encode("utf-16"))
    with pytest.raises(DataError, match="not a readable CSV"):
        load_hong_kong(folder)
    with pytest.raises(FileNotFoundError, match=r"give the folder that holds hong_kong_2019\.csv"):
        load_hong_kong(folder / "none")
    lonely = tmp_path / "lonely"
    lonely.mkdir()
    frame.to_csv(lonely / "hong_kong_2019.csv", index=False)
    with pytest.raises(FileNotFoundError, match="pass arm_texts="):
        load_hong_kong(lonely)
    (lonely / "hong_kong_arm_texts.csv").write_text("arm,text\nbrave,\n")
    with pytest.raises(DataError, match="row 1, column 'text': empty"):
        load_hong_kong(lonely)


# ---------------------------------------------------------------------- the checks


def test_chi_square_step_equals_scipy() -> None:
    values = list("aabbbbcccd")
    step = checks.chi_square_step("s", values, "abcd", (0.25, 0.25, 0.25, 0.25))
    expected = stats.chisquare([2, 4, 3, 1])
    assert step["statistic"] == pytest.approx(expected.statistic)
    assert step["p_value"] == pytest.approx(expected.pvalue)
    assert step["counts"] == (2, 4, 3, 1)
    assert step["min_expected"] == 2.5


def test_order_step_adds_up_the_sets() -> None:
    sequences = [("a", "b")] * 7 + [("b", "a")] * 3 + [("b", "c")] * 5 + [("c", "b")] * 9
    step = checks.order_step("s", sequences)
    expected = stats.chisquare([7, 3]).statistic + stats.chisquare([5, 9]).statistic
    assert step["statistic"] == pytest.approx(expected)
    assert step["df"] == 2


def test_collision_probability_equals_enumeration() -> None:
    design = hong_kong_design({"treatycommit": ["T.", "U."], "brave": ["B."], "evil": ["E.", "E."]})
    _, prob = design.texts_support()
    assert checks.collision_probability(design) == pytest.approx(float(prob @ prob))


def test_holm_equals_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = np.array([0.01, 0.04, 0.03, 0.005, 0.9])
    expected = multitest.multipletests(p, method="holm")[1]
    np.testing.assert_allclose(checks.holm(p), expected)
    with_gap = checks.holm(np.array([0.01, np.nan, 0.04]))
    np.testing.assert_allclose(with_gap, [0.02, np.nan, 0.04])


def test_checks_accept_the_right_design_and_reject_a_wrong_one(tmp_path: Path) -> None:
    """Seeded: under the right design the smallest of the adjusted p-values stays above .01."""
    design = hong_kong_design(LISTED)
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.mkdir()
    bad.mkdir()
    write_files(good, design, n=2000, seed=1)
    table = load_hong_kong(good).check_design()
    assert table["p_holm"].min() > 0.01
    write_files(bad, design.tilt({"brave": 0.5}), n=2000, seed=1)
    table = load_hong_kong(bad).check_design()
    assert table["p_holm"].loc["other arms | 3 pieces"] < 1e-4
    assert table["p_holm"].loc["wording | flag"] > 0.01


def p_value(step: checks.Step) -> float:
    """The p-value as a number."""
    value = step["p_value"]
    assert isinstance(value, float)
    return value


def test_texts_dealt_from_a_pool_are_noticed(tmp_path: Path) -> None:
    design = hong_kong_design({**LISTED, "treatycommit": [f"T{i}." for i in range(100)]})
    fresh = design.condition(n_pieces=3).sample(400, random_state=0)
    step = checks.repeat_step("s", fresh, design.condition(n_pieces=3))
    assert p_value(step) > 0.01
    pool = np.array(fresh[:200], dtype=object)
    dealt = np.random.default_rng(0).choice(pool, size=400).tolist()
    assert p_value(checks.repeat_step("s", dealt, design.condition(n_pieces=3))) < 1e-6


# ---------------------------------------------------------------------- the real file


@pytest.fixture
def real(data_dir: Path) -> HongKong:
    return load_hong_kong(data_dir)


@pytest.mark.real_data
def test_real_file_has_the_known_facts(real: HongKong) -> None:
    assert len(real) == 1983
    assert set(real.arms.columns) == {"treatycommit", *OTHERS}
    assert np.bincount(real.n_pieces).tolist() == [0, 0, 1034, 949]
    assert real.outcome.mean() == pytest.approx(67.5845, abs=1e-3)
    assert np.isfinite(real.logp_logging).all()
    flags = real.frame[[f"text_has_{arm}" for arm in real.arms]].astype(int).to_numpy()
    np.testing.assert_array_equal(flags, real.arms.to_numpy())
    assert sum(len(w) for w in real.design.wordings.values()) == 202


@pytest.mark.real_data
def test_real_file_agrees_with_the_design_where_the_docstring_says_so(real: HongKong) -> None:
    table = real.check_design()
    assert table.loc["treatycommit | 2 pieces", "counts"] == (692, 342)
    disagree = {"order | 3 pieces", "repeated texts | 2 pieces", "repeated texts | 3 pieces"}
    assert set(table.index[table["p_holm"] < 0.05]) == disagree
    assert table.loc["order | 3 pieces", "statistic"] == pytest.approx(116.904, abs=1e-3)
    assert table.loc["repeated texts | 3 pieces", "counts"] == (57,)
    assert table["min_expected"].loc["repeated texts | 3 pieces"] < 0.2
    once = real.check_design(distinct=True)
    assert once["p_holm"].min() > 0.05


@pytest.mark.real_data
def test_real_file_gives_the_doubled_wording_twice_the_probability(real: HongKong) -> None:
    doubled = max(real.design.wording_prob["treatyviolation"])
    assert doubled == pytest.approx(2 / 18)
    wording = real.design.wordings["treatyviolation"][
        real.design.wording_prob["treatyviolation"].index(doubled)
    ]
    shown = sum(wording in text for text in real.texts)
    n = int(real.arms["treatyviolation"].sum())
    assert (shown, n) == (50, 522)
    assert stats.binomtest(shown, n, 2 / 18).pvalue > 0.2
    assert stats.binomtest(shown, n, 1 / 17).pvalue < 0.002


@pytest.mark.real_data
def test_real_weights_average_to_one(real: HongKong) -> None:
    for policy in hong_kong_policies(real.design).values():
        weight = np.exp(policy.log_prob(real.texts) - real.logp_logging)
        assert weight.mean() == pytest.approx(1.0, abs=4 * weight.std() / math.sqrt(len(real)))


@pytest.mark.real_data
def test_a_shuffled_part_of_the_real_file_loads(
    real: HongKong, data_dir: Path, tmp_path: Path
) -> None:
    part = real.frame.sample(200, random_state=0)
    part.to_csv(tmp_path / "part.csv", index=False)
    loaded = load_hong_kong(tmp_path / "part.csv", data_dir / "hong_kong_arm_texts.csv")
    np.testing.assert_array_equal(loaded.logp_logging, real.logp_logging[part.index])
    assert loaded.check_design().shape[0] == 17
