"""What the gate found of a challenger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ANOTHER_TABLE = (
    "Another table of ratings belongs in a directory of its own, or another CF_PIPELINE_ARTIFACTS."
)


@dataclass(frozen=True)
class Finding:
    """What came of one rule: whether it `passed`, and `why`, in words with figures.

    `figures` are the numbers behind it, for charts.
    """

    rule: str
    passed: bool
    why: str
    figures: Mapping[str, float]
