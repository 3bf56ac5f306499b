"""The page on licences: its tables are those of the engine. ``python tests/core/test_licence_page.py`` writes them."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from clerestory.core.licences.policy import LicencePolicy
from clerestory.core.licences.table import Licence, licence_table
from clerestory.core.licences.terms import Right

PAGE = Path(__file__).parents[2] / "docs/explanation/licences.md"
START, END = "<!-- table: written by `python tests/core/test_licence_page.py` -->\n", "<!-- end of table -->"
DUTIES = {
    "attribution": "credit",
    "licence_text": "licence text",
    "state_changes": "changes",
    "source_code": "source",
    "use_restrictions": "use restrictions",
    "naming": "names",
    "no_endorsement": "no endorsement",
}


def right(row: Licence, name: Right) -> str:
    return (
        "yes"
        if name in row.rights
        else "*limit*"
        if name in row.limited
        else "*open*"
        if name in row.unclear
        else "**no**"
    )


def written_table() -> str:
    table = licence_table()
    lines = [
        "| licence | commercial use | modification | distribution | duties | share-alike | ends at |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in sorted(table.licences.values(), key=lambda row: (row.id.startswith("LicenseRef"), row.id.casefold())):
        cells = [
            f"[{row.name}]({row.url})<br>`{row.id}`",
            *(right(row, name) for name in Right),
            ", ".join(DUTIES[duty] for duty in row.duties),
            row.share_alike or "",
            ", ".join(row.ends_at),
        ]
        lines.append(f"| {' | '.join(cells)} |")
        if row.note:
            lines[-1] = lines[-1].replace("`<br>", "`").replace(f"`{row.id}`", f"`{row.id}`<br>{row.note}", 1)
    lines += ["", "| exception | accompanies | share-alike that remains | |", "|---|---|---|---|"]
    for each in table.exceptions.values():
        accompanies = ", ".join(f"`{id_}`" for id_ in each.accompanies)
        lines.append(
            f"| [{each.name}]({each.url})<br>`{each.id}` | {accompanies} | {each.share_alike or ''} | {each.note} |"
        )
    return "\n".join(lines) + "\n"


def test_the_table_of_the_page_is_that_of_the_engine() -> None:
    text = PAGE.read_text("utf-8")
    assert text.partition(START)[2].partition(END)[0] == written_table(), "run python tests/core/test_licence_page.py"


def test_the_policy_of_the_page_has_every_setting_with_its_default() -> None:
    listed = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", PAGE.read_text("utf-8"), re.M)
    defaults = {
        field.name: str(field.default).lower()
        if isinstance(field.default, bool)
        else ", ".join(f"`{each}`" for each in field.default)
        for field in fields(LicencePolicy)
    }
    assert dict(listed) == defaults


def test_the_example_of_the_page_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    exec(example, {})


if __name__ == "__main__":
    before, _, rest = PAGE.read_text("utf-8").partition(START)
    PAGE.write_text(before + START + written_table() + END + rest.partition(END)[2], "utf-8")
