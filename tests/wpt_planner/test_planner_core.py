import cv2
import numpy as np
import pytest

from wpt_planner.camera_rig import CameraImage, CameraRig, CameraSet
from wpt_planner.ego_motion import EgoMotion, OdometrySample
from wpt_planner.image_decoding import EncodedImage
from wpt_planner.plan_guard import GuardLimits
from wpt_planner.planner_core import PassRefused, PlannerCore
from wpt_planner.policy_runtime import PolicyRuntime

from conftest import SECOND, SPEED, picture, rig

CAMERAS = {camera.name: camera for camera in rig()}


@pytest.fixture(scope="module")
def core(runtime):
    camera_rig = CameraRig(list(CAMERAS), "CAM_FRONT", 0.04, 0.05, frozen_after=3)
    core = PlannerCore(runtime, camera_rig, GuardLimits(), max_gap=1.0)
    yield core
    core.close()


@pytest.fixture(autouse=True)
def fresh(core):
    core.reset()
    for health in core.rig.health:
        health.identical = 0


def jpeg(index: int, camera: int) -> bytes:
    return cv2.imencode(".jpg", picture(index, camera))[1].tobytes()


def camera_set(index: int, **replaced: EncodedImage | None) -> CameraSet:
    stamp = index * SECOND // 10
    images = []
    for number, name in enumerate(CAMERAS):
        encoded = replaced.get(name, EncodedImage(jpeg(index, number), "compressed"))
        images.append(None if encoded is None else CameraImage(stamp, stamp, encoded))
    return CameraSet(stamp, stamp, tuple(images))


def motion() -> EgoMotion:
    result = EgoMotion()
    for index in range(100):
        at = np.array([SPEED * index / 20, 0.0, 0.0])
        result.add(OdometrySample(index * SECOND // 20, at, np.array([1.0, 0, 0, 0]), SPEED, 0.0))
    return result


def plan(core, chosen: CameraSet, **kwargs):
    arguments = {"calibrations": CAMERAS, "ego_motion": motion(), "command": 2, "age": 0.0} | kwargs
    return core.plan(chosen, **arguments)


def test_a_healthy_set_is_planned_on_with_no_camera_masked(core):
    plan(core, camera_set(0))
    planned = plan(core, camera_set(1))
    assert planned.reason == ""
    assert planned.masked == ("",) * 6
    assert planned.trajectory[1, 0] == pytest.approx(SPEED, abs=0.01)


def test_a_dead_side_camera_is_masked_and_reported(core):
    plan(core, camera_set(0))
    planned = plan(core, camera_set(1, CAM_BACK=None))
    assert planned.reason == ""
    assert [bool(problem) for problem in planned.masked] == [False, False, False, True, False, False]


def test_a_truncated_side_image_is_masked_with_its_cause(core):
    plan(core, camera_set(0))
    broken = EncodedImage(jpeg(1, 3)[:200], "compressed")
    planned = plan(core, camera_set(1, CAM_BACK=broken))
    assert "truncated" in planned.masked[3]


def test_a_broken_anchor_is_not_masked_but_replaced_by_the_fallback(core):
    plan(core, camera_set(0))
    plan(core, camera_set(1))
    planned = plan(core, camera_set(2, CAM_FRONT=EncodedImage(b"junk", "compressed")))
    assert planned.reason.startswith("anchor CAM_FRONT")
    assert np.all(np.isfinite(planned.trajectory))


def test_an_image_of_another_size_than_camera_info_is_masked(core):
    plan(core, camera_set(0))
    small = EncodedImage(bytes(8 * 8 * 3), "rgb8", 8, 8, 24)
    planned = plan(core, camera_set(1, CAM_BACK=small))
    assert "camera_info says 64x36" in planned.masked[3]


def test_without_odometry_the_pass_is_refused_and_the_input_named(core):
    with pytest.raises(PassRefused, match="odometry"):
        plan(core, camera_set(0), ego_motion=EgoMotion())


def test_without_camera_info_the_pass_is_refused(bundle):
    camera_rig = CameraRig(list(CAMERAS), "CAM_FRONT", 0.04, 0.05)
    core = PlannerCore(PolicyRuntime(bundle), camera_rig, GuardLimits(), max_gap=1.0)
    with pytest.raises(PassRefused):
        plan(core, camera_set(0), calibrations={})
    core.close()


def test_a_gap_longer_than_allowed_clears_the_recurrent_state(core):
    for index in range(3):
        plan(core, camera_set(index))
    before = core.state_resets
    planned = plan(core, camera_set(20))
    assert core.state_resets == before + 1
    assert planned.warming_up


def test_a_frozen_camera_is_masked_while_the_ego_moves(core):
    frozen = EncodedImage(jpeg(0, 3), "compressed")
    for index in range(5):
        chosen = camera_set(index, CAM_BACK=frozen)
        for number, image in enumerate(chosen.images):
            core.rig.store(number, image)
        planned = plan(core, chosen)
    assert "frozen" in planned.masked[3]


def test_same_sets_same_bytes(core):
    def drive():
        core.reset()
        return [plan(core, camera_set(index)).trajectory.tobytes() for index in range(4)]

    assert drive() == drive()
