from __future__ import annotations

import pytest
from owned_courses import COURSES


@pytest.mark.parametrize("course", COURSES, ids=lambda each: each.__name__)
def test_course(course):
    course()
