"""A safe YAML loader that reads with libyaml where PyYAML was built with it: some 7 times faster.

``yaml.CSafeLoader`` puts nodes together in C too, with no bound on their depth: a file of a hundred
thousand brackets ends the process with a segmentation fault. Here libyaml finds the events alone,
and PyYAML puts them together, which ends such a file in RecursionError.
"""

from __future__ import annotations

from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver


def safe_loader() -> Any:
    """Return the loader class for ``yaml.load_all``."""
    try:
        from yaml._yaml import CParser
    except ImportError:  # PyYAML was built without libyaml
        return yaml.SafeLoader

    class Loader(Composer, CParser, SafeConstructor, Resolver):
        def __init__(self, stream: bytes) -> None:
            CParser.__init__(self, stream)
            Composer.__init__(self)
            SafeConstructor.__init__(self)
            Resolver.__init__(self)

    return Loader
