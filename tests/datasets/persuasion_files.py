"""Small files of the persuasion experiment's layout."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd

ISSUES = ("tolls", "parks", "schools")
MODELS = ("small", "middle", "large", "larger", "largest")
WORDS = {name: f"reason{k} " * (k + 1) for k, name in enumerate(MODELS)}
SPELLED = {name: name.title() for name in MODELS} | {"human": "human"}


def make_messages(per_issue: int = 2) -> pd.DataFrame:
    """Messages of five models (``per_issue`` on each issue) and of people (one on each)."""
    rows = []
    for issue in ISSUES:
        for author in (*MODELS, "human"):
            for k in range(per_issue if author != "human" else 1):
                text = f"{WORDS.get(author, 'Believe me, ')}on {issue}, version {k}."
                rows.append((len(rows) + 1, issue, author, text))
    return pd.DataFrame(rows, columns=["message_id", "issue", "model", "text"])


def make_outcomes(messages: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Between 3 and 8 readers a message and 12 control readers an issue, shuffled."""
    rng = np.random.default_rng(seed)
    rows = []
    for m in messages.itertuples():
        quality = MODELS.index(str(m.model)) if m.model in MODELS else 2
        for _ in range(int(rng.integers(3, 9))):
            y = 40 + 10 * ISSUES.index(str(m.issue)) + 4 * quality + rng.normal(0, 9)
            condition = "human" if m.model == "human" else "AI"
            rows.append((m.message_id, m.issue, condition, SPELLED[str(m.model)], y))
    for issue in ISSUES:
        for _ in range(12):
            y = 38 + 10 * ISSUES.index(issue) + rng.normal(0, 9)
            rows.append((0, issue, "control", "", y))
    columns = ["message_id", "issue", "condition", "model", "dv_response_mean"]
    frame = pd.DataFrame(rows, columns=columns)
    frame["dv_response_mean"] = frame["dv_response_mean"].clip(0, 100).round(2)
    frame["party"] = rng.integers(0, 5, len(frame))
    return frame.sample(frac=1, random_state=seed).reset_index(drop=True)


def write_files(folder: Path, *, packed: bool = False, per_issue: int = 2) -> Path:
    """Write both files under their usual names; returns the folder."""
    messages = make_messages(per_issue)
    for name, frame in (("messages", messages), ("outcomes", make_outcomes(messages))):
        path = folder / f"llm_persuasion_{name}.csv"
        content = frame.to_csv(index=False).encode()
        if packed:
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
        else:
            path.write_bytes(content)
    return folder
