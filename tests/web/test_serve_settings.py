"""``serve.toml``: every setting is documented, checked, and named in the words in which it was given."""

from __future__ import annotations

from pathlib import Path

import pytest

from clerestory.cli.settings import explained, read_settings
from clerestory.core.errors import ConfigError
from clerestory.web.serve_config import ServeConfig

PAGE = Path(__file__).parents[2] / "docs/reference/serve-settings.md"


def test_every_setting_has_its_line_in_the_documentation() -> None:
    """To write the page anew, print these lines."""
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]
    assert rows == [f"| `{s.name}` | {s.default} | {s.accepts} | {s.meaning} |" for s in explained(ServeConfig)]


def test_every_setting_has_a_default_and_a_meaning() -> None:
    for setting in explained(ServeConfig):
        assert setting.meaning, setting.name


def read(tmp_path: Path, text: str) -> ServeConfig:
    file = tmp_path / "serve.toml"
    file.write_text(text, "utf-8")
    return read_settings(ServeConfig, file, {}, [])


def test_a_table_may_set_some_of_its_settings(tmp_path: Path) -> None:
    config = read(tmp_path, "[queue]\nmax_requests = 7\n[http]\ndrain_seconds = 2\n")
    assert (config.queue.max_requests, config.http.drain_seconds) == (7, 2.0)
    assert config.queue.max_bytes == ServeConfig().queue.max_bytes


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[queue]\nmax_request = 7\n", "did you mean max_requests"),
        ("[queues]\nmax_requests = 7\n", "did you mean queue"),
        ("[queue]\nmax_requests = 0\n", "queue.max_requests must be at least 1"),
        ('[queue]\nmax_requests = "many"\n', "queue.max_requests must be an integer"),
        ("[queue\n", "is not valid TOML"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(tmp_path, text)
    assert problem in str(error.value)
    assert "serve.toml" in str(error.value)
