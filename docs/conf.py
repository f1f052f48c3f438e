"""How the pages become a site: ``tox -e docs``, or ``sphinx-build -W docs OUT``."""

from __future__ import annotations

from importlib.metadata import version as installed_version

project = "podnet"
author = "The podnet authors"
copyright = "The podnet authors, Apache-2.0"  # noqa: A001 - Sphinx's own name
release = version = installed_version("podnet")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
# Headings get anchors, so that a link to a section is checked like any other.
myst_heading_anchors = 3
# Types belong to the signature once, not to every line of the description again.
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
html_theme = "alabaster"
html_theme_options = {"description": "several network interfaces for Kubernetes pods"}
html_show_sphinx = False
