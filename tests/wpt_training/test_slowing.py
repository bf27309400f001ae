"""Clips as if the ego came slower."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wpt_training.models.config import DistillationConfig
from wpt_training.models.student import Student
from wpt_training.models.teacher import Teacher
from wpt_training.models.world_model import WorldModel
from wpt_training.training.batches import batches
from wpt_training.training.bev_cache import cached_bevs
from wpt_training.training.clips import join
from wpt_training.training.lessons import taught_lessons
from wpt_training.training.slowing import later, slow_down
from wpt_training.training.student import Distillation, StudentTask

from conftest import CONFIG, SMALL

TIMES = torch.arange(1, 7) * 0.5


def along_x(ways: torch.Tensor) -> torch.Tensor:
    return torch.stack([ways, torch.zeros_like(ways)], dim=-1)[None]


def test_who_comes_slower_picks_up_to_what_was_driven():
    driven = along_x(5.0 * TIMES)
    assert torch.equal(later(driven, torch.tensor([5.0])), driven)
    # From 2 m/s by 1.5 m/s² to 5 m/s, reached after 2 s and 2·2 + 0.75·4 = 7 m; then 5 m more.
    slower = later(driven, torch.tensor([2.0]))[0, :, 0]
    assert slower[3] == pytest.approx(7.0, abs=0.2)
    assert slower[5] == pytest.approx(12.0, abs=0.2)
    # From 0: 0.75·9 m.
    assert later(driven, torch.tensor([0.0]))[0, 5, 0] == pytest.approx(6.75, abs=0.25)


def test_who_comes_slower_stops_at_the_same_place():
    driven = along_x(torch.tensor([2.0, 3.5, 4.2, 4.2, 4.2, 4.2]))
    slower = later(driven, torch.tensor([1.0]))[0, :, 0]
    assert slower[2] < 3.5
    assert slower[5] == pytest.approx(4.2, abs=1e-3)


def test_who_comes_slower_still_takes_the_turn():
    # A quarter of a circle of 10 m at 5 m/s: 15 m are 1.5 rad of it.
    angle = 0.5 * TIMES
    driven = 10.0 * torch.stack([angle.sin(), 1.0 - angle.cos()], dim=-1)[None]
    slower = later(driven, torch.tensor([1.0]))[0]
    off_circle = ((slower - torch.tensor([0.0, 10.0])).norm(dim=-1) - 10.0).abs()
    assert off_circle.max() < 0.15  # the arrow of a chord of 2.5 m is 0.08 m
    assert 1.0 < slower[-1, 1] < driven[0, -1, 1]


@given(st.lists(st.floats(0.0, 15.0), min_size=6, max_size=6), st.floats(0.0, 1.0))  # speeds of half seconds
def test_nobody_is_ahead_of_who_came_faster(speeds, share):
    ways = torch.tensor(speeds).cumsum(0) * 0.5
    slower = later(along_x(ways), torch.tensor([share * speeds[0]]))[0]
    assert (slower[:, 0] <= ways + 1e-4).all()
    assert (slower[:, 0].diff() >= -1e-4).all()
    assert torch.isfinite(slower).all()


def test_a_slowed_clip_keeps_its_images_and_its_place(data):
    whole, slowed = (join([data[0], data[1]]) for _ in range(2))
    assert whole.future_valid.all()
    whole.future_valid[0, -1, 5] = slowed.future_valid[0, -1, 5] = False
    slow_down(slowed, 1.0, np.random.default_rng(0))
    assert not slowed.as_driven.any()
    assert torch.equal(slowed.images, whole.images)
    # Where the ego came from, and what has no whole future, stay as they are.
    assert torch.equal(slowed.ego_motion[..., :4], whole.ego_motion[..., :4])
    assert torch.equal(slowed.future[0, -1], whole.future[0, -1])
    assert torch.equal(slowed.speed[0, -1], whole.speed[0, -1])
    shares = slowed.speed[1:] / whole.speed[1:]
    assert ((shares > 0) & (shares < 1)).all()
    torch.testing.assert_close(shares[:, 0], shares[:, 1])
    torch.testing.assert_close(slowed.ego_motion[1:, :, 4:], shares[..., None] * whole.ego_motion[1:, :, 4:])
    assert (slowed.future[1:, :, -1, 0] < whole.future[1:, :, -1, 0]).all()


def test_few_clips_are_slowed_and_always_the_same(data):
    def driven(chance):
        return torch.cat([clips.as_driven for clips in batches(data, 4, 3, 0, 50, slowed=chance)])

    assert driven(0.0).all()
    assert torch.equal(driven(0.25), driven(0.25))
    assert driven(0.25).float().mean() == pytest.approx(0.75, abs=0.1)


def test_a_frozen_teacher_says_nothing_of_slowed_clips(data, tmp_path):
    torch.manual_seed(0)
    teacher = Teacher(SMALL, CONFIG.teacher, WorldModel(SMALL, CONFIG.world)).eval()
    device = torch.device("cpu")
    cache = cached_bevs(teacher.world.perception, data, device)
    lessons = taught_lessons(teacher, "one", cache, data, tmp_path, device)
    distillation = Distillation(teacher, cache, data, DistillationConfig(), lessons)
    task = StudentTask(Student(SMALL), CONFIG.losses, distillation)
    clips = next(batches(data, 3, 0, 0, 1))
    assert "query" in task(clips).parts
    slow_down(clips, 1.0, np.random.default_rng(0))
    assert "query" not in task(clips).parts
