"""``clerestory completion``: the script with which a shell completes commands and options."""

from __future__ import annotations

import sys
from typing import Literal

from clerestory.cli.main import build
from clerestory.cli.output import PLAIN, Common

LOAD = {
    "bash": "source <(clerestory completion bash)",
    "zsh": "source <(clerestory completion zsh)",
    "fish": "clerestory completion fish | source",
}


def completion_(shell: Literal["bash", "zsh", "fish"], /, *, common: Common = PLAIN) -> None:
    """Print the script with which a shell completes commands and options with the Tab key.

    For every new terminal, add the line that is printed last to ~/.bashrc, ~/.zshrc or ~/.config/fish/config.fish.

    Args:
        shell: bash, zsh or fish.
    """
    script = build().generate_completion(prog_name="clerestory", shell=shell)
    if common.json:
        common.out.result({"shell": shell, "script": script, "load": LOAD[shell]})
        return
    sys.stdout.write(script)
    common.out.write_line(f"to load it: {LOAD[shell]}")
