"""A policy bundle as a callable on one device: load, golden check, warm-up, recurrent state.

One thread may use a PolicyRuntime, the one that made it: CUDA graphs belong to a thread.
"""

from __future__ import annotations

import logging
import time
import zipfile
from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
import torch.fx
from numpy.typing import NDArray
from torch.export.passes import move_to_device_pass

from wpt_planner.geometry import Array, inverse, yaw_of
from wpt_planner.policy_bundle import (
    EGO_MOTION,
    GOLDEN_FILE,
    POLICY_FILE,
    POLICY_INPUTS,
    BundleError,
    PolicyBundle,
)

logger = logging.getLogger(__name__)

# Columns of Candidates.rewards, as wpt_msgs/RewardBreakdown has them.
REWARDS = (
    "imitation",
    "no_collision",
    "drivable_area",
    "ego_progress",
    "time_to_collision",
    "comfort",
    "final",
)

WARM_UP_CALLS = 3  # the second call is slow by design (profiling executor, allocator)
GOLDEN_TOLERANCE = {"cpu": 0.01, "cuda": 0.05}  # m; uint8 resizing rounds on the CPU only


@dataclass(frozen=True)
class _Past:
    """A pass's recurrent state, when, where and at which speed it was made, and how many passes led
    to it."""

    stamp: int
    map_from_ego: Array
    speed: float
    bev: torch.Tensor
    passes: int


@dataclass(frozen=True)
class Candidates:
    """`trajectories` (M, 6, 2) m as the plan; `rewards` (M, 7) in the order of REWARDS."""

    trajectories: Array
    rewards: Array


@dataclass(frozen=True)
class PolicyOutput:
    """`trajectory` (6, 2) m in base_link at the reference time; `seconds` the call took. `candidates`
    is what a teacher chose from, None if the policy tells none."""

    trajectory: Array
    seconds: float
    candidates: Candidates | None = None


class PolicyRuntime:
    """Owns the input buffers: fill `images`, then call `run`.

    Raises BundleError if the program cannot be loaded or does not reproduce its golden output.
    """

    def __init__(self, bundle: PolicyBundle, device: str = "cpu", threads: int = 0) -> None:
        if threads:
            torch.set_num_threads(threads)
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise BundleError(f"device '{device}' asked for, but torch sees no CUDA device: use cpu")
        self.bundle = bundle
        self.device = torch.device(device)
        self._pasts: deque[_Past] = deque()
        self._inputs: dict[str, torch.Tensor] = {}
        self._host: dict[str, torch.Tensor] = {}
        self._graph: torch.cuda.CUDAGraph | None = None
        self._outputs: tuple[torch.Tensor, ...] | None = None
        self._module = self._load()
        self._check_golden()

    @property
    def passes(self) -> int:
        """How many passes, each about one training interval after the other, led to the newest state."""
        return self._pasts[-1].passes if self._pasts else 0

    @property
    def is_warm(self) -> bool:
        """Whether the recurrent state holds as many passes as the policy was trained with."""
        return self.passes >= self.bundle.manifest.history

    def prepare(self, height: int, width: int) -> None:
        """Allocates buffers for images of this size and warms the program up on them."""
        self._allocate(height, width)
        for _ in range(WARM_UP_CALLS):
            self._call()
        if self.device.type == "cuda":
            self._capture()
        self.reset()

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width) the buffers are made for, None before `prepare`."""
        if "images" not in self._host:
            return None
        return self._host["images"].shape[2], self._host["images"].shape[3]

    @property
    def images(self) -> NDArray[np.uint8]:
        """The input buffer (N, H, W, 3) uint8 RGB; decode straight into it."""
        return self._host["images"].numpy()[0]

    def reset(self) -> None:
        """Clears the recurrent state."""
        self._pasts.clear()
        if "bev" in self._inputs:
            self._inputs["bev"].zero_()

    def run(
        self,
        stamp: int,
        map_from_ego: Array,
        speed: float,
        yaw_rate: float,
        camera_valid: NDArray[np.bool_],
        intrinsics: Array,
        ego_from_camera: Array,
        command: int,
    ) -> PolicyOutput:
        """One pass on what `images` holds.

        `stamp` ns, `map_from_ego` (4, 4), `speed` m/s, `yaw_rate` rad/s at the reference time,
        `camera_valid` (N,), `intrinsics` (N, 3, 3), `ego_from_camera` (N, 4, 4) into base_link then.
        """
        started = time.perf_counter()
        host = self._host
        host["camera_valid"].numpy()[0] = camera_valid
        host["intrinsics"].numpy()[0] = intrinsics
        host["ego_from_camera"].numpy()[0] = ego_from_camera
        host["command"][0] = command
        motion = host["ego_motion"].numpy()[0]
        past = self._past(stamp)
        motion[4:] = speed, speed, yaw_rate
        if past is None:
            motion[:4] = 0.0
            host["bev_valid"][0] = 0.0
        else:
            past_from_ego = inverse(past.map_from_ego) @ map_from_ego
            motion[:2] = past_from_ego[:2, 3]
            motion[2] = yaw_of(past_from_ego)
            motion[3] = (stamp - past.stamp) / 1e9
            motion[4] = past.speed
            host["bev_valid"][0] = 1.0
            self._inputs["bev"].copy_(past.bev)
        trajectory, next_bev, *more = self._call()
        plan = trajectory[0].to("cpu", torch.float64).numpy()
        if np.all(np.isfinite(plan)):
            # A graph's output is overwritten by the next pass.
            kept = next_bev.clone() if self._graph is not None else next_bev
            passes = 1 if past is None else past.passes + 1
            self._pasts.append(_Past(stamp, map_from_ego, speed, kept, passes))
        else:
            # A state that gave NaN once would give it for ever.
            self.reset()
        candidates = None
        if len(more) == 2:
            trajectories, rewards = (tensor[0].to("cpu", torch.float64).numpy() for tensor in more)
            candidates = Candidates(trajectories, rewards)
        return PolicyOutput(plan, time.perf_counter() - started, candidates)

    def _past(self, stamp: int) -> _Past | None:
        """The pass nearest to one training interval before `stamp`: a policy that learned at 2 Hz
        must not be shown its state of 0.1 s ago. Older ones are forgotten."""
        wanted = stamp - round(self.bundle.manifest.interval * 1e9)
        while len(self._pasts) > 1 and abs(self._pasts[1].stamp - wanted) <= abs(
            self._pasts[0].stamp - wanted
        ):
            self._pasts.popleft()
        return self._pasts[0] if self._pasts else None

    def _load(self) -> torch.nn.Module:
        path = self.bundle.folder / POLICY_FILE
        try:
            program = torch.export.load(path)
        except (RuntimeError, zipfile.BadZipFile, ValueError, KeyError) as error:
            raise BundleError(f"{path}: torch cannot load it ({str(error).splitlines()[0]})") from error
        if self.device.type == "cpu":
            return program.module()
        module = move_to_device_pass(program, self.device).module()
        assert isinstance(module, torch.fx.GraphModule)
        _resize_in_float(module)
        return module

    def _allocate(self, height: int, width: int) -> None:
        manifest = self.bundle.manifest
        cameras, bev = len(manifest.cameras), manifest.bev
        shapes: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
            "images": ((1, cameras, height, width, 3), torch.uint8),
            "camera_valid": ((1, cameras), torch.float32),
            "intrinsics": ((1, cameras, 3, 3), torch.float32),
            "ego_from_camera": ((1, cameras, 4, 4), torch.float32),
            "ego_motion": ((1, EGO_MOTION), torch.float32),
            "command": ((1,), torch.int64),
            "bev": ((1, bev.cells_x * bev.cells_y, bev.channels), torch.float32),
            "bev_valid": ((1,), torch.float32),
        }
        self._graph, self._outputs = None, None
        on_host = self.device.type == "cpu"
        self._host = {
            name: torch.zeros(shape, dtype=dtype, pin_memory=not on_host)
            for name, (shape, dtype) in shapes.items()
        }
        self._host["intrinsics"][:] = torch.eye(3)
        self._host["ego_from_camera"][:] = torch.eye(4)
        self._inputs = (
            dict(self._host)
            if on_host
            else {name: tensor.to(self.device) for name, tensor in self._host.items()}
        )

    def _call(self) -> tuple[torch.Tensor, ...]:
        if self.device.type != "cpu":
            for name, tensor in self._host.items():
                if name != "bev":
                    self._inputs[name].copy_(tensor, non_blocking=True)
        if self._graph is not None:
            self._graph.replay()
            assert self._outputs is not None
            return self._outputs
        return self._forward()

    def _forward(self) -> tuple[torch.Tensor, ...]:
        with torch.inference_mode():
            return tuple(self._module(*(self._inputs[name] for name in POLICY_INPUTS)))

    def _capture(self) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            torch.cuda.synchronize()
            with torch.cuda.graph(graph):
                outputs = self._forward()
        except RuntimeError as error:
            logger.warning("CUDA graph capture failed (%s); the policy runs eagerly", error)
            return
        self._graph, self._outputs = graph, outputs

    def _check_golden(self) -> None:
        path = self.bundle.folder / GOLDEN_FILE
        try:
            with np.load(path) as stored:
                golden = {name: stored[name] for name in (*POLICY_INPUTS, "trajectory")}
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise BundleError(f"{path}: unreadable ({error}); export the bundle again") from error
        with torch.inference_mode():
            inputs = [torch.from_numpy(golden[name]).to(self.device) for name in POLICY_INPUTS]
            try:
                trajectory = self._module(*inputs)[0]
            except RuntimeError as error:
                cause = str(error).splitlines()[0]
                raise BundleError(f"{path}: the policy does not run on it: {cause}") from error
        deviation = float(np.abs(trajectory.cpu().numpy() - golden["trajectory"]).max())
        if not deviation <= GOLDEN_TOLERANCE[self.device.type]:
            raise BundleError(
                f"{path}: on {self.device} the policy's plan is {deviation:.3f} m off the golden "
                "output: another torch version or a damaged program; export the bundle again"
            )


def _resize_in_float(module: torch.fx.GraphModule) -> None:
    """uint8 resizing exists on the CPU only: elsewhere convert before it."""
    graph = module.graph
    for node in list(graph.nodes):
        if node.op == "call_function" and "upsample_bilinear2d" in str(node.target):
            with graph.inserting_before(node):
                source = graph.call_function(torch.ops.aten.to.dtype, (node.args[0], torch.float32))
            node.replace_input_with(node.args[0], source)
    module.recompile()
