"""Sphinx configuration; built by `make docs`, where every warning is an error."""

from __future__ import annotations

import importlib.metadata

project = "distkit_actors"
author = "distkit_actors contributors"
project_copyright = "distkit_actors contributors"
release = version = importlib.metadata.version("distkit-actors")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib_trio",
]
exclude_patterns = [
    "_build",
    "performance_table.md",  # included by performance.md
]

html_theme = "furo"
html_title = "distkit_actors"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False

# `name` in a docstring becomes a link if it is something documented, else just code.
default_role = "py:obj"
nitpicky = True
nitpick_ignore_regex = [
    ("py:obj", r".*"),
    # Nothing is looked up in the inventories of others: the build needs no network.
    (r"py:.*", r"(abc|collections|contextlib|enum|outcome|redis|trio|types|typing)\..*"),
    # A private name in a signature has no page to link to.
    (r"py:.*", r"(.*\.)?_\w+(\..*)?"),
    (r"py:.*", r"(Self|TracebackType|(Async)?(Iterator|Generator))"),
]
