import numpy as np
import pytest

from wpt_planner.calibration import CalibrationError, check_intrinsics, load_rig, save_rig

from conftest import ROOT, rig


def test_a_rig_file_reads_back_what_was_written(tmp_path):
    save_rig(tmp_path / "rig.yaml", list(rig()))
    read = load_rig(tmp_path / "rig.yaml")
    for camera in rig():
        assert np.allclose(read[camera.name].ego_from_camera, camera.ego_from_camera, atol=1e-12)
        assert np.array_equal(read[camera.name].intrinsics, camera.intrinsics)


def test_the_shipped_rig_looks_forward_with_its_front_camera():
    front = load_rig(ROOT / "config" / "rig_nuscenes.yaml")["CAM_FRONT"]
    optical_axis = front.ego_from_camera[:3, 2]
    assert optical_axis[0] > 0.99
    assert 1.0 < front.ego_from_camera[2, 3] < 2.0


@pytest.mark.parametrize(
    ("k", "said"),
    [
        (np.full((3, 3), np.nan), "not finite"),
        (np.zeros((3, 3)), "expected > 0"),
        (np.array([[40.0, 0, 500], [0, 40, 17], [0, 0, 1]]), "another resolution"),
    ],
)
def test_intrinsics_that_cannot_be_used_are_explained(k, said):
    assert said in check_intrinsics(k, 64, 36)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cameras: []", "cameras"),
        ("cameras: [{name: A, wheels: 4}]", "cameras.0"),
        ("cameras: [", "not YAML"),
    ],
)
def test_a_bad_rig_file_is_named_with_its_field(tmp_path, text, said):
    path = tmp_path / "rig.yaml"
    path.write_text(text)
    with pytest.raises(CalibrationError, match=said) as caught:
        load_rig(path)
    assert str(path) in str(caught.value)


def test_a_missing_rig_file_is_named(tmp_path):
    with pytest.raises(CalibrationError, match="no such rig file"):
        load_rig(tmp_path / "none.yaml")
