"""The planner node, and beside it the teacher for debugging if a teacher's bundle is given.

ros2 launch wpt_planner planner.launch.py teacher:=teacher
"""

from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, PythonExpression
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    default_parameters = PathJoinSubstitution([FindPackageShare("wpt_planner"), "config", "planner.yaml"])
    arguments = [
        DeclareLaunchArgument(
            "bundle",
            default_value="student",
            description="folder of a policy bundle, or student, teacher or baseline: those that come along",
        ),
        DeclareLaunchArgument(
            "params_file", default_value=default_parameters, description="parameters of the planner"
        ),
        DeclareLaunchArgument(
            "use_sim_time", default_value="false", description="follow /clock: for bags and simulators"
        ),
        DeclareLaunchArgument("namespace", default_value="", description="namespace of the nodes"),
        DeclareLaunchArgument(
            "teacher", default_value="", description="a teacher's bundle, or teacher, run beside it to debug"
        ),
        DeclareLaunchArgument(
            "autostart", default_value="true", description="configure and activate without a manager"
        ),
        DeclareLaunchArgument(
            "allow_untrained", default_value="false", description="publish plans of random weights"
        ),
        DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error"),
    ]

    def planner(name: str, bundle: LaunchConfiguration, **kwargs: object) -> Node:
        # Launch arguments are strings; ROS parameters have types.
        flags = {
            flag: ParameterValue(LaunchConfiguration(flag), value_type=bool)
            for flag in ("use_sim_time", "autostart", "allow_untrained")
        }
        return Node(
            package="wpt_planner",
            executable="planner",
            name=name,
            namespace=LaunchConfiguration("namespace"),
            parameters=[
                LaunchConfiguration("params_file"),
                {"bundle": ParameterValue(bundle, value_type=str), **flags},
            ],
            arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
            output="screen",
            emulate_tty=True,
            **kwargs,
        )

    teacher_given = IfCondition(PythonExpression(["'", LaunchConfiguration("teacher"), "' != ''"]))
    # The teacher reads the student's topics and publishes under its own name.
    shared_inputs = [
        ("~/input/odometry", "planner/input/odometry"),
        ("~/input/command", "planner/input/command"),
    ]
    for camera in (
        "CAM_FRONT",
        "CAM_FRONT_RIGHT",
        "CAM_BACK_RIGHT",
        "CAM_BACK",
        "CAM_BACK_LEFT",
        "CAM_FRONT_LEFT",
    ):
        for topic in ("image", "camera_info"):
            shared_inputs.append((f"~/input/{camera}/{topic}", f"planner/input/{camera}/{topic}"))
    return LaunchDescription(
        [
            *arguments,
            planner("planner", LaunchConfiguration("bundle")),
            planner(
                "teacher",
                LaunchConfiguration("teacher"),
                condition=teacher_given,
                remappings=shared_inputs,
            ),
        ]
    )
