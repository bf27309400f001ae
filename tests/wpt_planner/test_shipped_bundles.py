"""The bundles that come along: whole, trained, small, and driving with sense on an empty road."""

from __future__ import annotations

import numpy as np
import pytest

from wpt_planner.policy_bundle import open_bundle
from wpt_planner.policy_runtime import PolicyRuntime
from wpt_planner.shared_files import BUNDLES, bundle_folder


@pytest.mark.parametrize("name", BUNDLES)
def test_a_shipped_bundle_is_whole_and_says_what_trained_it(name):
    manifest = open_bundle(bundle_folder(name), expected_cameras=6).manifest
    assert manifest.role == name
    assert manifest.trained
    assert manifest.training["data"].startswith("simulated:train:")
    assert manifest.training["seconds"] > 60
    assert len(manifest.training["git_revision"]) >= 12


def test_all_of_them_take_less_than_12_megabytes():
    files = [path for name in BUNDLES for path in bundle_folder(name).iterdir()]
    assert sum(path.stat().st_size for path in files) < 12e6


def test_the_teacher_tells_its_candidates_and_drives_one_of_them():
    runtime = PolicyRuntime(open_bundle(bundle_folder("teacher")))
    runtime.prepare(128, 224)
    intrinsics = np.tile(np.array([[160.0, 0, 111.5], [0, 160, 63.5], [0, 0, 1]]), (6, 1, 1))
    output = runtime.run(
        0, np.eye(4), 5.0, 0.0, np.ones(6, bool), intrinsics, np.tile(np.eye(4), (6, 1, 1)), 2
    )
    assert output.candidates is not None
    assert output.candidates.rewards.shape == (len(output.candidates.trajectories), 7)
    assert output.candidates.rewards[:, 0].sum() == pytest.approx(1.0, abs=1e-4)
    assert not runtime.bundle.manifest.training["chooses_by_score"]
    best = output.candidates.rewards[:, 6].argmax()
    assert np.array_equal(output.trajectory, output.candidates.trajectories[best])
