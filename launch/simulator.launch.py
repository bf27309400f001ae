"""The loop closed through ROS 2: the simulated world and the planner.

ros2 launch wpt_planner simulator.launch.py bundle:=BUNDLE routes:=ParkedObstacle-0
"""

from launch.actions import DeclareLaunchArgument, EmitEvent, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    share = FindPackageShare("wpt_planner")
    arguments = [
        DeclareLaunchArgument(
            "bundle",
            default_value="student",
            description="folder of a policy bundle, or student, teacher or baseline: those that come along",
        ),
        DeclareLaunchArgument(
            "routes", default_value="bench44", description="bench220, bench44, SET:COUNT or names"
        ),
        DeclareLaunchArgument("json", default_value="", description="file for the figures"),
        DeclareLaunchArgument("namespace", default_value="", description="namespace of all nodes"),
        DeclareLaunchArgument(
            "rig_file",
            default_value=PathJoinSubstitution([share, "config", "rig_simulated.yaml"]),
            description="the simulated cameras",
        ),
        DeclareLaunchArgument(
            "params_file",
            default_value=PathJoinSubstitution([share, "config", "planner.yaml"]),
            description="parameters of the planner",
        ),
        DeclareLaunchArgument(
            "allow_untrained", default_value="false", description="publish plans of random weights"
        ),
    ]

    def text(name: str) -> ParameterValue:
        return ParameterValue(LaunchConfiguration(name), value_type=str)

    planner = Node(
        package="wpt_planner",
        executable="planner",
        name="planner",
        namespace=LaunchConfiguration("namespace"),
        output="screen",
        parameters=[
            LaunchConfiguration("params_file"),
            {
                "bundle": text("bundle"),
                "rig_file": text("rig_file"),
                "extrinsics": "file",
                "compressed": False,
                "use_sim_time": True,
                "allow_untrained": ParameterValue(LaunchConfiguration("allow_untrained"), value_type=bool),
            },
        ],
    )
    simulator = Node(
        package="wpt_planner",
        executable="simulator",
        namespace=LaunchConfiguration("namespace"),
        output="screen",
        parameters=[{"routes": text("routes"), "json": text("json"), "rig_file": text("rig_file")}],
    )
    over = RegisterEventHandler(
        OnProcessExit(
            target_action=simulator, on_exit=[EmitEvent(event=Shutdown(reason="all routes driven"))]
        )
    )
    return LaunchDescription([*arguments, simulator, planner, over])
