"""Texts out of whatever holds them, read alike by all that turns texts into numbers."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin

from causal_lm_opt._validation import as_text_rows, is_frame

__all__ = ["TextRows", "TextTransformer", "text_columns", "text_rows"]


def text_rows(X: Any, column: str = "text") -> npt.NDArray[np.object_]:
    """Texts out of a list, array, Series, or frame.

    Parameters
    ----------
    X : list, (n,) or (n, 1) array, Series, or frame of strings
    column : str
        The frame's column to read; a frame of one column needs no such name.

    Returns
    -------
    (n,) object array of str

    Raises
    ------
    TypeError
        If X is one string, or an entry is no string (a missing one included).
    ValueError
        If the frame has no such column, or X is no column of texts.

    Examples
    --------
    >>> import pandas as pd
    >>> text_rows(pd.DataFrame({"age": [3], "text": ["good"]})).tolist()
    ['good']
    """
    name = "X"
    if is_frame(X):
        columns = [str(c) for c in X.columns]
        if column in columns:
            name = f"X[{column!r}]"
            X = X[X.columns[columns.index(column)]]
        elif len(columns) == 1:
            name = f"X[{columns[0]!r}]"
            X = X[X.columns[0]]
        else:
            raise ValueError(
                f"X has no column {column!r} but {columns}: name the column that holds the texts "
                "(column=...), or pass that column alone."
            )
    elif isinstance(X, np.ndarray) and X.ndim == 2 and X.shape[1] == 1:
        X = X[:, 0]
    if hasattr(X, "__len__") and not isinstance(X, str) and len(X) == 0:
        return np.empty(0, dtype=object)
    texts = as_text_rows(X, name)
    if texts is None:
        shape = f" of shape {X.shape}" if hasattr(X, "shape") else ""
        raise ValueError(
            f"{name} must be texts: a list, array or Series of str, or a frame with the column "
            f"{column!r}; got {type(X).__name__}{shape}."
        )
    return texts


def text_columns(X: Any) -> dict[str, Any]:
    """Columns of texts by name: a sequence of texts is one column."""
    if sparse.issparse(X):
        return {}
    if not is_frame(X):
        return {"text": X} if np.asarray(X).dtype.kind in "OUT" else {}
    loose = {str(c): np.asarray(X[c]) for c in X.columns}
    return {
        name: np.array(["" if pd.isna(v) else str(v) for v in column], dtype=object)
        for name, column in loose.items()
        if column.dtype.kind not in "biuf"
    }


class TextTransformer(TransformerMixin, BaseEstimator):
    """Base of what turns texts into numbers and learns nothing from them."""

    column: str = "text"

    def fit(self, X: Any, y: Any = None) -> Self:
        """Check that X holds texts; nothing is learnt."""
        text_rows(X, self.column)
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        # Frames are read too: by their text column.
        tags.input_tags.string = tags.input_tags.two_d_array = True
        return tags


class TextRows(TextTransformer, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Picks the texts out of whatever holds them; first step of `tfidf_features`.

    Parameters
    ----------
    column : str
        See `text_rows`.
    """

    def __init__(self, column: str = "text") -> None:
        self.column = column

    def fit(self, X: Any, y: Any = None) -> Self:
        """Check that X holds texts, and not only empty ones."""
        texts = text_rows(X, self.column)
        if not any(text.strip() for text in texts):
            raise ValueError(
                f"X holds {len(texts)} texts, and none has a visible character: there are no "
                "terms to tell texts apart by."
            )
        return self

    def transform(self, X: Any) -> npt.NDArray[np.object_]:
        """The texts, (n,) object array."""
        return text_rows(X, self.column)

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """The column's name."""
        return np.array([self.column], dtype=object)
