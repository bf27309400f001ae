"""`wpt demo`: a drive over ROS 2 topics through the planner node, scored and drawn."""

from __future__ import annotations

import json as json_module
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from wpt_training.commands.console import clear_errors, console, progress_bar

PICTURES = 4


def demo(
    nuscenes: Annotated[
        str | None, typer.Option(help="nuScenes DIR[:SCENE] instead of a simulated drive")
    ] = None,
    bag: Annotated[str | None, typer.Option(help="a rosbag2 instead of a simulated drive")] = None,
    bundle: Annotated[
        str, typer.Option(help="student, teacher or baseline (they come along) or a bundle's folder")
    ] = "student",
    out: Annotated[Path, typer.Option(help="where pictures and figures go")] = Path("out/demo"),
    rate: Annotated[float, typer.Option(help="times real time, at most: it waits for each plan")] = 1.0,
    seed: Annotated[int, typer.Option(help="seed of the simulated drive")] = 0,
    json: Annotated[Path | None, typer.Option("--json", help="figures to this file too")] = None,
) -> None:
    """Replays a drive into the planner node and shows what came out."""
    with clear_errors():
        run_demo(nuscenes or bag or f"simulated:{seed}", bundle, out, rate, json)


def run_demo(source: str, bundle: str, out: Path, rate: float, json: Path | None) -> None:
    """Raises DriveError, BundleError; exits with 1 if a node failed."""
    from wpt_planner.calibration import save_rig
    from wpt_planner.policy_bundle import open_bundle
    from wpt_planner.shared_files import bundle_folder
    from wpt_training.drives.source import open_drive

    out.mkdir(parents=True, exist_ok=True)
    cache = out / "drive" if source.startswith("simulated") else None
    if cache is not None:
        cache = cache / source.replace(":", "-")
        if not (cache / "done.json").is_file():
            console.print("rendering the simulated drive (once) …")
    drive = open_drive(source, cache)
    opened = open_bundle(bundle_folder(bundle), expected_cameras=len(drive.cameras))
    save_rig(out / "rig.yaml", list(drive.cameras))
    report = out / "evaluation.json"
    report.unlink(missing_ok=True)
    names = [camera.name for camera in drive.cameras]
    planner = [
        f"bundle:={opened.folder}", f"rig_file:={out / 'rig.yaml'}", "use_sim_time:=true",
        f"allow_untrained:={'false' if opened.manifest.trained else 'true'}",
        f"cameras:=[{','.join(names)}]", f"anchor_camera:={names[0]}", "threads:=1", "max_wait:=0.5",
    ]  # fmt: skip
    # Waiting for each plan, a slow machine shows the same plans as a fast one.
    replay = [f"source:={source}", f"rate:={rate}", "wait_for_evaluator:=true", "plan_timeout:=10.0"]
    if cache is not None:
        replay.append(f"cache:={cache}")
    evaluator = [f"json:={report}"]
    console.print(f"{drive.name}: {drive.seconds:.0f} s, {len(drive.streams[0])} camera sets")
    _run_nodes(planner, replay, evaluator, out)
    if not report.is_file():
        console.print(f"[bold red]error:[/] no figures came out; the nodes' logs are {out}/*.log")
        raise typer.Exit(1)
    print((out / "evaluator.log").read_text())
    content = json_module.loads(report.read_text())
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        json.write_text(report.read_text())
    for path in _draw(drive, content, out, opened.manifest.trained):
        console.print(f"picture: {path}")
    if not opened.manifest.trained:
        console.print("The policy is untrained (random weights): it drives straight on.")


def _run_nodes(planner: list[str], replay: list[str], evaluator: list[str], out: Path) -> None:
    """Three processes on a ROS domain of their own; ends all when the evaluator is done."""
    environment = dict(os.environ, PYTHONUNBUFFERED="1", COLUMNS="88")
    environment.setdefault("ROS_DOMAIN_ID", str(os.getpid() % 100 + 1))
    environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    processes = []
    for module, parameters in (
        ("planner_node", planner), ("evaluator_node", evaluator), ("replay_node", replay),
    ):  # fmt: skip
        arguments = [part for parameter in parameters for part in ("-p", parameter)]
        log = (out / f"{module.removesuffix('_node')}.log").open("w")
        command = [sys.executable, "-m", f"wpt_planner.{module}", "--ros-args", *arguments]
        processes.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment))
    planner_process, evaluator_process, replay_process = processes
    started = time.monotonic()
    try:
        with console.status("planning …") as status:
            while evaluator_process.poll() is None:
                time.sleep(0.3)
                status.update(f"planning … {time.monotonic() - started:.0f} s")
                if planner_process.poll() is not None or (replay_process.poll() or 0) != 0:
                    break
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        for process in processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
    for name, process in (("planner", planner_process), ("replay", replay_process)):
        lines = (out / f"{name}.log").read_text().splitlines()
        if process.returncode not in (0, -15) and lines:
            console.print(f"[bold red]error:[/] {lines[-1]}", highlight=False, soft_wrap=True)


def _draw(drive: object, content: dict[str, object], out: Path, trained: bool) -> list[Path]:
    import cv2

    from wpt_training.drives.drive import Drive
    from wpt_training.report.pictures import EXPERT, FALLBACK, PLAN, DrawnPlan, draw_frame

    assert isinstance(drive, Drive)
    plans = {entry["stamp"]: entry for entry in content["plans"]}  # type: ignore[attr-defined]
    indices = [i for i, stamp in enumerate(drive.anchor_stamps) if int(stamp) in plans]
    if not indices:
        return []
    chosen = [indices[i] for i in np.unique(np.linspace(0, len(indices) - 1, PICTURES).round().astype(int))]
    paths = []
    with progress_bar("drawing") as progress:
        for done, index in enumerate(chosen):
            frame = drive.frame(index)
            entry = plans[frame.stamp]
            fallback = entry["source"] == 2
            label = "plan (fallback)" if fallback else "plan" if trained else "plan (untrained)"
            drawn = [DrawnPlan(np.array(entry["trajectory"]), label, FALLBACK if fallback else PLAN)]
            if frame.future_valid.all():
                drawn.insert(0, DrawnPlan(frame.future, "recorded driver", EXPERT))
            seconds = (frame.stamp - int(drive.anchor_stamps[0])) / 1e9
            picture = draw_frame(frame, drawn, f"{drive.name}, {seconds:.1f} s")
            path = out / f"frame_{index:04d}.png"
            cv2.imwrite(str(path), picture[..., ::-1])
            paths.append(path)
            progress(done + 1, len(chosen))
    return paths
