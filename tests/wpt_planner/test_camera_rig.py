from hypothesis import given
from hypothesis import strategies as st

from wpt_planner.camera_rig import CameraImage, CameraRig
from wpt_planner.image_decoding import EncodedImage

MS = 1_000_000
NAMES = ["front", "left", "right"]


def make_rig(**kwargs) -> CameraRig:
    return CameraRig(NAMES, "front", tolerance=0.04, max_wait=0.05, **kwargs)


def image(stamp_ms: int, arrival_ms: int | None = None, data: bytes = b"x") -> CameraImage:
    arrival = stamp_ms if arrival_ms is None else arrival_ms
    return CameraImage(stamp_ms * MS, arrival * MS, EncodedImage(data, "compressed"))


def store(rig: CameraRig, camera: str, *args, **kwargs) -> str | None:
    return rig.store(NAMES.index(camera), image(*args, **kwargs))


def test_a_set_is_ready_when_the_last_camera_arrives_and_carries_the_anchors_stamp():
    rig = make_rig()
    store(rig, "left", 995)
    store(rig, "front", 1000)
    assert rig.take(1001 * MS) is None
    store(rig, "right", 1010)
    ready = rig.take(1011 * MS)
    assert ready.stamp == 1000 * MS
    assert [i.stamp // MS for i in ready.images] == [1000, 995, 1010]
    assert rig.take(1012 * MS) is None


def test_a_dead_side_camera_costs_one_wait_and_then_nothing():
    rig = make_rig()
    store(rig, "front", 1000)
    store(rig, "left", 1000)
    assert rig.take(1049 * MS) is None
    late = rig.take(1050 * MS)
    assert late.images[2] is None
    store(rig, "front", 1100)
    store(rig, "left", 1100)
    assert rig.take(1100 * MS).images[2] is None


def test_a_camera_that_comes_back_is_waited_for_again():
    rig = make_rig()
    store(rig, "front", 1000)
    store(rig, "left", 1000)
    rig.take(1050 * MS)
    store(rig, "front", 1100)
    store(rig, "right", 1100)
    store(rig, "left", 1100)
    assert None not in rig.take(1100 * MS).images
    store(rig, "front", 1200)
    store(rig, "left", 1200)
    assert rig.take(1210 * MS) is None


def test_without_the_anchor_there_is_no_set():
    rig = make_rig()
    for at in (1000, 1100, 1200):
        store(rig, "left", at)
        store(rig, "right", at)
    assert rig.take(2000 * MS) is None


def test_an_image_outside_the_tolerance_is_not_paired():
    rig = make_rig()
    store(rig, "left", 959)
    store(rig, "right", 1000)
    store(rig, "front", 1000)
    assert rig.take(1050 * MS).images[1] is None


def test_the_newest_set_wins_and_the_older_one_is_counted():
    rig = make_rig()
    for at in (1000, 1100):
        for name in NAMES:
            store(rig, name, at)
    assert rig.take(1100 * MS).stamp == 1100 * MS
    assert rig.sets_dropped == 1


def test_time_going_back_clears_everything_and_says_so():
    rig = make_rig()
    for name in NAMES:
        store(rig, name, 60_000)
    assert "went back" in store(rig, "left", 1000)
    store(rig, "front", 1001)
    store(rig, "right", 1002)
    assert rig.take(1002 * MS).stamp == 1001 * MS


def test_a_late_repeat_is_counted_and_left_out():
    rig = make_rig()
    store(rig, "left", 1000)
    assert store(rig, "left", 990) is None
    assert rig.health[1].out_of_order == 1
    assert rig.health[1].newest_stamp == 1000 * MS


def test_a_frozen_camera_is_noticed_by_its_identical_images():
    rig = make_rig(frozen_after=3)
    for at in (1000, 1100, 1200):
        store(rig, "left", at, data=b"same")
        store(rig, "right", at, data=b"%d" % at)
    assert rig.is_frozen(1)
    assert not rig.is_frozen(2)


@given(st.permutations(range(9)))
def test_sets_do_not_depend_on_the_order_of_arrival_within_a_period(order):
    # Three periods of 100 ms; within each, the cameras arrive in any order.
    rig = make_rig()
    taken = []
    for period in range(3):
        for index in (i for i in order if i // 3 == period):
            store(rig, NAMES[index % 3], 1000 + 100 * period + 7 * (index % 3), 1000 + 100 * period)
        taken.append(rig.take((1000 + 100 * period + 60) * MS))
    assert [[i.stamp // MS for i in s.images] for s in taken] == [
        [1000 + 100 * p, 1007 + 100 * p, 1014 + 100 * p] for p in range(3)
    ]
