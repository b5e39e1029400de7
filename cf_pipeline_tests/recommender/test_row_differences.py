"""Which ratings are not in another table, however many different values there are."""

import numpy as np
import pandas as pd

from cf_pipeline.recommender.row_differences import without

COLUMNS = ["user", "movie", "rating", "timestamp"]


def test_rows_are_told_apart_though_all_their_values_could_make_more_than_2_to_the_63() -> None:
    n = (1 << 16) - 1  # with the unknown 2¹⁶ words a column, so five make 2⁸⁰
    columns = [*COLUMNS, "place"]
    others = pd.DataFrame(dict.fromkeys(columns, np.arange(n)))
    for column in columns:
        rows = others.assign(**{column: others[column].where(others.index != 5, 7)})
        assert without(rows, others, columns).index.tolist() == [5]
    assert without(others[::-1], others, columns).empty


def test_nulls_are_alike_and_ids_may_be_words_of_categories() -> None:
    others = pd.DataFrame(
        {
            "user": pd.Categorical(["a", "b", "c"]),
            "movie": ["x", "y", "z"],
            "rating": [1.0, np.nan, 3.0],
            "timestamp": pd.to_datetime([np.nan, 5, 6], unit="s", utc=True),
        }
    )
    rows = others.astype({"user": str})
    assert without(rows, others, COLUMNS).empty
    assert without(rows.assign(rating=[1.0, 2.0, np.nan]), others, COLUMNS).index[0] == 1
    assert without(rows.assign(user=["a", "b", "new"]), others, COLUMNS).index.tolist() == [2]
