"""The settings of a fit: what a person may choose, its default, and what it means.

They are kept apart from the code that uses them so that Dagster can show them without importing torch.
"""

from typing import Literal

from pydantic import BaseModel, Field


class GradientDescentSettings(BaseModel, frozen=True):
    """Settings of `gradient_descent.fit`; the defaults are the recipe with the low-rank feature prior."""

    n_factors: int = Field(20, gt=0, description="Factors of each user and movie.")
