"""Prices, energy counters and memory."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from clerestory.core.errors import ConfigError, InputError
from clerestory.stages.evaluate.suites.cost.prices import EndpointPrice, load_prices, prices_digest
from clerestory.stages.evaluate.suites.latency.resources import EnergyMeter, PeakMemory, find_zones

OWN = """
currency = "CHF"
this_machine = "a"
[machines.a]
per_hour = 3.6
[endpoints."org/model"]
per_million_tokens_in = 2
per_million_tokens_out = 10
per_image = 0.001
"""


def zone(root: Path, folder: str, name: str, energy: int, wrap: int = 1_000_000) -> Path:
    place = root / folder
    place.mkdir(parents=True)
    (place / "name").write_text(f"{name}\n")
    (place / "energy_uj").write_text(f"{energy}\n")
    (place / "max_energy_range_uj").write_text(f"{wrap}\n")
    return place / "energy_uj"


def test_the_shipped_file_says_that_it_is_an_example() -> None:
    prices = load_prices()
    assert prices.examples
    assert prices.machine() is not None
    assert prices.currency == "EUR"


def test_costs_are_worked_out_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(OWN)
    prices = load_prices(file)
    machine = prices.machine()
    assert machine is not None
    assert machine.cost(250) == pytest.approx(0.00025)
    assert prices.endpoints["org/model"].cost(1000, 200, 1) == pytest.approx(0.002 + 0.002 + 0.001)
    assert not prices.examples
    before = prices_digest(file)
    file.write_text(OWN + "# looked at again\n")
    assert prices_digest(file) != before


def test_unknown_tokens_are_not_free() -> None:
    assert math.isnan(EndpointPrice(per_million_tokens_out=1.0).cost(10, math.nan))
    assert EndpointPrice(per_image=0.5).cost(math.nan, math.nan, 2) == 1.0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (OWN.replace("per_hour", "per_hours"), "per_hour"),
        (OWN.replace("3.6", "-1"), "must be at least 0"),
        (OWN.replace("3.6", "inf"), "must be finite and at least 0"),
        (OWN.replace("3.6", "'free'"), "per_hour"),
        (OWN.replace('this_machine = "a"', 'this_machine = "b"'), "there is no machine named 'b'"),
        (OWN.replace('currency = "CHF"', ""), "currency"),
        (OWN.replace('currency = "CHF"', "currency"), "not valid TOML"),
    ],
)
def test_a_wrong_price_file_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "own.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_prices(file)
    assert told in str(caught.value)
    assert "own.toml" in str(caught.value)


def test_a_price_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml cannot be read"):
        load_prices(tmp_path / "none.toml")


def test_energy_adds_up_packages_and_memory_and_nothing_twice(tmp_path: Path) -> None:
    first = zone(tmp_path, "intel-rapl:0", "package-0", 900_000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 100)
    memory = zone(tmp_path, "intel-rapl:0:1", "dram", 50)
    for place, (folder, name) in enumerate(
        [("intel-rapl:0:0", "core"), ("intel-rapl:2", "psys"), ("intel-rapl-mmio:0", "package-0")]
    ):
        zone(tmp_path, folder, name, place)
    zones = find_zones(tmp_path)
    assert not isinstance(zones, str)
    assert sorted(one.name for one in zones) == ["dram", "package-0", "package-1"]
    meter = EnergyMeter(zones)
    assert meter.joules() == 0
    first.write_text("950000\n")
    second.write_text("200100\n")
    memory.write_text("10050\n")
    assert meter.joules() == pytest.approx(0.05 + 0.2 + 0.01)
    first.write_text("20000\n")  # past its range of 1 J: 50,000 to the end and 20,000 more
    assert meter.joules() == pytest.approx(0.26 + 0.07)


def test_a_machine_without_counters_has_a_reason(tmp_path: Path) -> None:
    assert find_zones(tmp_path / "none") == "this system has no energy counters (Linux powercap)"
    assert find_zones(tmp_path) == "this processor has no energy counters (RAPL)"
    zone(tmp_path, "intel-rapl:0", "package-0", 1).write_text("not a number")
    assert str(find_zones(tmp_path)).startswith("the energy counter intel-rapl:0 cannot be read")


def test_peak_memory_sees_what_was_held_in_between() -> None:
    memory = PeakMemory()
    before = memory.peak()
    held = bytearray(b"\x01") * (256 * 2**20)  # more than the process may have freed meanwhile
    del held
    # If the peak cannot be reset, the process may have used more before.
    minimum = 50 if before.scope == "measurement" else 0
    assert memory.peak().mib >= before.mib + minimum
    assert before.mib > 1
    assert before.scope in ("measurement", "process")
