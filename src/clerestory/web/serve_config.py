"""The settings of the server, ``serve.toml``: one table for each part, which the part itself declares.

A new table is one more attribute of ``ServeConfig``: a frozen dataclass beside the code that it configures, with an
``Attributes:`` section, defaults for all of its settings, and ``check_settings``. The command, the start page of the
log, the documentation and their tests read the rest from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from clerestory.core.settings import Range, check_settings
from clerestory.stages.serve.access_config import AccessConfig
from clerestory.stages.serve.config import BatchConfig, QueueConfig, Seconds
from clerestory.stages.watch.checks import IncidentConfig
from clerestory.stages.watch.drift.settings import DriftSettings
from clerestory.stages.watch.notify.config import NotifyChannel, check_channels
from clerestory.store.operations.recorder import MAX_WAITING
from clerestory.web.request_log import FeedbackConfig


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """Connections, and the end of the server.

    Attributes:
        keep_alive_seconds: how long an idle connection is kept.
        drain_seconds: how long new requests are still accepted after the signal to stop, while /readyz is 503, so that
            a load balancer has time to notice.
        stop_seconds: how long after the signal the process has ended at the latest.
    """

    keep_alive_seconds: Seconds = 5.0
    drain_seconds: Annotated[float, Range(0, 3_600)] = 1.0
    stop_seconds: Seconds = 30.0

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, slots=True)
class BodyConfig:
    """The bodies of requests.

    Attributes:
        max_bytes: of a request to the API, as it is sent and after decompression.
        total_seconds: how long a client may take to send the whole body of a request to the API.
        upload_seconds: the same of a page that uploads files.
        stall_seconds: how long a client may send nothing.
        memory_bytes: bytes of large bodies in memory at the same time; the others wait.
    """

    max_bytes: Annotated[int, Range(1_000, 1_000_000_000)] = 48_000_000
    total_seconds: Seconds = 600.0
    upload_seconds: Seconds = 3_600.0
    stall_seconds: Seconds = 30.0
    memory_bytes: Annotated[int, Range(1_000)] = 96_000_000

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, slots=True)
class LogConfig:
    """The access log, and the request log in the database, which has no text and no image.

    Attributes:
        access: where one JSON line for each request goes: stderr, off, the path of a file, to which lines are added, or
            auto: stderr unless it is a terminal.
        retention_days: how long the rows of the request log are stored; those with feedback stay as long as that does.
        max_waiting: rows of the request log that wait to be written; further ones are dropped and counted.
    """

    access: str = "auto"
    retention_days: Annotated[int, Range(1, 3_650)] = 30
    max_waiting: Annotated[int, Range(1, 1_000_000)] = MAX_WAITING

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """Every setting of the server.

    Attributes:
        http: connections, and the end of the server.
        queue: what may wait for the model.
        batch: what goes through the model together.
        body: the bodies of requests.
        log: the access log and the request log.
        access: who may use the server, how much, and which proxies stand in front of it.
        feedback: what people say about answers.
        incidents: what opens an incident.
        drift: how the images that arrive are compared with a reference.
        notify: the channels of notification, one table [[notify]] for each.
    """

    http: HttpConfig = field(default_factory=HttpConfig)
    queue: QueueConfig = field(default_factory=QueueConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    body: BodyConfig = field(default_factory=BodyConfig)
    log: LogConfig = field(default_factory=LogConfig)
    access: AccessConfig = field(default_factory=AccessConfig)
    feedback: FeedbackConfig = field(default_factory=FeedbackConfig)
    incidents: IncidentConfig = field(default_factory=IncidentConfig)
    drift: DriftSettings = field(default_factory=DriftSettings)
    notify: tuple[NotifyChannel, ...] = ()

    def __post_init__(self) -> None:
        check_channels(self.notify)
