"""Formulas as MathML, which browsers draw without a program from the network."""

from __future__ import annotations

from typing import Any, NoReturn

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

NAME = "mathml"


def add_renderer(app: Sphinx) -> None:
    """Register the renderer that ``html_math_renderer = NAME`` asks for."""
    app.add_html_math_renderer(NAME, (_inline, None), (_block, None))


def _inline(writer: Any, node: nodes.math) -> NoReturn:
    writer.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.math_block) -> NoReturn:
    formula = tex2mathml(node.astext(), as_block=True)
    writer.body.append(f'<div style="padding: 0.2em 0 0.7em">{formula}</div>\n')
    raise nodes.SkipNode
