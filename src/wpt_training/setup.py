from glob import glob

from setuptools import find_packages, setup

package_name = "wpt_training"

setup(
    name=package_name,
    version="0.1.0",
    packages=find_packages(include=[package_name, f"{package_name}.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{package_name}"]),
        (f"share/{package_name}", ["package.xml"]),
        (f"share/{package_name}/config/training", sorted(glob("config/training/*.yaml"))),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    maintainer="The WPT founders",
    maintainer_email="maintainers@wpt-planner.org",
    description="Data, models, training, metrics and export of WPT policies.",
    license="Apache-2.0",
    entry_points={"console_scripts": ["wpt = wpt_training.cli:main"]},
)
