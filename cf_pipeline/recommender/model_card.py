"""The model card: one HTML page that says what the models are, how good, and what they are not for.

The sections are those of Mitchell et al. 2019, "Model Cards for Model Reporting". The page holds
its pictures in itself and asks no host for anything, which its own content security policy forbids.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined

from cf_pipeline.recommender.model_card_page import PAGE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cf_pipeline.recommender.rating_scale import RatingScale

LEAST_ROUNDED = 1e-3  # what is nearer to zero would be shown as another number, or as zero


@dataclass(frozen=True)
class Table:
    """Rows to show under a `caption`; floats are shown to four places or more, None as a dash."""

    caption: str
    rows: Sequence[Mapping[str, object]]


@dataclass(frozen=True)
class Picture:
    """A PNG, and what it shows: a `caption` for all, in place of the picture for some."""

    caption: str
    png: bytes

    @property
    def source(self) -> str:
        """The picture itself, as an address."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class ModelCard:
    """What a card says. Names of figures and settings are shown with spaces for underscores.

    `summary` are the few figures that stand at the top; `scale` is that of the ratings, and `bias`
    tells whether the factor model has biases; `made_from` maps what the models were made from to
    its version.
    """

    summary: Mapping[str, object]
    data: Mapping[str, object]
    scale: RatingScale
    bias: bool
    settings: Mapping[str, Mapping[str, object]]
    rating: Sequence[Table]
    ranking: Sequence[Table]
    examples: Sequence[Table]
    pictures: Mapping[str, Sequence[Picture]] = field(repr=False)
    licence: str
    citation: str
    made_from: Mapping[str, str]

    def html(self) -> str:
        """Return the page; the same for the same card."""
        environment = Environment(
            autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        environment.filters |= {"shown": shown, "words": words}
        return environment.from_string(PAGE).render(card=self)


def shown(value: object) -> str:
    """Return a value as the card shows it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        rounded = f"{value:.4f}"
        if float(rounded) == value:
            return rounded.rstrip("0").rstrip(".")
        return rounded if abs(value) >= LEAST_ROUNDED else f"{value:.2g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value))
    return str(value)


def words(name: str) -> str:
    """Return a name in words."""
    return name.replace("_", " ")
