"""What the planner says of itself: PlannerStatus and /diagnostics, out of the worker's state."""

from __future__ import annotations

from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from wpt_msgs.msg import CameraStatus, PlannerStatus

from wpt_planner.messages import diagnostic, header, stage_latencies
from wpt_planner.planner_worker import PassOutcome, PlannerWorker
from wpt_planner.stage_latency import StageSummary

_CAMERA_STATES = {
    CameraStatus.NEVER_SEEN: "no image has come yet",
    CameraStatus.WAITING_FOR_CAMERA_INFO: "waiting for camera_info",
    CameraStatus.REJECTED: "rejected",
    CameraStatus.LATE: "late",
    CameraStatus.OK: "ok",
}


@dataclass
class NodeNotes:
    """What only the node can see, by camera or topic: publishers, QoS, TF."""

    cameras: dict[str, str]
    topics: dict[str, str]


def camera_statuses(
    worker: PlannerWorker, outcome: PassOutcome | None, notes: NodeNotes, now: int
) -> list[CameraStatus]:
    """One per camera, in the rig's order; `now` ns of the node's clock."""
    planned = outcome.planned if outcome else None
    result = []
    for index, name in enumerate(worker.rig.names):
        health = worker.rig.health[index]
        masked = planned.masked[index] if planned else ""
        age = -1.0 if health.newest_stamp is None else (now - health.newest_stamp) / 1e9
        info_problem = worker.problems.camera_info.get(name, "")
        late = health.received > 0 and (
            abs(age) > worker.parameters.staleness or (outcome is not None and not health.in_last_set)
        )
        if health.received == 0:
            state, detail = CameraStatus.NEVER_SEEN, ""
        elif info_problem:
            state, detail = CameraStatus.REJECTED, f"camera_info: {info_problem}"
        elif name not in worker.calibrations:
            state, detail = CameraStatus.WAITING_FOR_CAMERA_INFO, ""
        elif late:
            state, detail = CameraStatus.LATE, masked
        elif health.rejection or masked:
            state, detail = CameraStatus.REJECTED, masked or health.rejection
        else:
            state, detail = CameraStatus.OK, ""
        note = notes.cameras.get(name, "")
        result.append(
            CameraStatus(
                name=name,
                state=state,
                age=float(age),
                late=bool(late),
                masked=bool(masked),
                received=health.received,
                rejected=health.rejected + health.out_of_order,
                detail="; ".join(part for part in (detail, note) if part),
            )
        )
    return result


def state_of(worker: PlannerWorker, outcome: PassOutcome | None) -> tuple[int, str]:
    """PlannerStatus state and its reason."""
    waiting = _missing_input(worker)
    if outcome is None:
        return PlannerStatus.WAITING, waiting or "waiting for the first complete camera set"
    if outcome.error:
        return PlannerStatus.ERROR, outcome.reason
    if waiting:
        return PlannerStatus.WAITING, waiting
    if outcome.planned is None:
        return PlannerStatus.REFUSING, outcome.reason
    if outcome.planned.reason:
        return PlannerStatus.FALLBACK, outcome.planned.reason
    if outcome.planned.warming_up:
        return PlannerStatus.WARMING_UP, "the recurrent state is not full yet"
    return PlannerStatus.PLANNING, ""


def _missing_input(worker: PlannerWorker) -> str:
    anchor = worker.rig.anchor
    name, health = worker.rig.names[anchor], worker.rig.health[anchor]
    if name not in worker.calibrations:
        problem = worker.problems.camera_info.get(name)
        return problem or f"waiting for ~/input/{name}/camera_info"
    if health.newest_stamp is None:
        return f"waiting for images of the anchor camera on ~/input/{name}/image"
    if worker.ego_motion.newest_stamp is None:
        return worker.problems.odometry or "waiting for ~/input/odometry"
    return ""


def planner_status(
    worker: PlannerWorker,
    outcome: PassOutcome | None,
    summaries: list[StageSummary],
    notes: NodeNotes,
    now: int,
) -> PlannerStatus:
    """`now` ns of the node's clock; `summaries` may be a second old."""
    core = worker.core
    assert core is not None
    state, reason = state_of(worker, outcome)
    extra = [worker.problems.odometry, worker.problems.command, *notes.topics.values()]
    manifest = core.runtime.bundle.manifest
    if not manifest.trained:
        extra.append("the bundle is untrained (random weights)")
    return PlannerStatus(
        header=header(now, worker.parameters.base_frame),
        ready=core.runtime.image_size is not None,
        state=state,
        reason="; ".join(part for part in dict.fromkeys([reason, *extra]) if part),
        bundle_id=core.runtime.bundle.short_identity,
        trained=manifest.trained,
        parameters_id=worker.parameters.identity,
        device=str(core.runtime.device),
        cameras=camera_statuses(worker, outcome, notes, now),
        latencies=stage_latencies(summaries),
        passes=worker.counts.passes,
        sets_dropped=worker.rig.sets_dropped,
        overruns=worker.counts.overruns,
        state_resets=core.state_resets,
        fallbacks=worker.counts.fallbacks,
    )


def diagnostics(status: PlannerStatus, node_name: str) -> DiagnosticArray:
    """The same as /diagnostics wants it: one entry for the planner, one per camera."""
    ok, warn, error = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
    level = {
        PlannerStatus.PLANNING: ok,
        PlannerStatus.ERROR: error,
        PlannerStatus.REFUSING: error,
    }.get(status.state, warn)
    if status.state == PlannerStatus.PLANNING and status.reason:
        level = warn
    values = {
        "bundle": status.bundle_id,
        "trained": status.trained,
        "parameters": status.parameters_id,
        "device": status.device,
        "passes": status.passes,
        "sets dropped": status.sets_dropped,
        "overruns": status.overruns,
        "state resets": status.state_resets,
        "fallbacks": status.fallbacks,
    }
    for stage in status.latencies:
        values[f"{stage.stage} p50/p95/p99 (ms)"] = (
            f"{stage.p50 * 1e3:.1f}/{stage.p95 * 1e3:.1f}/{stage.p99 * 1e3:.1f}"
        )
    entries = [diagnostic(f"{node_name}: planner", level, status.reason or "planning", values)]
    for camera in status.cameras:
        fine = camera.state == CameraStatus.OK and not camera.detail
        message = _CAMERA_STATES[camera.state]
        entries.append(
            diagnostic(
                f"{node_name}: {camera.name}",
                ok if fine else warn,
                f"{message}: {camera.detail}" if camera.detail else message,
                {"received": camera.received, "rejected": camera.rejected, "age (s)": camera.age},
            )
        )
    return DiagnosticArray(header=status.header, status=entries)
