"""Hypothesis profiles, chosen by ``HYPOTHESIS_PROFILE``, and lanes that must not be left out."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

# No deadline: on a busy machine an example takes long for reasons that are not its own.
settings.register_profile("podnet", deadline=None, print_blob=True)
settings.register_profile("thorough", parent=settings.get_profile("podnet"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "podnet"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With ``PODNET_TEST_ALL`` set, as in CI, a lane that could not run has failed."""
    report = yield
    marks = ("kernel", "peers", "containerd", "cluster")
    lanes = [name for name in marks if item.get_closest_marker(name)]
    if report.skipped and "could not import" in str(report.longrepr):
        lanes.append("extras")
    if report.skipped and lanes and os.environ.get("PODNET_TEST_ALL"):
        report.outcome = "failed"
        report.longrepr = f"{', '.join(lanes)}: every lane has to run here, but: {report.longrepr}"
    return report
