"""The part of a server that opens incidents and delivers notifications, in threads beside the requests."""

from __future__ import annotations

import logging
from collections.abc import Callable

from clerestory.apps.incident_actions import rollback_action
from clerestory.core.errors import ClerestoryError
from clerestory.stages.watch.checks import StoreChecks
from clerestory.stages.watch.incident_policy import load_incident_policy, policy_in
from clerestory.stages.watch.notify.delivery import Deliverer
from clerestory.store import Store
from clerestory.web.serve_config import ServeConfig

LOG = logging.getLogger("clerestory.web")


class IncidentService:
    """Checks of the store, and delivery of notifications.

    Args:
        store: holds the incidents, and ``incidents.toml`` in its folder if there is one.
        config: of the server: the limits of the checks and the channels.
        refused: how many requests this server has received, and how many of them it refused for lack of space.
        server: the id of this server.
    """

    def __init__(
        self,
        store: Store,
        config: ServeConfig,
        refused: Callable[[], tuple[int, int]] | None = None,
        server: str = "",
    ) -> None:
        try:
            policy, _ = policy_in(store.home)
        except ClerestoryError as error:  # the model is served all the same
            LOG.error("%s; the included policy of incidents applies", error)
            policy = load_incident_policy()
        self._checks = StoreChecks(store, config.incidents, refused=refused, server=server, policy=policy)
        self._deliverer = Deliverer(store, config.notify, policy, rollback_action(store))

    def start(self) -> None:
        """Begin; returns at once."""
        self._checks.start()
        self._deliverer.start()

    def close(self) -> None:
        """Stop; undelivered notifications wait in the outbox."""
        self._checks.close()
        self._deliverer.close()
