"""The persuasion experiment: messages of language models and people, randomised to readers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causal_lm_opt._cells import did_you_mean
from causal_lm_opt.datasets import _persuasion_files as file
from causal_lm_opt.datasets._design_checks import as_table
from causal_lm_opt.datasets._persuasion_checks import persuasion_steps
from causal_lm_opt.datasets._persuasion_means import (
    between_messages,
    error_over_messages,
    message_means,
)
from causal_lm_opt.exceptions import NotIdentifiedError

__all__ = ["DirectMean", "Persuasion", "load_persuasion"]

ISSUE_WEIGHTS = ("readers", "equal")


@dataclass(frozen=True)
class DirectMean:
    r"""A mean of randomised readers' outcomes, with the standard error of each estimand.

    Attributes
    ----------
    value : float
    se_texts : float
        Of the value of *these* texts: the readers' variance only.
    se_model : float
        Of the value of texts *to come* from the same author on these issues: messages are the
        sample. ``nan`` where an issue has one message only, since nothing then tells its variance;
        never below ``se_texts``.
    df_model : float
        Degrees of freedom of ``se_model`` (Welch-Satterthwaite over issues); ``nan`` likewise.
    message_share : float
        :math:`\sum_c W_c^2/M_c`: what a variance between messages counts for in this mean.
    n_readers, n_messages : int
    """

    value: float
    se_texts: float
    se_model: float
    df_model: float
    message_share: float
    n_readers: int
    n_messages: int


@dataclass(frozen=True, eq=False)
class Persuasion:
    """The persuasion experiment, as `load_persuasion` returns it.

    Attributes
    ----------
    messages : DataFrame of shape (M, 6)
        One row a message that was read: message_id, issue, author, text, words (their number),
        n_readers; index 0..M-1.
    readers : DataFrame of shape (n, ...)
        One row a reader of a message: message_id, issue, author, text, outcome (0 to 100), and
        the covariates that the file has (party, ideology, knowledge; codes as in the file);
        index 0..n-1.
    control : DataFrame of shape (n0, ...)
        Readers who saw no message: issue, outcome, the covariates.
    covariates : tuple of str
    human_authors : tuple of str
        Authors whose readers' condition is "human" (without that column: named so).
    unread : tuple of int
        Ids of messages that nobody in the file read; they are left out everywhere.
    """

    messages: pd.DataFrame
    readers: pd.DataFrame
    control: pd.DataFrame
    covariates: tuple[str, ...]
    human_authors: tuple[str, ...]
    unread: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.readers)

    @property
    def issues(self) -> tuple[str, ...]:
        """Issues, in the order of the messages."""
        return tuple(dict.fromkeys(self.messages["issue"]))

    @property
    def authors(self) -> tuple[str, ...]:
        """Authors, in the order of the messages."""
        return tuple(dict.fromkeys(self.messages["author"]))

    @property
    def complete_authors(self) -> tuple[str, ...]:
        """Authors with a message on every issue: those whose policies have a value here."""
        covered = self.messages.groupby("author")["issue"].nunique()
        return tuple(a for a in self.authors if covered[a] == len(self.issues))

    @property
    def outcome(self) -> NDArray[np.float64]:
        """Readers' outcomes, shape (n,)."""
        return self.readers["outcome"].to_numpy(dtype=np.float64)

    @property
    def groups(self) -> NDArray[np.int64]:
        """Readers' message ids, shape (n,): the clusters of a value of texts to come."""
        return self.readers["message_id"].to_numpy(dtype=np.int64)

    # ------------------------------------------------------------------ policies
    def propensities(self) -> pd.Series[float]:
        """P_R(message | issue): the share of the issue's readers who were given the message.

        Returns
        -------
        Series of length M, named by message_id
            Sums to 1 within an issue.

        Notes
        -----
        The allocation was unequal and is not documented, so it is read off the counts. Weights
        that use counts turn the Hajek value into means within messages, averaged with the
        policy's probabilities: chance imbalance of the allocation cancels.
        """
        of_issue = self.messages.groupby("issue")["n_readers"].transform("sum")
        return self._by_message(self.messages["n_readers"] / of_issue)

    def policy(self, author: str) -> pd.Series[float]:
        """P_f(message | issue) of "this author writes": its messages equally likely.

        Parameters
        ----------
        author : str

        Returns
        -------
        Series of length M, named by message_id
            Sums to 1 within an issue; 0 for other authors' messages.

        Raises
        ------
        ValueError
            If the author is unknown.
        NotIdentifiedError
            If it has no message on some issue, whose readers then say nothing about it.
        """
        mine = self._rows_of(author)
        number = mine.groupby(self.messages["issue"]).transform("sum")
        if (number == 0).any():
            lacking = self.messages["issue"][number == 0].unique().tolist()
            raise NotIdentifiedError(
                f"author {author!r} has no message on {lacking}; its policy has no value over all "
                "issues: leave the author out, or the issues."
            )
        return self._by_message(mine / number)

    def log_prob(self, author: str | None = None) -> NDArray[np.float64]:
        """Log-probability of each reader's text given the issue.

        Parameters
        ----------
        author : str, optional
            Under "this author writes" (``-inf`` for other authors' texts); by default under the
            experiment's allocation.

        Returns
        -------
        (n,) float64 array
        """
        p = self.propensities() if author is None else self.policy(author)
        with np.errstate(divide="ignore"):
            logp = np.log(p.to_numpy())
        return np.asarray(logp[p.index.get_indexer(pd.Index(self.readers["message_id"]))])

    def issue_weights(self, kind: str = "readers") -> pd.Series[float]:
        """Weights of the issues in a value, summing to 1.

        Parameters
        ----------
        kind : {"readers", "equal"}
            By the readers of the issue's messages, as the logged rows have them (then ratios of
            probabilities given the issue are all that an estimator needs), or all alike.

        Returns
        -------
        Series named by issue
        """
        if kind not in ISSUE_WEIGHTS:
            raise ValueError(f"issue_weights={kind!r} is not known; use one of {ISSUE_WEIGHTS}.")
        total = self.messages.groupby("issue", sort=False)["n_readers"].sum().astype(np.float64)
        if kind == "equal":
            total[:] = 1.0
        return total / total.sum()

    # ------------------------------------------------------------------ direct means
    def direct(self, author: str, *, issue_weights: str = "readers") -> DirectMean:
        r"""The author's own randomised mean: what an off-policy estimate is held against.

        .. math:: \sum_c W_c \frac1{M_c} \sum_{m \in c} \bar y_m

        over issues c and the author's messages m on it.

        Parameters
        ----------
        author : str
        issue_weights : {"readers", "equal"}
            As in :meth:`issue_weights`.

        Returns
        -------
        DirectMean
            ``se_texts`` adds :math:`(W_c/M_c)^2 s_m^2/n_m`; ``se_model`` adds
            :math:`W_c^2 S_c^2/M_c` with :math:`S_c^2` the variance of the message means within
            the issue, whose expectation holds the readers' variance too. Where that sum comes out
            below the readers' own, messages seem to differ by less than nothing: the readers'
            variance is then the answer, so that ``se_model`` is never below ``se_texts``.

        Raises
        ------
        ValueError, NotIdentifiedError
            As :meth:`policy`.
        """
        self.policy(author)  # every issue must have a message
        mine = message_means(self.messages, self.readers)[self._rows_of(author).to_numpy() > 0]
        issue_weight = self.issue_weights(issue_weights)
        by_issue = mine.groupby("issue", sort=False)["mean"].agg(["mean", "var", "size"])
        weight = np.asarray(issue_weight[by_issue.index], dtype=np.float64)
        each = mine["issue"].map(issue_weight / by_issue["size"]).to_numpy(dtype=np.float64)
        texts_variance = float(each**2 @ (mine["var"] / mine["n_readers"]).to_numpy())
        se_model, df_model = error_over_messages(weight, by_issue, texts_variance)
        return DirectMean(
            value=float(weight @ by_issue["mean"].to_numpy()),
            se_texts=math.sqrt(texts_variance),
            se_model=se_model,
            df_model=df_model,
            message_share=float(np.sum(weight**2 / by_issue["size"].to_numpy())),
            n_readers=int(mine["n_readers"].sum()),
            n_messages=len(mine),
        )

    def direct_control(self, *, issue_weights: str = "readers") -> DirectMean:
        """The mean of readers who saw no message, issues weighted as in :meth:`direct`.

        Raises
        ------
        NotIdentifiedError
            If an issue has fewer than two control readers.
        """
        weight = self.issue_weights(issue_weights)
        cells = self.control.groupby("issue")["outcome"].agg(["mean", "var", "size"])
        cells = cells.reindex(weight.index)
        few = cells.index[~(cells["size"] >= 2)].tolist()
        if few:
            raise NotIdentifiedError(f"fewer than two control readers on {few}.")
        variance = weight.to_numpy() ** 2 @ (cells["var"] / cells["size"]).to_numpy()
        return DirectMean(
            value=float(weight.to_numpy() @ cells["mean"].to_numpy()),
            se_texts=math.sqrt(float(variance)), se_model=math.nan, df_model=math.nan,
            message_share=0.0, n_readers=len(self.control), n_messages=0,
        )  # fmt: skip

    def message_variance(self) -> float:
        r"""Variance between messages of one author on one issue, beyond their readers' noise.

        The analysis-of-variance estimate, pooled over authors and issues (a, c) as if they were
        alike, 0 where it would be negative or there is nothing to tell it from:

        .. math:: \hat\tau^2 = \frac{\sum_{a,c} \{\sum_m n_m (\bar y_m - \bar y_{ac})^2
                  - (M_{ac} - 1) \hat\sigma^2\}}
                  {\sum_{a,c} \{n_{ac} - \sum_m n_m^2/n_{ac}\}}

        Returns
        -------
        float
            In squared points. ``se_texts**2 + message_variance() * message_share`` is then the
            squared standard error of the value of texts to come, on that assumption; unlike
            ``se_model`` it does not rest on the author's own few messages.
        """
        return between_messages(message_means(self.messages, self.readers))

    def check_design(self) -> pd.DataFrame:
        """Test the allocation and the readers' balance against the counts.

        Returns
        -------
        DataFrame
            One row per step, columns as `HongKong.check_design`: issues equally likely; the same
            shares of authors on every issue; an author's messages on an issue equally likely;
            each covariate independent of the author. Do not trust a row whose min_expected is
            below 5.
        """
        return as_table(
            persuasion_steps(self.messages, self.readers, self.control, list(self.covariates))
        )

    # ------------------------------------------------------------------ pieces
    def _rows_of(self, author: str) -> pd.Series[float]:
        """1 for the author's messages, else 0, shape (M,)."""
        if author not in self.authors:
            raise ValueError(
                f"author {author!r} wrote no message here{did_you_mean(author, self.authors)}; "
                f"there are {len(self.authors)}, such as {self.authors[0]!r}."
            )
        return (self.messages["author"] == author).astype(np.float64)

    def _by_message(self, values: pd.Series[float]) -> pd.Series[float]:
        return pd.Series(values.to_numpy(dtype=np.float64), pd.Index(self.messages["message_id"]))


def load_persuasion(messages: str | Path, outcomes: str | Path | None = None) -> Persuasion:
    """Load the persuasion experiment: messages of language models and people, and their readers.

    People were assigned an issue at random and read one message that argues for a stated position
    (or none, the control group); then they said on a scale of 0 to 100 how far they agree. The
    messages are by 24 language models (three an issue, one for each wording of the prompt) and by
    people (one an issue). Who wrote a message was randomised too, so each author's own mean is the
    truth that an estimate from the other authors' readers can be held against.

    Parameters
    ----------
    messages : str or Path
        CSV (gzipped or not) with columns ``message_id, issue, model, text``; or the folder that
        holds ``llm_persuasion_messages.csv`` and ``llm_persuasion_outcomes.csv`` (or ``.gz``).
    outcomes : str or Path, optional
        CSV with columns ``message_id`` (0: control), ``issue, dv_response_mean``; optional
        ``condition, model, party, ideology, knowledge``. By default the file beside ``messages``
        whose name has "outcomes" for "messages".

    Returns
    -------
    Persuasion

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    DataError
        If a column is missing, an id occurs twice or is unknown, an outcome is not a number from
        0 to 100, or the two files contradict each other; names file, row and column.

    Notes
    -----
    The data are not shipped; they are public (kobihackenburg/scaling-LLM-persuasion, MIT).

    **What is estimated.** Allocation probabilities are read off the counts of a fixed set of
    messages, so a policy "author a writes" means a's messages here, and its value is the mean over
    issues (with stated weights) of its messages' mean outcomes. That identifies the value of
    *these texts* (`DirectMean.se_texts`: readers are the sample). Read as the value of texts the
    same author would write on these issues, messages are the sample and readers are nested in
    them (`DirectMean.se_model`, issues held fixed; ``groups`` given to an estimator would take the
    issues as drawn too, and is wider). It is never below ``se_texts``: see `Persuasion.direct`.
    One sample of three messages an issue says little about the second, and nothing about other
    issues, prompts or sampling settings.

    Examples
    --------
    >>> from causal_lm_opt.datasets import load_persuasion
    >>> data = load_persuasion("folder/with/the/data")  # doctest: +SKIP
    >>> data.direct("human").value  # doctest: +SKIP
    """
    messages_path, outcomes_path = file.locate(
        Path(messages), None if outcomes is None else Path(outcomes)
    )
    listed = file.read_messages(messages_path)
    rows = file.read_outcomes(outcomes_path, listed)
    counts = rows["message_id"].value_counts()
    listed["words"] = [len(text.split()) for text in listed["text"]]
    listed["n_readers"] = listed["message_id"].map(counts).fillna(0).astype(np.int64)
    unread = tuple(int(i) for i in listed.loc[listed["n_readers"] == 0, "message_id"])
    # An issue, or author, that nobody read has no value here either, and goes with its messages.
    listed = listed[listed["n_readers"] > 0].reset_index(drop=True)
    covariates = [c for c in file.COVARIATES if c in rows.columns]
    treated = rows["message_id"] != file.CONTROL_ID
    readers = rows[treated].merge(listed[["message_id", "author", "text"]], on="message_id")
    humans = listed.loc[listed["author"].str.lower() == "human", "author"].unique()
    if "condition" in rows.columns:
        humans = readers.loc[readers["condition"].str.lower() == "human", "author"].unique()
    control = rows[~treated & rows["issue"].isin(set(listed["issue"]))]
    return Persuasion(
        messages=listed,
        readers=readers[["message_id", "issue", "author", "text", "outcome", *covariates]],
        control=control[["issue", "outcome", *covariates]].reset_index(drop=True),
        covariates=tuple(covariates),
        human_authors=tuple(str(name) for name in humans),
        unread=unread,
    )
