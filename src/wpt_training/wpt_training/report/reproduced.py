"""reproduce.json as a page: WPT's tables beside the published ones, with a plot of each."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from wpt_training.evaluation.comparison import COVERED
from wpt_training.evaluation.reproduce import PUBLISHED, PUBLISHED_UNITS, TITLES, columns
from wpt_training.evaluation.tables import write_json
from wpt_training.simulator.scenarios import type_names

# Table, column, who is compared with whom, the figure.
_RATIOS = (
    (9, 0, "teacher", "student", "latency"),
    (9, 0, "student", "baseline", "latency"),
    (8, 1, "student", "baseline", "epochs"),
)
_COLUMN = {"L2": 0, "collision": 1, "driving score": 0}
_WHERE = 6  # scenario types in which most collide, shown by name
_EPOCHS = 0.5  # the student's, of the baseline's; the only ratio whose parts are not published


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


# These tables' comparisons open the page, others' stand below their rows.
JUDGED = (1, 2)
_PAIRS_HEAD = (_line(["", "published", "here", f"{COVERED:.0%} of draws"]), _line(["---"] * 4))

_BY_CHOICE = (
    "Of the rewards NC alone teaches the teacher's planner here; the others act where the teacher chooses, "
    "and where they are distilled. So each row is the same trained teacher, choosing in another way"
)
NOTES = {
    1: "`baseline` learns to see from the plans alone; `baseline on the world model`, student and teacher "
    "see with the world model's perception as it is. Foreseeable: of the collisions at 1, 2 and 3 s "
    "those of plans that also hit somebody if all others keep on as they move at that moment. Below, where "
    "all seeds' collisions lie, by scenario type.",
    2: "Below, what went wrong on all seeds' routes; a route that is not driven to its end has not arrived.",
    3: f"{_BY_CHOICE}; `teacher by score` has its rewards in training only, `baseline-t` never.",
    4: f"{_BY_CHOICE}.",
    6: "`student, not distilled` begins as its teacher and then only imitates the expert: what the others "
    "have beyond it is the effect of the distilled queries and rewards.",
    8: "Training steps alone: the world model's look at the data, and a teacher's, come on top.",
}  # fmt: skip


def write_report(content: dict[str, Any], folder: Path) -> Path:
    """reproduce.json, reproduce.md and a plot per table; returns the page. Tables that `content` lacks stay
    as an earlier call left them."""
    earlier = _earlier(folder / "reproduce.json")
    tables = {**earlier.get("tables", {}), **content["tables"]}
    content = {**earlier, **content, "tables": dict(sorted(tables.items()))}
    write_json(folder / "reproduce.json", content)
    lines = [
        "# WPT's tables, reproduced",
        "",
        "What `./wpt reproduce` trained and measured, beside the published figures. Those are of nuScenes "
        "and of Bench2Drive in CARLA, ours of simulated drives: ratios can be compared, values cannot. Mean "
        "± spread over seeds; one world model, pretrained once, serves all seeds of a table. Tables of other "
        "revisions may be of other recipes and of another world model. Every number's run, configuration, "
        "seed and revision are in [reproduce.json](reproduce.json).",
        "",
        *_blind(content.get("blind", [])),
        *_comparisons(content["tables"]),
    ]
    for number, table in content["tables"].items():
        lines += _table(int(number), table)
        picture = folder / f"reproduce_table{number}.png"
        _plot(int(number), table["rows"], picture)
        lines += [f"![Table {number}]({picture.name})", ""]
    path = folder / "reproduce.md"
    path.write_text("\n".join(lines))
    return path


def _blind(results: list[dict[str, Any]]) -> list[str]:
    """What open loop is to be seen beside; nothing on a page without it."""
    if not results:
        return []
    figures = "; ".join(
        f"{row['experiment']} L2 {row['l2'][3]:.2f} m, collision {row['collision'][3]:.2f} %, "
        f"obb {row['obb'][3]:.2f} %"
        for row in results
    )
    samples = results[0]["samples"]
    return [f"Planners that see nothing, and the expert, on the same {samples} samples: {figures}.", ""]


def _comparisons(tables: dict[str, Any]) -> list[str]:
    """The figures by which the whole is judged."""
    rows = [line for number in JUDGED for line in _pairs(number, tables.get(str(number), {}))]
    for table, column, ours, others, figure in _RATIOS:
        means = {row["name"]: row["mean"][column] for row in tables.get(str(table), {}).get("rows", ())}
        if ours in means and others in means:
            published = _published(table, column, ours, others) or _EPOCHS
            ratio = f"{means[ours] / means[others]:.2f}"
            rows.append(_line([f"{figure}: {ours} / {others}", f"{published:.2g}", ratio, "–"]))
    if not rows:
        return []
    return [
        "## Who does better", "",
        f"The last column, here and below: between what a figure lies in {COVERED:.0%} of the cases when the "
        "drives, or routes, are drawn anew (both policies on the same ones; seeds together).", "",
        *_PAIRS_HEAD, *rows, "",
    ]  # fmt: skip


def _pairs(number: int, table: dict[str, Any]) -> list[str]:
    """A table's comparisons, a line each."""
    lines = []
    for pair in table.get("compared", ()):
        figure, ours, others = pair["figure"], pair["ours"], pair["others"]
        sign, way = ("+", "−") if number == 2 else ("", "/")
        here = f"{pair['value']:{sign}.2f}"
        draws = "–" if pair["low"] is None else f"{pair['low']:{sign}.2f} … {pair['high']:{sign}.2f}"
        published = _published(number, _COLUMN[figure], ours, others) if figure in _COLUMN else None
        given = "–" if published is None else f"{published:{sign}.2g}"
        lines.append(_line([f"{figure}: {ours} {way} {others}", given, here, draws]))
    return lines


def _published(table: int, column: int, ours: str, others: str) -> float | None:
    """The paper's ratio, of driving scores its difference; None where it does not have both."""
    known = PUBLISHED.get(table, {})
    one, other = (known[name][column] if name in known else None for name in (ours, others))
    if one is None or other is None:
        return None
    return one - other if table == 2 else one / other


def _earlier(path: Path) -> dict[str, Any]:
    try:
        known: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return known


def _table(number: int, table: dict[str, Any]) -> list[str]:
    names, rows, made = columns(number), table["rows"], table["made_by"]
    head = ["", *names, *(f"{PUBLISHED_UNITS.get(name, name)}, published" for name in names)]
    lines = [
        f"## Table {number}: {TITLES[number]}", "",
        f"`{made['command']}`, trained on {made['train']}, measured on {made['measured_on']}; "
        f"{made['machine']}; git {made['git_revision']}.{_of_earlier(made)}",
        "", *([NOTES[number], ""] if number in NOTES else []), _line(head), _line(["---"] * len(head)),
    ]  # fmt: skip
    for row in rows:
        ours = [
            f"{mean:.2f} ± {spread:.2f}" if len(row["values"]) > 1 else f"{mean:.2f}"
            for mean, spread in zip(row["mean"], row["spread"], strict=True)
        ]
        published = [f"{value:g}" if value is not None else "–" for value in row["published"]]
        published = published or ["–"] * len(names)
        lines.append(_line([row["name"], *ours, *published]))
    if number == 1:
        lines += ["", *_by_second(rows), *_where(rows)]
    if number == 2:
        lines += ["", *_went_wrong(rows)]
    if number not in JUDGED and (pairs := _pairs(number, table)):
        lines += ["", *_PAIRS_HEAD, *pairs]
    return [*lines, ""]


def _of_earlier(made: dict[str, Any]) -> str:
    """Whose rows were not made by the command, but taken from an earlier page."""
    known = made.get("known")
    return f" Of an earlier page: {', '.join(known)}." if known else ""


def _by_second(rows: list[dict[str, Any]]) -> list[str]:
    head = [
        "", "L2 1 s", "2 s", "3 s", "collision 1 s", "2 s", "3 s", "obb avg.", "of one drive (%)",
        "foreseeable",
    ]  # fmt: skip
    lines = [_line(head), _line(["---"] * len(head))]
    for row in rows:
        results = row["made_by"]

        def mean(key: str, index: int, results: list[dict[str, Any]] = results) -> str:
            return f"{sum(result[key][index] for result in results) / len(results):.2f}"

        cells = [mean(key, index) for key in ("l2", "collision") for index in range(3)]
        lines.append(
            _line([row["name"], *cells, mean("obb", 3), _of_one_drive(results), _foreseeable(results)])
        )
    return lines


def _where(rows: list[dict[str, Any]]) -> list[str]:
    """In which drives, of one scenario type together, all seeds of each row collide: the types with the most
    of them."""
    counts: list[Counter[str]] = []
    for row in rows:
        if not all("where" in result for result in row["made_by"]):
            return []
        counts.append(Counter())
        for result in row["made_by"]:
            for drive, collisions in result["where"].items():
                counts[-1][_scenario(drive)] += collisions
    most = [name for name, _ in sum(counts, Counter()).most_common(_WHERE)]
    head = ["collisions in", *most, "others"]
    lines = ["", _line(head), _line(["---"] * len(head))]
    for row, count in zip(rows, counts, strict=True):
        cells = [count[name] for name in most]
        lines.append(_line([row["name"], *map(str, [*cells, count.total() - sum(cells)])]))
    return lines


def _went_wrong(rows: list[dict[str, Any]]) -> list[str]:
    """Infractions by kind on the routes of all seeds, and how many were not driven to their end."""
    counts = [sum((Counter(result["infractions"]) for result in row["made_by"]), Counter()) for row in rows]
    kinds = [kind for kind, _ in sum(counts, Counter()).most_common()]
    head = ["", "routes", *(kind.replace("_", " ") for kind in kinds), "not arrived"]
    lines = [_line(head), _line(["---"] * len(head))]
    for row, count in zip(rows, counts, strict=True):
        routes = sum(result["routes"] for result in row["made_by"])
        failed = sum(sum(result["failures"].values()) for result in row["made_by"])
        cells = [routes, *(count[kind] for kind in kinds), failed]
        lines.append(_line([row["name"], *map(str, cells)]))
    return lines


def _scenario(drive: str) -> str:
    """A simulated drive's scenario type; any other drive's own name."""
    name = drive.rpartition("-")[0].rpartition("-")[2]
    return name if name in type_names() else drive


def _of_one_drive(results: list[dict[str, Any]]) -> str:
    """The share (%) of a seed's collisions that the drive with the most of them has, mean over seeds."""
    if not all("where" in result for result in results):
        return "–"
    shares = [max(each) / sum(each) if (each := result["where"].values()) else 0.0 for result in results]
    return f"{100 * sum(shares) / len(shares):.0f}"


def _foreseeable(results: list[dict[str, Any]]) -> str:
    """How many of all seeds' collisions."""
    if not all("foreseeable" in result and "where" in result for result in results):
        return "–"
    counts = [sum(result["where"].values()) for result in results]
    shares = [
        (result["foreseeable"] or 0.0) * count / 100 for result, count in zip(results, counts, strict=True)
    ]
    return f"{round(sum(shares))} of {sum(counts)}"


def _plot(number: int, rows: list[dict[str, Any]], path: Path) -> None:
    """Ours as bars with the spread over seeds; published figures of the same unit as marks."""
    names = columns(number)
    figure, axes = plt.subplots(
        1, len(names), figsize=(4.6 * len(names), 0.5 * len(rows) + 1.6), squeeze=False
    )
    labels = [row["name"] for row in rows]
    for column, axis in enumerate(axes[0]):
        means = [row["mean"][column] for row in rows]
        # One seed has no spread; a bar of none would say that there is hardly any.
        spreads = [row["spread"][column] if len(row["values"]) > 1 else math.nan for row in rows]
        axis.barh(labels, means, xerr=spreads, color="#4477aa", capsize=3, label="here")
        published = [(row["name"], row["published"][column]) for row in rows if row["published"]]
        same_unit = names[column] not in PUBLISHED_UNITS
        if published and same_unit and all(value is not None for _, value in published):
            where, values = zip(*published, strict=True)
            axis.plot(values, where, "D", color="#cc6677", markersize=6, linestyle="none", label="published")
        axis.invert_yaxis()
        axis.set_xlabel(names[column])
        if column:
            axis.set_yticklabels([])
    handles, titles = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, titles, loc="lower center", ncols=2, frameon=False)
    figure.suptitle(f"Table {number}: {TITLES[number]}")
    figure.tight_layout(rect=(0, 0.25 / figure.get_figheight(), 1, 1))
    figure.savefig(path, dpi=110)
    plt.close(figure)
