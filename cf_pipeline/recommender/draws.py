"""Draws from the distributions that Gibbs sampling needs, on the device of their generator."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.special import erfc, ndtri

TINY = 1e-30  # the least probability that is told from 0; float32 holds it


def stream(device: torch.device, *key: int) -> torch.Generator:
    """Return a generator whose numbers depend on the device's kind and on `key` alone.

    The key says what they are for, so that whoever draws them, whenever, draws the same. Zeros at
    the end of a key of up to four numbers tell it from no other. On a CPU keys have 2³² streams.
    """
    [seed] = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(seed))


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Draw standard normals of `shape`."""
    return torch.randn(shape, generator=generator, device=generator.device)


def gamma(generator: torch.Generator, shape: Tensor, rate: Tensor) -> Tensor:
    """Draw from Gamma(shape, rate), whose mean is shape / rate."""
    drawn: Tensor = torch._standard_gamma(shape, generator)
    return drawn / rate


def wishart(generator: torch.Generator, inverse_scale: Tensor, degrees: int) -> Tensor:
    """Draw from Wishart(inverse_scale⁻¹, degrees), (width, width) (Bartlett 1933)."""
    width = len(inverse_scale)
    half_degrees = (degrees - torch.arange(width, device=inverse_scale.device)) / 2
    chi = torch._standard_gamma(half_degrees, generator).mul(2).sqrt()
    bartlett = normal(generator, width, width).tril(-1) + chi.diag()
    # With the inverse scale R Rᵀ, R⁻ᵀ is a root of the scale.
    root = torch.linalg.cholesky(inverse_scale)
    drawn: Tensor = torch.linalg.solve_triangular(root.T, bartlett, upper=True)
    return drawn @ drawn.T


def truncated_normal(generator: torch.Generator, low: Tensor, high: Tensor) -> Tensor:
    """Draw standard normals (n,) between `low` and `high` (n,), by inverting their distribution."""
    a, b = _in_lower_tail(low, high)
    below = _lower_tail(a)
    uniform = torch.rand(a.shape, generator=generator, device=a.device)
    drawn = ndtri((below + (_lower_tail(b) - below) * uniform).clamp(TINY, 1 - 1e-7))
    drawn = torch.maximum(torch.minimum(drawn, b), a)
    return torch.where(low > 0, -drawn, drawn)


def truncated_normal_mean(low: Tensor, high: Tensor) -> Tensor:
    """Return the mean of a standard normal between `low` and `high`."""
    mean = (normal_density(low) - normal_density(high)) / normal_probability(low, high)
    return torch.maximum(torch.minimum(mean, high), low)


def normal_probability(low: Tensor, high: Tensor) -> Tensor:
    """Return the probability of a standard normal between `low` and `high`, at least TINY."""
    a, b = _in_lower_tail(low, high)
    return (_lower_tail(b) - _lower_tail(a)).clamp(min=TINY)


def normal_density(x: Tensor) -> Tensor:
    """Return the standard normal density at x."""
    return torch.exp(-0.5 * x.square()) / math.sqrt(2 * math.pi)


def _in_lower_tail(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ends, mirrored where both are above 0: near 1 a probability has no digits left."""
    upper = low > 0
    return torch.where(upper, -high, low), torch.where(upper, -low, high)


def _lower_tail(x: Tensor) -> Tensor:
    """Return the probability below x; torch's ndtr is 0 in float32 from -5.5 on, this from -14."""
    probability: Tensor = 0.5 * erfc(-x / math.sqrt(2))
    return probability
