"""Which ratings of one table are not in another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cf_pipeline.recommender.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

IDS = ("user", "movie")
MOST_KEYS = np.iinfo(np.int64).max


def without(rows: pd.DataFrame, others: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return the `rows` whose `columns` are not in a row of `others`; nulls are alike.

    Columns are user and movie, ids, and any others, such as rating and timestamp. Rows are compared
    as numbers, one each: a merge would take many times the memory.
    """
    tables = rows, others
    keys, n_keys = [np.zeros(len(table), np.int64) for table in tables], 1
    for name in columns:
        words = Vocabulary.of(others[name]) if name in IDS else pd.Index(others[name].unique())
        n_words = len(words) + 1  # of a word that the others lack the index is 0
        if n_keys > MOST_KEYS // n_words:  # then those there are get new numbers
            renumbered, known = pd.factorize(np.concatenate(keys))
            keys, n_keys = np.split(renumbered, [len(rows)]), len(known)
        n_keys *= n_words
        for key, table in zip(keys, tables, strict=True):
            key *= n_words
            if isinstance(words, Vocabulary):
                key += words.encode(table[name])
            else:
                key += words.get_indexer(table[name]) + 1
    return rows[~pd.Series(keys[0]).isin(keys[1]).to_numpy()]
