import json
import shutil

import pytest

from wpt_planner.policy_bundle import BundleError, open_bundle


@pytest.fixture
def copy(bundle, tmp_path):
    shutil.copytree(bundle.folder, tmp_path / "bundle")
    return tmp_path / "bundle"


def edit(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_good_bundle_opens_with_the_same_identity(bundle, copy):
    assert open_bundle(copy, expected_cameras=6).identity == bundle.identity


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(BundleError, match="no such bundle folder"):
        open_bundle(tmp_path / "none")


def test_a_folder_without_manifest_is_no_bundle(tmp_path):
    with pytest.raises(BundleError, match="no policy bundle"):
        open_bundle(tmp_path)


def test_a_missing_policy_is_named(copy):
    (copy / "policy.pt2").unlink()
    with pytest.raises(BundleError, match=r"policy\.pt2: missing"):
        open_bundle(copy)


@pytest.mark.parametrize("name", ["policy.pt2", "golden.npz"])
def test_a_truncated_or_changed_file_fails_its_hash(copy, name):
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(BundleError, match=f"{name}: SHA-256 is .* truncated or changed"):
        open_bundle(copy)


def test_a_truncated_manifest_is_not_json(copy):
    text = (copy / "manifest.json").read_text()
    (copy / "manifest.json").write_text(text[:50])
    with pytest.raises(BundleError, match="not JSON"):
        open_bundle(copy)


def test_another_number_of_cameras_is_refused_with_both_numbers(copy):
    with pytest.raises(BundleError, match="made for 6 cameras .* 3 are configured"):
        open_bundle(copy, expected_cameras=3)


def test_a_newer_schema_says_what_to_update(copy):
    edit(copy, schema_version=99)
    with pytest.raises(BundleError, match=r"schema version 99.*update wpt_planner"):
        open_bundle(copy)


def test_unknown_keys_are_refused(copy):
    edit(copy, wheels=4)
    with pytest.raises(BundleError, match="wheels"):
        open_bundle(copy)
