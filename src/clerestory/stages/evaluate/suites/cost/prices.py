"""Prices of machines and endpoints, from a price file that the user edits."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated

from clerestory.core.codec import decode
from clerestory.core.errors import ConfigError, InputError, not_found
from clerestory.core.files import read_problem
from clerestory.core.settings import Range, check_settings

HOUR_MS = 3_600_000.0
MILLION = 1e6
Price = Annotated[float, Range(0)]


@dataclass(frozen=True, slots=True)
class MachinePrice:
    """The price of a machine.

    Attributes:
        per_hour: in the file's currency.
    """

    per_hour: Price

    def __post_init__(self) -> None:
        check_settings(self)

    def cost(self, milliseconds: float) -> float:
        """The cost of keeping the machine busy for this long."""
        return milliseconds / HOUR_MS * self.per_hour


@dataclass(frozen=True, slots=True)
class EndpointPrice:
    """The price of a model behind an endpoint.

    Attributes:
        per_million_tokens_in: for input tokens.
        per_million_tokens_out: for output tokens.
        per_image: for each image, where images are not counted as tokens.
    """

    per_million_tokens_in: Price = 0.0
    per_million_tokens_out: Price = 0.0
    per_image: Price = 0.0

    def __post_init__(self) -> None:
        check_settings(self)

    def cost(self, tokens_in: float, tokens_out: float, images: float = 0) -> float:
        """The cost of one request; NaN where its tokens are unknown and have a price."""
        total = images * self.per_image
        if self.per_million_tokens_in:
            total += tokens_in * self.per_million_tokens_in / MILLION
        if self.per_million_tokens_out:
            total += tokens_out * self.per_million_tokens_out / MILLION
        return total


@dataclass(frozen=True, slots=True)
class Prices:
    """A price file.

    Attributes:
        currency: such as ``EUR``; the unit of every cost.
        as_of: the date of the prices.
        this_machine: the one of ``machines`` that the evaluation runs on; empty for none of them.
        machines: price by the name of the machine.
        endpoints: price by the name of the model at the endpoint.
        examples: whether these are the examples that come with Clerestory.
    """

    currency: str
    as_of: str = ""
    this_machine: str = ""
    machines: Mapping[str, MachinePrice] = field(default_factory=dict)
    endpoints: Mapping[str, EndpointPrice] = field(default_factory=dict)
    examples: bool = False

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.currency.strip():
            raise ConfigError("currency is empty", 'set one, such as currency = "EUR"')
        if self.this_machine and self.this_machine not in self.machines:
            error = not_found("machine", self.this_machine, self.machines)
            raise ConfigError(f"this_machine: {error.message}", error.fix, error.closest)

    def machine(self) -> MachinePrice | None:
        """The price of the machine the evaluation runs on, if the file has one."""
        return self.machines.get(self.this_machine)


def load_prices(path: str | Path = "") -> Prices:
    """Read a price file; the examples that come with Clerestory for an empty path.

    Raises:
        InputError: the file cannot be read.
        ConfigError: it is not valid TOML, or has an unknown key (names the closest) or a negative price.
    """
    place = str(path) or "the example prices.toml"
    try:
        return decode(Prices, tomllib.loads(_content(path).decode("utf-8")), "prices")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{place} is not valid TOML: {error}", "correct that line") from error
    except ConfigError as error:
        raise ConfigError(f"{place}: {error.message}", error.fix, error.closest) from error


def prices_digest(path: str | Path = "") -> str:
    """SHA-256 of a price file's bytes, which the evidence of costs depends on.

    Raises:
        InputError: the file cannot be read.
    """
    return hashlib.sha256(_content(path)).hexdigest()


def _content(path: str | Path) -> bytes:
    if not str(path):
        return resources.files("clerestory.stages.evaluate.suites.cost").joinpath("prices.toml").read_bytes()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(
            f"the price file {path} cannot be read: {read_problem(error)}", "give the path of an existing file"
        ) from error
