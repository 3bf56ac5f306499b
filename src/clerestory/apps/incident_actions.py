"""What a policy of incidents lets the system do by itself: make the previous release live again."""

from __future__ import annotations

from collections.abc import Callable

from clerestory.core.codec import Tags
from clerestory.core.errors import ClerestoryError, Conflict
from clerestory.stages.release import rollback
from clerestory.store import Store
from clerestory.store.operations.incidents import SYSTEM, Incident, IncidentState, note, transition


def rollback_action(store: Store) -> Callable[[Incident, str], None]:
    """The function that a deliverer calls for an incident whose rule has an action."""

    def act(incident: Incident, action: str) -> None:
        if action == "rollback":
            roll_back_for(store, incident)

    return act


def roll_back_for(store: Store, incident: Incident) -> bool:
    """Roll back the release that an incident concerns, if it is live; returns whether it was rolled back.

    Of several servers only the one whose change to *mitigating* succeeds acts. A rollback that fails is noted in the
    timeline, and the incident stays for people.
    """
    live = store.alias(incident.name, "live") if incident.name else None
    about = incident.subject if "@" in incident.subject else incident.details.get("release", "")
    if live is None or (about and about != f"{incident.name}@{live.number}"):
        note(
            store,
            incident.number,
            "the policy says rollback, but the incident does not concern the live release",
            SYSTEM,
        )
        return False
    why = f"the policy of incidents rolls back for incident {incident.number}"
    try:
        transition(store, incident.number, IncidentState.MITIGATING, SYSTEM, why, incident.generation)
    except Conflict:  # another server acts, or a person has begun to
        return False
    try:
        back = rollback(incident.name, store, SYSTEM, f"incident {incident.number}: {incident.title}"[:1000])
    except ClerestoryError as error:
        note(store, incident.number, f"the rollback failed: {error.message}", SYSTEM)
        return False
    now_live = f"{back.name}@{back.number}"
    transition(
        store,
        incident.number,
        IncidentState.MITIGATED,
        SYSTEM,
        f"rolled back to {now_live}",
        details=Tags({"from": f"{incident.name}@{live.number}", "to": now_live}),
    )
    return True
