"""The message types of our bags: ROS' own and wpt_msgs, without a ROS installation."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from wpt_training.drives.frame import DriveError

IMAGE_TOPIC = "/camera/{name}/image/compressed"
CAMERA_INFO_TOPIC = "/camera/{name}/camera_info"
ODOMETRY_TOPIC = "/odometry"
COMMAND_TOPIC = "/command"
EXPERT_TOPIC = "/expert/trajectory"
AGENTS_TOPIC = "/agents"
MAP_TOPIC = "/map"
TF_TOPIC, TF_STATIC_TOPIC = "/tf", "/tf_static"


@cache
def typestore() -> Typestore:
    """Jazzy's types, the same in Kilted, with wpt_msgs added."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types = {}
    for path in sorted(_message_folder().glob("*.msg")):
        types.update(get_types_from_msg(path.read_text(), f"wpt_msgs/msg/{path.stem}"))
    store.register(types)
    return store


def _message_folder() -> Path:
    try:
        from ament_index_python.packages import get_package_share_directory

        return Path(get_package_share_directory("wpt_msgs")) / "msg"
    except (ImportError, LookupError, OSError):
        # No ROS, wpt_msgs not built, or AMENT_PREFIX_PATH not set: the checkout has the files.
        pass
    in_checkout = Path(__file__).resolve().parents[3] / "wpt_msgs" / "msg"
    if in_checkout.is_dir():
        return in_checkout
    raise DriveError("wpt_msgs is not installed: build it with colcon, or run from the checkout")


# MapGeometry's attributes: the marker namespace each is stored under, and its colour in RViz.
MAP_LAYERS = {
    "drivable": ("drivable_area", (0.5, 0.5, 0.5)),
    "holes": ("drivable_area_hole", (0.3, 0.3, 0.3)),
    "dividers": ("lane_divider", (1.0, 1.0, 1.0)),
    "center_lines": ("center_line", (0.3, 0.6, 1.0)),
    "crossings": ("ped_crossing", (1.0, 0.6, 0.3)),
    "walkways": ("walkway", (0.6, 0.5, 0.4)),
    "stop_lines": ("stop_line", (1.0, 0.2, 0.2)),
}
