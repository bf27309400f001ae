"""Data, models, training, metrics, simulator and export of WPT policies. Never imports rclpy."""
