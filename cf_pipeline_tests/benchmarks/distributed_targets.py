"""What the benchmark `distributed` measured, its lines and its targets."""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from cf_pipeline_tests.benchmarks.report import Row, Target
from cf_pipeline_tests.benchmarks.scale_process import Figures

UNCOUNTED = 2  # first sweeps, which are not typical
CLOSE = 0.001  # RMSE by which the fastest of Spark's settings may be worse than the best


class By(NamedTuple):
    """Who samples: an executor, its worker processes, and how many threads each process has."""

    executor: str
    workers: int
    threads: int


LOCAL, LOCAL_ON_TWO = By("local", 0, 1), By("local", 0, 2)
ONE_WORKER, TWO_WORKERS = By("Ray", 1, 1), By("Ray", 2, 1)


@dataclass(frozen=True)
class Swept:
    """What a sampler said of its set-up, and of each sweep, as `distributed_sampler` does.

    The first `needed` sweeps are what a fit takes; more of them only tell how long a sweep takes.
    """

    setup: Figures
    sweeps: Sequence[Figures]
    needed: int

    @property
    def counted(self) -> list[float]:
        """The seconds of the sweeps that are typical."""
        return [sweep["seconds"] for sweep in self.sweeps[UNCOUNTED:]]

    @property
    def stages(self) -> list[Figures]:
        """The set-up and the sweeps of a fit."""
        return [self.setup, *self.sweeps[: self.needed]]

    @property
    def seconds(self) -> float:
        """The seconds of a fit: of the blocks, and of its sweeps."""
        return float(sum(stage["seconds"] for stage in self.stages))

    @property
    def rmse(self) -> float:
        """That of the mean of a fit's samples."""
        return float(self.stages[-1]["rmse"])

    def to(self, rmse: float) -> "Swept | None":
        """Return the fit that predicts with that RMSE, if so many sweeps are enough."""
        for needed, sweep in enumerate(self.sweeps, 1):
            if sweep["rmse"] is not None and sweep["rmse"] <= rmse:
                return Swept(self.setup, self.sweeps, needed)
        return None


Measured: TypeAlias = Mapping[By, Swept]


def fastest(fits: Iterable[Figures]) -> Figures:
    """Return Spark's fastest fit of those that are as good as the best, but for `CLOSE`."""
    fits = list(fits)
    best = min(fit["rmse"] for fit in fits)
    return min(
        (fit for fit in fits if fit["rmse"] <= best + CLOSE), key=lambda fit: float(fit["seconds"])
    )


def targets(measured: Measured, spark: Figures | None) -> Iterator[Target]:
    """Yield the targets of what was measured; `spark` are the figures of its last fits."""
    local, one, two = (measured.get(by) for by in (LOCAL, ONE_WORKER, TWO_WORKERS))
    if local and one:
        name = "Ray with one worker / local, seconds a sweep"
        yield Target(name, _ratio(one, local), 1.25)
    if one and two:
        yield Target("speed-up of two workers over one", _ratio(one, two), least=1.5)
    if two and spark:
        name = "Spark's seconds / ours on Ray with two workers, to Spark's RMSE"
        reached = two.rmse <= spark["fits"][-1]["rmse"]
        yield Target(name, spark["seconds"] / two.seconds if reached else 0.0, least=1)


def rows(measured: Measured, floor: float) -> Iterator[Row]:
    """Yield a line for each sampler; `floor` is the noise floor, in stars."""
    for by, swept in measured.items():
        memory = swept.sweeps[-1]
        yield {
            "executor": by.executor,
            "workers": str(by.workers),
            "threads of each": str(by.threads),
            "start s": swept.setup["start seconds"],
            "blocks s": swept.setup["seconds"],
            "sweep s": statistics.median(swept.counted),
            "least": min(swept.counted),
            "sweeps": str(swept.needed),
            "blocks + sweeps s": swept.seconds,
            "CPU s": sum(stage["CPU seconds"] for stage in swept.stages),
            "RMSE": swept.rmse,
            "noise floor": floor,
            "driver MB": memory["driver_bytes"] / 1e6,
            "workers MB": memory["worker_bytes"] / 1e6,
            "store MB": memory["store_bytes"] / 1e6,
            "Ray's own MB": memory["service_bytes"] / 1e6,
            "seconds of each sweep": [sweep["seconds"] for sweep in swept.sweeps],
        }


def rows_of_spark(tried: Figures, ours: Swept | None, last: Figures) -> Iterator[Row]:
    """Yield a line for each setting that Spark tried on carved rows, and its last fits' one.

    Beside each stands what it took `ours` to be as good on the same rows.
    """
    for fit in tried["fits"]:
        equal = ours.to(fit["rmse"]) if ours else None
        yield {
            "Spark ALS, on carved rows": _named(fit),
            "s": fit["seconds"],
            "CPU s": fit["CPU seconds"],
            "RMSE": fit["rmse"],
            "ours, local, sweeps": str(equal.needed) if equal else "",
            "ours, local, s": equal.seconds if equal else "",
        }
    seconds = [fit["seconds"] for fit in last["fits"]]
    yield {
        "Spark ALS": _named(last["fits"][-1]),
        "start s": last["start seconds"],
        "least s": last["seconds"],
        "median": statistics.median(seconds),
        "CPU s": min(fit["CPU seconds"] for fit in last["fits"]),
        "RMSE": last["fits"][-1]["rmse"],
        "driver MB": last["peak_bytes"] / 1e6,
        "JVM MB": last["jvm_bytes"] / 1e6,
        "seconds of each": seconds,
    }


def _named(fit: Figures) -> str:
    return f"rank {fit['rank']}, regParam {fit['regParam']}, maxIter {fit['maxIter']}"


def _ratio(some: Swept, others: Swept) -> float:
    """Return the median of the turns' own ratios, as a machine that slows down slows both."""
    turns = zip(some.counted, others.counted, strict=True)
    return statistics.median(seconds / other for seconds, other in turns)
