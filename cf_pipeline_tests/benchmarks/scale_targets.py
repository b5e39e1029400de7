"""What the benchmark `scale` holds us to; a target of what was not measured is left out."""

import statistics
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np

from cf_pipeline_tests.benchmarks.report import Target
from cf_pipeline_tests.benchmarks.scale_process import Figures

Key: TypeAlias = tuple[str, str, str]  # size, stage, by whom
Measured: TypeAlias = dict[Key, Figures]
GIB = 1 << 30
GROWN_FROM = 1_000_000  # ratings: below it, starting up counts


def targets(measured: Measured) -> list[Target]:
    """Return the targets of what was measured."""
    finished = {key: figures for key, figures in measured.items() if "unfinished" not in figures}
    ours = [figures for (_, _, by), figures in measured.items() if by == "ours"]
    unfinished = sum("unfinished" in figures for figures in ours)
    return [
        Target("stages of ours that did not finish", unfinished, 0),
        *_of_sweeps(finished),
        *_of_ingest(finished),
        *_of_accuracy(finished),
        *_of_pipeline(finished),
    ]


def _of_sweeps(measured: Measured) -> Iterator[Target]:
    small, large = (measured.get((size, "sweeps", "ours")) for size in ("1M", "10M"))
    if small:
        yield Target("1M: useful flops / bound", small["share of bound"], least=0.20)
    if large:
        yield Target("10M: peak GiB", large["peak_bytes"] / GIB, 3)
    if small and large:
        grown = large["seconds"] / large["ratings"] / (small["seconds"] / small["ratings"])
        yield Target("10M: seconds of a sweep's rating / those of 1M", grown, 1.1)


def _of_ingest(measured: Measured) -> Iterator[Target]:
    def of(size: str, stage: str, by: str = "ours") -> Figures | None:
        return measured.get((size, stage, by))

    at_20m, polars = of("20M", "ingest"), of("20M", "ingest", "Polars")
    if at_20m:
        yield Target("20M: ingest, peak MB", at_20m["peak_bytes"] / 1e6, 600)
    if at_20m and polars:
        ratio = statistics.median(map(_over, at_20m["turns"], polars["turns"]))
        yield Target("20M: ingest / Polars", ratio, 1.5)
    zipped, unzipped = of("20M", "ingest from the zip"), of("20M", "unzip", "zipfile")
    if at_20m and zipped and unzipped:
        both = map(sum, zip(at_20m["turns"], unzipped["turns"], strict=True))
        ratio = statistics.median(map(_over, zipped["turns"], both))
        yield Target("20M: ingest from the zip / (from CSV + unzipping)", ratio, 1)
    if at_100m := of("100M", "ingest"):
        yield Target("100M: ingest, peak MB", at_100m["peak_bytes"] / 1e6, 1000)
    grown = [
        (figures["ratings"], figures["seconds"])
        for (_, stage, by), figures in measured.items()
        if (stage, by) == ("ingest", "ours") and figures["ratings"] >= GROWN_FROM
    ]
    if len(grown) > 1:
        ratings, seconds = np.log(np.array(grown)).T
        exponent = np.polyfit(ratings, seconds, 1)[0]
        yield Target("ingest: growth exponent from 1M on", float(exponent), 1.05)


def _of_accuracy(measured: Measured) -> Iterator[Target]:
    for (size, stage, by), figures in measured.items():
        peer = measured.get((size, stage, "myFM"))
        if stage == "accuracy" and by == "ours" and peer:
            above = figures["rmse"] - peer["rmse"]
            yield Target(f"{size}: RMSE less that of myFM", above, 0)


def _of_pipeline(measured: Measured) -> Iterator[Target]:
    if whole := measured.get(("20M", "pipeline", "ours")):
        yield Target("20M: whole pipeline, peak GiB", whole["peak_bytes"] / GIB, 8)


def _over(seconds: float, others: float) -> float:
    return seconds / others
