"""Sphinx: pages in MyST Markdown, the reference from the code. `make docs` builds them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from making import api, commands, contents, formulas, messages, notebooks  # noqa: E402

from widegram import __version__  # noqa: E402

project = "widegram"
author = "the widegram developers"
copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
# Notebooks are scripts of cells, which become Markdown as they are read.
source_suffix = {".md": "markdown", ".py": "markdown"}
exclude_patterns = ["conf.py", "making", "paper", "readers"]
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath", "amsmath"]
# Pages say `[...]` in JSON where the rest of a list is no matter.
suppress_warnings = ["misc.highlighting_failure"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
smartquotes = False  # options begin with two hyphens, and pixels are p and p'

html_theme = "furo"
html_title = f"widegram {version}"
html_copy_source = False
# MathJax would come from the network: formulas are MathML, which browsers draw by themselves.
html_math_renderer = formulas.NAME


def complete(app: Sphinx, page: str, source: list[str]) -> None:
    """Add to pages what comes from the code, as Sphinx reads them."""
    if page.startswith("notebooks/"):
        source[0] = notebooks.markdown(HERE / f"{page}.py")
    source[0] = contents.without_links_out(source[0])
    if page == "index":
        source[0] = contents.with_toctrees(source[0], set(app.env.found_docs))
    elif page == "commands":
        source[0] += commands.reference()
    elif page == "api":
        source[0] += api.reference()
    elif page == "messages":
        source[0] += messages.reference()


def escaped(app: Sphinx, kind: str, name: str, *rest: Any) -> None:
    """Docstrings are read as text."""
    api.plain(rest[-1])


def skipped(app: Sphinx, kind: str, name: str, *rest: object) -> bool | None:
    """Whether a member is left out: those that scikit-learn gives every estimator."""
    return True if name.endswith(("_request", "_routing")) else None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    formulas.add_renderer(app)
    app.connect("source-read", complete)
    app.connect("autodoc-process-docstring", escaped, priority=100)
    app.connect("autodoc-skip-member", skipped)
