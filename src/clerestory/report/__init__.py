"""Everything known about a model on one page: from evidence to HTML and JSON, for people who must answer for it."""

from __future__ import annotations

from clerestory.report.collect import collect
from clerestory.report.files import ReportFiles, report
from clerestory.report.model import ReportData
from clerestory.report.page import build
from clerestory.report.render import render_html, render_json, render_markdown

__all__ = ["ReportData", "ReportFiles", "build", "collect", "render_html", "render_json", "render_markdown", "report"]
