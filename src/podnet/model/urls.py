"""URLs of stores as they may be shown."""

from __future__ import annotations

import re

from podnet.errors import InvalidConfigError

# Up to the last `@`: a password may have any character in it that it should not have.
_SECRETS = re.compile(r"(?<=://).*@|(?<=password=)[^&]*", re.IGNORECASE | re.DOTALL)


def masked(url: str) -> str:
    """Return a URL without the user, password and parameters that may be a secret."""
    return _SECRETS.sub(lambda found: "***@" if found[0].endswith("@") else "***", url)


def kubeconfig_url(url: str, scheme: str, **defaults: str) -> tuple[str, dict[str, str]]:
    """Return the kubeconfig that a URL names, and its options.

    Args:
        url: ``SCHEME:/path/to/kubeconfig?name=value&…``; the path may be empty.
        scheme: what the URL has to have.
        defaults: the options there are, with what they are if the URL does not say.

    Raises:
        InvalidConfigError: it is not such a URL.
    """
    found, colon, rest = url.partition(":")
    path, _, query = rest.partition("?")
    if found != scheme or not colon:
        raise InvalidConfigError(f"{url!r} is not {scheme}:KUBECONFIG")
    if path.startswith("//"):
        host, slash, rest = path[2:].partition("/")
        path = slash + rest
        if host:
            raise InvalidConfigError(f"{url!r} names the host {host!r}: its file is local")
    options = dict(defaults)
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        if name not in options:
            known = ", ".join(options)
            raise InvalidConfigError(f"{url!r} has the option {name!r}, which is none of {known}")
        options[name] = value
    return path, options


def seconds(url: str, text: str) -> float:
    """Return the timeout that an option of a URL says.

    Raises:
        InvalidConfigError: it is no number above 0.
    """
    try:
        timeout = float(text)
    except ValueError:
        timeout = 0.0
    if not 0 < timeout < float("inf"):
        raise InvalidConfigError(f"{url!r}: timeout is no number of seconds above 0")
    return timeout
