"""The occupancy world model (Eq. 4-7): past BEVs and the ego's actions to future world states.

After Drive-OccWorld (Yang et al. 2024). A state is the BEV with neighbouring cells merged into one
token; all of a rollout's states lie in base_link at the reference time, so that a road user that
stands still stays where it is. The ego's own way comes in as the action.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wpt_planner.plan_guard import PLAN_STEPS
from wpt_training.models.attention import Attention, feed_forward
from wpt_training.models.bev_encoder import sample_map
from wpt_training.models.config import StudentConfig, WorldModelConfig, finer
from wpt_training.models.occupancy_head import OccupancyHead, WorldView
from wpt_training.models.perception import Perception
from wpt_training.models.planner import Planner
from wpt_training.models.present_head import Present, PresentHead


class WorldDecoderLayer(nn.Module):
    """Eq. 6: self-attention, temporal and action cross-attention, feed-forward."""

    def __init__(self, channels: int, config: WorldModelConfig) -> None:
        super().__init__()
        self.self_attention = Attention(channels, config.heads)
        self.temporal = Attention(channels, config.heads)
        self.action = Attention(channels, config.heads)
        self.feed_forward = feed_forward(channels, config.feed_forward)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(4))

    def forward(self, tokens: Tensor, memory: Tensor, actions: Tensor) -> Tensor:
        """tokens (B, S, C), memory (B, queue·S, C), actions (B, P, C) -> (B, S, C)."""
        tokens = self.norms[0](tokens + self.self_attention(tokens, tokens))
        tokens = self.norms[1](tokens + self.temporal(tokens, memory))
        tokens = self.norms[2](tokens + self.action(tokens, actions))
        return self.norms[3](tokens + self.feed_forward(tokens))


class WorldModel(nn.Module):
    """Perception, memory queue, autoregressive decoder, and heads for occupancy, flow and drivable area."""

    def __init__(self, student: StudentConfig, config: WorldModelConfig) -> None:
        super().__init__()
        grid, channels = student.bev, config.channels
        self.config, self.grid = config, grid
        self.label_grid = finer(grid, config.upsample)
        self.perception = Perception(student)
        self.tokens = (grid.cells_x // config.merge, grid.cells_y // config.merge)
        count = self.tokens[0] * self.tokens[1]
        self.merge = nn.Conv2d(grid.channels, channels, config.merge, config.merge)
        self.state_norm = nn.LayerNorm(channels)
        self.position = nn.Parameter(torch.randn(count, channels) * 0.02)
        self.age = nn.Parameter(torch.randn(config.queue, 1, channels) * 0.02)
        self.ahead = nn.Embedding(PLAN_STEPS, channels)
        self.action = nn.Sequential(nn.Linear(4, channels), nn.ReLU(), nn.Linear(channels, channels))
        self.action_step = nn.Embedding(PLAN_STEPS, channels)
        self.layers = nn.ModuleList(WorldDecoderLayer(channels, config) for _ in range(config.layers))
        self.head = OccupancyHead(channels, self.tokens, config.merge, config)
        self.present = (
            PresentHead(grid, config.queue, config.present, config.upsample) if config.present else None
        )
        one = student.planner.model_copy(update={"queries": 1})
        self.pretext = Planner(grid, len(student.commands), one) if config.pretext else None

    def state(self, bev: Tensor) -> Tensor:
        """BEV (B, X·Y, C) to a world state (B, S, C')."""
        batch = bev.shape[0]
        image = bev.transpose(1, 2).reshape(batch, -1, self.grid.cells_x, self.grid.cells_y)
        return self.state_norm(self.merge(image).flatten(2).transpose(1, 2))

    def remember(self, bev: Tensor, queue: Tensor, ego_motion: Tensor, queue_valid: Tensor) -> Tensor:
        """Eq. 4: the newest BEV (B, X·Y, C) before those of `queue` (B, X·Y, queue·C), which move with
        the ego; without a past the newest stands in for it. Returns (B, X·Y, queue·C)."""
        kept = queue[..., : -self.grid.channels]
        if not kept.shape[-1]:
            return bev
        moved = self.perception.bev_encoder.align(kept, ego_motion)
        repeated = bev.repeat(1, 1, self.config.queue - 1)
        past = torch.where(queue_valid[:, None, None] > 0.5, moved, repeated)
        return torch.cat([bev, past], dim=-1)

    def states(self, queue: Tensor) -> Tensor:
        """`remember`'s queue to world states (B, queue, S, C'), newest first."""
        return torch.stack([self.state(bev) for bev in queue.chunk(self.config.queue, dim=-1)], dim=1)

    def rollout(self, states: Tensor, actions: Tensor) -> Tensor:
        """Eq. 5-6, autoregressive: states (B, queue, S, C') newest first, the ego's way `actions`
        (B, 6, 2) m in base_link -> future states (B, F, S, C') at 0.5 s steps."""
        action = self._actions(actions)
        memory = [states[:, index] for index in range(self.config.queue)]
        future = []
        for step in range(self.config.future):
            tokens = memory[0] + self.position + self.ahead.weight[step]
            remembered = torch.cat(
                [past + self.position + self.age[age] for age, past in enumerate(memory)], dim=1
            )
            for layer in self.layers:
                tokens = layer(tokens, remembered, action)
            # What stays as it is need not be said again.
            following = self.state_norm(memory[0] + tokens)
            future.append(following)
            memory = [following, *memory[:-1]]
        return torch.stack(future, dim=1)

    def view(self, states: Tensor) -> WorldView:
        """Eq. 7: occupancy, flow and drivable area of states (B, F, S, C'), in WorldViews of B·F."""
        return self.head(states.flatten(0, 1))

    def now(self, queue: Tensor) -> Present:
        """What is occupied now and how it moves, of `remember`'s queue (B, X·Y, queue·C)."""
        if self.present is not None:
            return self.present(queue).present()
        view = self.head(self.state(queue[..., : self.grid.channels]))
        return Present((1.0 - view.occupancy.float().softmax(1)[:, 0]).amax(1), view.flow.float())

    def sample(self, states: Tensor, points: Tensor) -> Tensor:
        """States (B, F, S, C') at points (B, F, A, 2) m -> (B, F, A, C'), bilinear; 0 outside."""
        batch, frames = states.shape[:2]
        maps = states.flatten(0, 1).transpose(1, 2).reshape(batch * frames, -1, *self.tokens)
        return sample_map(maps, points.flatten(0, 1), self.grid).unflatten(0, (batch, frames))

    def _actions(self, way: Tensor) -> Tensor:
        """(B, 6, 2) -> action tokens (B, 6, C'): where the ego is at each step, and how it got there."""
        steps = torch.diff(way, dim=1, prepend=torch.zeros_like(way[:, :1]))
        scaled = torch.cat([way / 20.0, steps / 5.0], dim=-1)
        return self.action(scaled) + self.action_step.weight
