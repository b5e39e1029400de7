"""An artifact's metadata: Dagster's in the UI and the log, JSON in the artifact store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import dagster as dg

from cf_pipeline.artifacts import Artifact


def stored_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return values that Dagster takes as metadata as JSON."""
    return {key: json.loads(dg.serialize_value(value)) for key, value in metadata.items()}


def shown_metadata(artifact: Artifact, hit: bool) -> dict[str, Any]:
    """Return what is shown of a result: its builder's metadata, whence it comes and where it is."""
    # Its only file, or its directory where it has several.
    names = list(artifact.files)
    path = artifact.directory / names[0] if len(names) == 1 else artifact.directory
    stored = {
        key: dg.deserialize_value(json.dumps(value)) for key, value in artifact.metadata.items()
    }
    return {
        **stored,
        "cache": "hit" if hit else "miss",
        "cache_key": artifact.key,
        "dagster/uri": path.as_uri(),
    }


def figures(metadata: Mapping[str, Any]) -> str:
    """Return what a person who reads the log wants to know of a result: its numbers."""
    values = {name: getattr(value, "value", value) for name, value in metadata.items()}
    numbers = {name: value for name, value in values.items() if type(value) in (int, float)}
    return "".join(f"{name} {value:.6g}, " for name, value in numbers.items())
