"""The tables of operations. Times are seconds since the epoch (UTC); ``body`` is the canonical JSON of a record.

None of them is append-only: rows are updated as work proceeds, and personal data must be erasable. What has to stay
provable is in the journal as well, in the same transaction.
"""

from __future__ import annotations

from sqlalchemy import Column, Float, Index, Integer, LargeBinary, String, Table, Text

from clerestory.store.schema import DIGEST, metadata

ID = String(64)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", ID, primary_key=True),
    Column("name", Text, nullable=False),  # of the model
    Column("stable", Integer, nullable=False),  # release numbers
    Column("candidate", Integer, nullable=False),
    Column("state", String(20), nullable=False),
    Column("weight", Float, nullable=False),  # the share of requests that the candidate answers
    Column("generation", Integer, nullable=False),  # raised with each change; a change states the one it expects
    Column("started", Float, nullable=False),
    Column("updated", Float, nullable=False),
    Column("body", Text, nullable=False),
    Index("rollouts_by_name", "name", "state"),
)

rollout_evidence = Table(
    "rollout_evidence",
    metadata,
    Column("rollout", ID, primary_key=True),
    Column("server", ID, primary_key=True),
    Column("guardrail", String(40), primary_key=True),
    Column("log_e", Float, nullable=False),  # of the e-process over the requests of this server
    Column("updated", Float, nullable=False),
    Column("body", Text, nullable=False),  # counts of each arm
)

rollout_subjects = Table(
    "rollout_subjects",  # whose first request a guardrail has counted; removed when the rollout ends
    metadata,
    Column("rollout", ID, primary_key=True),
    Column("subject", DIGEST, primary_key=True),
)

servers = Table(
    "servers",
    metadata,
    Column("id", ID, primary_key=True),
    Column("name", Text, nullable=False),  # of the model
    Column("live", Text, nullable=False),  # what it read, what it serves and what it loads, such as icons@3
    Column("served", Text, nullable=False),
    Column("loading", Text, nullable=False),
    Column("started", Float, nullable=False),
    Column("seen", Float, nullable=False),
    Column("body", Text, nullable=False),  # host, process id, URL, version, resident releases, problem
)

predictions = Table(
    "predictions",
    metadata,
    Column("position", Integer, primary_key=True),
    Column("response", ID, nullable=False, unique=True),
    Column("request", ID, nullable=False),
    Column("name", Text, nullable=False),  # of the model
    Column("number", Integer, nullable=False),  # of the release; 0 for another model
    Column("rollout", ID, nullable=False),  # empty outside of one
    Column("arm", String(10), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("at", Float, nullable=False),
    Column("subject", DIGEST, nullable=False),  # keyed hash; empty where the caller named nobody
    Column("body", Text, nullable=False),
    Index("predictions_by_release", "name", "number", "at"),
    Index("predictions_by_request", "request"),
    Index("predictions_by_subject", "subject"),
    Index("predictions_by_time", "at"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("position", Integer, primary_key=True),
    Column("key", String(128), nullable=False, unique=True),  # of idempotency
    Column("response", ID, nullable=False),
    Column("kind", String(20), nullable=False),
    Column("source", String(20), nullable=False),
    Column("subject", DIGEST, nullable=False),
    Column("item", Text, nullable=False),  # the part of the answer that it is about; empty for all of it
    Column("at", Float, nullable=False),
    Column("received", Float, nullable=False),
    Column("value", Text, nullable=False),
    Column("decision", String(10), nullable=False),  # accepted or declined, of a correction; empty until then
    Column("body", Text, nullable=False),
    Index("feedback_by_response", "response"),
    Index("feedback_by_time", "received"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("position", Integer, primary_key=True),
    Column("key", String(128), nullable=False, unique=True),  # the same notification is queued once
    Column("channel", Text, nullable=False),  # of notification, by its name in the settings
    Column("state", String(10), nullable=False),
    Column("created", Float, nullable=False),
    Column("due", Float, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("delivered", Float, nullable=False),  # 0 until it is
    Column("error", Text, nullable=False),
    Column("stream", String(80), nullable=False),  # whose notifications keep their order, such as incident/3
    Column("claim", ID, nullable=False),  # of the process that delivers it now; empty without one
    Column("body", Text, nullable=False),
    Index("outbox_by_due", "state", "channel", "due"),
    Index("outbox_by_stream", "stream"),
)

incidents = Table(
    "incidents",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("fingerprint", DIGEST, nullable=False),
    Column("name", Text, nullable=False),  # of the model
    Column("state", String(12), nullable=False),
    Column("severity", String(10), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("opened", Float, nullable=False),
    Column("updated", Float, nullable=False),
    Column("body", Text, nullable=False),
    Index("incidents_by_fingerprint", "fingerprint", "state"),
)

silences = Table(
    "silences",
    metadata,
    Column("id", ID, primary_key=True),
    Column("until", Float, nullable=False),
    Column("body", Text, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", ID, primary_key=True),  # the visible prefix
    Column("hash", DIGEST, nullable=False, unique=True),
    Column("label", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=False),  # 0: never
    Column("revoked", Float, nullable=False),  # 0: not revoked
    Column("body", Text, nullable=False),  # scopes, limits, the key that it replaces
)

monitors = Table(
    "monitors",
    metadata,
    Column("name", Text, primary_key=True),  # of the model
    Column("monitor", String(40), primary_key=True),
    Column("slice", String(120), primary_key=True),
    Column("server", ID, primary_key=True),
    Column("updated", Float, nullable=False),
    Column("body", Text, nullable=False),
    Column("state", LargeBinary, nullable=False),  # of the detector, to go on after a restart
)

TABLES = (
    rollouts,
    rollout_evidence,
    rollout_subjects,
    servers,
    predictions,
    feedback,
    outbox,
    incidents,
    silences,
    api_keys,
    monitors,
)
