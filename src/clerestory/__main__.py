"""The console script, and ``python -m clerestory``: Ctrl-C ends the command line while it is still being imported, too.

Only the standard library is imported before that is arranged.
"""

import os
import signal
import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command line."""
    # In the background of a script interrupts are ignored, and stay so.
    can_interrupt = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if can_interrupt:
        signal.signal(signal.SIGINT, _leave)
    from clerestory.cli.main import main as run_command

    if can_interrupt:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run_command()


def _leave(*_: object) -> None:
    """Say that the command was interrupted, and end: nothing has been begun, and an import cannot be trusted to end."""
    as_json = '{"error": {"message": "interrupted", "fix": "", "closest": []}}'
    os.write(2, f"{as_json if '--json' in sys.argv else 'error: interrupted'}\n".encode())
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
