"""Everything known about a model on one page: from evidence to HTML and JSON, for people who must answer for it."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from clerestory.report.collect import collect
from clerestory.report.files import ReportFiles, report
from clerestory.report.model import ReportData
from clerestory.report.page import build
from clerestory.report.render import render_html, render_json, render_markdown

__all__ = ["ReportData", "ReportFiles", "build", "collect", "render_html", "render_json", "render_markdown", "report"]


class _CallablePackage(ModuleType):
    """Makes ``clerestory.report(...)`` work although importing this package binds its name to the module."""

    def __call__(self, *args: Any, **kwargs: Any) -> ReportFiles:
        return report(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
