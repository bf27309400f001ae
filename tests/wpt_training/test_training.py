"""The loop, checkpoints and recipes: on a small drive that was packed twice."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from wpt_training.evaluation.cached_open_loop import AS_TRAINED, score_cached
from wpt_training.evaluation.ego_status import EgoStatusPlanner
from wpt_training.evaluation.packed_open_loop import score_bundle
from wpt_training.export import export_checkpoint
from wpt_training.models.config import (
    ConfigError,
    DistillationConfig,
    TrainingError,
)
from wpt_training.models.student import Student
from wpt_training.models.teacher import Teacher
from wpt_training.models.world_model import WorldModel
from wpt_training.training.batches import batches, steps_of
from wpt_training.training.bev_cache import cached_bevs
from wpt_training.training.checkpoint import RunState, load_tensors, load_weights, read_state
from wpt_training.training.clips import ClipData, join
from wpt_training.training.encode import encode_clips
from wpt_training.training.lessons import taught_lessons
from wpt_training.training.loop import learning_rate_factor, make_fabric, train
from wpt_training.training.recipes import Runs, described, run_recipe, was_made_by
from wpt_training.training.store import packed_names
from wpt_training.training.student import StudentTask
from wpt_training.training.teacher import anchors_of, teacher_plans
from wpt_training.training.world_model import WorldModelTask

from conftest import CONFIG, QUICK, SMALL


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


def test_anchors_are_how_experts_depart_from_a_planners_plans(data):
    torch.manual_seed(0)
    world = WorldModel(SMALL, CONFIG.world).eval()
    cache = cached_bevs(world.perception, data, torch.device("cpu"))
    with torch.no_grad():
        world.pretext.plan_head.mlp[-1].bias[::2] = 1.0  # straight on, and a metre further with every step
    anchors = anchors_of(data, 2, 0, world.pretext, cache)
    assert not anchors[0].any()
    # The drive goes straight on at 5 m/s.
    behind = torch.stack([-torch.arange(1.0, 7.0), torch.zeros(6)], dim=-1)
    torch.testing.assert_close(anchors[1], behind, atol=1e-3, rtol=0)
    straight = anchors_of(data, 2, 0, None, cache)
    torch.testing.assert_close(straight[1], torch.zeros(6, 2), atol=1e-3, rtol=0)


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


def test_the_world_models_actions_are_what_was_driven_not_what_should_have_been(data):
    torch.manual_seed(0)
    task = WorldModelTask(WorldModel(SMALL, CONFIG.world), CONFIG.losses)
    clips = join([data[0], data[1]])

    def foreseen():
        with torch.no_grad():
            return {name: float(part) for name, part in task(clips).parts.items() if name != "pretext"}

    before = foreseen()
    clips.future = clips.future + 5.0
    assert foreseen() == before
    clips.driven = clips.driven * 0.2
    assert foreseen()["occupancy"] != before["occupancy"]
