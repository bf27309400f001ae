"""Packed data, clips, batches and what they hold: on a small drive that was packed twice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from wpt_training.drives.frame import DriveError
from wpt_training.drives.occupancy import occupancy_labels
from wpt_training.models.config import (
    RewardConfig,
    TeacherConfig,
)
from wpt_training.training.batches import batches, drop_cameras
from wpt_training.training.clips import ClipData, join
from wpt_training.training.packing import prepare_store
from wpt_training.training.road_users import RoadUsers
from wpt_training.training.store import open_store, packed_names, read_packed
from wpt_training.training.teacher import avoidance_loss, taught_by

from conftest import CONFIG, HEIGHT, WIDTH, rig


def test_a_packed_sample_is_the_frame_it_came_from(store, small_drive):
    packed, images = read_packed(store, "one")
    frame = small_drive.frame(10)  # 1.0 s: the third annotation
    assert packed.stamps[2] == frame.stamp
    assert np.array_equal(images[2, 3], frame.views[3].image())
    np.testing.assert_allclose(packed.future[2], frame.future, atol=1e-5)
    # The side camera fired 5 ms after the anchor: 2.5 cm further on.
    moved = packed.ego_from_camera[2, 1] - rig()[1].ego_from_camera
    np.testing.assert_allclose(moved[:3, 3], [0.025, 0, 0], atol=1e-5)
    truth = packed.truth(2)
    ahead = truth.boxes[1].centers[0, 0]  # the car, 1 s later: 20 + 5·2 m; the ego at 5 m
    assert ahead == pytest.approx(25.0, abs=1e-4)
    now = truth.now  # 20 + 5·1 m, the ego at 5·1 m
    assert now.centers[0, 0] == pytest.approx(20.0, abs=1e-4)
    assert now.velocities[0] == pytest.approx(frame.boxes.velocities[0], abs=1e-4)


def test_labels_come_back_from_the_store_as_they_were(data, small_drive):
    clips = data[0]
    drive, sample = data.place(int(clips.number[0]))
    stamp = int(data.packed[drive].stamps[sample])
    labels = occupancy_labels(small_drive, stamp, CONFIG.labels())
    assert np.array_equal(clips.occupancy[0].numpy(), labels.occupancy)
    assert np.array_equal(clips.drivable[0].numpy(), labels.drivable)
    flow = np.moveaxis(clips.flow[0].numpy(), 1, -1)
    np.testing.assert_allclose(flow, labels.flow, atol=0.01)  # half precision


def test_a_store_for_other_labels_is_refused(store):
    other = CONFIG.model_copy(update={"world": CONFIG.world.model_copy(update={"upsample": 4})})
    with pytest.raises(DriveError, match="bev"):
        open_store(store, other.labels(), (HEIGHT, WIDTH))


def test_a_folder_of_another_format_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "holiday.txt").write_text("sun")
    with pytest.raises(DriveError, match="holds none of"):
        prepare_store(str(tmp_path / "data"), tmp_path / "store", CONFIG.labels(), (HEIGHT, WIDTH))


def test_drives_shorter_than_a_clip_are_refused(store):
    with pytest.raises(DriveError, match="in a row"):
        ClipData(store, packed_names(store), CONFIG.labels(), 99)


def test_an_epoch_sees_every_sample_about_once(data):
    order = data.order(0, 3)
    seen = [start + k for index in order for k in range(2) for start in [data.starts[index][1]]]
    assert len(seen) == len(set(zip(np.repeat([data.starts[i][0] for i in order], 2), seen, strict=True)))
    assert data.samples - 4 <= len(seen) <= data.samples
    assert not np.array_equal(order, data.order(1, 3))


def test_batches_from_a_step_on_are_those_of_the_whole_run(data):
    whole = [clips.number.tolist() for clips in batches(data, 2, 0, 0, 6)]
    assert [clips.number.tolist() for clips in batches(data, 2, 0, 4, 6)] == whole[4:]
    # Two processes share a batch.
    shares = [[c.number.tolist() for c in batches(data, 2, 0, 0, 6, rank=r, world_size=2)] for r in (0, 1)]
    assert [a + b for a, b in zip(*shares, strict=True)] == whole


def test_the_front_camera_is_never_dropped(data):
    clips = next(batches(data, 4, 0, 0, 1))
    drop_cameras(clips, 1.0, np.random.default_rng(0))
    assert (clips.camera_valid.sum(2) == 5).all()
    assert (clips.camera_valid[..., 0] == 1).all()
    assert not clips.images[clips.camera_valid == 0].any()


def test_clips_without_labels_hold_none_and_those_asked_for_are_the_same(store, data):
    without = ClipData(
        store, packed_names(store), CONFIG.labels(), 2, with_images=False, with_labels=False
    )  # fmt: skip
    bare = join([without[0], without[3]])
    assert bare.images.shape[2] == 0
    assert bare.occupancy.numel() == bare.past_occupancy.numel() == bare.drivable.numel() == 0
    occupancy, drivable = without.labels(bare.number, torch.device("cpu"))
    full = join([data[0], data[3]])
    assert torch.equal(occupancy, full.occupancy)
    assert torch.equal(drivable, full.drivable)


def test_on_cached_views_a_clip_that_begins_within_a_drive_knows_how_the_ego_came(data, store):
    cached = ClipData(store, packed_names(store), CONFIG.labels(), 2, with_images=False)
    assert data.starts[:2] == [(0, 0), (0, 1)]
    before, after = cached[0], cached[1]
    assert before.bev_valid.tolist() == [[0.0, 1.0]]
    assert after.bev_valid.tolist() == [[1.0, 1.0]]
    assert torch.equal(after.ego_motion[:, 0], before.ego_motion[:, 1])
    assert data[1].bev_valid.tolist() == [[0.0, 1.0]]


def test_earlier_labels_are_those_of_their_own_samples(data):
    # The first sample of clip 1 is the last of clip 0, of the same drive.
    before, after = data[0], data[1]
    assert torch.equal(after.past_occupancy[:, 0], before.occupancy[:, 0])
    assert torch.equal(after.past_drivable[:, 0], before.drivable)


def test_single_samples_of_clips_are_those_that_the_data_has_under_their_numbers(data):
    clips = join([data[0], data[3]])
    samples, last = clips.samples(), clips.last_samples()
    assert samples.number[1::2].tolist() == last.number.tolist() == clips.number.tolist()
    for row, number in enumerate(samples.number.tolist()):
        drive, sample = data.place(number)
        assert np.array_equal(samples.future[row].numpy(), data.packed[drive].future[sample])
        assert samples.command[row] == data.packed[drive].command[sample]
    assert torch.equal(last.ego_motion, clips.ego_motion[:, -1])


def test_some_last_samples_have_no_past(data):
    dropped = next(batches(data, 4, 0, 0, 1, memory_drop=1.0))
    assert (dropped.bev_valid[:, -1] == 0).all()
    assert (next(batches(data, 4, 0, 0, 1)).bev_valid[:, -1] == 1).all()


def test_plans_learn_to_avoid_those_who_are_there(data, store):
    others = RoadUsers(data.packed)
    clips = data[0]
    drive, sample = data.place(int(clips.number))
    packed, _ = read_packed(store, data.names[drive])
    boxes = others.at(clips.number, torch.device("cpu"))
    for step, truth in enumerate(packed.truth(sample).boxes):
        found = boxes[0, step][boxes[0, step, :, 0] < 1e3][:, :5]
        wanted = np.column_stack([truth.centers[:, :2], truth.sizes[:, :2], truth.yaws])
        np.testing.assert_allclose(sorted(found.tolist()), sorted(wanted.tolist()), atol=1e-5)
    config = TeacherConfig(reward=RewardConfig(teaches=10.0, clearance=0.0))
    car = boxes[0, :, 0, :2]
    into = (car - torch.tensor([1.44, 0.0]))[None, None]  # its middle in the car's, at every step
    assert avoidance_loss(config, into, clips.last_samples(), others) > 10.0
    assert avoidance_loss(config, clips.future[:, -1:], clips.last_samples(), others) == 0.0
    assert avoidance_loss(config, into, clips.last_samples(), None) == 0.0


def test_who_stands_is_told_from_who_moves(store):
    rows = [
        [step, x, y, 0.0, 4.5, 2.0, 1.5, 0.0, 0]
        for step in range(6)
        for x, y in ((10.0, 3.0), (20.0 + 2.0 * step, -3.0))  # one parked, one at 4 m/s
    ]
    packed, _ = read_packed(store, "one")
    drive = replace(
        packed,
        stamps=packed.stamps[:1],
        future=np.zeros((1, 6, 2), np.float32),
        boxes=np.array(rows, np.float32),
        box_starts=np.array([0, len(rows)]),
    )
    boxes = RoadUsers([drive]).at(torch.tensor([0]), torch.device("cpu"))[0]
    assert boxes[:, 0, 5].tolist() == [1.0] * 6  # the parked one is the nearer at each step
    assert boxes[:, 1, 5].tolist() == [0.0] * 6


def test_only_a_reward_that_teaches_makes_plans_avoid_anybody(data):
    for reward, expected in (
        (RewardConfig(teaches=1.0), True),
        (RewardConfig(teaches=0.0), False),
        (RewardConfig(teaches=1.0, simulation=["dac"]), False),
    ):
        assert (taught_by(TeacherConfig(reward=reward), data) is not None) == expected
