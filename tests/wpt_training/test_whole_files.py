"""Files that are there whole or not at all."""

from __future__ import annotations

import pytest

from wpt_training.whole_files import written_whole


def test_a_file_that_failed_half_way_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "figures.json"
    path.write_text("old")

    def fail() -> None:
        with written_whole(path) as partial:
            partial.write_text("ne")
            raise ValueError

    with pytest.raises(ValueError):
        fail()
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("figures.json", "old")]


def test_two_who_make_the_same_file_at_once_both_succeed(tmp_path):
    path = tmp_path / "bev.npy"
    with written_whole(path) as one, written_whole(path) as other:
        one.write_text("one")
        other.write_text("other")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("bev.npy", "one")]
