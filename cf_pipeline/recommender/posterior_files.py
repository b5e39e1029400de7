"""The files of a posterior, which may be damaged: its tensors, and the kind of its likelihood."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from cf_pipeline.recommender.bounded import read_at_most

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

TENSORS = "posterior.safetensors"
KIND = "posterior.json"
MOST_KIND_BYTES = 1 << 10
NAMES = {"user_weights", "item_weights", "mean", "user_precision", "edges", "levels"}


class PosteriorFileError(ValueError):
    """The files of a posterior are damaged, or do not belong together."""


class Kind(BaseModel, strict=True):
    """What `posterior.json` says."""

    ordinal: bool


def write(directory: Path, tensors: Mapping[str, Tensor], ordinal: bool) -> None:
    """Write the tensors of a `Posterior`, by name, and whether it is `ordinal`."""
    save_file({name: value.contiguous() for name, value in tensors.items()}, directory / TENSORS)
    kind = Kind(ordinal=ordinal)
    (directory / KIND).write_text(kind.model_dump_json(), encoding="utf-8")


def read(directory: Path, device: str | torch.device) -> tuple[dict[str, Tensor], bool]:
    """Return the tensors and what else `write` was given, on `device`.

    Raises:
        PosteriorFileError: a file is missing or damaged, or the tensors do not fit together.
    """
    try:
        kind = Kind.model_validate_json(read_at_most(directory / KIND, MOST_KIND_BYTES))
        tensors = load_file(directory / TENSORS, device=str(device))
        if tensors.keys() != NAMES:
            raise ValueError(
                f"{TENSORS} should have the tensors {sorted(NAMES)}, but has {sorted(tensors)}"
            )
    except (OSError, ValueError, SafetensorError) as error:
        raise PosteriorFileError(
            f"The posterior in {directory} cannot be read: {str(error).rstrip('.')}. "
            "Materialize factor_model again."
        ) from error
    _check(tensors, directory)
    return tensors, kind.ordinal


def _check(tensors: Mapping[str, Tensor], directory: Path) -> None:
    none = (0, 0, 0)  # for dimensions that a tensor of another shape lacks
    of_users, of_items = (tensors[name].shape for name in ("user_weights", "item_weights"))
    n_samples, n_users, width = (max(1, n) for n in (*of_users, *none)[:3])
    n_items = max(1, (*of_items, *none)[1])
    n_levels = max(2, (*tensors["levels"].shape, *none)[0])
    expected = {
        "levels": (n_levels,),
        "user_weights": (n_samples, n_users, width),
        "item_weights": (n_samples, n_items, width),
        "mean": (n_samples,),
        "user_precision": (n_samples, n_users),
        "edges": (n_samples, n_levels - 1),
    }
    for name, shape in expected.items():
        tensor = tensors[name]
        if tensor.shape != shape or tensor.dtype != torch.float32 or not tensor.isfinite().all():
            raise PosteriorFileError(
                f"{name} of the posterior in {directory} should be finite float32 {shape}, but "
                f"is {tensor.dtype} {tuple(tensor.shape)}. Materialize factor_model again."
            )
    for name, sound, order in (
        ("levels", tensors["levels"].diff() > 0, "ascend"),
        ("edges", tensors["edges"].diff(dim=1) >= 0, "ascend"),
        ("user_precision", tensors["user_precision"] > 0, "be positive"),
    ):
        if not sound.all():
            raise PosteriorFileError(
                f"{name} of the posterior in {directory} should {order}. Materialize "
                "factor_model again."
            )
