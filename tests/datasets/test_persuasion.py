"""The persuasion loader: on small made-up files of its layout, and on the real ones."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causal_lm_opt import IPW
from causal_lm_opt.datasets import Persuasion, load_persuasion
from causal_lm_opt.datasets._persuasion_checks import table_step
from causal_lm_opt.exceptions import DataError, NotIdentifiedError

from .persuasion_files import ISSUES, MODELS, make_messages, make_outcomes, write_files

MESSAGES, OUTCOMES = "llm_persuasion_messages.csv", "llm_persuasion_outcomes.csv"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Persuasion:
    return load_persuasion(write_files(tmp_path_factory.mktemp("persuasion")))


def rewrite(folder: Path, name: str, row: int = 1, **cells: str) -> None:
    """Change cells of a data row (counted from 0), as text."""
    path = folder / name
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    for column, value in cells.items():
        frame.loc[row, column] = value
    frame.to_csv(path, index=False)


# ---------------------------------------------------------------------- reading


def test_what_is_loaded(data: Persuasion) -> None:
    messages, outcomes = make_messages(), make_outcomes(make_messages())
    treated = outcomes[outcomes["message_id"] > 0]
    assert len(data) == len(treated)
    assert len(data.control) == 12 * len(ISSUES)
    assert data.issues == ISSUES
    assert data.authors == data.complete_authors == (*MODELS, "human")
    assert data.human_authors == ("human",)
    assert (data.covariates, data.unread) == (("party",), ())
    assert data.outcome.tolist() == treated["dv_response_mean"].tolist()
    assert data.groups.tolist() == treated["message_id"].tolist()
    text_of = messages.set_index("message_id")["text"]
    assert data.readers["text"].tolist() == text_of[treated["message_id"]].tolist()
    counts = treated["message_id"].value_counts()
    n_readers = data.messages.set_index("message_id")["n_readers"]
    assert n_readers.tolist() == counts[n_readers.index].tolist()
    assert data.messages["words"].tolist() == [len(t.split()) for t in messages["text"]]


def test_gzipped_files_are_the_same(data: Persuasion, tmp_path: Path) -> None:
    folder = write_files(tmp_path, packed=True)
    for given in (
        load_persuasion(folder),
        load_persuasion(folder / f"{MESSAGES}.gz"),
        load_persuasion(folder / f"{MESSAGES}.gz", folder / f"{OUTCOMES}.gz"),
    ):
        pd.testing.assert_frame_equal(given.readers, data.readers)
        pd.testing.assert_frame_equal(given.messages, data.messages)


def test_other_names_and_columns_left_out(data: Persuasion, tmp_path: Path) -> None:
    frame = make_outcomes(make_messages())
    make_messages().to_csv(tmp_path / "texts.csv", index=False)
    needed = frame[["dv_response_mean", "issue", "message_id"]]
    needed.to_csv(tmp_path / "answers.csv", index=False, encoding="utf-8-sig")
    plain = load_persuasion(tmp_path / "texts.csv", tmp_path / "answers.csv")
    assert plain.covariates == ()
    assert plain.human_authors == ("human",)  # by name, without a condition
    assert plain.outcome.tolist() == data.outcome.tolist()


def test_unread_messages_are_left_out(tmp_path: Path) -> None:
    folder = write_files(tmp_path)
    frame = pd.read_csv(folder / OUTCOMES, keep_default_na=False)
    frame[~frame["message_id"].isin([1, 2])].to_csv(folder / OUTCOMES, index=False)
    found = load_persuasion(folder)
    assert found.unread == (1, 2)
    assert found.complete_authors == (*MODELS[1:], "human")
    with pytest.raises(NotIdentifiedError, match=r"'small' has no message on \['tolls'\]"):
        found.policy("small")


def test_missing_covariates_are_allowed(tmp_path: Path) -> None:
    rewrite(write_files(tmp_path), OUTCOMES, party="")
    found = load_persuasion(tmp_path)
    missing = found.readers["party"].isna().sum() + found.control["party"].isna().sum()
    assert missing == 1
    steps = found.check_design()
    assert steps.loc["balance of party over authors", "n"] == len(found) + len(found.control) - 1


BAD_CELLS = {
    "id not a number": (MESSAGES, {"message_id": "two"}, "row 2, column 'message_id': 'two'"),
    "id not whole": (MESSAGES, {"message_id": "2.5"}, "'2.5' is not a whole number"),
    "id negative": (OUTCOMES, {"message_id": "-1"}, "'-1' is not a whole number"),
    "id zero": (MESSAGES, {"message_id": "0"}, "0 marks the control group"),
    "id twice": (MESSAGES, {"message_id": "1"}, "row 2, column 'message_id': 1 occurs twice"),
    "id unknown": (OUTCOMES, {"message_id": "999"}, "999 is not among the messages"),
    "text empty": (MESSAGES, {"text": " "}, "row 2, column 'text': is empty"),
    "author empty": (MESSAGES, {"model": ""}, "row 2, column 'model': is empty"),
    "outcome missing": (OUTCOMES, {"dv_response_mean": ""}, "'' is not a finite number"),
    "outcome infinite": (OUTCOMES, {"dv_response_mean": "inf"}, "'inf' is not a finite number"),
    "outcome word": (OUTCOMES, {"dv_response_mean": "5,5"}, "'5,5' is not a finite number"),
    "outcome large": (OUTCOMES, {"dv_response_mean": "101"}, "101 is not within 0 to 100"),
    "covariate": (OUTCOMES, {"party": "left"}, "column 'party': 'left' is not a finite number"),
}


@pytest.mark.parametrize("kind", list(BAD_CELLS))
def test_bad_cells(tmp_path: Path, kind: str) -> None:
    name, cells, said = BAD_CELLS[kind]
    rewrite(write_files(tmp_path), name, **cells)
    with pytest.raises(DataError, match="row 2, column ") as error:
        load_persuasion(tmp_path)
    assert said in str(error.value)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def first(frame: pd.DataFrame, *, control: bool) -> int:
    return int(np.flatnonzero((frame["message_id"] == "0") == control)[1])


CONTRADICTIONS = {
    "issue": (False, {"issue": "roads"}, "is about '"),
    "control issue": (True, {"issue": "roads"}, "no message is about it"),
    "condition": (True, {"condition": "AI"}, "'AI' for message_id 0"),
    "condition of a reader": (False, {"condition": "control"}, "exactly the control readers"),
    "author": (False, {"model": "Other"}, "for a message by"),
}


@pytest.mark.parametrize("kind", list(CONTRADICTIONS))
def test_files_that_contradict_each_other(tmp_path: Path, kind: str) -> None:
    control, cells, said = CONTRADICTIONS[kind]
    folder = write_files(tmp_path)
    frame = pd.read_csv(folder / OUTCOMES, dtype=str, keep_default_na=False)
    rewrite(folder, OUTCOMES, first(frame, control=control), **cells)
    with pytest.raises(DataError, match=f"column '{next(iter(cells))}'") as error:
        load_persuasion(folder)
    assert said in str(error.value)


def broken(content: bytes, how: str) -> bytes:
    header, rest = content.split(b"\n", 1)
    return {
        "empty": b"",
        "header only": header + b"\n",
        "column missing": content.replace(b"issue", b"topic", 1),
        "column twice": header + b",issue\n" + rest.replace(b"\n", b",x\n"),
        "short row": content + b"7\n",
        "long row": content + b"7,7,7,7,7,7,7,7\n",
        "open quote": content + b'7,"',
        "not UTF-8": content.replace(b"tolls", b"t\xf6lls", 1),
        "cut gzip": b"\x1f\x8b\x08" + b"\x00" * 20,
        "Excel": b"PK\x03\x04" + content,
    }[how]


@pytest.mark.parametrize("name", [MESSAGES, OUTCOMES])
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("empty", "is empty"),
        ("header only", "no rows below the header"),
        ("column missing", r"\['issue'\] are missing; the file has"),
        ("column twice", "'issue' occurs 2 times"),
        ("short row", "has 1 cells, the header"),
        ("long row", "has 8 cells, the header"),
        ("open quote", "not a readable CSV"),
        ("not UTF-8", "is not UTF-8"),
        ("cut gzip", "damaged|cannot be read"),
        ("Excel", "Excel"),
    ],
)
def test_broken_files(tmp_path: Path, name: str, how: str, said: str) -> None:
    path = write_files(tmp_path) / name
    path.write_bytes(broken(path.read_bytes(), how))
    with pytest.raises(DataError, match=said) as error:
        load_persuasion(tmp_path)
    assert str(path) in str(error.value)


def test_only_control_readers(tmp_path: Path) -> None:
    path = write_files(tmp_path) / OUTCOMES
    frame = pd.read_csv(path, keep_default_na=False)
    frame[frame["message_id"] == 0].to_csv(path, index=False)
    with pytest.raises(DataError, match="every reader is in the control group"):
        load_persuasion(tmp_path)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=MESSAGES):
        load_persuasion(tmp_path)
    with pytest.raises(FileNotFoundError, match="no file"):
        load_persuasion(tmp_path / "gone.csv")
    folder = write_files(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"other\.csv"):
        load_persuasion(folder, folder / "other.csv")
    (folder / OUTCOMES).unlink()
    with pytest.raises(FileNotFoundError, match=OUTCOMES):
        load_persuasion(folder / MESSAGES)
    (folder / "texts.csv").write_bytes((folder / MESSAGES).read_bytes())
    with pytest.raises(FileNotFoundError, match="cannot be told"):
        load_persuasion(folder / "texts.csv")


# ---------------------------------------------------------------------- policies


def test_probabilities_sum_to_one_within_an_issue(data: Persuasion) -> None:
    issue = data.messages["issue"].to_numpy()
    for p in (data.propensities(), *(data.policy(a) for a in data.authors)):
        assert p.groupby(issue).sum().to_numpy() == pytest.approx(np.ones(len(ISSUES)), abs=1e-12)
    mine = (data.messages["author"] == "large").to_numpy()
    assert ((data.policy("large") > 0).to_numpy() == mine).all()


def test_log_prob_is_that_of_the_reader_s_message(data: Persuasion) -> None:
    counts = data.readers["message_id"].value_counts()
    of_issue = data.readers["issue"].value_counts()
    expected = [
        math.log(counts[m] / of_issue[i])
        for m, i in zip(data.readers["message_id"], data.readers["issue"], strict=True)
    ]
    assert data.log_prob() == pytest.approx(np.array(expected), abs=1e-12)
    mine = (data.readers["author"] == "middle").to_numpy()
    logp = data.log_prob("middle")
    assert logp[mine] == pytest.approx(np.full(mine.sum(), math.log(1 / 2)))
    assert np.isneginf(logp[~mine]).all()


def test_unknown_author(data: Persuasion) -> None:
    with pytest.raises(ValueError, match="did you mean 'large'"):
        data.policy("Large")
    with pytest.raises(ValueError, match="wrote no message here"):
        data.direct("zebra")


def test_issue_weights(data: Persuasion) -> None:
    assert data.issue_weights("equal").to_numpy() == pytest.approx(np.full(3, 1 / 3))
    shares = data.readers["issue"].value_counts(normalize=True)
    assert data.issue_weights()[list(ISSUES)].to_numpy() == pytest.approx(shares[list(ISSUES)])
    with pytest.raises(ValueError, match="issue_weights='people' is not known"):
        data.issue_weights("people")


# ---------------------------------------------------------------------- direct means


def loop(data: Persuasion, author: str, kind: str) -> tuple[float, float, float, float]:
    """Value, both standard errors and degrees of freedom, by a naive loop."""
    weight = data.issue_weights(kind)
    value = texts = model = lower = 0.0
    for issue in data.issues:
        mine = (data.messages["issue"] == issue) & (data.messages["author"] == author)
        here = data.messages.loc[mine, "message_id"]
        answers = [
            data.readers.loc[data.readers["message_id"] == m, "outcome"].tolist() for m in here
        ]
        means = [sum(a) / len(a) for a in answers]
        value += weight[issue] * sum(means) / len(means)
        for a, mean in zip(answers, means, strict=True):
            s2 = sum((v - mean) ** 2 for v in a) / (len(a) - 1)
            texts += (weight[issue] / len(means)) ** 2 * s2 / len(a)
        if len(means) == 1:
            model = lower = math.nan
            continue
        centre = sum(means) / len(means)
        between = sum((m - centre) ** 2 for m in means) / (len(means) - 1)
        part = weight[issue] ** 2 * between / len(means)
        model += part
        lower += part**2 / (len(means) - 1)
    # what messages differ by is never negative: at the least the readers' own noise is left
    floored = model if math.isnan(model) else max(model, texts)
    return value, math.sqrt(texts), math.sqrt(floored), model**2 / lower


@pytest.mark.parametrize("kind", ["readers", "equal"])
@pytest.mark.parametrize("author", ["small", "largest", "human"])
def test_direct_mean_is_the_naive_loop(data: Persuasion, author: str, kind: str) -> None:
    found = data.direct(author, issue_weights=kind)
    expected = loop(data, author, kind)
    got = (found.value, found.se_texts, found.se_model, found.df_model)
    assert got == pytest.approx(expected, rel=1e-10, nan_ok=True)
    mine = data.readers["author"] == author
    assert found.n_readers == mine.sum()
    assert found.n_messages == (3 if author == "human" else 6)
    per_issue = found.n_messages / 3
    share = float(np.sum(data.issue_weights(kind) ** 2)) / per_issue
    assert found.message_share == pytest.approx(share)


@pytest.mark.parametrize("kind", ["readers", "equal"])
def test_hajek_value_is_the_direct_mean(data: Persuasion, kind: str) -> None:
    """With probabilities from counts the weighted mean is the mean of message means."""
    issue = data.readers["issue"]
    target = np.log(issue.map(data.issue_weights(kind)).to_numpy())
    design = np.log(issue.map(data.issue_weights()).to_numpy()) + data.log_prob()
    logp = pd.DataFrame({a: data.log_prob(a) + target for a in data.authors})
    for weights in ("hajek", "ht"):
        est = IPW(weights).fit(
            data.readers["text"].tolist(), data.outcome, logp_target=logp, logp_logging=design
        )
        direct = [data.direct(a, issue_weights=kind).value for a in data.authors]
        assert est.value_ == pytest.approx(np.array(direct), rel=1e-12)


def test_clustered_hajek_error_is_the_naive_loop(data: Persuasion) -> None:
    est = IPW().fit(
        data.readers["text"].tolist(), data.outcome, logp_target=data.log_prob("small"),
        logp_logging=data.log_prob(), groups=data.groups,
    )  # fmt: skip
    p, design = data.policy("small"), data.propensities()
    total, value = 0.0, data.direct("small").value
    for m in data.messages["message_id"]:
        answers = data.readers.loc[data.readers["message_id"] == m, "outcome"]
        w = p[m] / design[m]
        total += (float((w * (answers - value)).sum()) / (len(data) - len(answers))) ** 2
    g = len(data.messages)
    assert est.se_ == pytest.approx(math.sqrt((g - 1) / g * total), rel=1e-10)


def test_message_with_one_reader_takes_the_pooled_variance(tmp_path: Path) -> None:
    folder = write_files(tmp_path)
    frame = pd.read_csv(folder / OUTCOMES, keep_default_na=False)
    drop = frame.index[frame["message_id"] == 1][1:]
    frame.drop(drop).to_csv(folder / OUTCOMES, index=False)
    found = load_persuasion(folder)
    within = found.readers.groupby("message_id")["outcome"]
    pooled = (within.var() * (within.size() - 1)).sum() / (len(found) - len(found.messages))
    mine = found.messages.query("author == 'small'")["message_id"]
    variances = within.var()[mine].fillna(pooled) / within.size()[mine]
    weight = found.issue_weights()[found.messages.query("author == 'small'")["issue"]].to_numpy()
    expected = math.sqrt(float((weight / 2) ** 2 @ variances.to_numpy()))
    assert found.direct("small").se_texts == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("gap", [0.0, 0.5, 20.0])
def test_texts_to_come_are_never_surer_than_these_texts(tmp_path: Path, gap: float) -> None:
    """Messages closer in mean than their readers' noise allows: the readers' error is the floor."""
    folder = write_files(tmp_path)
    frame = pd.read_csv(folder / OUTCOMES, keep_default_na=False)
    outcome = pd.to_numeric(frame["dv_response_mean"])
    cell = frame["message_id"].astype(int)
    # every message has mean 50, apart from each other by `gap` alone
    moved = 50 + (outcome - outcome.groupby(cell).transform("mean")) / 4 + gap * (cell % 2)
    frame.assign(dv_response_mean=moved).to_csv(folder / OUTCOMES, index=False)
    data = load_persuasion(folder)
    found = data.direct("small")
    assert (found.se_model > found.se_texts) == (gap > 5)
    if gap < 5:
        assert found.se_model == pytest.approx(found.se_texts, rel=1e-12)
    assert 1.0 <= found.df_model <= 3.0  # 2 messages on each of 3 issues


def test_direct_control(data: Persuasion) -> None:
    found = data.direct_control(issue_weights="equal")
    cells = data.control.groupby("issue")["outcome"]
    assert found.value == pytest.approx(cells.mean().mean())
    assert found.se_texts == pytest.approx(math.sqrt((cells.var() / cells.size()).sum()) / 3)
    assert (found.n_readers, found.n_messages) == (36, 0)


def test_control_that_is_not_there(tmp_path: Path) -> None:
    folder = write_files(tmp_path)
    frame = pd.read_csv(folder / OUTCOMES, keep_default_na=False)
    frame[frame["message_id"] != 0].to_csv(folder / OUTCOMES, index=False)
    found = load_persuasion(folder)
    assert len(found.control) == 0
    with pytest.raises(NotIdentifiedError, match="fewer than two control readers"):
        found.direct_control()
    assert len(found.check_design()) == 4


def test_message_variance_is_unbiased() -> None:
    """Over many made-up experiments its mean is the truth; the naive spread of means is not."""
    rng = np.random.default_rng(5)
    tau, sigma, found, naive = 3.0, 12.0, [], []
    messages = make_messages(3).rename(columns={"model": "author"})
    n = rng.integers(4, 12, len(messages))
    messages = messages.assign(words=3, n_readers=n)
    rows = messages.loc[np.repeat(messages.index, n), ["message_id", "issue", "author", "text"]]
    cells = messages.groupby(["issue", "author"])
    for _ in range(200):
        mean = rng.normal(0, 5, cells.ngroups)[cells.ngroup()] + rng.normal(0, tau, len(messages))
        outcome = np.repeat(mean, n) + rng.normal(0, sigma, n.sum())
        readers = rows.assign(outcome=outcome).reset_index(drop=True)
        data = Persuasion(messages, readers, readers.iloc[:0], (), (), ())
        found.append(data.message_variance())
        means = readers.groupby("message_id")["outcome"].mean().to_numpy()
        spread = pd.Series(means).groupby([messages["issue"], messages["author"]]).var()
        naive.append(float(spread.mean()))
    mean, error = float(np.mean(found)), float(np.std(found)) / math.sqrt(200)
    # Truncation at 0 pushes it up a little; few of these experiments reach it.
    assert abs(mean - tau**2) < 3.3 * error + 0.1
    assert float(np.mean(naive)) > 2 * tau**2


# ---------------------------------------------------------------------- the design


def test_design_steps(data: Persuasion) -> None:
    steps = data.check_design()
    assert list(steps.index) == [
        "issue", "author (or control) | issue", "message | author, issue",
        "balance of party over authors",
    ]  # fmt: skip
    everyone = pd.concat([data.readers["issue"], data.control["issue"]]).value_counts()
    assert steps.loc["issue", "statistic"] == pytest.approx(stats.chisquare(everyone).statistic)
    assert steps.loc["message | author, issue", "df"] == 3 * 5
    one = data.messages.query("issue == 'tolls' and author == 'small'")["n_readers"]
    assert stats.chisquare(one).statistic <= steps.loc["message | author, issue", "statistic"]


def test_independence_step_is_scipy_s() -> None:
    rng = np.random.default_rng(0)
    a, b = pd.Series(rng.integers(0, 3, 200)), pd.Series(rng.integers(0, 4, 200))
    step = table_step("a, b", a, b)
    expected = stats.chi2_contingency(pd.crosstab(a, b), correction=False)
    got = (step["statistic"], step["df"], step["p_value"])
    assert got == pytest.approx((expected.statistic, expected.dof, expected.pvalue))


@pytest.mark.real_data
def test_real_files(data_dir: Path) -> None:
    found = load_persuasion(data_dir)
    assert (len(found), len(found.control), len(found.messages)) == (14_564, 3_581, 511)
    assert len(found.complete_authors) == 25
    assert found.human_authors == ("human",)
    assert found.covariates == ("party", "ideology", "knowledge")
    # The allocation looks like a lottery in every step that the counts can test.
    assert (found.check_design()["p_value"] > 0.05).all()
    people = found.direct("human")
    assert people.value == pytest.approx(57.172, abs=5e-4)
    assert people.se_texts == pytest.approx(0.940, abs=5e-4)
    assert math.isnan(people.se_model)
    # Readers, not messages, are most of what is uncertain about an author.
    assert 0.5 < math.sqrt(found.message_variance()) < 3
    gain = people.value - found.direct_control().value
    assert 4 < gain < 9
