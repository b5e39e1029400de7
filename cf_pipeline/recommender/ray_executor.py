"""Tasks on a Ray cluster: its extra is `ray`, and nothing else imports Ray.

What tasks share travels through the object store, once to each node for a map. What they keep stays
there, on the node where it was made: later tasks go where their block is. A task whose worker or
node dies is run again by Ray, and what died with a node is made again from what it was made of,
which for blocks are files. An object store that is full goes on on the disk.

The artifact store, whose files ratings are in, must be on every node, under the same path.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from statistics import median
from typing import Any, Self, TypeVar

import ray

from cf_pipeline.recommender.executors import BlockError, Kept, Part, RayUnavailableError, Usage
from cf_pipeline.recommender.ray_tasks import Done, cause_of, code_digest, register, run_task

Found = TypeVar("Found")
RETRIES = 8  # of a task whose worker or node dies
SECONDS_BETWEEN_LINES = 20.0
STRAGGLES, LEAST_SECONDS = 2.0, 1.0  # times the median of its map, and beyond it: a straggler
SECONDS_TO_CONNECT = 10.0


class RayExecutor:
    """Runs tasks on the workers of a Ray cluster, a core or a GPU each.

    `log` is told of progress and of tasks that take much longer than others.
    """

    in_process = False

    def __init__(self, gpus: bool = False, log: Callable[[str], None] = lambda _: None) -> None:
        self.log = log
        self._gpus = gpus
        self._usage: dict[str, Usage] = {}  # of all that `on` returns
        self._started_here = False
        self._last_line = time.monotonic()
        register()

    @classmethod
    def connect(cls, address: str) -> Self:
        """Connect to the cluster at an `address`; 'local' starts one of this machine's cores.

        Raises:
            RayUnavailableError: the cluster cannot be reached.
        """
        if ray.is_initialized():
            connected = ray.get_runtime_context().gcs_address
            if address not in ("auto", connected):
                raise RayUnavailableError(
                    f"This process is connected to the Ray cluster {connected}, and the cluster "
                    f"{address!r} is asked for: choose the address 'auto' to use the one it is "
                    "connected to, or call ray.shutdown() first."
                )
            return cls()
        try:
            _knock(address)
            with _sigterm_kept():
                ray.init(
                    address,
                    include_dashboard=False if address == "local" else None,
                    log_to_driver=False,
                    logging_level=logging.WARNING,
                )
        except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            raise RayUnavailableError(
                f"The Ray cluster {address!r} cannot be reached ({error}): start it, name another "
                "in CF_PIPELINE_RAY or in the config of the resource compute, or choose the "
                "executor 'local'."
            ) from error
        executor = cls()
        executor._started_here = True
        return executor

    def described(self) -> str:
        """Return what there is of the cluster, for a log."""
        of = ray.cluster_resources()
        counts = {"nodes": len(_alive()), "cores": of.get("CPU", 0), "GPUs": of.get("GPU", 0)}
        return ", ".join(f"{int(n)} {name}" for name, n in counts.items())

    def on(self, device: str, log: Callable[[str], None]) -> RayExecutor:
        """Return an executor of the same cluster, whose tasks take a GPU each or a core.

        A GPU if `device` is a cuda device, or if it is 'auto' and the cluster has any.

        Raises:
            RayUnavailableError: a GPU is asked for, and there is none.
        """
        asked, has_gpus = device.startswith("cuda"), ray.cluster_resources().get("GPU", 0) > 0
        if asked and not has_gpus:
            raise RayUnavailableError(
                f"Device {device!r} is asked for, and the Ray cluster has no GPU: choose 'auto' or "
                "'cpu'."
            )
        executor = RayExecutor(asked or (device == "auto" and has_gpus), log)
        executor._usage = self._usage
        return executor

    def close(self) -> None:
        """Leave the cluster, which ends if it was started here; not one that was in use before."""
        if self._started_here:
            ray.shutdown()

    def keep(
        self, task: Callable[..., Found], parts: Sequence[Part], *shared: object
    ) -> Sequence[Kept[Found]]:
        """Let tasks put what they make into the object store of the node where they run."""
        run = run_task.options(
            num_returns=2,
            num_cpus=1,
            max_retries=RETRIES,
            name=task.__name__,
            scheduling_strategy="SPREAD",  # later tasks go where these were
        )
        with _handing_over():
            given = [ray.put(value) for value in shared]
            return [
                run.remote(task, code_digest(), False, *part.arguments, *given)[0] for part in parts
            ]

    def map(
        self, task: Callable[..., Found], parts: Sequence[Part], *shared: object
    ) -> Iterator[Found]:
        """Run all tasks at once, as many as there are workers, and yield their results in order."""
        run = run_task.options(
            num_returns=2,
            num_cpus=0 if self._gpus else 1,
            num_gpus=1 if self._gpus else 0,
            max_retries=RETRIES,
            name=task.__name__,
        )
        with _handing_over():
            given = [ray.put(value) for value in shared]
            waiting = [
                run.remote(task, code_digest(), self._gpus, *part.arguments, *given)
                for part in parts
            ]
        done: list[Done] = []
        reached = 0
        try:
            for part, (found, how) in zip(parts, waiting, strict=True):
                self._wait(part, found, len(done), len(parts))
                reached += 1
                try:
                    result, record = ray.get([found, how])
                except ray.exceptions.RayError as error:
                    cause = cause_of(error)
                    raise BlockError.of(part.name, cause) from cause
                done.append(record)
                yield result
        finally:
            # Not one that has just failed: Ray may abort if that is stopped while it takes note.
            for found, _ in waiting[reached:]:
                with suppress(Exception):
                    ray.cancel(found)
        self._account(parts, done)

    # The device is the driver's: the cluster has its own.
    def works_on(self, device: object) -> str:  # noqa: ARG002
        """Return how many of the cluster's cores or GPUs tasks may run on."""
        of = ray.cluster_resources()
        return f"ray: {of.get('GPU', 0):.0f} GPUs" if self._gpus else f"ray: {of['CPU']:.0f} cores"

    def usage(self) -> list[Usage]:
        """Return what each node did since the last call, but for what `keep` had it make."""
        found = [self._usage[node] for node in sorted(self._usage)]
        self._usage.clear()
        return found

    def _wait(self, part: Part, found: ray.ObjectRef[Any], n_done: int, n: int) -> None:
        began = time.monotonic()
        while not ray.wait([found], timeout=SECONDS_BETWEEN_LINES, fetch_local=False)[0]:
            self.log(
                f"{part.name}: waited {time.monotonic() - began:.0f} s, {n_done} of {n} tasks are "
                f"done, {len(_alive())} nodes are up."
            )

    def _account(self, parts: Sequence[Part], done: Sequence[Done]) -> None:
        usual = median(record.seconds for record in done) if done else 0.0
        for part, record in zip(parts, done, strict=True):
            late = record.seconds - usual > max(LEAST_SECONDS, (STRAGGLES - 1) * usual)
            before = self._usage.get(record.node, Usage(record.node, 0, 0, 0.0, 0))
            self._usage[record.node] = Usage(
                record.node,
                before.tasks + 1,
                before.ratings + part.size,
                before.busy_seconds + record.seconds,
                before.stragglers + late,
            )
            if late and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
                self._last_line = time.monotonic()
                self.log(
                    f"{part.name} took {record.seconds:.1f} s on {record.node}, the median is "
                    f"{usual:.1f} s."
                )


@contextmanager
def _handing_over() -> Iterator[None]:
    """Say what to do where tasks cannot be handed to Ray.

    Raises:
        BlockError: they cannot.
    """
    try:
        yield
    except ray.exceptions.RayError as error:
        raise BlockError(
            f"Tasks cannot be handed to Ray ({error}): look whether the cluster is up, and whether "
            "its object store and the disk under it have room, and run it again."
        ) from error


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Keep what SIGTERM does, which `ray.init` would replace: Dagster cleans up by it."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _knock(address: str) -> None:
    """Try a 'host:port' first: Ray waits for minutes where nobody listens.

    Raises:
        OSError: nobody does.
    """
    host, colon, port = address.rpartition(":")
    if colon and "://" not in address:
        socket.create_connection((host, int(port)), timeout=SECONDS_TO_CONNECT).close()


def _alive() -> list[Any]:
    return [node for node in ray.nodes() if node["Alive"]]
