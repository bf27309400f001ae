"""What a command's options change of a configuration, and of its process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from wpt_training.commands.settings import settings_from
from wpt_training.models.config import ConfigError, load_training_config


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_what_the_command_line_says_counts_and_the_rest_is_the_configurations():
    usual = load_training_config("smoke")
    said = settings_from("smoke", Path("elsewhere"), train="simulated:train:3", seed=7)
    assert (said.data.store, said.data.train) == ("elsewhere", "simulated:train:3")
    assert said.data.validation == usual.data.validation
    assert said.seed == 7
    assert said.student == usual.student


def test_a_command_calculates_on_its_configurations_threads():
    settings_from("small")
    assert torch.get_num_threads() == 2  # says nothing: torch's own
    settings_from("tiny")
    assert torch.get_num_threads() == 1


def test_a_configuration_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match="enormous"):
        settings_from("enormous")
