"""Sphinx configuration; built by `make docs`, where every warning is an error."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from sphinx.pycode import ModuleAnalyzer

import distkit_actors

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "distkit_actors"
author = "distkit_actors contributors"
project_copyright = "distkit_actors contributors"
release = version = distkit_actors.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib_trio",
]
exclude_patterns = [
    "_build",
    "performance_glance.md",  # included by performance.md
    "performance_table.md",  # so is this
    "servers_table.md",  # included by servers.md
]

html_theme = "furo"
html_title = "distkit_actors"
html_static_path = ["_static"]
html_css_files = ["narrow.css", "pictures.css"]

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
    (r"py:.*", r"(abc|collections|contextlib|enum|outcome|redis|ssl|trio|types|typing)\..*"),
    (r"py:.*", r"(opentelemetry|prometheus_client)\..*"),
    # A private name in a signature has no page to link to.
    (r"py:.*", r"(.*\.)?_\w+(\..*)?"),
    (r"py:.*", r"(Self|TracebackType|(Async)?(Iterator|Generator))"),
]


def setup(app: Sphinx) -> None:
    """Be called by Sphinx."""
    app.connect("builder-inited", tell_where_attributes_are_documented)
    app.connect("autodoc-process-docstring", keep_attributes_as_written, priority=400)
    app.connect("autodoc-process-docstring", leave_lists_of_fields_out, priority=400)


def tell_where_attributes_are_documented(_: Sphinx) -> None:
    """Have autodoc find the docstrings of attributes, and the order of members.

    It looks for them in the source of the module that a class says it is from, which is the
    public one. They are in the source of the module where the class is written.
    """
    modules = pkgutil.walk_packages(distkit_actors.__path__, f"{distkit_actors.__name__}.")
    written = [ModuleAnalyzer.for_module(m.name) for m in modules if "__main__" not in m.name]
    for analyzer in written:
        analyzer.analyze()
    for name in (
        "distkit_actors",
        "distkit_actors.abc",
        "distkit_actors.opentelemetry",
        "distkit_actors.prometheus",
        "distkit_actors.testing",
    ):
        public = ModuleAnalyzer.for_module(name)
        public.analyze()
        exported = set(importlib.import_module(name).__all__)
        for number, analyzer in enumerate(written):
            for (scope, attribute), doc in analyzer.attr_docs.items():
                if (scope or attribute).partition(".")[0] in exported:
                    public.attr_docs[scope, attribute] = doc
            for member, order in analyzer.tagorder.items():
                if member.partition(".")[0] in exported:
                    public.tagorder[member] = number * 10_000 + order


def keep_attributes_as_written(_: Sphinx, what: str, *event: Any) -> None:
    """Come before Napoleon, which takes what is before a colon in the first line for a type."""
    lines: list[str] = event[-1]
    if what in {"attribute", "data", "property"}:
        lines[:0] = ["..", ""]  # an empty comment


def leave_lists_of_fields_out(_: Sphinx, what: str, *event: Any) -> None:
    """Leave out what a class says of its fields for `help`: each has a text of its own below."""
    lines: list[str] = event[-1]
    if what == "class" and "Attributes:" in lines:
        start = lines.index("Attributes:")
        after = (n for n in range(start + 1, len(lines)) if lines[n] and lines[n][0] != " ")
        del lines[start : next(after, len(lines))]
