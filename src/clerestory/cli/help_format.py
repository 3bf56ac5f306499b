"""How ``--help`` is printed: a docstring's lines are one paragraph, and a default that says nothing is not shown."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.help import DefaultFormatter, HelpEntry, HelpPanel, InlineText
from rich.text import Text

# What every command with a model accepts, after "A" or "a".
MODEL_FORMS = (
    "release (icons@3, icons@live), a model's digest, hf:org/name, a folder (./model), openai:http://host/v1#model, "
    "photos, or starter"
)
Model = Annotated[str, Parameter(help=f"A {MODEL_FORMS}.")]
FittingModel = Annotated[
    str,
    Parameter(
        help=f"A {MODEL_FORMS}. If none is named: photos for photographs; for drawings the live release of icons, or "
        "the starter while there is none."
    ),
]
NO_DEFAULT = {'""', "()", "[]", "{}", "False"}


class ParagraphFormatter(DefaultFormatter):
    """The formatter of cyclopts, which by itself breaks lines where the source code does."""

    def __call__(self, console: Any, options: Any, panel: HelpPanel) -> None:
        """Print one panel of options or commands."""
        super().__call__(console, options, panel.copy(entries=[_entry(entry) for entry in panel.entries]))


def _entry(entry: HelpEntry) -> HelpEntry:
    default = None if entry.default in NO_DEFAULT else entry.default
    description = entry.description
    if isinstance(description, InlineText) and isinstance(description.primary_renderable, Text):
        description = InlineText(
            Text(" ".join(description.primary_renderable.plain.split())), force_empty_end=description.force_empty_end
        )
    return entry.copy(default=default, description=description)
