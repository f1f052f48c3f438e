"""Hypothesis profiles of the whole suite; ``HYPOTHESIS_PROFILE`` chooses one."""

from __future__ import annotations

import os

from hypothesis import settings

# No deadline: on a busy machine an example takes long for reasons that are not its own.
settings.register_profile("podnet", deadline=None, print_blob=True)
settings.register_profile("thorough", parent=settings.get_profile("podnet"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "podnet"))
