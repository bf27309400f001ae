"""The renderer against hand calculations: f = 100 px, camera 1.5 m above the ground looking along x."""

import numpy as np
import pytest
import torch

from wpt_training.simulator.cameras import (
    PLAIN,
    SEMANTICS,
    SIGNAL,
    VEHICLE,
    Bodies,
    Ground,
    Weather,
    render,
)  # fmt: skip

HEIGHT, WIDTH = 81, 161  # no multiple of a tile
INTRINSICS = torch.tensor([[[100.0, 0, 80], [0, 100, 40], [0, 0, 1]]])
POSE = torch.tensor([[[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]]])
CLEAR = Weather(sight=1e9)


def ground() -> Ground:
    picture = torch.full((3, 200, 200), 0.5)
    return Ground(picture, torch.full((200, 200), SEMANTICS.index("road"), dtype=torch.uint8), -50, -50, 0.5)


def bodies(*rows) -> Bodies:
    """(x, y, length, width, height, color, kind, state), standing on the ground, facing along x."""
    return Bodies(
        torch.tensor([[x, y, h / 2] for x, y, _, _, h, *_ in rows]).float(),
        torch.tensor([[length, w, h] for _, _, length, w, h, *_ in rows]).float(),
        torch.zeros(len(rows)),
        torch.tensor([row[5] for row in rows]).float(),
        torch.tensor([row[6] for row in rows]),
        torch.full((len(rows),), SEMANTICS.index("vehicle")),
        torch.tensor([float(row[7]) for row in rows]),
    )


def look(*rows, weather=CLEAR):
    return render(ground(), bodies(*rows), INTRINSICS, POSE, HEIGHT, WIDTH, weather)


FAR_AWAY = (500.0, 0.0, 1, 1, 1, (0, 0, 0), PLAIN, 0)


def test_the_ground_lies_where_the_height_says():
    rendering = look(FAR_AWAY)
    # Row 70 is 30 px below the horizon: depth = f·h / 30 = 100 · 1.5 / 30 = 5 m.
    assert rendering.depth[0, 70, 80].item() == pytest.approx(5.0)
    assert rendering.semantic[0, 70, 80] == SEMANTICS.index("road")
    assert rendering.semantic[0, 10, 80] == SEMANTICS.index("sky")
    assert torch.isinf(rendering.depth[0, 10, 80])


def test_a_box_fills_the_pixels_its_corners_project_to():
    # The rear of a car at x = 10 … 14, 2 m wide, 1.6 m high: columns 80 ± 100 · 1 / 10,
    # rows 40 + 100 · (1.5 - 1.6) / 10 = 39 to 40 + 100 · 1.5 / 10 = 55.
    rendering = look((12.0, 0.0, 4.0, 2.0, 1.6, (0.5, 0.5, 0.5), VEHICLE, 0))
    rows, columns = torch.where(rendering.instance[0] == 0)
    # Rays along an edge itself may miss.
    assert (columns.min(), columns.max()) in ((70, 90), (71, 89))
    assert rows.min() in (39, 40)
    assert rows.max() in (54, 55)
    assert rendering.depth[0, 50, 80].item() == pytest.approx(10.0)


def test_what_is_nearer_hides_what_is_behind():
    near, far = (10.0, 0.0, 1, 2, 2, (1, 0, 0), PLAIN, 0), (20.0, 0.0, 1, 2, 2, (0, 1, 0), PLAIN, 0)
    for order in ((near, far), (far, near)):
        rendering = look(*order)
        assert rendering.instance[0, 45, 80] == order.index(near)
        assert rendering.images[0, 45, 80, 0] > rendering.images[0, 45, 80, 1]


def test_a_box_beside_and_behind_the_camera_is_drawn_where_it_is_seen():
    # A long wall from 5 m behind to 15 m ahead, 3 m to the right (negative y).
    rendering = look((5.0, -3.5, 20.0, 1.0, 3.0, (0.2, 0.2, 0.9), PLAIN, 0))
    # At column 160 the ray goes 80/100 to the right: it meets y = -3 at 3.75 m.
    assert rendering.depth[0, 40, 160].item() == pytest.approx(3.75)
    assert (rendering.instance[0, :, :60] == -1).all()


def test_brake_lights_are_seen_from_behind_only_when_they_burn():
    def reddest(braking):
        rendering = look((12.0, 0.0, 4.0, 2.0, 1.6, (0.5, 0.5, 0.5), VEHICLE, braking))
        pixels = rendering.images[0].float()
        return (pixels[..., 0] - pixels[..., 1]).max().item()

    assert reddest(1.0) > reddest(0.0) + 100


@pytest.mark.parametrize(("state", "channel"), [(0.0, 0), (2.0, 1)])
def test_a_signal_shows_its_colour_to_who_comes_towards_it(state, channel):
    rendering = look((15.0, 0.0, 0.4, 0.6, 2.0, (0, 0, 0), SIGNAL, state))
    seen = rendering.images[0][rendering.instance[0] == 0].float()
    brightest = seen[seen.sum(-1).argmax()]
    assert brightest.argmax() == channel
    assert brightest.max() > 200


def test_haze_swallows_what_is_far():
    box = (60.0, 0.0, 1, 6, 6, (0.0, 0.0, 0.0), PLAIN, 0)
    clear = look(box).images[0, 40, 80].float().mean()
    thick = look(box, weather=Weather(sight=20.0)).images[0, 40, 80].float().mean()
    assert thick > clear + 100


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not():
    noisy = [look(FAR_AWAY, weather=Weather(noise=0.05, seed=seed)).images for seed in (1, 1, 2)]
    assert torch.equal(noisy[0], noisy[1])
    assert not torch.equal(noisy[0], noisy[2])


def test_many_boxes_are_all_drawn():
    """More than a tile takes, side by side: none is missing."""
    rows = [(20.0, y, 0.4, 0.4, 2.0, (1, 1, 1), PLAIN, 0) for y in np.arange(-15, 15.1, 0.75)]
    seen = set(look(*rows).instance.unique().tolist()) - {-1}
    assert seen == set(range(len(rows)))
