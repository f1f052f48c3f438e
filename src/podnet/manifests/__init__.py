"""What podnet installs in a cluster: resource definitions and roles, as YAML files beside this.

The files are generated from ``podnet.manifests.resources`` and ``podnet.manifests.roles`` by
``python -m podnet.manifests.generate``; a test holds them to it.
"""

from __future__ import annotations

FILES = ("ipblocks.yaml", "roles.yaml")
"""The files that the ``kubernetes:`` store needs, in the order to apply them in."""

WHEREABOUTS = ("whereabouts.yaml",)
"""The file that the ``whereabouts:`` store needs; its account is in ``roles.yaml``."""


def render(names: tuple[str, ...] = FILES) -> str:
    """Return the manifests as one stream of YAML documents, for ``kubectl apply -f -``.

    Args:
        names: which files; ``FILES`` if not given.
    """
    from importlib.resources import files

    folder = files("podnet.manifests")
    texts = (folder.joinpath(name).read_text(encoding="utf-8") for name in names)
    # What comes before the first document is for who changes the files.
    return "".join(text[text.index("---") :] for text in texts)
