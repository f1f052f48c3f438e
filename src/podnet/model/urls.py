"""URLs of stores as they may be shown."""

from __future__ import annotations

import re

# Up to the last `@`: a password may have any character in it that it should not have.
_SECRETS = re.compile(r"(?<=://).*@|(?<=password=)[^&]*", re.IGNORECASE | re.DOTALL)


def masked(url: str) -> str:
    """Return a URL without the user, password and parameters that may be a secret."""
    return _SECRETS.sub(lambda found: "***@" if found[0].endswith("@") else "***", url)
