"""A machine-learning bill of materials (CycloneDX 1.6 or 1.7): the model, what it was made from, what it runs on.

https://cyclonedx.org/docs/1.6/json/. The library writes components, hashes, licences and dependencies; it has no class
for the model card (CycloneDX/cyclonedx-python-lib#912), which is added to its JSON. Equal records give equal bytes.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Literal, get_args

from clerestory import __version__
from clerestory.core.codec import encode
from clerestory.core.digest import digest
from clerestory.core.errors import ConfigError, MissingExtra
from clerestory.core.evidence import Measurement
from clerestory.core.licences.expression import parse_licence
from clerestory.report.model import Basis, Component, LicenceShare, ReportData
from clerestory.report.provenance import published_source

BomVersion = Literal["1.6", "1.7"]
VERSIONS: tuple[BomVersion, ...] = get_args(BomVersion)
PREFIX = "clerestory:"  # of the names of properties
_DATASET_ROLES = ("training data", "class names")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REQUIREMENT = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*")


def ml_bom(data: ReportData, version: BomVersion = "1.6") -> bytes:
    """The bill of materials of a model as JSON.

    Args:
        data: everything known about the model, as ``report.collect`` returns it.
        version: of CycloneDX.

    Raises:
        ConfigError: another version.
        MissingExtra: the library is not installed.
    """
    if version not in VERSIONS:
        raise ConfigError(f"the version of CycloneDX is {version!r}", f"choose {' or '.join(VERSIONS)}")
    try:
        from cyclonedx.model.bom import Bom
        from cyclonedx.model.component import Component as BomComponent
        from cyclonedx.model.component import ComponentType
        from cyclonedx.output.json import BY_SCHEMA_VERSION
        from cyclonedx.schema import SchemaVersion
    except ImportError as error:
        raise MissingExtra(
            "a bill of materials needs the package cyclonedx-python-lib, which is not installed",
            "pip install 'clerestory[documents]'",
        ) from error

    model = BomComponent(
        name=data.release.name if data.release else data.model[:12],
        version=str(data.release.number) if data.release else None,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=_MODEL_REF,
        hashes=_hashes(data.model),
        licenses=_licences(_licences_of_model(data.components)),
        properties=_properties(digest=data.model, verdict=data.release.decision.verdict if data.release else ""),
    )
    bom = Bom(
        serial_number=uuid.UUID(
            digest([version, data.name, data.model, encode(data.components), [e.id for e in data.evidence]])[:32],
            version=4,
        )
    )
    bom.metadata.timestamp = datetime.fromisoformat(_moment(data)).astimezone(UTC)
    bom.metadata.component = model
    bom.metadata.tools.components.add(
        BomComponent(name="clerestory", version=__version__, type=ComponentType.APPLICATION, bom_ref="clerestory")
    )
    parts = {part.key: _part(part) for part in data.components if part.role != "model"}
    packages = {name: _package(name) for name in installed_packages("clerestory")}
    for each in (*parts.values(), *packages.values()):
        bom.components.add(each)
    used: dict[str, list[BomComponent]] = {}
    for part in data.components:
        if part.key in parts:
            used.setdefault(part.part_of, []).append(parts[part.key])
    bom.register_dependency(model, [*used.get("", ()), *packages.values()])
    for key, component in parts.items():
        bom.register_dependency(component, used.get(key, ()))
    schema = SchemaVersion.from_version(version)
    written: dict[str, Any] = json.loads(BY_SCHEMA_VERSION[schema](bom).output_as_string())
    written["metadata"]["component"]["modelCard"] = _model_card(data, list(parts))
    datasets = {_ref(part.key): part for part in data.components if part.role in _DATASET_ROLES}
    for component in written["components"]:
        if component["bom-ref"] in datasets:
            component["data"] = [_dataset(datasets[component["bom-ref"]])]
    return json.dumps(written, indent=1, sort_keys=True, ensure_ascii=False).encode()


_MODEL_REF = "model"


def _moment(data: ReportData) -> str:
    """The time of the record, not of writing it: equal records give equal bytes."""
    if data.release:
        return data.release.when
    return max((record.evidence.created for record in data.evidence), default="1970-01-01T00:00:00+00:00")


def _ref(key: str) -> str:
    return key.replace(" ", "-")


def _part(part: Component) -> Any:
    from cyclonedx.model.component import Component as BomComponent
    from cyclonedx.model.component import ComponentType

    return BomComponent(
        name=part.name or part.role,
        type=ComponentType.DATA if part.role in _DATASET_ROLES else ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=_ref(part.key),
        hashes=_hashes(part.digest),
        licenses=_licences(part.licences),
        properties=_properties(
            role=part.role,
            basis=part.basis,
            declared_by=part.declared_by,
            source=published_source(part.source),
            added_by=part.added_by,
            added=part.added,
            **({part.unit.replace(" ", "_"): str(part.images)} if part.images else {}),
        ),
    )


def _hashes(value: str) -> list[Any]:
    from cyclonedx.model import HashAlgorithm, HashType

    return [HashType(alg=HashAlgorithm.SHA_256, content=value)] if _SHA256.fullmatch(value) else []


def _properties(**values: str) -> list[Any]:
    from cyclonedx.model import Property

    return [Property(name=PREFIX + name, value=value) for name, value in values.items() if value]


def _licences_of_model(components: Sequence[Component]) -> tuple[LicenceShare, ...]:
    """Of a model from elsewhere that of its card; a model trained here has none of its own until somebody chooses."""
    return next((part.licences for part in components if part.role == "model"), ())


def _licences(shares: Sequence[LicenceShare]) -> list[Any]:
    """Licences as CycloneDX has them: SPDX ids and names, or one expression for all."""
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model.license import DisjunctiveLicense
    from cyclonedx.spdx import is_supported_id

    known = [parse_licence(share.licence) for share in shares if share.licence]
    texts = list(dict.fromkeys(str(each) for each in known))
    if not texts:
        return []
    if len(texts) == 1 and any(f" {word} " in texts[0] for word in ("AND", "OR", "WITH")):
        return [LicenseFactory().make_from_string(texts[0])]
    return [DisjunctiveLicense(id=text) if is_supported_id(text) else DisjunctiveLicense(name=text) for text in texts]


def _package(name: str) -> Any:
    """A Python package that Clerestory runs on, with the licence that its metadata names."""
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model.component import Component as BomComponent
    from cyclonedx.model.component import ComponentType
    from packageurl import PackageURL

    facts = metadata.metadata(name)
    version, licence = facts["Version"], str(facts["License-Expression"] or "") if "License-Expression" in facts else ""
    return BomComponent(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=f"pkg:pypi/{name}@{version}",
        purl=PackageURL("pypi", version=version, name=name),
        licenses=[LicenseFactory().make_from_string(licence)] if licence else [],
    )


def installed_packages(distribution: str) -> list[str]:
    """The installed packages that a distribution requires, and what these require, without extras; sorted."""
    found: set[str] = set()
    queue = [distribution]
    while queue:
        for name in _required(queue.pop()):
            if name not in found:
                found.add(name)
                queue.append(name)
    return sorted(found)


def _required(distribution: str) -> Iterator[str]:
    try:
        requirements = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return
    for text in requirements:
        match = _REQUIREMENT.match(text)
        if match is None or "extra ==" in text:
            continue
        name = re.sub(r"[-_.]+", "-", match[0]).lower()
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # for another system or version of Python
        yield name


def _dataset(part: Component) -> dict[str, Any]:
    properties = [
        {"name": f"{PREFIX}licence:{share.licence or 'unknown'}", "value": str(share.images)}
        for share in part.licences
        if share.images
    ]
    size = f"{part.images:,} {part.unit}" if part.images else "size not recorded"
    declared = f", as declared by {part.declared_by}" if part.basis == Basis.DECLARED else ""
    entry: dict[str, Any] = {"type": "dataset", "name": part.name or part.role, "description": f"{size}{declared}"}
    return entry | ({"contents": {"properties": properties}} if properties else {})


def _model_card(data: ReportData, parts: Sequence[str]) -> dict[str, Any]:
    """The model card of CycloneDX: parameters, measured metrics with intervals, limitations."""
    by_key = {part.key: part for part in data.components}
    training = data.training_record
    facts = training.evidence.facts if training else None
    tasks = sorted({str(m.slice["task"]) for m in _measured(data) if "task" in m.slice})
    parameters: dict[str, Any] = {
        "approach": {"type": "self-supervised" if facts and facts.text("self_supervision") else "supervised"},
        "task": ", ".join(tasks) or "image-text retrieval",
        "architectureFamily": "transformer",
        "datasets": [{"ref": _ref(key)} for key in parts if by_key[key].role in _DATASET_ROLES],
        "inputs": [{"format": "image"}, {"format": "text"}],
        "outputs": [{"format": "embedding"}],
    }
    if facts and facts.text("preset"):
        parameters["modelArchitecture"] = facts.text("preset")
    return {
        "modelParameters": parameters,
        "quantitativeAnalysis": {"performanceMetrics": [_metric(m) for m in _measured(data)]},
        "considerations": {"technicalLimitations": [f"{each.code} {each.message}" for each in _limits(data)]},
    }


def _measured(data: ReportData) -> list[Measurement]:
    evaluation = data.evaluation
    return list(evaluation.measurements) if evaluation else []


def _limits(data: ReportData) -> list[Any]:
    """The findings that are open, each code once."""
    found = {each.code: each for each in reversed(data.findings) if each.state in ("fail", "warn")}
    return [found[code] for code in sorted(found)]


def _metric(measured: Measurement) -> dict[str, Any]:
    where = str(measured.slice) or "all samples"
    entry: dict[str, Any] = {
        "type": measured.name,
        "value": repr(measured.value),
        "slice": f"{where}; n = {measured.n}" + (f"; {measured.unit}" if measured.unit else ""),
    }
    if measured.interval:
        low, high = measured.interval.low, measured.interval.high
        entry["confidenceInterval"] = {"lowerBound": repr(low), "upperBound": repr(high)}
    return entry
