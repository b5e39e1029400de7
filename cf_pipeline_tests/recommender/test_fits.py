"""Where a fit runs: devices by their names."""

import pytest
import torch

from cf_pipeline.recommender.fits import resolve_device


def test_a_device_is_found_by_its_name() -> None:
    assert resolve_device("cpu", sparse=True) == torch.device("cpu")
    accelerator = torch.accelerator.current_accelerator()
    there = accelerator is not None and torch.accelerator.is_available()
    found = accelerator.type if accelerator and there else "cpu"
    assert resolve_device("auto", sparse=False).type == found
    # mps has no sparse products.
    assert resolve_device("auto", sparse=True).type == ("cpu" if found == "mps" else found)


@pytest.mark.parametrize("name", ["nonsense", "cuda:99", ""])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"Device '{name}' cannot be used here: .*Choose 'auto'"):
        resolve_device(name, sparse=True)
