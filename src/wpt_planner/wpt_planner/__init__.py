"""ROS 2 nodes around a WPT policy bundle, over a core that knows no ROS."""
