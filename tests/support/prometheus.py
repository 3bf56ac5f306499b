"""A real Prometheus on the loopback address, which scrapes one server every second and evaluates a file of rules."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

PROMETHEUS = shutil.which("prometheus")
CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}"]
alerting:
  alertmanagers:
    - static_configs: [{{targets: ["{manager}"]}}]
scrape_configs:
  - job_name: clerestory
    static_configs: [{{targets: ["{server}"]}}]
"""


@contextmanager
def prometheus(folder: Path, server: str, manager: str, rules: Path) -> Iterator[str]:
    """The URL of a Prometheus that sends its alerts to an Alertmanager.

    Args:
        folder: for its files.
        server, manager: URLs of the server to scrape and of the Alertmanager.
        rules: the file of rules.
    """
    assert PROMETHEUS is not None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    targets = {"server": httpx.URL(server).netloc.decode(), "manager": httpx.URL(manager).netloc.decode()}
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(rules=rules, **targets), encoding="utf-8")
    command = [
        PROMETHEUS,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    url = f"http://127.0.0.1:{port}"
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 30
        while True:
            try:
                if httpx.get(f"{url}/-/ready", trust_env=False).status_code == 200:
                    break
            except httpx.HTTPError:
                assert time.monotonic() < until, (folder / "prometheus.log").read_text("utf-8")
            time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(20)
