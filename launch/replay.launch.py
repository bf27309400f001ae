"""A recorded drive through the planner, scored: replay, planner and evaluator.

ros2 launch wpt_planner replay.launch.py bundle:=BUNDLE source:=/data/nuscenes:scene-0103
"""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
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
            "source", default_value="simulated", description="nuScenes DIR[:SCENE], a bag, simulated[:SEED]"
        ),
        DeclareLaunchArgument("rate", default_value="1.0", description="times real time"),
        DeclareLaunchArgument(
            "plan_timeout",
            default_value="0.0",
            description="s a set waits for the plan of the one before: the same plans on any machine",
        ),
        DeclareLaunchArgument("loop", default_value="false", description="again when over"),
        DeclareLaunchArgument(
            "faults", default_value="['']", description="e.g. ['CAM_BACK:drop@2-5'], see fault_injection.py"
        ),
        DeclareLaunchArgument("json", default_value="", description="file for the evaluator's figures"),
        DeclareLaunchArgument("namespace", default_value="", description="namespace of all nodes"),
        DeclareLaunchArgument(
            "params_file",
            default_value=PathJoinSubstitution([share, "config", "planner.yaml"]),
            description="parameters of the planner",
        ),
        DeclareLaunchArgument(
            "allow_untrained", default_value="false", description="publish plans of random weights"
        ),
    ]
    planner = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(PathJoinSubstitution([share, "launch", "planner.launch.py"])),
        launch_arguments={
            "bundle": LaunchConfiguration("bundle"),
            "params_file": LaunchConfiguration("params_file"),
            "namespace": LaunchConfiguration("namespace"),
            "allow_untrained": LaunchConfiguration("allow_untrained"),
            "use_sim_time": "true",
        }.items(),
    )
    replay = Node(
        package="wpt_planner",
        executable="replay",
        namespace=LaunchConfiguration("namespace"),
        output="screen",
        parameters=[
            {
                "source": ParameterValue(LaunchConfiguration("source"), value_type=str),
                "rate": ParameterValue(LaunchConfiguration("rate"), value_type=float),
                "plan_timeout": ParameterValue(LaunchConfiguration("plan_timeout"), value_type=float),
                "wait_for_evaluator": True,
                "loop": ParameterValue(LaunchConfiguration("loop"), value_type=bool),
                "faults": ParameterValue(LaunchConfiguration("faults"), value_type=list[str]),
            }
        ],
    )
    evaluator = Node(
        package="wpt_planner",
        executable="evaluator",
        namespace=LaunchConfiguration("namespace"),
        output="screen",
        parameters=[{"json": ParameterValue(LaunchConfiguration("json"), value_type=str)}],
    )
    return LaunchDescription([*arguments, planner, replay, evaluator])
