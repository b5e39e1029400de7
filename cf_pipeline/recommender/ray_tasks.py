"""What a worker of a Ray cluster does for a task, how tensors come to it, and why it failed."""

from __future__ import annotations

import os
import re
import socket
import time
import warnings
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import ray
import torch

from cf_pipeline.recommender.minibatches import EncodedRatings
from cf_pipeline.recommender.rating_sums import RatingSums
from cf_pipeline.recommender.source_digest import source_digest

THREADS = "OMP_NUM_THREADS"
MISSING_FILE = re.compile(r"\[Errno 2\] No such file or directory: '[^']*'")


class Done(NamedTuple):
    """Where a task ran, and how long."""

    node: str
    seconds: float


@ray.remote
def run_task(task: Callable[..., Any], code: str, gpu: bool, *arguments: Any) -> tuple[Any, Done]:
    """Return what a task returns, its tensors on the worker's core or GPU, and where it ran.

    Raises:
        RuntimeError: the worker has another `code_digest` than `code`, that of the run.
    """
    register()
    if code != code_digest():
        raise RuntimeError(
            f"cf_pipeline or torch on {socket.gethostname()} is another than that of the run: "
            "bring every node to the same commit and the same release of torch, and run it again"
        )
    torch.set_num_threads(int(os.environ.get(THREADS, 1)))
    began = time.perf_counter()
    device = own_gpu() if gpu else torch.device("cpu")
    found = task(*(_on(device, argument) for argument in arguments))
    node = ray.get_runtime_context().get_node_id()[:8]
    where = f"{ray.util.get_node_ip_address()} {node}"
    return found, Done(where, time.perf_counter() - began)


def _on(device: torch.device, value: Any) -> Any:
    """Return a value with its tensors on a device; ratings stay, of which tasks take some."""
    if isinstance(value, EncodedRatings):
        return value
    if isinstance(value, torch.Tensor | RatingSums):
        if device.type == "cuda" and not torch.cuda.is_available():
            raise RuntimeError(
                f"Ray has a GPU on {socket.gethostname()}, and torch finds none there: install "
                "torch for CUDA on every node, or choose the device 'cpu'"
            )
        return value.to(device)
    if isinstance(value, tuple):
        parts = [_on(device, one) for one in value]
        if all(one is before for one, before in zip(parts, value, strict=True)):
            return value
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if is_dataclass(value) and not isinstance(value, type):
        moved = {of.name: _on(device, getattr(value, of.name)) for of in fields(value)}
        if any(one is not getattr(value, name) for name, one in moved.items()):
            return replace(value, **moved)
    return value


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Return what `source_digest` says when this process asks first."""
    return source_digest()


def own_gpu() -> torch.device:
    """Return the GPU that Ray gave the task.

    A worker is used again, and CUDA sees for good what CUDA_VISIBLE_DEVICES had at its first use:
    it is to see all, of which each task takes its own.

    Raises:
        RuntimeError: GPUs are named by something else than a number.
    """
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    number = str(ray.get_gpu_ids()[0])
    if not number.isdigit():
        raise RuntimeError(
            f"Ray gave the task the GPU {number}: start Ray with numbers in CUDA_VISIBLE_DEVICES, "
            "or without it"
        )
    return torch.device("cuda", int(number))


def cause_of(error: ray.exceptions.RayError) -> BaseException:
    """Return what made a task fail, with what to do where a node has not got a file."""
    cause: BaseException = getattr(error, "cause", None) or error
    missing = MISSING_FILE.search(str(error))
    if missing is None:
        return cause
    return FileNotFoundError(
        f"{missing.group()}: the artifact store must be under the same path on every node, on a "
        "file system that they share"
    )


def register() -> None:
    """Let tensors travel as arrays, which readers map out of the object store without a copy."""
    ray.util.register_serializer(torch.Tensor, serializer=_to_array, deserializer=torch.from_numpy)
    # Nothing is written into what a task is given.
    warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)


def _to_array(tensor: torch.Tensor) -> Any:
    return tensor.detach().cpu().numpy()
