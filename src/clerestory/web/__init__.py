"""The pages and the HTTP API."""

from typing import TYPE_CHECKING

from clerestory.core.extensions import lazy_exports

if TYPE_CHECKING:
    from clerestory.web.app import create_app
    from clerestory.web.server import run

__all__ = ["create_app", "run"]

__getattr__ = lazy_exports(__name__, {"create_app": ".app", "run": ".server"})
