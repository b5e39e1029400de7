"""Files of a model that are damaged or made to harm are refused, in bounded memory."""

from pathlib import Path

import pytest

from cf_pipeline_tests.recommender.damages import ModelFault
from cf_pipeline_tests.recommender.memory import MEASURED, peak_memory
from cf_pipeline_tests.recommender.model_faults import FAULTS, attempt

MOST_MEMORY = 768 << 20  # bytes, most of them torch's


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_damaged_files_are_refused(fault: ModelFault, tmp_path: Path) -> None:
    attempt(fault, tmp_path)


def _attempt_all(folder: Path) -> None:
    for number, fault in enumerate(FAULTS):
        (folder / str(number)).mkdir()
        attempt(fault, folder / str(number))


@MEASURED
def test_no_damaged_file_takes_much_memory(tmp_path: Path) -> None:
    assert peak_memory(_attempt_all, tmp_path) < MOST_MEMORY
