"""Failure cases: what went wrong once becomes a case of a task that the policy of the gate requires from then on."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clerestory.core.errors import ConfigError, Conflict, InputError
from clerestory.core.files import file_lock, make_folder, read_problem, translate_disk_errors, write_atomic

TASK, TABLE = "failure_cases", "cases.csv"
COLUMNS = ("image", "label", "incident", "concept", "note", "split")
MAX_LABEL = 200
_VERSION = re.compile(r"^version\s*=\s*(\d+)[^\n]*$", re.M)


@dataclass(frozen=True, slots=True)
class FailureCases:
    """The task of the failure cases.

    Attributes:
        task: the task file.
        table: the cases, one row each.
        policy: the policy of the gate that requires them.
        count: how many cases there are.
        added: whether the last call added one; False if it was there.
    """

    task: Path
    table: Path
    policy: Path
    count: int
    added: bool


def add_case(
    folder: Path,
    image: Path,
    expected: str,
    instead_of: tuple[str, ...],
    incident: int,
    policy: Path,
    included_policy: str,
    note: str = "",
) -> FailureCases:
    """Add a failure case to the task in a folder, and make the policy require all of them.

    The image is copied; the same image with the same expected label is one case. The task is classification from
    prompts (``zero_shot``), which every embedder can do; its classes are all expected labels and all wrong ones.

    Args:
        folder: of the task; created if it does not exist.
        image: the image that was answered wrongly.
        expected: the right label.
        instead_of: labels to tell it from, such as the wrong answer.
        incident: the number of the incident.
        policy: the policy of the gate, to which the rule is added; made from ``included_policy`` if there is none.
        included_policy: the text of the included policy.
        note: further information.

    Raises:
        InputError: the image cannot be read, or a label is empty or too long.
        Conflict: the image is there with another expected label.
        ConfigError: the policy is not valid TOML.
    """
    labels = _labels(expected, instead_of)
    try:
        content = image.read_bytes()
    except OSError as error:
        raise InputError(f"the image {image} cannot be read: {read_problem(error)}", "name an image file") from error
    with translate_disk_errors(folder):
        make_folder(folder / "images")
        with file_lock(folder / ".lock"):
            name = f"images/{hashlib.sha256(content).hexdigest()[:24]}{image.suffix.lower() or '.png'}"
            rows = _read(folder / TABLE)
            same = next((row for row in rows if row["image"] == name), None)
            if same is not None and same["label"] != labels[0]:
                raise Conflict(
                    f"this image is a failure case already, with the expected label {same['label']!r}",
                    f"correct the row in {folder / TABLE}",
                )
            if same is None:
                write_atomic(folder / name, content)
                row = (name, labels[0], str(incident), f"case {len(rows) + 1}", note, "test")
                rows.append(dict(zip(COLUMNS, row, strict=True)))
                write_atomic(folder / TABLE, _written(rows).encode())
            classes = _classes(folder / f"{TASK}.toml") | set(labels) | {row["label"] for row in rows}
            write_atomic(folder / f"{TASK}.toml", _task_file(sorted(classes), len(rows)).encode())
            require_cases(policy, included_policy)
    return FailureCases(folder / f"{TASK}.toml", folder / TABLE, policy, len(rows), same is None)


def require_cases(policy: Path, included_policy: str) -> bool:
    """Add the rule that no failure case may come back to a policy file; False if it has one about this task.

    The file is extended as text, so that comments stay, and its version is raised.
    """
    try:
        text = policy.read_text(encoding="utf-8") if policy.exists() else included_policy
        data = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"the policy {policy} cannot be read: {read_problem(error)}", "name a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the policy {policy} is not valid TOML: {error}", "correct the file") from error
    rules = data.get("rules", [])
    if any(isinstance(rule, dict) and rule.get("where", {}).get("task") == TASK for rule in rules):
        return False
    raised = int(data.get("version", 1)) + 1
    head, mark, rest = text.partition("[[")
    head = _VERSION.sub(f"version = {raised}", head) if _VERSION.search(head) else f"version = {raised}\n{head}"
    write_atomic(policy, f"{head}{mark}{rest.rstrip()}\n\n{_RULE}".encode())
    return True


_RULE = f"""[[rules]]
name = "no failure case comes back"
metric = "accuracy"
where = {{ task = "{TASK}", split = "test" }}
criterion = "value"
at_least = 1.0
why = "Each of these was answered wrongly in service once; people fixed it, and it must stay fixed."
"""


def _labels(expected: str, instead_of: tuple[str, ...]) -> list[str]:
    labels = list(dict.fromkeys(label.strip() for label in (expected, *instead_of)))
    for label in labels:
        if not label or len(label) > MAX_LABEL or not label.isprintable():
            raise InputError(f"{label[:60]!r} is not a label", f"give a text of up to {MAX_LABEL} characters")
    if len(labels) < 2:
        raise InputError(
            "a case needs a label to tell the expected one from", "give the wrong answer: --instead-of 'running shoe'"
        )
    return labels


def _read(table: Path) -> list[dict[str, str]]:
    if not table.exists():
        return []
    rows = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8"))))
    if any(None in row or not {"image", "label"} <= set(row) for row in rows):
        raise InputError(f"{table} is not a table of failure cases", f"its columns are {', '.join(COLUMNS)}")
    return rows


def _written(rows: list[dict[str, str]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _classes(task: Path) -> set[str]:
    if not task.exists():
        return set()
    data: dict[str, Any] = tomllib.loads(task.read_text(encoding="utf-8"))
    return set(data.get("classes", []))


def _task_file(classes: list[str], version: int) -> str:
    # A JSON string is a TOML string.
    return f"""name = "{TASK}"
version = {version}
kind = "zero_shot"
data = "{TABLE}"
label = "label"
classes = {json.dumps(classes, ensure_ascii=False)}
cluster = "concept"
description = "Images that a model in service answered wrongly once; see the column incident."
"""
