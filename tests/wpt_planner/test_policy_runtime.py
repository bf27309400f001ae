import shutil

import numpy as np
import pytest

from wpt_planner.geometry import planar_matrix
from wpt_planner.policy_bundle import BundleError, file_sha256, open_bundle
from wpt_planner.policy_runtime import PolicyRuntime
from wpt_training.export import golden_inputs

from conftest import SMALL

SECOND = 1_000_000_000
EXTRINSICS = golden_inputs(SMALL)[3][0].numpy()
ALL = np.ones(6, bool)


def intrinsics(width: int, height: int) -> np.ndarray:
    k = np.array([[width * 0.8, 0, width / 2], [0, width * 0.8, height / 2], [0, 0, 1]])
    return np.tile(k, (6, 1, 1))


def run(runtime, stamp=0, x=0.0, valid=ALL, speed=4.0):
    height, width = runtime.image_size
    return runtime.run(
        stamp, planar_matrix(x, 0, 0), speed, 0.1, valid, intrinsics(width, height), EXTRINSICS, 2
    )


def fill(runtime, height=36, width=64, seed=0):
    if runtime.image_size != (height, width):
        runtime.prepare(height, width)
    runtime.reset()
    runtime.images[:] = np.random.default_rng(seed).integers(0, 255, runtime.images.shape)


@pytest.mark.parametrize("size", [(36, 64), (90, 160), (225, 400)])
def test_one_bundle_takes_images_of_any_size(runtime, size):
    fill(runtime, *size)
    assert run(runtime).trajectory.shape == (6, 2)


def test_the_policy_is_told_the_speed_now_and_then(runtime):
    fill(runtime)
    plan = run(runtime, 0, 0.0, speed=7.0).trajectory
    # An untrained head drives straight on, from the first pass on.
    assert plan[:, 0] == pytest.approx(7.0 * np.arange(1, 7) / 2, abs=0.01)
    run(runtime, SECOND // 2, 4.0, speed=9.0)
    assert runtime._inputs["ego_motion"][0].tolist() == pytest.approx([4.0, 0, 0, 0.5, 7.0, 9.0, 0.1])


def test_a_masked_camera_cannot_change_the_plan(runtime):
    fill(runtime)
    valid = ALL.copy()
    valid[3] = False
    run(runtime, valid=valid)
    first = runtime._pasts[-1].bev.clone()
    fill(runtime)
    runtime.images[3] = 255
    run(runtime, valid=valid)
    assert np.array_equal(first.numpy(), runtime._pasts[-1].bev.numpy())
    fill(runtime)
    runtime.images[3] = 255
    run(runtime)
    assert not np.array_equal(first.numpy(), runtime._pasts[-1].bev.numpy())


def test_the_past_is_a_training_interval_old_however_fast_the_cameras_are(runtime):
    # 10 Hz, 4 m/s; trained at 2 Hz: from the sixth pass on, the state of 0.5 s ago is the one to use.
    fill(runtime)
    for number in range(12):
        run(runtime, number * SECOND // 10, 0.4 * number)
        motion = runtime._inputs["ego_motion"][0]
        back = min(number, 5)
        assert motion[0] == pytest.approx(0.4 * back, abs=1e-5)
        assert motion[3] == pytest.approx(0.1 * back, abs=1e-5)
    # Passes 0, 5 and 10 follow each other.
    assert len(runtime._pasts) <= 7


def test_reset_forgets_the_past(runtime):
    fill(runtime)
    alone = run(runtime).trajectory
    run(runtime, SECOND // 2, 4.0)
    assert runtime.passes == 2
    runtime.reset()
    assert np.array_equal(run(runtime, SECOND, 8.0).trajectory, alone)


def test_a_program_that_misses_its_golden_output_is_refused(bundle, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(bundle.folder, folder)
    with np.load(folder / "golden.npz") as stored:
        arrays = {name: stored[name] for name in stored}
    arrays["trajectory"] = arrays["trajectory"] + 1.0
    np.savez_compressed(folder / "golden.npz", **arrays)
    text = (folder / "manifest.json").read_text()
    old = bundle.manifest.files["golden.npz"]
    (folder / "manifest.json").write_text(text.replace(old, file_sha256(folder / "golden.npz")))
    with pytest.raises(BundleError, match="1.000 m off the golden output"):
        PolicyRuntime(open_bundle(folder))


def test_a_device_that_is_not_there_is_refused(bundle):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(BundleError, match="no CUDA device"):
        PolicyRuntime(bundle, "cuda")
