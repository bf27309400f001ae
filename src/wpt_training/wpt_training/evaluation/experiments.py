"""WPT's tables as experiments: what is trained, what is measured, and where the results lie.

OUT/world/checkpoint.*                 the world model, pretrained once for all
OUT/seed0/<experiment>/checkpoint.*    the training run
OUT/seed0/<experiment>/open_loop.json  its figures, with what made them
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wpt_planner.policy_bundle import MANIFEST_FILE
from wpt_training.evaluation.cached_open_loop import AS_TRAINED, Choice, score_cached, shares_perception
from wpt_training.evaluation.closed_loop import summarise
from wpt_training.evaluation.comparison import DriveSums
from wpt_training.evaluation.packed_open_loop import score_blind, score_bundle
from wpt_training.evaluation.route_runner import RunOptions, evaluate_routes
from wpt_training.evaluation.tables import write_json
from wpt_training.export import export_checkpoint
from wpt_training.models.config import DistillationConfig, RewardConfig, TrainingConfig
from wpt_training.models.reward_model import SIMULATION_REWARDS
from wpt_training.simulator.scenarios import route_names
from wpt_training.training.checkpoint import CHECKPOINT, config_identity, read_state
from wpt_training.training.clips import ClipData
from wpt_training.training.recipes import Bar, Runs, run_recipe

Change = Callable[[TrainingConfig], TrainingConfig]


@dataclass(frozen=True)
class Experiment:
    """A recipe under a changed configuration. A trained teacher can be measured in several ways, by how it
    chooses among its candidates."""

    name: str
    recipe: str
    change: Change
    choice: Choice = AS_TRAINED

    @property
    def slug(self) -> str:
        """The name as that of a folder or a file."""
        return self.name.replace(",", "").replace("'", "").replace(" ", "-")


def _reward(**values: Any) -> Change:
    def change(config: TrainingConfig) -> TrainingConfig:
        reward = RewardConfig.model_validate({**config.teacher.reward.model_dump(), **values})
        return config.model_copy(update={"teacher": config.teacher.model_copy(update={"reward": reward})})

    return change


def _on_the_world_model(config: TrainingConfig) -> TrainingConfig:
    """The baseline on the world model's perception as it is, and with its teacher's slowed clips."""
    values = {"perception": "frozen", "slowed": config.teacher_recipe.slowed}
    recipe = config.baseline_recipe.model_copy(update=values)
    return config.model_copy(update={"baseline_recipe": recipe})


def _distillation(**values: Any) -> Change:
    def change(config: TrainingConfig) -> TrainingConfig:
        parts = DistillationConfig.model_validate({**config.distillation.model_dump(), **values})
        return config.model_copy(update={"distillation": parts})

    return change


def _same(config: TrainingConfig) -> TrainingConfig:
    return config


_ALL = list(SIMULATION_REWARDS)
EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment("baseline", "baseline", _same),
        Experiment("baseline on the world model", "baseline", _on_the_world_model),
        Experiment("student", "student", _same),
        Experiment("baseline-t", "baseline-t", _same),
        Experiment("teacher", "teacher", _same),
        Experiment("teacher by score", "teacher", _same, Choice(by_score=True)),
        Experiment("teacher by imitation", "teacher", _same, Choice(rewards=())),
        Experiment("teacher gt-occ", "teacher", _reward(source="gt")),
        Experiment("teacher wm-occ", "teacher", _reward(source="wm")),
        *(
            Experiment(
                f"teacher without {name}",
                "teacher",
                _same,
                Choice(rewards=tuple(r for r in _ALL if r != name)),
            )
            for name in _ALL
        ),
        Experiment("student, not distilled", "student", _distillation(query=0.0, reward=0.0)),
        Experiment("student, query", "student", _distillation(reward=0.0)),
        Experiment("student, query and imitation", "student", _distillation(simulation=False)),
    )
}
# What each table shows; 2 and 7 are closed loop. Who is not distilled may still begin as the teacher, if the
# configuration says so.
TABLES: dict[int, tuple[str, ...]] = {
    1: ("baseline", "baseline on the world model", "baseline-t", "student", "teacher"),
    2: ("baseline", "student", "teacher"),
    3: ("baseline-t", "teacher by score", "teacher by imitation", "teacher"),
    4: (*(f"teacher without {name}" for name in _ALL), "teacher"),
    5: ("teacher gt-occ", "teacher wm-occ"),
    6: (
        "baseline on the world model", "student, not distilled", "student, query",
        "student, query and imitation", "student",
    ),
    7: ("baseline", "student", "teacher"),
    8: ("baseline-t", "teacher", "baseline", "baseline on the world model", "student"),
    9: ("baseline-t", "teacher by score", "teacher", "baseline", "student"),
}  # fmt: skip
CLOSED_LOOP = (2, 7)
_AS_DRIVEN = (1, 2, 7)


def table_names(number: int, config: TrainingConfig) -> tuple[str, ...]:
    """A table's experiments. Where it does not compare the two ways to choose, the teacher drives as its
    configuration has it: by reward or by score."""
    names = TABLES[number]
    if number in _AS_DRIVEN and not config.teacher.reward.at_inference:
        return tuple("teacher by score" if name == "teacher" else name for name in names)
    return names


def train_experiment(
    experiment: Experiment,
    config: TrainingConfig,
    out: Path,
    seed: int,
    strategy: str = "auto",
    bar: Bar | None = None,
) -> Path:
    """Trains what is not trained yet, the world model and the teacher that it needs as well; returns the
    run's folder. One world model serves all seeds, as one pretrained model serves the paper's networks."""
    folder = out / f"seed{seed}"
    runs = Runs(folder, out / "world", folder / "teacher")
    changed = experiment.change(config)
    # Whoever starts with the world model's perception needs one, the baseline too.
    if experiment.recipe != "baseline" or changed.baseline_recipe.perception != "fresh":
        run_recipe("world", config, runs, strategy, bar, runs.world)
    config, changed = (each.model_copy(update={"seed": seed}) for each in (config, changed))
    if experiment.recipe == "student":
        run_recipe("teacher", config, runs, strategy, bar)
    # What leaves the configuration as it is has been trained under its recipe's own name.
    target = folder / (experiment.recipe if changed == config else experiment.slug)
    run_recipe(experiment.recipe, changed, runs, strategy, bar, target)
    return target


def open_loop_result(
    experiment: Experiment, run: Path, data: ClipData, validation: str, bar: Bar
) -> dict[str, Any]:
    """The open-loop figures (convention `uniad`) of a run, and `by_drive` their sums; measured once for a
    checkpoint: all the ways in which a teacher may choose in one go."""
    identity = _made_by(run)
    for other in EXPERIMENTS.values():
        path = run / f"open_loop-{other.slug}.json"
        # A run that serves several experiments, chosen among in the same way, has the same figures in all.
        if other.choice == experiment.choice and path.is_file():
            known: dict[str, Any] = json.loads(path.read_text())
            same = known["made_by"] == identity and known["validation"] == validation
            if same and set(known.get("by_drive", ())) == DriveSums.names():
                return {**known, "experiment": experiment.name}
    measured = [experiment]
    with tempfile.TemporaryDirectory() as folder, bar(experiment.name) as progress:
        if shares_perception(run):
            measured = [
                other for other in EXPERIMENTS.values()
                if (other.recipe, other.change) == (experiment.recipe, experiment.change)
            ]  # fmt: skip
            scores = score_cached(run, data, [other.choice for other in measured], progress)
        else:
            bundle = export_checkpoint(run, Path(folder) / "bundle", None, experiment.choice.by_score)
            scores = [score_bundle(bundle.folder, data, experiment.name, None, progress)]
    results = {
        one.name: {
            "experiment": one.name, "made_by": identity, "validation": validation,
            **asdict(score.row("uniad")), "by_drive": score.by_drive().as_dict(),
        }
        for one, score in zip(measured, scores, strict=True)
    }  # fmt: skip
    for one in measured:
        write_json(run / f"open_loop-{one.slug}.json", results[one.name])
    return results[experiment.name]


def closed_loop_result(
    experiment: Experiment,
    run: Path,
    routes: str,
    plan_every: float,
    out: Path,
    workers: int,
    ray: str | None,
    bar: Bar,
) -> dict[str, Any]:
    """The closed-loop figures of a run, a plan every `plan_every` s; its finished routes are kept in
    `out`."""
    bundle = str(exported_once(run, experiment.choice.by_score))
    driven = drive_policy(experiment.name, bundle, routes, plan_every, out, workers, ray, bar)
    return {**driven, "made_by": _made_by(run)}


def exported_once(run: Path, by_score: bool) -> Path:
    """A run's bundle, kept beside it: exported on other threads it would round otherwise, be another bundle,
    and drive all its routes again."""
    folder = run / ("bundle-by-score" if by_score else "bundle")
    manifest, checkpoint = folder / MANIFEST_FILE, run / f"{CHECKPOINT}.safetensors"
    if not manifest.is_file() or manifest.stat().st_mtime < checkpoint.stat().st_mtime:
        export_checkpoint(run, folder, None, by_score)
    return folder


def drive_policy(
    name: str,
    policy: str,
    routes: str,
    plan_every: float,
    out: Path,
    workers: int,
    ray: str | None,
    bar: Bar,
) -> dict[str, Any]:
    """The closed-loop figures of what `wpt evaluate closed-loop` takes as a policy, called `name`, and
    `by_route` the driving scores behind them."""
    names, options = route_names(routes), RunOptions(plan_every=plan_every)
    with bar(f"{name}, {len(names)} routes") as progress:
        scores = evaluate_routes(names, policy, out, workers, ray, options, progress)
    return {
        "experiment": name, "routes": routes, "plan_every": plan_every, **asdict(summarise(scores)),
        "by_route": [round(score.driving_score, 3) for score in scores],
    }  # fmt: skip


def blind_results(data: ClipData, training: ClipData, seed: int) -> list[dict[str, Any]]:
    """Constant velocity, the ego-status MLP and the expert on the same samples."""
    return [{"experiment": s.name, **asdict(s.row("uniad"))} for s in score_blind(data, training, seed)]


def _made_by(run: Path) -> dict[str, Any]:
    """What a number can be traced to."""
    state = read_state(run)
    return {
        "run": str(run), "recipe": state.recipe, "config": config_identity(state.config, state.data),
        "seed": state.config["seed"], "git_revision": state.git_revision, "steps": state.step,
        "seconds": round(state.seconds, 1), "waited": round(state.waited, 1),
    }  # fmt: skip
