"""A real Prometheus Alertmanager on the loopback address, which sends every alert to a webhook at once."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

PROGRAM = shutil.which("prometheus-alertmanager")
CONFIG = """
route:
  receiver: hook
  group_by: ['...']
  group_wait: 0s
  group_interval: 1s
receivers:
  - name: hook
    webhook_configs:
      - url: {url}
        send_resolved: true
"""


@contextmanager
def alertmanager(folder: Path, webhook: str) -> Iterator[str]:
    """The URL of an Alertmanager whose receiver is a webhook."""
    assert PROGRAM is not None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / "alertmanager.yml"
    config.write_text(CONFIG.format(url=webhook), encoding="utf-8")
    command = [
        PROGRAM,
        f"--config.file={config}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    url = f"http://127.0.0.1:{port}"
    with (folder / "alertmanager.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 30
        while True:
            try:
                if httpx.get(f"{url}/-/ready", trust_env=False).status_code == 200:
                    break
            except httpx.HTTPError:
                assert time.monotonic() < until, (folder / "alertmanager.log").read_text("utf-8")
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(10)
