"""Set-up shared by all tests: threads, hypothesis, and the rule for tests that need a GPU."""

import os

import hypothesis
import pytest
import torch

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))

# No limit on time, which other work on the machine may take. On CI the examples are the same every time.
untimed = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("local", **untimed)
hypothesis.settings.register_profile("ci", **untimed, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


LONG = (
    "test_shipped_studies.py", "test_pipeline.py", "test_training.py", "test_together.py", "test_engines.py",
    "test_trust_region_pipeline.py", "test_known_optima.py", "test_gpu_kit.py", "test_cli.py", "test_report.py",
    "test_training_together.py", "test_operator_study.py", "test_physics_training.py", "test_wheel.py",
    "test_solid_run.py", "test_solid_study.py", "test_operator_tuning.py", "test_flow_models.py",
    "test_solid_search.py", "test_front_studies.py", "test_scatter.py", "test_deform.py", "test_shape_operator.py",
    "test_operator_studies.py",
)  # fmt: skip
"""Files of half a minute and more, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first, which leaves short ones to even out the processes' ends; skip `gpu` where there is none.

    `make test` distributes files in this order (``--no-loadscope-reorder``), not by their number of tests.
    """
    rank = {name: index for index, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path.name, len(LONG)))
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch finds none"))
