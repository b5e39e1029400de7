"""How time, memory and accuracy grow from 100,000 to 100 million synthetic ratings, beside peers.

Each stage of each size has a process of its own (`scale_process`), so that its peak memory is its
own: the greatest resident set in its life, imports too. The stages, and where what they do is told:

- ingest of a CSV by pandas, Polars and DuckDB, by turns, and the unpacking of its zip:
  `scale_ingest`;
- training, seconds of a sweep and of an epoch, and the bound: `scale_training`;
- accuracy: the RMSE on a random tenth that was held out, beside the noise floor, which no predictor
  beats (`cf_pipeline.recommender.synthetic`). The larger the size, the fewer the sweeps; myFM has
  as many of the same rank, Surprise's SVD 20 epochs. implicit predicts no rating: its seconds are
  there. A quarter of the sweeps is burn-in;
- pipeline: the job `retraining`, from the drawing of the ratings to everybody's list, by as few
  sweeps: `scale_pipeline`;
- ml-32m: ingest of a zip in that layout, of as many ratings;
- per user: the same at 2,000 users and movies, with more and more ratings of each user.

A peer that takes longer than five minutes in all is stopped, and counts as unfinished.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from cf_pipeline_tests.benchmarks.report import Row, print_report
from cf_pipeline_tests.benchmarks.scale_process import Figures, UnfinishedError, in_own_process
from cf_pipeline_tests.benchmarks.scale_targets import Key, Measured, targets

SIZES = {
    "100k": 100_000,
    "1M": 1_000_000,
    "10M": 10_000_000,
    "20M": 20_000_000,
    "100M": 100_000_000,
}
TURNS = 3
LIMIT = 300.0  # seconds of a peer
ARCHIVE = "ml-20m"
# Of each stage that reads files: its name, by whom, its function, and what of the archive it reads.
INGESTS = (
    ("ingest", "ours", "scale_ingest:ours", ""),
    ("ingest from the zip", "ours", "scale_ingest:ours", ".zip"),
    ("unzip", "zipfile", "scale_data:unzip", ".zip"),
    ("ingest", "pandas", "scale_ingest:pandas", "/ratings.csv"),
    ("ingest", "Polars", "scale_ingest:polars", "/ratings.csv"),
    ("ingest", "DuckDB", "scale_ingest:duckdb", "/ratings.csv"),
)
SWEEPS = {"100k": 150, "1M": 100, "10M": 24, "20M": 20, "100M": 12}
RANK = 10
EPOCHS, ITERATIONS = 20, 5
USERS = MOVIES = 2000
RATINGS_OF_A_USER = (20, 50, 100, 200, 500)
SWEEPS_PER_USER = 60
LARGEST_PIPELINE = 20_000_000  # ratings, of which the whole pipeline is run
# An archive of another layout that is ingested, too: its name, and how many ratings it has.
LARGEST_RELEASE, RATINGS_OF_LARGEST = "ml-32m", 32_000_000
STAGES = ("ingest", "training", "accuracy", "per user", "pipeline", LARGEST_RELEASE)


def main() -> None:
    """Measure what the command line names, by default all, and print."""
    parser = argparse.ArgumentParser(description="Time, memory and accuracy as ratings grow.")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--only", nargs="+", choices=STAGES, default=STAGES, metavar="STAGE")
    chosen = parser.parse_args()
    measured: Measured = {}
    for size in chosen.sizes:
        if "ingest" in chosen.only:
            ingest(measured, size)
        if "training" in chosen.only:
            for stage in ("sweeps", "epoch"):
                measure(measured, (size, stage, "ours"), f"scale_training:{stage}", _of(size))
        if "accuracy" in chosen.only:
            accuracy(measured, size, _of(size), SWEEPS[size])
        if "pipeline" in chosen.only and SIZES[size] <= LARGEST_PIPELINE:
            key = (size, "pipeline", "ours")
            measure(measured, key, "scale_pipeline:pipeline", SIZES[size], SWEEPS[size])
    if LARGEST_RELEASE in chosen.only:
        largest_release(measured)
    if "per user" in chosen.only:
        for count in RATINGS_OF_A_USER:
            size = f"{count} a user"
            drawn = {"n_ratings": count * USERS, "n_users": USERS, "n_movies": MOVIES}
            accuracy(measured, size, drawn, SWEEPS_PER_USER)
    copied = in_own_process("scale_training:copy")["bytes/s"]
    print_report("scale", list(rows(measured, copied)), targets(measured))


def ingest(measured: Measured, size: str) -> None:
    """Write an archive, and have everybody read it, by turns."""
    with tempfile.TemporaryDirectory(prefix="cf_pipeline_") as folder:
        archive = Path(folder, ARCHIVE)
        written = in_own_process("scale_data:write_archive", folder, ARCHIVE, SIZES[size])
        print(f"{size}: written, {written}", file=sys.stderr)
        for _ in range(TURNS):
            for stage, by, function, read in INGESTS:
                out = Path(folder, "out")
                shutil.rmtree(out, ignore_errors=True)
                out.mkdir()
                measure(measured, (size, stage, by), function, f"{archive}{read}", str(out))
                measured[size, stage, by] |= {"ratings": SIZES[size]}


def largest_release(measured: Measured) -> None:
    """Ingest a zip in the layout of the largest release, which is as large."""
    with tempfile.TemporaryDirectory(prefix="cf_pipeline_") as folder:
        in_own_process("scale_data:write_archive", folder, LARGEST_RELEASE, RATINGS_OF_LARGEST)
        out = Path(folder, "out")
        out.mkdir()
        key = (LARGEST_RELEASE, "ingest from the zip", "ours")
        archive = f"{Path(folder, LARGEST_RELEASE)}.zip"
        measure(measured, key, "scale_ingest:ours", archive, str(out))
        measured[key] |= {"ratings": RATINGS_OF_LARGEST}


def accuracy(measured: Measured, size: str, drawn: dict[str, int], n_sweeps: int) -> None:
    """Have everybody fit the same ratings."""
    for by, function, passes in (
        ("ours", "scale_training:accuracy", n_sweeps),
        ("myFM", "scale_peers:myfm", n_sweeps),
        ("Surprise SVD", "scale_peers:surprise_svd", EPOCHS),
        ("implicit ALS", "scale_peers:implicit_als", ITERATIONS),
    ):
        key = (size, "accuracy", by)
        measure(measured, key, function, drawn, passes, RANK)
        measured[key] |= {"passes": passes}


def measure(measured: Measured, key: Key, function: str, *arguments: object) -> None:
    """Add the figures of a stage; of several turns the seconds are the median, memory the most."""
    before = measured.get(key, {"turns": [], "peak_bytes": 0})
    if "unfinished" in before:
        return
    try:
        limit = None if key[2] == "ours" else LIMIT
        figures = in_own_process(function, *arguments, limit=limit)
    except UnfinishedError as error:
        figures = {"unfinished": str(error)}
    else:
        figures["turns"] = [*before["turns"], figures["seconds"]]
        figures["seconds"] = statistics.median(figures["turns"])
        figures["peak_bytes"] = max(before["peak_bytes"], figures["peak_bytes"])
    measured[key] = figures
    print(*key, figures, file=sys.stderr)


def rows(measured: Measured, copied: float) -> Iterable[Row]:
    """Return the lines of the tables; `copied` are the bytes that a second allows to copy."""
    trained = {key: figures for key, figures in measured.items() if key[1] == "accuracy"}
    for key, figures in measured.items():
        if key not in trained:
            yield _stage(key, figures)
    for (size, stage, _), figures in measured.items():
        if stage == "pipeline" and "unfinished" not in figures:
            told = {"sweeps": str(figures["passes"]), "RMSE": figures["rmse"]}
            yield {"size": size, "stage": stage, **told}
    for (size, stage, _), figures in measured.items():
        if stage == "sweeps" and "unfinished" not in figures:
            yield _sweep(size, figures, copied)
    for (size, stage, _), figures in measured.items():
        if stage == "pipeline" and "unfinished" not in figures:
            for asset, seconds in figures["assets"].items():
                yield {"size": size, "asset": asset, "seconds of its own work": seconds}
    for key, figures in trained.items():
        yield _accuracy(key, figures)


def _stage(key: Key, figures: Figures) -> Row:
    size, stage, by = key
    row: Row = {"size": size, "stage": stage, "by": by, "seconds": "", "million ratings/s": ""}
    if "unfinished" in figures:
        return {**row, "seconds": figures["unfinished"], "peak MB": "", "seconds of each": []}
    return {
        **row,
        "seconds": figures["seconds"],
        "million ratings/s": figures["ratings"] / figures["seconds"] / 1e6,
        "peak MB": figures["peak_bytes"] / 1e6,
        "seconds of each": figures.get("seconds of each", figures["turns"]),
    }


def _sweep(size: str, figures: Figures, copied: float) -> Row:
    told = ("set-up seconds", "useful Gflop", "Gflop/s", "bound Gflop/s", "share of bound")
    return {
        "size": size,
        "seconds per sweep": figures["seconds"],
        **{name: figures[name] for name in told},
        "copy GB/s": copied / 1e9,
        "threads": str(figures["threads"]),
        "seconds of each product": figures["seconds of each product"],
    }


def _accuracy(key: Key, figures: Figures) -> Row:
    size, _, by = key
    row: Row = {"size": size, "by": by, "sweeps or epochs": str(figures["passes"])}
    if "unfinished" in figures:
        blank = dict.fromkeys(("RMSE", "noise floor", "above it", "peak MB"), "")
        return {**row, "seconds of each": figures["unfinished"], **blank}
    judged = {name: figures.get(name, "") for name in ("rmse", "floor")}
    above = figures["rmse"] - figures["floor"] if "rmse" in figures else ""
    return {
        **row,
        "seconds of each": figures["seconds"] / figures["passes"],
        "RMSE": judged["rmse"],
        "noise floor": judged["floor"],
        "above it": above,
        "peak MB": figures["peak_bytes"] / 1e6,
    }


def _of(size: str) -> dict[str, int]:
    return {"n_ratings": SIZES[size]}


if __name__ == "__main__":
    main()
