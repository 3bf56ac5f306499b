"""The pages and the HTTP API."""

from clerestory.web.app import create_app
from clerestory.web.server import run

__all__ = ["create_app", "run"]
