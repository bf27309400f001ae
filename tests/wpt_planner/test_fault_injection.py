import pytest

from wpt_planner.fault_injection import FaultError, FaultInjector, parse_fault

CAMERAS = ["A", "B"]


def injector(*texts: str) -> FaultInjector:
    return FaultInjector([parse_fault(text, CAMERAS) for text in texts])


def test_drop_leaves_out_only_its_camera_and_only_in_its_time():
    faults = injector("A:drop@2-3")
    assert faults.apply("A", 1.9, b"x") == (b"x", 0.0)
    assert faults.apply("A", 2.0, b"x") is None
    assert faults.apply("B", 2.0, b"x") == (b"x", 0.0)
    assert faults.apply("A", 3.0, b"x") == (b"x", 0.0)


def test_delay_freeze_and_corrupt_do_what_they_say():
    assert injector("A:delay:0.2").apply("A", 0, b"x") == (b"x", 0.2)
    frozen = injector("A:freeze")
    assert frozen.apply("A", 0, b"first")[0] == frozen.apply("A", 1, b"second")[0] == b"first"
    assert injector("A:corrupt").apply("A", 0, b"12345678")[0] == b"1234"


def test_a_share_drops_about_that_share_and_the_same_ones_each_time():
    def dropped():
        faults = injector("A:drop:0.3")
        return [faults.apply("A", i, b"x") is None for i in range(1000)]

    assert dropped() == dropped()
    assert 250 < sum(dropped()) < 350


@pytest.mark.parametrize(
    ("text", "said"),
    [("A:melt", "expected CAMERA"), ("C:drop", "no camera C"), ("A:delay", "delay needs seconds")],
)
def test_a_fault_that_cannot_be_understood_says_what_was_expected(text, said):
    with pytest.raises(FaultError, match=said):
        parse_fault(text, CAMERAS)
