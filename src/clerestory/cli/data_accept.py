"""``clerestory data accept``: a person accepts a finding of an audit, with a reason and an expiry."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table

from clerestory.cli.output import PLAIN, Common
from clerestory.core.errors import InputError
from clerestory.core.findings import finding_codes
from clerestory.core.units import plural

if TYPE_CHECKING:
    from clerestory.store.acceptances import Acceptance


def accept_(
    data: str,
    code: str = "",
    /,
    *,
    sample: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    why: str = "",
    expires: str = "",
    who: str = "",
    list_: Annotated[bool, Parameter(name="--list", negative=())] = False,
    withdraw: Annotated[bool, Parameter(negative=())] = False,
    common: Common = PLAIN,
) -> None:
    """Accept a finding of the newest audit of a dataset: it no longer makes the exit code of an audit 1.

    Accepted for named samples, it holds for these until it expires. Accepted as a whole, it is open again as soon as
    the finding concerns more samples than now.

    Args:
        data: The name of a dataset, or any source that "data add" accepts.
        code: The code of the finding, such as CLR-A015.
        sample: The id of a sample it is accepted for; may be given several times (default: the whole finding).
        why: The reason.
        expires: The last day on which it holds, such as 2027-06-30.
        who: The person who accepts it (default: your login name).
        list_: List the acceptances, and which of them have expired.
        withdraw: Withdraw the acceptance of this code, or of these samples.
    """
    from clerestory.apps.acceptance import accept_finding, dataset_acceptances, withdraw_acceptances  # import numpy
    from clerestory.apps.datasets import check_dataset
    from clerestory.store import open_store

    store = open_store(common.home)
    check_dataset(store, data)
    if list_:
        _show(dataset_acceptances(store, data), data, common)
        return
    if not code:
        raise InputError(
            "data accept needs the code of a finding", f"see them with: clerestory data audit {quote(data)}"
        )
    if withdraw:
        gone = withdraw_acceptances(store, data, code, why=why, samples=sample, who=who)
        common.out.result(gone, f"withdrew {plural(len(gone), 'acceptance')} of {gone[0].code} of {data}")
        return
    if not expires:
        raise InputError("an acceptance needs an expiry", "name its last day with --expires, such as 2027-06-30")
    given = accept_finding(store, data, code, why=why, expires=expires, samples=sample, who=who, progress=common.out)
    extent = plural(len(given.samples), "sample") if given.samples else plural(given.count, "sample")
    line = f"{given.code} of {data} ({extent}) is accepted by {given.who} until {given.expires}"
    common.out.result(given, line)
    common.out.next(f"clerestory data audit {quote(data)}")


def _show(given: list[Acceptance], data: str, common: Common) -> None:
    from clerestory.store.acceptances import today

    codes, day = finding_codes(), today()
    table = Table("code", "finding", "for", "who", "until", "why", box=None)
    for each in given:
        extent = ", ".join(each.samples) if each.samples else f"the whole finding ({each.count:,})"
        lapse = each.lapse(each.count, day)
        until = f"{each.expires} ({lapse})" if lapse else each.expires
        title = codes[each.code].title if each.code in codes else ""
        table.add_row(each.code, title, extent, each.who, until, each.why)
    lines: list[str | Table] = [table] if given else [f"nothing about {data} is accepted"]
    common.out.result(given, *lines)
