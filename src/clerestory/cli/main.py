"""``clerestory``: the table of commands, and the handling of their errors.

Commands are registered by import path, so ``clerestory --help`` imports none of them (and no torch). The commands of
stages come from the registered ``StageSpec``.
"""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import NamedTuple

from cyclopts import App, CycloptsError, Parameter, UnknownCommandError

from clerestory import __version__
from clerestory.cli.help_format import ParagraphFormatter
from clerestory.cli.output import fail
from clerestory.cli.usage import convert_strictly, describe_usage_error
from clerestory.core.errors import ClerestoryError, Undecided, closest
from clerestory.core.stage import stages


class Command(NamedTuple):
    """One top-level command.

    Attributes:
        help: one line for ``--help``.
        order: its place in the list; low comes first.
        path: import path of its function; empty for a group of subcommands.
    """

    help: str
    order: int
    path: str = ""


# The commands that are not stages; a stage's command comes from its spec.
OTHERS = {
    "demo": Command(
        "Search photographs, then run the full model lifecycle (about six minutes).", 0, "clerestory.cli.demo:demo_"
    ),
    "data": Command("Add datasets and look at them.", 10),
    "serve": Command("Open the pages and the HTTP API on this computer.", 70, "clerestory.cli.serve:serve_"),
    "report": Command("A report on a model, as HTML and JSON.", 80, "clerestory.cli.report:report_"),
    "pack": Command("Share benchmarks: export, add, verify, list.", 90),
    "key": Command("Keys that sign releases: make, list, show, rotate, revoke.", 92),
    "api-key": Command("Keys that programs present to a server: create, list, rotate, revoke.", 93),
    "store": Command("The store itself: copy, migrate.", 95),
    "completion": Command(
        "Complete commands with the Tab key: bash, zsh, fish.", 110, "clerestory.cli.completion:completion_"
    ),
    "use": Command("Small applications: search, describe.", 100),
}
SUBCOMMANDS = {
    "data": {
        "add": "Add a folder, a table or the built-in icons under a name.",
        "list": "List the datasets.",
        "show": "Show one dataset: sizes, groups, licences, and the findings with their reasons.",
        "audit": "Check a dataset: images, copies, leakage, captions, personal data, licences.",
        "accept": "Accept a finding of an audit, with a reason and an expiry; list or withdraw acceptances.",
        "fix": "Write a new version of a dataset without the problems that an audit found.",
        "diff": "Show how two versions of a dataset differ, and why.",
        "sheet": "Write a data sheet: sizes, balance, quality, personal data, licences, as measured.",
        "croissant": "Write Croissant metadata (MLCommons) with the measurements of the audit.",
        "pack": "Hash packs, which reveal copies in other data: make, check.",
        "duplicates": "List the images that a dataset has more than once.",
        "shards": "Write a dataset as shards with an index, or verify every byte of them.",
    },
    "release": {
        "gate": "Decide by the policy whether a model may ship.",
        "list": "List every release, with the aliases live and previous.",
        "show": "Show one release with its decision and reasons.",
        "licences": "Follow the licences of everything that a model was made from to the model.",
        "diff": "Show what changes from one release to another.",
        "card": "Write a model card in the format of the Hugging Face hub.",
        "bom": "Write a machine-learning bill of materials (CycloneDX).",
        "request": "Ask for the approval of a release.",
        "approve": "Approve a release.",
        "decline": "Decline a release.",
        "promote": "Make a release live.",
        "rollback": "Go back to the previous live release.",
        "canary": "Let a release answer a share of the requests: start, status, pause, resume, abort, promote.",
        "golden": "Replay the golden inputs with a release.",
        "verify": "Verify every digest and recompute every number.",
        "export": "Export the model of a release to ONNX, for a server without torch.",
        "bundle": "Write a release with its evidence to one signed folder or zip.",
        "verify-bundle": "Verify a bundle with the public key of its signer.",
    },
    "govern": {
        "state": "State how a requirement is met, or sign for the measurements.",
        "not-applicable": "State that a requirement does not apply, and why.",
        "withdraw": "Withdraw a statement.",
        "statements": "List the statements of people, with author, date and expiry.",
        "items": "List the requirements of a catalogue, and who answers each.",
        "diff": "Compare two editions of a catalogue.",
    },
    "pack": {
        "export": "Write a task with its data, licence and expected result to one folder.",
        "add": "Verify a pack and add it.",
        "verify": "Verify a pack: its digests, its task, its images and its licence.",
        "list": "List the packs that were added.",
    },
    "key": {
        "make": "Make a key that signs.",
        "list": "List the keys in a folder.",
        "show": "Show the fingerprint, owner and date of a key.",
        "rotate": "Replace a key by a new one, with a statement that both sign.",
        "revoke": "Sign a statement that later signatures of a key are refused.",
    },
    "api-key": {
        "create": "Make a key; it is shown once.",
        "list": "List the keys with their scopes and states.",
        "rotate": "Make a key that takes the place of another one.",
        "revoke": "Revoke a key at once.",
    },
    "store": {
        "copy": "Copy the whole store to another folder and database.",
        "migrate": "Create the tables and triggers that the database lacks.",
    },
    "watch": {
        "status": "Show what is live, and what each server serves and loads.",
        "incidents": "What needs somebody: list, show, open, acknowledge, mitigate, resolve, postmortem.",
        "deliver": "Deliver the notifications of incidents that wait.",
        "alerts": "Write alerting rules for Prometheus.",
        "drill": "Break something in a throw-away store, and measure how it is noticed.",
        "drift": "Show what the drift monitors have seen, or replay a log or a folder of dated images.",
        "feedback": "Show the quality in service by the time of the prediction, or add late labels.",
        "requests": "List the requests that were answered, or write them to a CSV file.",
        "trace": "Show what served a request: model, data, gate, approvals, feedback, incidents.",
        "erase": "Erase the requests of one user, or one request, with their feedback.",
        "corrections": "Decide about corrected captions and labels, and make a dataset version of them.",
        "reference": "Choose the data that live traffic is compared with.",
    },
    "use": {
        "search": "Search images by text, in any phrasing, by other images, or by both.",
        "describe": "Suggest captions for images.",
    },
}
# Groups whose name alone is a command, too: their own application.
GROUPS = {"govern": "clerestory.cli.govern:GROUP"}
# Groups inside a group.
NESTED = {
    ("release", "canary"): {
        "start": "Begin a rollout of a release beside the live one.",
        "status": "Show the rollout: its share, its guardrails, and what it waits for.",
        "pause": "Keep the share, and take no further step.",
        "resume": "Go on with the steps.",
        "abort": "Let the stable release answer every request again.",
        "promote": "Make the candidate live.",
    },
    ("data", "pack"): {
        "make": "Write a signed hash pack of a dataset.",
        "check": "Verify a hash pack, and show what is in it.",
    },
    ("watch", "incidents"): {
        "list": "List the incidents that are not resolved.",
        "show": "Show one incident: its timeline, its clocks and its runbook.",
        "open": "Report an incident that no check has noticed.",
        "acknowledge": "Say that you take care of it.",
        "mitigate": "Say that users do not suffer from it any more.",
        "resolve": "Say that nobody has to act any more.",
        "note": "Add a remark to its timeline.",
        "postmortem": "Draft the postmortem from the journal and the request log.",
        "clock": "Start the clock of a reporting duty, or record the report.",
        "silence": "Mute notifications for some hours; list or end silences.",
        "add-case": "Make a failure case permanent: the gate requires it from then on.",
    },
}
# Subcommands with a module of their own.
MODULES = {
    ("use", "search"): "search",
    ("data", "audit"): "data_audit",
    ("data", "accept"): "data_accept",
    ("data", "fix"): "data_fix",
    ("data", "diff"): "data_diff",
    ("release", "diff"): "release_diff",
    ("data", "sheet"): "documents",
    ("data", "croissant"): "documents",
    ("release", "bom"): "documents",
    ("release", "request"): "release_approval",
    ("release", "approve"): "release_approval",
    ("release", "decline"): "release_approval",
    ("release", "export"): "release_export",
    ("release", "bundle"): "bundle",
    ("release", "verify-bundle"): "bundle",
    ("release", "licences"): "release_licences",
    ("watch", "status"): "watch_status",
    ("watch", "drift"): "watch_drift",
    ("watch", "reference"): "watch_reference",
    ("watch", "deliver"): "watch_deliver",
    ("watch", "alerts"): "watch_alerts",
    ("watch", "drill"): "watch_drill",
    ("watch", "feedback"): "watch_feedback",
    ("watch", "requests"): "watch_requests",
    ("watch", "trace"): "watch_trace",
    ("watch", "erase"): "watch_erase",
    ("watch", "corrections"): "watch_corrections",
    **dict.fromkeys((("api-key", verb) for verb in ("create", "list", "rotate", "revoke")), "api_key"),
}
# What people call a command that has another name.
OTHER_NAMES = {
    "find": "use search",
    "caption": "use describe",
    "tag": "use describe",
    "predict": "use describe",
    "digest": "report",
    "audit": "data audit",
    "finetune": "tune",
    "fine-tune": "tune",
    "benchmark": "evaluate",
    "eval": "evaluate",
    "deploy": "release promote",
    "compliance": "govern",
    "governance": "govern",
}
EPILOGUE = """
Start here:  clerestory demo
Everywhere:  --json  --home DIR  --quiet  --debug
Exit codes:  0 yes, 1 no, 2 invalid input, 3 cannot decide, 4 internal error, 130 interrupted
"""
_QUOTED_MINUS = re.compile(r"-[^-=\s][^=\s]*\s")
INTERNAL_ERROR = 4
INTERRUPTED = 130
BROKEN_PIPE = 141  # as of a process that SIGPIPE ended; 0 would mean yes


@cache
def commands() -> dict[str, Command]:
    """Every top-level command by name, in the order of ``--help``."""
    table = dict(OTHERS)
    for spec in stages().values():
        if spec.verb:
            table[spec.verb] = Command(spec.help, spec.order, _stage_path(spec.kind, spec.verb))
    return dict(sorted(table.items(), key=lambda item: item[1].order))


def _stage_path(kind: str, verb: str) -> str:
    """The command of a stage: that of ``clerestory.cli.<verb>``, else the generic one."""
    if verb in SUBCOMMANDS:
        return ""
    if find_spec(f"clerestory.cli.{verb}") is not None:
        return f"clerestory.cli.{verb}:{verb}_"
    return f"clerestory.cli.stage:{kind}"


def build() -> App:
    """The application with every command registered and none imported."""
    app = App(
        name="clerestory",
        help="Covers the lifecycle of a vision-language model, with evidence.",
        help_epilogue=EPILOGUE,
        help_format="plaintext",
        help_formatter=ParagraphFormatter(),
        version=__version__,
        default_parameter=Parameter(converter=convert_strictly),
        suppress_keyboard_interrupt=False,  # an interrupt is reported like any error: with the next command
    )
    for order, (name, command) in enumerate(commands().items()):
        if command.path:
            app.command(command.path, name=name, help=command.help, sort_key=order)
            continue
        if name in GROUPS:
            app.command(GROUPS[name], name=name, help=command.help, sort_key=order)
            continue
        group = App(name=name, help=command.help, help_format="plaintext", help_epilogue="", sort_key=order)
        for position, (subcommand, text) in enumerate(SUBCOMMANDS[name].items()):
            if nested := NESTED.get((name, subcommand)):
                group.command(_nested_group(name, subcommand, text, nested, position))
                continue
            module, function = MODULES.get((name, subcommand), name), subcommand.replace("-", "_")
            path = f"clerestory.cli.{module}:{function}_"
            group.command(path, name=subcommand, help=text, sort_key=position)
        app.command(group)
    return app


def _nested_group(name: str, subcommand: str, text: str, commands: dict[str, str], position: int) -> App:
    """A group of commands inside a group; its module is named after both."""
    nested = App(name=subcommand, help=text, help_format="plaintext", help_epilogue="", sort_key=position)
    for place, (command, line) in enumerate(commands.items()):
        path = f"clerestory.cli.{name}_{subcommand}:{command.replace('-', '_')}_"
        nested.command(path, name=command, help=line, sort_key=place)
    return nested


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; an error becomes one sentence on standard error."""
    debug = "--debug" in arguments
    as_json = "--json" in arguments
    try:
        return _exit_code(
            build()(_protected(arguments), exit_on_error=False, print_error=False, result_action="return_value")
        )
    except KeyboardInterrupt as interrupt:
        # A command that knows what it has kept says so.
        fail(
            "interrupted",
            str(interrupt) or "run the same command again: it resumes from what was saved",
            as_json=as_json,
        )
        return INTERRUPTED
    except UnknownCommandError as error:
        _unknown(arguments, error, as_json)
        return 2
    except CycloptsError as error:
        fail(*describe_usage_error(error), as_json=as_json)
        return 2
    except BrokenPipeError:
        # The reader of our output (head, less) has exited, so nobody would see an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except ClerestoryError as error:
        if debug:
            traceback.print_exc()
        fail(error.message, error.fix, error.closest, as_json=as_json, undecided=isinstance(error, Undecided))
        return error.exit_code
    except Exception as error:  # the last resort: no traceback unless it is requested
        if debug:
            traceback.print_exc()
        reason = " ".join(str(error).split()) or type(error).__name__
        fail(
            f"unexpected error: {type(error).__name__}: {reason}",
            "run it again with --debug and report the traceback",
            as_json=as_json,
        )
        return INTERNAL_ERROR


def _protected(arguments: Sequence[str]) -> list[str]:
    """The arguments, where a quoted query that begins with a word to avoid (``"-people beach"``) is not an option."""
    if list(arguments[:2]) != ["use", "search"]:
        return list(arguments)
    return [f" {each}" if _QUOTED_MINUS.match(each) else each for each in arguments]


def _exit_code(result: object) -> int:
    return result if isinstance(result, int) else 0


def _unknown(arguments: Sequence[str], error: UnknownCommandError, as_json: bool) -> None:
    # The library's own message would import every command to look at its name.
    group = arguments[0] if arguments[0] in SUBCOMMANDS else ""
    known = list(SUBCOMMANDS[group] if group else commands())
    parent = f"clerestory {group}".strip()
    if nested := NESTED.get((group, arguments[1] if len(arguments) > 1 else "")):
        known, parent = list(nested), f"{parent} {arguments[1]}"
    name = (error.unused_tokens or ["?"])[0]
    if name.startswith("-"):
        fail(f"{parent} needs a command before {name}", f"the commands are {', '.join(known)}", as_json=as_json)
        return
    fail(
        f"{parent} has no command {name!r}",
        f"the commands are {', '.join(known)}",
        closest(name, known) if group else _closest_commands(name),
        as_json=as_json,
    )


def _closest_commands(name: str) -> tuple[str, ...]:
    """The commands that were probably meant, also those of a group and those with another name."""
    meant: dict[str, list[str]] = {command: [command] for command in commands()}
    for group, subcommands in SUBCOMMANDS.items():
        for subcommand in subcommands:
            meant.setdefault(subcommand, []).append(f"{group} {subcommand}")
    for other, command in OTHER_NAMES.items():
        meant.setdefault(other, [command])
    names = [name] if name in meant else closest(name, meant)
    return tuple(dict.fromkeys(command for each in names for command in meant[each]))


def main() -> None:
    """Run the command of this process and exit; see ``clerestory.__main__``."""
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun: torch would log a warning in every process
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal cannot show is printed as an escape
            stream.reconfigure(errors="backslashreplace")
    try:
        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # once more, while the first one was being reported
        code = INTERRUPTED
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # The answer is known: an interrupt while Python ends must not replace it by a traceback.
        signal.signal(signal.SIGINT, lambda *_: os._exit(code))
    sys.exit(code)


if __name__ == "__main__":
    main()
