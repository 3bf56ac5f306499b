"""A verifier of another package answers a catalogue of one's own, as the guide describes it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

GUIDE = (Path(__file__).parents[3] / "docs/how-to/govern.md").read_text("utf-8")
SHOW = """
from clerestory.stages.govern.catalogue import load_catalogue
from clerestory.stages.govern.check import run_verifier
from clerestory.stages.govern.context import GovernContext
from clerestory.stages.govern.verifiers import verifiers
import sys
item = load_catalogue(sys.argv[1], tuple(verifiers())).items[0]
print(item.verifiers, run_verifier(verifiers()["rota"], GovernContext(None, None)).outcome)
"""


def test_the_verifier_of_the_guide(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(# house_rules.py\n.*?)```", GUIDE, re.S)
    (entry,) = re.findall(r'```toml\n(\[project.entry-points."clerestory"\]\n.*?)```', GUIDE, re.S)
    (tmp_path / "house_rules.py").write_text(code, encoding="utf-8")
    name, path = re.findall(r'"(verifier\.\w+)" = "(.+)"', entry)[0]
    package = tmp_path / "house_rules-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: house-rules\nVersion: 1.0\n", encoding="utf-8")
    (package / "entry_points.txt").write_text(f"[clerestory]\n{name} = {path}\n", encoding="utf-8")
    head = 'id = "h"\nname = "H"\nedition = "1"\nsource = "us"\nlicence = "ours"\n'
    catalogue = tmp_path / "h.toml"
    catalogue.write_text(head + '[[items]]\nid = "H1"\ntitle = "Rota"\nkind = "M"\n', encoding="utf-8")
    (tmp_path / "h.verifiers.toml").write_text('[verifiers]\n"H1" = ["rota"]\n', encoding="utf-8")
    (tmp_path / "rota.txt").write_text("Ada", encoding="utf-8")
    paths = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", SHOW, str(catalogue)],
        capture_output=True, text=True, check=False, cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert done.stdout == "('rota',) passed\n", done.stderr
