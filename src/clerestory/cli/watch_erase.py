"""``clerestory watch erase``: the requests of one user, with their feedback and kept images."""

from __future__ import annotations

from clerestory.cli.output import PLAIN, Common
from clerestory.core.units import plural
from clerestory.store import open_store


def erase_(*, subject: str = "", request: str = "", why: str, who: str = "", common: Common = PLAIN) -> None:
    """Erase the requests of one user, or one request, with their feedback and the images that were kept.

    The journal gets the numbers and a digest of the erased ids, so it stays verifiable. It is never erased: write no
    personal data into the reason.

    Args:
        subject: The user id, as the requests named it.
        request: The id of a request or of a response.
        why: The reason, for the journal, such as the number of a ticket.
        who: The person, for the journal (default: your login name).
    """
    from clerestory.store.operations.retention import erase  # here, because it is heavy

    done = erase(open_store(common.home), subject=subject, request=request, who=who, why=why)
    if not done.record:
        common.out.result(done, "nothing to erase: the request log has no such request")
        return
    said = f"{plural(done.feedback, 'piece')} of feedback"
    parts = (plural(done.requests, "request"), said, plural(done.images, "image"))
    lines = [f"erased: {', '.join(parts)}; journal record {done.record}"]
    if done.in_datasets:
        lines.append(
            f"{plural(done.in_datasets, 'correction')} of them went into a dataset, which is not changed: make a new "
            "version without them with clerestory data fix, or by hand"
        )
    common.out.result(done, *lines)
