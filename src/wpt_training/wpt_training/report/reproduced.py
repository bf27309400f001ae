"""reproduce.json as a page: WPT's tables beside the published ones, with a plot of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from wpt_training.evaluation.reproduce import TITLES, columns
from wpt_training.evaluation.tables import write_json


def write_report(content: dict[str, Any], folder: Path) -> Path:
    """reproduce.json, reproduce.md and a plot per table; returns the page."""
    write_json(folder / "reproduce.json", content)
    seeds = ",".join(map(str, content["seeds"]))
    blind = "; ".join(
        f"{row['experiment']} L2 {row['l2'][3]:.2f} m, collision {row['collision'][3]:.2f} %, "
        f"obb {row['obb'][3]:.2f} %"
        for row in content["blind"]
    )
    lines = [
        "# WPT's tables, reproduced",
        "",
        f"`./wpt reproduce --config {content['config']} --seeds {seeds}`, trained on {content['train']}, "
        f"measured on {content['validation']} ({content['samples']} samples; maps, routes and seeds of their "
        f"own) and, in closed loop, on {content['routes']}; {content['machine']}; "
        f"git {content['git_revision']}. "
        f"Mean ± spread over {len(content['seeds'])} seed(s). The published figures are of nuScenes and of "
        "Bench2Drive in CARLA: ratios can be compared, values cannot.",
        "",
        f"Planners that see nothing, on the same samples: {blind}.",
        "",
    ]
    for number, rows in content["tables"].items():
        lines += _table(int(number), rows)
        picture = folder / f"reproduce_table{number}.png"
        _plot(int(number), rows, picture)
        lines += [f"![Table {number}]({picture.name})", ""]
    path = folder / "reproduce.md"
    path.write_text("\n".join(lines))
    return path


def _table(number: int, rows: list[dict[str, Any]]) -> list[str]:
    names = columns(number)
    head = ["", *names, *(f"{name}, published" for name in names)]
    lines = [f"## Table {number}: {TITLES[number]}", "", _line(head), _line(["---"] * len(head))]
    for row in rows:
        ours = [
            f"{mean:.2f} ± {spread:.2f}" if len(row["values"]) > 1 else f"{mean:.2f}"
            for mean, spread in zip(row["mean"], row["spread"], strict=True)
        ]
        published = [f"{value:g}" for value in row["published"]] or ["–"] * len(names)
        lines.append(_line([row["name"], *ours, *published]))
    if number == 1:
        lines += ["", *_by_second(rows)]
    if number == 8:
        lines += ["", "Ours in minutes on this machine, published in GPU hours."]
    return [*lines, ""]


def _by_second(rows: list[dict[str, Any]]) -> list[str]:
    head = ["", "L2 1 s", "2 s", "3 s", "collision 1 s", "2 s", "3 s", "obb avg."]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in rows:
        results = row["made_by"]

        def mean(key: str, index: int, results: list[dict[str, Any]] = results) -> str:
            return f"{sum(result[key][index] for result in results) / len(results):.2f}"

        cells = [mean(key, index) for key in ("l2", "collision") for index in range(3)]
        lines.append(_line([row["name"], *cells, mean("obb", 3)]))
    return lines


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plot(number: int, rows: list[dict[str, Any]], path: Path) -> None:
    names = columns(number)
    figure, axes = plt.subplots(
        1, len(names), figsize=(4.6 * len(names), 0.5 * len(rows) + 1.4), squeeze=False
    )
    for column, axis in enumerate(axes[0]):
        means = [row["mean"][column] for row in rows]
        spreads = [row["spread"][column] for row in rows]
        axis.barh([row["name"] for row in rows], means, xerr=spreads, color="#4477aa", capsize=3)
        axis.invert_yaxis()
        axis.set_xlabel(names[column])
        if column:
            axis.set_yticklabels([])
    figure.suptitle(f"Table {number}: {TITLES[number]}")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
