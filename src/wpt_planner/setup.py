from glob import glob

from setuptools import find_packages, setup

package_name = "wpt_planner"

# `launch` and `config` are links to the workspace's top-level folders, so that a reader finds them
# at the top and `ros2 launch` finds them in this package's share folder.
setup(
    name=package_name,
    version="0.1.0",
    packages=find_packages(include=[package_name, f"{package_name}.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{package_name}"]),
        (f"share/{package_name}", ["package.xml"]),
        (f"share/{package_name}/launch", sorted(glob("launch/*.launch.py"))),
        (f"share/{package_name}/config", sorted(glob("config/*.yaml") + glob("config/*.xml"))),
        *(
            (f"share/{package_name}/{folder}", sorted(glob(f"{folder}/*")))
            for folder in sorted(glob("config/bundles/*"))
        ),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    maintainer="The WPT founders",
    maintainer_email="maintainers@wpt-planner.org",
    description="ROS 2 nodes around a WPT policy bundle.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "planner = wpt_planner.planner_node:main",
            "replay = wpt_planner.replay_node:main",
            "simulator = wpt_planner.simulator_node:main",
            "evaluator = wpt_planner.evaluator_node:main",
        ],
    },
)
