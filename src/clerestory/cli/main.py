"""``clerestory``: the table of verbs, and what happens when one of them fails.

Verbs are registered by import path, so that ``clerestory --help`` imports none of them (and no torch).
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from cyclopts import App, CycloptsError, UnknownCommandError

from clerestory import __version__
from clerestory.cli.output import fail
from clerestory.core.errors import ClerestoryError, Undecided, closest

VERBS = {
    "demo": "The whole life of a model on real pictures, in ten minutes.",
    "data": "Bring pictures in, and look at them.",
    "train": "Train a model; interrupted, it goes on where it stopped.",
    "tune": "Fine-tune a model that others trained, and see what it forgets.",
    "evaluate": "Measure a model, every number with its interval.",
    "compare": "Hold two models against one another, sample by sample.",
    "release": "Decide, version, promote, roll back, verify.",
    "serve": "Open the pages and the HTTP API on this computer.",
    "report": "One HTML file and one JSON with everything known of a model.",
    "pack": "Benchmarks to share: export, add, verify, list.",
    "use": "Small applications: search, describe.",
}
GROUPS = {
    "data": {
        "add": "Bring a folder, a table or the embedded icons in under a name.",
        "list": "What has been brought in.",
        "show": "One data set: sizes, groups, licences, what was kept out and why.",
        "shards": "Write a data set as shards with an index; or check every byte of them.",
    },
    "release": {
        "gate": "Put a model to the policy: ship, do not ship, or cannot tell.",
        "list": "Every release and where live and previous point.",
        "show": "One release with its decision and reasons.",
        "promote": "Make a release live.",
        "rollback": "Go back to the release that was live before.",
        "verify": "Check every digest and compute every number again.",
    },
    "pack": {
        "export": "Write a task with its data, licence and expected result as one folder.",
        "add": "Verify a pack and bring it in.",
        "verify": "Check every digest of a pack, its task, its pictures and its licence.",
        "list": "The packs that have been brought in.",
    },
    "use": {
        "search": "Find pictures by words, in any phrasing.",
        "describe": "Suggest captions for pictures.",
    },
}
EPILOGUE = """
Start here:  clerestory demo
Everywhere:  --json  --home DIR  --quiet  --debug
Exit codes:  0 yes, 1 no, 2 wrong input, 3 cannot decide, 130 interrupted
"""


def build() -> App:
    """The application with every verb registered and none imported."""
    app = App(
        name="clerestory",
        help="Takes a vision-language model through its whole life, with evidence.",
        help_epilogue=EPILOGUE,
        help_format="plaintext",
        version=__version__,
        suppress_keyboard_interrupt=False,  # an interrupt is told like any other end: what to run next
    )
    for order, (verb, what) in enumerate(VERBS.items()):
        if verb in GROUPS:
            group = App(name=verb, help=what, help_format="plaintext", help_epilogue="", sort_key=order)
            for position, (name, help_text) in enumerate(GROUPS[verb].items()):
                group.command(f"clerestory.cli.{verb}:{name}_", name=name, help=help_text, sort_key=position)
            app.command(group)
        else:
            app.command(f"clerestory.cli.{verb}:{verb}_", name=verb, help=what, sort_key=order)
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; errors become one sentence on standard error."""
    debug = "--debug" in arguments
    as_json = "--json" in arguments
    try:
        return _exit_code(
            build()(list(arguments), exit_on_error=False, print_error=False, result_action="return_value")
        )
    except KeyboardInterrupt:
        fail("interrupted", "run the same command again to go on where it stopped", as_json=as_json)
        return 130
    except UnknownCommandError as error:
        _unknown(arguments, error, as_json)
        return 2
    except CycloptsError as error:
        fail(_first_line(error), "see clerestory --help", as_json=as_json)
        return 2
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ClerestoryError as error:
        if debug:
            traceback.print_exc()
        fail(error.message, error.fix, error.closest, as_json=as_json, unsure=isinstance(error, Undecided))
        return error.exit_code
    except Exception as error:  # the last resort: no traceback for a person unless they ask for it
        if debug:
            traceback.print_exc()
        reason = " ".join(str(error).split()) or type(error).__name__
        fail(
            f"this should not have happened: {type(error).__name__}: {reason}",
            "run it again with --debug and report the traceback",
            as_json=as_json,
        )
        return 2


def _exit_code(result: object) -> int:
    return result if isinstance(result, int) else 0


def _unknown(arguments: Sequence[str], error: UnknownCommandError, as_json: bool) -> None:
    # The library's own message would import every verb to look at its name.
    group = arguments[0] if arguments[0] in GROUPS else ""
    known = GROUPS[group] if group else VERBS
    asked = (error.unused_tokens or ["?"])[0]
    whole = f"clerestory {group}".strip()
    fail(f"{whole} has no command {asked!r}", f"it has {', '.join(known)}", closest(asked, known), as_json=as_json)


def _first_line(error: CycloptsError) -> str:
    return " ".join(str(error).split()).rstrip(".")


def main() -> None:
    """The console script."""
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torch remarks on what it is asked for here, once a process
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
