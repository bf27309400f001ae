import pytest
import torch
from torch.nn import functional as F

from wpt_planner.plan_guard import PLAN_TIMES
from wpt_training.export import golden_inputs
from wpt_training.models.attention import attend
from wpt_training.models.bev_encoder import BevEncoder, MotionFusion, bev_cell_centers, project_pillars
from wpt_training.models.config import ConfigError, finer, load_training_config
from wpt_training.models.image_encoder import ImageEncoder
from wpt_training.models.planner import PlanHead, ego_status
from wpt_training.models.preprocessing import ImagePreprocessing
from wpt_training.models.sampling import sample_heads
from wpt_training.models.student import Student

from conftest import ROOT, SMALL


def test_sampling_equals_grid_sample_and_a_weighted_sum():
    torch.manual_seed(0)
    batch, heads, queries, points, size, channels = 2, 3, 5, 4, (6, 7), 12
    values = torch.randn(batch, size[0] * size[1], channels)
    locations = torch.rand(batch, queries, heads, points, 2) * 2.6 - 1.3
    weights = torch.rand(batch, queries, heads, points)
    expected = torch.zeros(batch, queries, channels)
    width = channels // heads
    for head in range(heads):
        part = values[..., head * width : (head + 1) * width].transpose(1, 2)
        sampled = F.grid_sample(part.reshape(batch, width, *size), locations[:, :, head], align_corners=False)
        weighted = (sampled * weights[:, None, :, head]).sum(-1)
        expected[..., head * width : (head + 1) * width] = weighted.transpose(1, 2)
    assert torch.allclose(sample_heads(values, locations, weights, size), expected, atol=1e-5)


def test_cells_are_centred_as_the_design_says():
    centers = bev_cell_centers(SMALL.bev)
    # Cell (i, j) is row i·Y + j: x = -16 + (1 + ½)·8, y = -32 + (2 + ½)·8.
    assert centers[1 * 8 + 2].tolist() == [-4.0, -12.0]


def test_a_point_ahead_projects_to_the_middle_of_a_forward_camera():
    k = torch.tensor([[50.0, 0, 31.5], [0, 50, 15.5], [0, 0, 1]])[None, None]
    pose = torch.tensor([[0, 0, 1.0, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])[None, None]
    points = torch.tensor([[10.0, 0, 1.5], [10.0, 2.0, 1.5], [-10.0, 0, 1.5]])
    where, visible = project_pillars(points, k, pose, 32, 64)
    assert where[0, 0, 0].tolist() == pytest.approx([0.0, 0.0])
    # 2 m to the left at 10 m: 10 pixels left of the middle, 10/32 of the half width.
    assert where[0, 0, 1, 0].item() == pytest.approx(-10 / 32)
    assert visible[0, 0].tolist() == [True, True, False]


def test_the_previous_bev_moves_with_the_ego():
    encoder = BevEncoder(SMALL.bev, SMALL.encoder)
    bev = torch.zeros(1, 64, 16)
    bev[0, 4 * 8 + 3] = 1.0
    # The ego drove one cell (8 m) forward: what was in row 4 is now in row 3.
    moved = encoder.align(bev, torch.tensor([[8.0, 0.0, 0.0, 0.5, 16.0, 16.0, 0.0]]))
    assert moved[0, 3 * 8 + 3].mean().item() == pytest.approx(1.0, abs=1e-5)
    assert moved.sum().item() == pytest.approx(16.0, abs=1e-3)


def test_motion_compares_a_cell_with_those_up_to_three_around_it_before():
    torch.manual_seed(0)
    motion, queries, previous = MotionFusion(16, 8), torch.randn(1, 64, 16), torch.randn(1, 64, 16)
    before = motion(queries, previous, SMALL.bev)
    changed = previous.clone()
    changed[0, 4 * 8 + 4] += 1.0  # of 8 x 8 cells
    reached = (motion(queries, changed, SMALL.bev) - before).abs().amax(-1).view(8, 8) > 1e-6
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[1:8, 1:8] = True
    assert reached.any()
    assert not (reached & ~inside).any()
    assert reached[[1, 4, 7], [4, 4, 4]].all()


def test_an_encoder_compares_with_before_only_if_it_is_told_to():
    with_motion = SMALL.encoder.model_copy(update={"motion": 8})
    assert BevEncoder(SMALL.bev, with_motion).layers[0].motion is not None
    assert BevEncoder(SMALL.bev, SMALL.encoder).layers[0].motion is None


def test_an_egos_status_is_its_speed_acceleration_and_yaw_rate():
    # From 4 to 5 m/s in 0.5 s: 2 m/s². Without a past there is no acceleration.
    motion = torch.tensor([[2.2, 0.1, 0.05, 0.5, 4.0, 5.0, 0.1], [0.0, 0, 0, 0, 5.0, 5.0, 0.1]])
    status = ego_status(motion, torch.tensor([1.0, 0.0]))
    assert status.tolist() == [pytest.approx([5.0, 2.0, 0.1, 1.0]), pytest.approx([5.0, 0.0, 0.1, 0.0])]


def test_an_untrained_head_drives_straight_on_as_fast_as_now():
    head, times = PlanHead(16), torch.tensor(PLAN_TIMES, dtype=torch.float32)
    plan = head(torch.randn(1, 2, 16), torch.tensor([[8.0, 0.0, 0.3, 1.0]]))
    assert torch.equal(plan[0, 1, :, 0], 8.0 * times)
    assert plan[..., 1].abs().max() == 0


def test_intrinsics_follow_the_resize():
    k = torch.tensor([[100.0, 0, 63.5], [0, 100, 31.5], [0, 0, 1]])[None, None]
    images = torch.zeros(1, 1, 64, 128, 3, dtype=torch.uint8)
    pixels, resized = ImagePreprocessing(32, 64)(images, k)
    assert pixels.shape == (1, 3, 32, 64)
    # The middle stays the middle: (63.5 + ½)/2 - ½.
    assert torch.allclose(resized[0, 0], torch.tensor([[50.0, 0, 31.5], [0, 50, 15.5], [0, 0, 1]]))


def test_every_weight_of_the_student_gets_a_gradient():
    torch.manual_seed(0)
    student = Student(SMALL)
    torch.nn.init.normal_(student.plan_head.mlp[-1].weight, std=0.1)
    inputs = golden_inputs(SMALL)
    unknown = golden_inputs(SMALL)
    unknown[-1] = torch.zeros(1)
    outputs = student.plan(*inputs), student.plan(*unknown)
    sum(output.trajectory.sum() + output.drafts.sum() for output in outputs).backward()
    missing = [n for n, p in student.named_parameters() if p.grad is None]
    # One plan query attends to the BEV; unused are only the neck's coarser smoothing convolutions.
    assert missing == []


def test_the_shipped_sizes_load_and_unknown_keys_are_refused(tmp_path):
    assert load_training_config(ROOT / "config" / "training" / "tiny.yaml").student.image_width == 160
    bad = tmp_path / "bad.yaml"
    bad.write_text("student: {wheels: 4}")
    with pytest.raises(ConfigError, match=r"bad.yaml: student\.wheels"):
        load_training_config(bad)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("world_recipe: {slowed: 0.1}", "learns what was driven"),
        ("{distillation: {begin: true}, student_recipe: {perception: fresh}}", "perception world or frozen"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, content, said):
    bad = tmp_path / "bad.yaml"
    bad.write_text(content)
    with pytest.raises(ConfigError, match=said):
        load_training_config(bad)


def test_attention_in_bfloat16_is_the_same_attention():
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, count, 8) for count in (4, 6, 6))
    expected = F.scaled_dot_product_attention(query, key, value)
    found = attend(query.bfloat16(), key.bfloat16(), value.bfloat16())
    torch.testing.assert_close(found.float(), expected, atol=0.03, rtol=0.03)


def test_levels_beyond_the_backbones_stages_are_half_as_large():
    config = load_training_config("tiny").student.backbone.model_copy(update={"levels": 3})
    maps = ImageEncoder(config, 16)(torch.zeros(1, 3, 64, 96))
    assert [tuple(level.shape[-2:]) for level in maps] == [(8, 12), (4, 6), (2, 3)]


def test_spatial_attention_looks_at_every_level():
    config = SMALL.model_copy(update={"backbone": SMALL.backbone.model_copy(update={"levels": 2})})
    student = Student(config).eval()
    inputs = golden_inputs(config)
    seen = student.perception.look(inputs[0], inputs[2])
    assert len(seen.maps) == 2
    blind = seen._replace(maps=(seen.maps[0], torch.zeros_like(seen.maps[1])))
    rest = (inputs[1], inputs[3], inputs[4], *inputs[6:])
    both, one = (student.perception.step(features, *rest) for features in (seen, blind))
    assert not torch.allclose(both, one)


def test_recomputed_activations_give_the_same_gradients():
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        student = Student(SMALL.model_copy(update={"recompute": recompute})).eval()
        student(*golden_inputs(SMALL))[1].square().sum().backward()
        gradients.append([p.grad for p in student.perception.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 10
    for kept, made in zip(*gradients, strict=True):
        torch.testing.assert_close(made, kept, atol=1e-3, rtol=1e-3)


def test_the_published_label_cells_are_those_of_drive_occworld():
    # metrics.md §5: 200 x 200 cells over 102.4 m, occupancy 512 x 512 x 40 at 0.2 m.
    grid = load_training_config("paper").labels()
    assert (grid.bev.cells_x, grid.bev.cells_y, grid.cells_z) == (512, 512, 40)
    assert grid.bev.resolution == pytest.approx(0.2)
    with pytest.raises(ConfigError, match="no whole cells"):
        finer(grid.bev, 1.3)
