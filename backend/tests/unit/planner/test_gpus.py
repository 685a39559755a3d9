"""The table of cards, and finding a card in it by the driver's name."""

import pytest

from app.planner.gpus import GPUS, find_rates


def test_the_table_holds_at_least_40_devices_with_sensible_numbers() -> None:
    assert len(GPUS) >= 40
    for rates in GPUS.values():
        assert 4 <= rates.memory_gb <= 200
        assert 50 <= rates.bandwidth_gb <= 10_000
        assert rates.full_tflops <= rates.half_tflops * 2.2, rates.name


@pytest.mark.parametrize(
    ("driver_says", "row"),
    [
        ("Tesla T4", "T4"),
        ("NVIDIA GeForce RTX 3090", "RTX 3090"),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", "RTX 4070 Ti SUPER"),
        ("NVIDIA GeForce RTX 4060 Ti", "RTX 4060 Ti"),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA RTX A6000", "RTX A6000"),
        ("Tesla V100-SXM2-16GB", "V100 SXM2"),
    ],
)
def test_the_driver_s_name_finds_the_right_row(driver_says: str, row: str) -> None:
    assert find_rates(driver_says).name == row
    assert find_rates(driver_says).known


def test_a_laptop_card_is_slower_than_the_desktop_card_of_that_name() -> None:
    assert find_rates("NVIDIA GeForce RTX 4090 Laptop GPU").half_tflops < find_rates("NVIDIA GeForce RTX 4090").half_tflops


def test_an_unknown_card_is_guessed_from_its_generation_and_marked() -> None:
    guessed = find_rates("NVIDIA Unheard-of", 9, 80.0)
    assert not guessed.known
    assert guessed.half_tflops > find_rates("NVIDIA Unheard-of", 7, 16.0).half_tflops
