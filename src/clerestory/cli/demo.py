"""``clerestory demo``."""

from __future__ import annotations

from clerestory.cli.output import PLAIN, Common
from clerestory.flows import demo
from clerestory.store import open_store


def demo_(*, common: Common = PLAIN) -> None:
    """Search photographs, then run the full model lifecycle (about six minutes); seconds when run again."""
    store = open_store(common.home)
    result = demo(store, common.out)
    home = f" --home {common.home}" if common.home else ""
    common.out.result(
        {
            "report": str(result.report),
            "live": result.live,
            "releases": result.releases,
            "rollback_rehearsed": result.rollback_rehearsed,
            "drill": result.drill,
        },
        "",
        f"report    {result.report}",
        f"live      {result.live}",
        f"pages     clerestory serve{home}",
    )
