"""The settings of the licence check."""

from __future__ import annotations

from dataclasses import dataclass, field

from clerestory.core.licences.policy import LicencePolicy
from clerestory.core.settings import check_settings
from clerestory.report.licence_chain import ChainEnd


@dataclass(frozen=True, slots=True)
class LicencesConfig:
    """The policy on licences, and where the chain ends; ``licences`` and ``licence_table`` are those of an audit.

    Attributes:
        end: ``model`` if the model is passed on, ``output`` if only its output is.
        licence_table: a TOML file with licences of one's own (``docs/explanation/licences.md``); empty for the included
            table alone.
        licences: the rights that are needed, and the conditions that are acceptable.
    """

    end: ChainEnd = "model"
    licence_table: str = ""
    licences: LicencePolicy = field(default_factory=LicencePolicy)

    def __post_init__(self) -> None:
        check_settings(self)
