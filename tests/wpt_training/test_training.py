"""Packed data, clips and the loop: on a small drive that was packed twice."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from wpt_training.drives.frame import DriveError
from wpt_training.drives.occupancy import occupancy_labels
from wpt_training.evaluation.cached_open_loop import AS_TRAINED, score_cached
from wpt_training.evaluation.ego_status import EgoStatusPlanner
from wpt_training.evaluation.packed_open_loop import score_bundle
from wpt_training.export import export_checkpoint
from wpt_training.models.config import (
    ConfigError,
    DataConfig,
    DistillationConfig,
    LossConfig,
    RecipeConfig,
    RewardConfig,
    TeacherConfig,
    TrainingConfig,
    TrainingError,
    WorldModelConfig,
)
from wpt_training.models.student import Student
from wpt_training.models.teacher import Teacher
from wpt_training.models.world_model import WorldModel
from wpt_training.training.bev_cache import cached_bevs
from wpt_training.training.checkpoint import RunState, load_tensors, load_weights, read_state
from wpt_training.training.clips import ClipData, batches, drop_cameras, join, steps_of
from wpt_training.training.encode import encode_clips
from wpt_training.training.lessons import taught_lessons
from wpt_training.training.loop import learning_rate_factor, make_fabric, train
from wpt_training.training.packing import prepare_store
from wpt_training.training.recipes import Runs, described, run_recipe, was_made_by
from wpt_training.training.road_users import RoadUsers
from wpt_training.training.store import open_store, pack_drive, packed_names, read_packed
from wpt_training.training.student import StudentTask
from wpt_training.training.teacher import avoidance_loss, taught_by, teacher_plans
from wpt_training.training.world_model import WorldModelTask

from conftest import HEIGHT, SMALL, WIDTH, rig

QUICK = RecipeConfig(
    epochs=1,
    batch=2,
    learning_rate=1e-3,
    warm_up=2,
    camera_drop=0.0,
    checkpoint_seconds=0.0,
    precision="32-true",
)
CONFIG = TrainingConfig(
    data=DataConfig(train="unused", image_height=HEIGHT, image_width=WIDTH, clip=2, workers=0),
    student=SMALL,
    world=WorldModelConfig(
        queue=2,
        channels=16,
        layers=1,
        heads=2,
        feed_forward=16,
        head_channels=8,
        upsample=2,
        cells_z=2,
        pretext=True,
    ),
    teacher=TeacherConfig(candidates=3, reward=RewardConfig(hidden=16)),
    losses=LossConfig(future_frames=2),
    world_recipe=QUICK,
    teacher_recipe=QUICK,
    baseline_recipe=QUICK,
    student_recipe=QUICK,
)


@pytest.fixture(scope="module")
def store(small_drive, tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    grid = CONFIG.labels()
    open_store(root, grid, (HEIGHT, WIDTH))
    for name in ("one", "two"):
        assert pack_drive(dataclasses.replace(small_drive, name=name), root, grid, (HEIGHT, WIDTH))
    return root


@pytest.fixture(scope="module")
def data(store):
    return ClipData(store, packed_names(store), CONFIG.labels(), 2)


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


def run(folder, data, steps, state_steps=None):
    torch.manual_seed(0)
    task = StudentTask(Student(SMALL), CONFIG.losses)
    state = RunState("baseline", 0, state_steps or steps, {}, "test", "test")

    def some(first):
        return batches(data, 2, 0, first, steps)

    return train(task, some, QUICK, folder, state, make_fabric())


def test_a_killed_run_goes_on_to_the_same_losses(data, tmp_path):
    run(tmp_path / "whole", data, 8)
    # Killed after five of eight steps: the batches end early.
    run(tmp_path / "killed", data, 5, state_steps=8)
    text = (tmp_path / "killed" / "checkpoint.json").read_text()
    assert json.loads(text)["step"] == 5
    broken = tmp_path / "killed"
    _not_finished(broken)
    run(broken, data, 8)
    whole, resumed = load_tensors(tmp_path / "whole"), load_tensors(broken)
    assert set(whole) == set(resumed)
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, rtol=1e-4, atol=1e-6, msg=name)


def _not_finished(folder, **changed):
    from wpt_training.training.checkpoint import save_checkpoint

    state = dataclasses.replace(read_state(folder), finished=False, **changed)
    save_checkpoint(folder, load_tensors(folder), state)


def test_a_run_goes_on_after_a_key_with_a_default_came(store, tmp_path, monkeypatch):
    monkeypatch.setattr("wpt_training.training.recipes.prepare_store", lambda *_: packed_names(store))
    config = CONFIG.model_copy(update={"data": CONFIG.data.model_copy(update={"store": str(store)})})
    first = run_recipe("world", config, Runs.under(tmp_path))
    known = json.loads(json.dumps(first.config))
    del known["world_recipe"]["memory_drop"]
    _not_finished(tmp_path / "world", config=known)
    again = run_recipe("world", config, Runs.under(tmp_path))
    assert (again.finished, again.step) == (True, first.step)


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_batch(data, tmp_path):
    task = StudentTask(Student(SMALL), CONFIG.losses)
    state = RunState("baseline", 0, 4, {}, "test", "test")

    def poisoned(first):
        for clips in batches(data, 2, 0, first, 4):
            clips.future[0, 0, 0, 0] = float("nan")
            yield clips

    with pytest.raises(TrainingError, match=r"step 0 is nan .*bad_batch_0\.pt"):
        train(task, poisoned, QUICK, tmp_path, state, make_fabric())
    assert (tmp_path / "bad_batch_0.pt").is_file()


def test_a_run_of_another_configuration_is_not_continued(data, tmp_path):
    run(tmp_path, data, 2)
    with pytest.raises(TrainingError, match="another steps"):
        run(tmp_path, data, 3)


def test_a_checkpoint_of_another_size_is_refused(data, tmp_path):
    run(tmp_path, data, 2)
    with pytest.raises(ConfigError, match="another configuration"):
        load_weights(WorldModel(SMALL, CONFIG.world), tmp_path)
    with pytest.raises(ConfigError, match="train it first"):
        read_state(tmp_path / "nothing")


def test_the_learning_rate_warms_up_and_falls_like_a_cosine():
    factors = [learning_rate_factor(step, 100, 10) for step in (0, 9, 10, 55, 100)]
    assert factors == pytest.approx([0.1, 1.0, 1.0, 0.505, 0.01])


def test_cached_bevs_are_those_of_the_network(data):
    torch.manual_seed(0)
    world = WorldModel(SMALL, CONFIG.world).eval()
    cache = cached_bevs(world.perception, data, torch.device("cpu"))
    clips = data[0]  # the first clip of a drive: its state starts there, as the cache's does
    with torch.no_grad():
        fresh = encode_clips(world.perception, clips)
    for made, kept in zip(fresh, cache.clip(clips.number, 2, torch.device("cpu")), strict=True):
        torch.testing.assert_close(kept, made, atol=5e-3, rtol=5e-3)


def test_the_whole_chain_trains_every_recipe(store, small_drive, tmp_path, monkeypatch):
    monkeypatch.setattr("wpt_training.training.recipes.prepare_store", lambda *_: packed_names(store))
    config = CONFIG.model_copy(update={"data": CONFIG.data.model_copy(update={"store": str(store)})})
    runs = Runs.under(tmp_path)
    for name in ("world", "baseline-t", "teacher", "baseline", "student"):
        state = run_recipe(name, config, runs)
        assert state.finished
        assert state.step == steps_of(ClipData(store, packed_names(store), config.labels(), 2), 1, 2)
        lines = (tmp_path / name / "log.jsonl").read_text().splitlines()
        assert np.isfinite(json.loads(lines[-1])["loss"])
    parts = json.loads((tmp_path / "student" / "log.jsonl").read_text().splitlines()[-1])
    assert {"plan", "query", "reward"} <= set(parts)


def test_a_teacher_learns_beside_its_student_and_goes_on_after_a_kill(
    store, small_drive, tmp_path, monkeypatch
):
    monkeypatch.setattr("wpt_training.training.recipes.prepare_store", lambda *_: packed_names(store))
    config = CONFIG.model_copy(
        update={
            "data": CONFIG.data.model_copy(update={"store": str(store)}),
            "distillation": DistillationConfig(teacher="beside"),
        }
    )
    runs = Runs.under(tmp_path)
    for name in ("world", "teacher", "student"):
        run_recipe(name, config, runs)
    before, after = load_tensors(tmp_path / "teacher"), load_tensors(tmp_path / "student")
    beside = {name: value for name, value in after.items() if name.startswith("beside.teacher.")}
    assert not torch.equal(beside["beside.teacher.score.weight"], before["ema.score.weight"])
    assert not any(".world." in name for name in beside)  # that one stays frozen
    # Nothing is left to do: going on gives what was there.
    _not_finished(tmp_path / "student")
    run_recipe("student", config, runs)
    again = load_tensors(tmp_path / "student")
    for name, value in beside.items():
        assert torch.equal(again[name], value)


def test_the_ego_status_planner_knows_no_later_speeds(data):
    packed = data.packed[0]
    faster = packed.motion.copy()
    faster[5:, 0] += 3.0  # from the sixth sample on
    other = dataclasses.replace(packed, motion=faster)
    planner = EgoStatusPlanner()
    assert np.array_equal(planner.plans(packed)[:5], planner.plans(other)[:5])
    assert not np.array_equal(planner.plans(packed)[5], planner.plans(other)[5])


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


def test_earlier_labels_are_those_of_their_own_samples(data):
    # The first sample of clip 1 is the last of clip 0, of the same drive.
    before, after = data[0], data[1]
    assert torch.equal(after.past_occupancy[:, 0], before.occupancy[:, 0])
    assert torch.equal(after.past_drivable[:, 0], before.drivable)


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
        found = boxes[0, step][boxes[0, step, :, 0] < 1e3]
        wanted = np.column_stack([truth.centers[:, :2], truth.sizes[:, :2], truth.yaws])
        np.testing.assert_allclose(sorted(found.tolist()), sorted(wanted.tolist()), atol=1e-5)
    config = TeacherConfig(reward=RewardConfig(teaches=10.0, clearance=0.0))
    car = boxes[0, :, 0, :2]
    into = (car - torch.tensor([1.44, 0.0]))[None, None]  # its middle in the car's, at every step
    assert avoidance_loss(config, into, clips, others) > 10.0
    assert avoidance_loss(config, clips.future[:, -1:], clips, others) == 0.0
    assert avoidance_loss(config, into, clips, None) == 0.0


def test_only_a_reward_that_teaches_makes_plans_avoid_anybody(data):
    for reward, expected in (
        (RewardConfig(teaches=1.0), True),
        (RewardConfig(teaches=0.0), False),
        (RewardConfig(teaches=1.0, simulation=["dac"]), False),
    ):
        assert (taught_by(TeacherConfig(reward=reward), data) is not None) == expected


def test_lessons_are_what_the_teacher_says(data, tmp_path):
    torch.manual_seed(0)
    teacher = Teacher(SMALL, CONFIG.teacher, WorldModel(SMALL, CONFIG.world)).eval()
    teacher.anchors.copy_(torch.randn(CONFIG.teacher.candidates, 6, 2))
    device = torch.device("cpu")
    cache = cached_bevs(teacher.world.perception, data, device)
    lessons = taught_lessons(teacher, "one", cache, data, tmp_path, device)
    clips = next(batches(data, 3, 0, 0, 1))
    with torch.no_grad():
        output, _ = teacher_plans(teacher, cache, clips)
    lesson = lessons.at(clips.number, device)
    assert torch.equal(lesson.best, output.best)
    torch.testing.assert_close(lesson.expected, output.trajectories[:, 0])
    torch.testing.assert_close(lesson.query, output.queries[torch.arange(3), output.best])
    torch.testing.assert_close(lesson.rewards.simulation, output.rewards.simulation)
    # Another teacher's lie beside no longer.
    taught_lessons(teacher, "two", cache, data, tmp_path, device)
    assert [path.name for path in tmp_path.iterdir()] == ["lessons-two.npz"]


def test_a_finished_run_stands_if_what_is_missing_in_it_has_its_default_and_not_otherwise():
    config = described(CONFIG, "world")
    old = json.loads(json.dumps(config))
    del old["world_recipe"]["memory_drop"]  # before there was any
    state = RunState("world", 1, 1, old, "", CONFIG.data.train, finished=True)
    assert was_made_by(state, CONFIG, "world")
    faster = QUICK.model_copy(update={"learning_rate": 1.0})
    assert not was_made_by(state, CONFIG.model_copy(update={"world_recipe": faster}), "world")
    unknown = dataclasses.replace(state, config={**old, "wheels": 4})
    assert not was_made_by(unknown, CONFIG, "world")


def test_a_frozen_perception_stays_the_world_models(store, small_drive, tmp_path, monkeypatch):
    monkeypatch.setattr("wpt_training.training.recipes.prepare_store", lambda *_: packed_names(store))
    frozen = {"perception": "frozen"}
    config = CONFIG.model_copy(
        update={
            "teacher": CONFIG.teacher.model_copy(update={"followed": 2, "ahead": 0.5}),
            "distillation": DistillationConfig(begin=True),
            "data": CONFIG.data.model_copy(update={"store": str(store)}),
            "baseline_recipe": QUICK.model_copy(update=frozen),
            "student_recipe": QUICK.model_copy(update=frozen),
        }
    )
    runs = Runs.under(tmp_path)
    for name in ("world", "teacher", "baseline", "student"):
        run_recipe(name, config, runs)
    world = load_tensors(tmp_path / "world")
    for name in ("baseline", "student"):
        tensors = load_tensors(tmp_path / name)
        for key, value in tensors.items():
            if key.startswith("ema.perception."):
                assert torch.equal(value, world[key]), key
        assert not any(key.startswith("optimizer") and "perception" in key for key in tensors)
    # The tables' figures, from cached BEVs, are those of the bundles.
    data = ClipData(store, packed_names(store), config.labels(), 2, with_images=False)
    for name in ("student", "teacher"):
        bundle = export_checkpoint(tmp_path / name, tmp_path / f"bundle-{name}").folder
        driven, quick = score_bundle(bundle, data, name), score_cached(tmp_path / name, data, [AS_TRAINED])[0]
        assert quick.row("uniad").samples == driven.row("uniad").samples > 0
        assert quick.row("uniad").l2 == pytest.approx(driven.row("uniad").l2, abs=0.02)


def test_mixed_precision_leaves_calibration_alone(data, tmp_path):
    seen = []

    class Looking(WorldModelTask):
        def forward(self, clips):
            seen.append((clips.intrinsics.clone(), clips.ego_motion.clone()))
            return super().forward(clips)

    losses = {}
    for precision in ("32-true", "bf16-mixed"):
        recipe = QUICK.model_copy(update={"precision": precision})
        torch.manual_seed(0)
        task = Looking(WorldModel(SMALL, CONFIG.world), CONFIG.losses)
        state = RunState("world", 0, 1, {}, "test", "test")
        folder = tmp_path / precision
        train(task, lambda first: batches(data, 2, 0, first, 1), recipe, folder, state, make_fabric())
        losses[precision] = json.loads((folder / "log.jsonl").read_text())["loss"]
    # Through Fabric and all, the network is told calibration and motion to the last bit.
    for whole, mixed in zip(*seen, strict=True):
        assert mixed.dtype == torch.float32
        assert torch.equal(whole, mixed)
    assert losses["bf16-mixed"] != losses["32-true"]
    assert losses["bf16-mixed"] == pytest.approx(losses["32-true"], rel=0.02)
