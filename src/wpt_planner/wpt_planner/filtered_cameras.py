"""The alternative synchroniser: message_filters, where it is installed.

It yields nothing while one camera is dead; the default, camera_rig, does not have that fault.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image

from wpt_planner.parameters import PlannerParameters


def subscribe_filtered(
    node: Node,
    parameters: PlannerParameters,
    qos: QoSProfile,
    on_image: Callable[[int, Any], None],
) -> list[Any]:
    """Hands on complete sets only. Raises ImportError with what to do if it is not installed."""
    try:
        import message_filters
    except ImportError:
        raise ImportError(
            "synchroniser: message_filters is not installed: install ros-<distro>-message-filters "
            "or set synchroniser: newest"
        ) from None
    kind = CompressedImage if parameters.compressed else Image
    filters = [
        message_filters.Subscriber(node, kind, f"~/input/{name}/image", qos_profile=qos)
        for name in parameters.cameras
    ]
    synchroniser = message_filters.ApproximateTimeSynchronizer(filters, 10, parameters.tolerance)

    def on_set(*images: Any) -> None:
        # The anchor last: it opens the set, and all others are then at hand.
        anchor = parameters.cameras.index(parameters.anchor_camera)
        for index, image in enumerate(images):
            if index != anchor:
                on_image(index, image)
        on_image(anchor, images[anchor])

    synchroniser.registerCallback(on_set)
    # The filters keep the synchroniser alive, the caller keeps them.
    return [subscriber.sub for subscriber in filters]
