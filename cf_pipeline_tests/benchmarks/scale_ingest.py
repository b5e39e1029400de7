"""The same ingest by us and by pandas, Polars and DuckDB, each in its own words, on all cores.

From ratings.csv in the layout of ml-20m to ratings.parquet (user, movie, rating float32,
timestamp), users.parquet and movies.parquet (the ids, sorted) and encoded.parquet (user, movie,
rating as int32, int32, float32), where an id is its place among the sorted, from 1 on, as 0 is the
unknown's. Nobody's parquet is compressed. DuckDB's joins leave the rows of encoded.parquet in
another order than those of ratings.parquet, which is easier. Our encoded table is the .npy files
that training maps into memory; we check every row, as no peer does.
"""

from pathlib import Path

from cf_pipeline_tests.benchmarks.scale_process import Figures, seconds_of


def ours(archive: str, out: str) -> Figures:
    """What `ratings` does to an archive, a folder or a zip, and `vocabularies` to all ratings."""
    from cf_pipeline.recommender.archive_tables import open_ratings
    from cf_pipeline.recommender.datasets import describe
    from cf_pipeline.recommender.encoding import distinct_ids, encoded, write_encoded
    from cf_pipeline.recommender.ingest import write_table

    folder = Path(out)
    received = folder / "archive"
    received.mkdir()
    given = Path(archive)
    name = given.stem if given.is_file() else given.name
    for file in given.iterdir() if given.is_dir() else [given]:
        (received / file.name).symlink_to(file)
    describe(received, name)

    def ingest() -> None:
        files, summary = write_table(open_ratings(received), folder, print)
        users, movies = distinct_ids(files).vocabularies()
        users.save(folder / "users.parquet")
        movies.save(folder / "movies.parquet")
        write_encoded(encoded(files, users, movies), summary.rows, folder, "all")

    return {"seconds": seconds_of(ingest)}


def pandas(csv: str, out: str) -> Figures:
    """One read into memory, and `factorize`."""
    import pandas as pd
    import pyarrow.parquet  # noqa: F401  # what to_parquet would import while it is timed

    folder = Path(out)

    def ingest() -> None:
        names = ["user", "movie", "rating", "timestamp"]
        kinds = dict(zip(names, ("int32", "int32", "float32", "int64"), strict=True))
        ratings = pd.read_csv(csv, header=0, names=names, dtype=kinds)
        ratings["timestamp"] = pd.to_datetime(ratings["timestamp"], unit="s", utc=True)
        ratings.to_parquet(folder / "ratings.parquet", index=False, compression=None)
        encoded = ratings[["rating"]].copy()
        for place, column in enumerate(("user", "movie")):
            codes, ids = pd.factorize(ratings[column], sort=True)
            pd.DataFrame({column: ids}).to_parquet(
                folder / f"{column}s.parquet", index=False, compression=None
            )
            encoded.insert(place, column, (codes + 1).astype("int32"))
        encoded.to_parquet(folder / "encoded.parquet", index=False, compression=None)

    return {"seconds": seconds_of(ingest)}


def polars(csv: str, out: str) -> Figures:
    """One read into memory, and ids replaced by their places, faster than joins are."""
    import polars as pl

    folder = Path(out)

    def ingest() -> None:
        kinds = {"user": pl.Int32, "movie": pl.Int32, "rating": pl.Float32, "timestamp": pl.Int64}
        ratings = pl.read_csv(csv, new_columns=list(kinds), schema_overrides=list(kinds.values()))
        ratings = ratings.with_columns(pl.from_epoch("timestamp").dt.replace_time_zone("UTC"))
        ratings.write_parquet(folder / "ratings.parquet", compression="uncompressed")
        encoded = ratings.select("user", "movie", "rating")
        for column in ("user", "movie"):
            ids = ratings.select(pl.col(column).unique().sort())
            ids.write_parquet(folder / f"{column}s.parquet", compression="uncompressed")
            place = pl.Series(range(1, len(ids) + 1), dtype=pl.Int32)
            encoded = encoded.with_columns(pl.col(column).replace_strict(ids[column], place))
        encoded.write_parquet(folder / "encoded.parquet", compression="uncompressed")

    return {"seconds": seconds_of(ingest)}


def duckdb(csv: str, out: str) -> Figures:
    """The CSV to parquet, and the rest out of that, by joins with the sorted ids."""
    import duckdb

    connection = duckdb.connect()
    ratings = f"'{out}/ratings.parquet'"
    kinds = "{'userId': 'INTEGER', 'movieId': 'INTEGER', 'rating': 'FLOAT', 'timestamp': 'BIGINT'}"
    queries = [
        f"COPY (SELECT userId AS user, movieId AS movie, rating, to_timestamp(timestamp) AS "
        f"timestamp FROM read_csv('{csv}', columns = {kinds})) TO {ratings} "
        "(COMPRESSION uncompressed)"
    ]
    for column in ("user", "movie"):
        queries += [
            f'CREATE TABLE {column}s AS SELECT "{column}", row_number() OVER (ORDER BY '
            f'"{column}")::INTEGER AS place FROM (SELECT DISTINCT "{column}" FROM {ratings})',
            f"COPY (SELECT \"{column}\" FROM {column}s ORDER BY 1) TO '{out}/{column}s.parquet' "
            "(COMPRESSION uncompressed)",
        ]
    queries.append(
        f"COPY (SELECT users.place AS user, movies.place AS movie, rating FROM {ratings} "
        f'JOIN users USING ("user") JOIN movies USING (movie)) '
        f"TO '{out}/encoded.parquet' (COMPRESSION uncompressed)"
    )
    return {"seconds": seconds_of(lambda: [connection.execute(query) for query in queries])}
