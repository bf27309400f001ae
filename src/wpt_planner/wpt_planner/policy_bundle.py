"""The policy bundle: a folder with everything the vehicle needs, and the checks it must pass.

manifest.json   what the policy is (Manifest), SHA-256 of every other file
policy.pt2      torch.export program, preprocessing inside
golden.npz      one input and the trajectory it must give
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

SCHEMA_VERSION = 1
MANIFEST_FILE = "manifest.json"
POLICY_FILE = "policy.pt2"
GOLDEN_FILE = "golden.npz"

# Names and order of the program's inputs: the contract between export and runtime.
POLICY_INPUTS = (
    "images",  # (1, N, H, W, 3) uint8 RGB, as the cameras gave them
    "camera_valid",  # (1, N) float32, 0: ignore this camera
    "intrinsics",  # (1, N, 3, 3) float32, pixels of the images
    "ego_from_camera",  # (1, N, 4, 4) float32, base_link at the reference time
    # (1, 7) float32: x, y (m), yaw (rad) in the last pass's base_link; seconds since; speed then and
    # now (m/s); yaw rate now (rad/s)
    "ego_motion",
    "command",  # (1,) int64, index into the manifest's commands
    "bev",  # (1, X·Y, C) float32, the last pass's output
    "bev_valid",  # (1,) float32, 0: the recurrent state was cleared
)


EGO_MOTION = 7  # values of the ego's motion


class BundleError(RuntimeError):
    """A bundle that must not be run: which file, what is wrong, what to do."""


class BevGrid(BaseModel):
    """The recurrent state's shape: X x Y cells forward and left, C channels."""

    model_config = ConfigDict(extra="forbid")
    cells_x: int = Field(gt=0)
    cells_y: int = Field(gt=0)
    channels: int = Field(gt=0)
    resolution: float = Field(gt=0, description="m per cell")
    x_min: float = Field(description="m, forward edge behind the ego")
    y_min: float = Field(description="m, right edge")


class Manifest(BaseModel):
    """manifest.json; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")
    schema_version: int
    role: Literal["student", "teacher", "baseline"]
    cameras: list[str] = Field(min_length=1)
    commands: list[str]
    image_height: int = Field(description="rows the program resizes to; any size may come in")
    image_width: int
    history: int = Field(ge=1, description="passes until the recurrent state is full")
    interval: float = Field(gt=0, description="s between passes in training")
    horizon: list[float]
    bev: BevGrid
    trained: bool
    training: dict[str, Any] = Field(description="config, data, git revision, metrics, or why none")
    files: dict[str, str] = Field(description="file name -> SHA-256")


@dataclass(frozen=True)
class PolicyBundle:
    """A verified bundle. `identity` is the SHA-256 of its manifest, which holds all other hashes."""

    folder: Path
    manifest: Manifest
    identity: str

    @property
    def short_identity(self) -> str:
        return self.identity[:12]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def open_bundle(folder: Path, expected_cameras: int | None = None) -> PolicyBundle:
    """Reads the manifest and checks every file's hash; runs nothing.

    Raises BundleError if the folder or a file is missing, truncated or changed, if the schema is
    newer than this code, or if the policy wants another number of cameras.
    """
    path = folder / MANIFEST_FILE
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such bundle folder; make one with `wpt export` or set `bundle`")
    if not path.is_file():
        raise BundleError(f"{path}: missing; this folder is no policy bundle")
    text = path.read_bytes()
    manifest = _parse(path, text)
    for name in (POLICY_FILE, GOLDEN_FILE):
        if name not in manifest.files:
            raise BundleError(f"{path}: files: {name} is not listed; export the bundle again")
    for name, expected in manifest.files.items():
        file = folder / name
        if not file.is_file():
            raise BundleError(f"{file}: missing; copy the whole bundle again")
        found = file_sha256(file)
        if found != expected:
            raise BundleError(
                f"{file}: SHA-256 is {found[:12]}…, the manifest says {expected[:12]}…: "
                "the file is truncated or changed; copy the bundle again"
            )
    if expected_cameras is not None and len(manifest.cameras) != expected_cameras:
        raise BundleError(
            f"{folder}: the policy was made for {len(manifest.cameras)} cameras "
            f"({', '.join(manifest.cameras)}), {expected_cameras} are configured: fix `cameras`"
        )
    return PolicyBundle(folder, manifest, hashlib.sha256(text).hexdigest())


def _parse(path: Path, text: bytes) -> Manifest:
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: not JSON ({error}): the file is truncated") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise BundleError(
            f"{path}: schema version {version}, this planner reads up to {SCHEMA_VERSION}: "
            "update wpt_planner or export with an older wpt_training"
        )
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{path}: {where}: {first['msg']}") from None
