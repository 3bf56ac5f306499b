"""Drawings become pictures: the same in a worker as here, whatever the script that asks for them looks like."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clerestory.core.errors import ClerestoryError
from clerestory.data import decode_image
from clerestory.data.render import CHUNK, render, render_all, svg_document

SET = {"width": 32, "height": 32}


def square(colour: str) -> str:
    return svg_document({"body": f'<path fill="{colour}" d="M0 0h32v32H0z"/>'}, SET)


def test_workers_draw_what_is_drawn_here_in_the_same_order() -> None:
    drawings = [square(f"#{i % 256:02x}4080") for i in range(CHUNK + 30)]
    assert render_all(drawings, num_workers=2) == [render(svg) for svg in drawings]


def test_a_drawing_that_is_not_square_is_centred_not_stretched() -> None:
    svg = svg_document({"body": '<path fill="#000" d="M0 0h32v16H0z"/>', "height": 16}, SET)
    picture = np.asarray(decode_image(render(svg)))[..., 0]
    assert picture.shape == (64, 64)
    assert (picture[16:48] == 0).all()
    assert (picture[:16] == 255).all()
    assert (picture[48:] == 255).all()


def test_a_script_may_render_at_its_top_level(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from clerestory.data.render import svg_document, render_all\n"
        "svg = svg_document({'body': '<path d=\"M0 0h9v9H0z\"/>'}, {})\n"
        "print('once', len(render_all([svg] * 5, num_workers=2)))\n",
        encoding="utf-8",
    )
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout == "once 5\n"
    assert run.stderr == ""


def test_a_drawing_that_cannot_be_drawn_is_an_error_not_a_hang() -> None:
    with pytest.raises(ClerestoryError, match="ended early"):
        render_all(["this is no drawing"], num_workers=1)
