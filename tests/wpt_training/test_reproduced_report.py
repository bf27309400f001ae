"""The page of reproduced tables, from figures made up here."""

from wpt_training.report.reproduced import write_report

BLIND = [{"experiment": "expert", "samples": 7, "l2": [0.0] * 4, "collision": [0.0] * 4, "obb": [0.0] * 4}]
MADE_BY = {"command": "c", "train": "t", "measured_on": "m", "machine": "x", "git_revision": "g"}


def table(rows: dict[str, float], compared: list[dict] | None = None) -> dict:
    listed = [
        {
            "name": name, "mean": [value, value], "spread": [0.0, 0.0], "values": [[value, value]],
            "published": [],
            "made_by": [
                {"l2": [0.0] * 4, "collision": [0.0] * 4, "obb": [0.0] * 4,
                 "foreseeable": 41.7, "where": {"validation-Accident-0": 4, "validation-Accident-1": 8},
                 "routes": 44, "infractions": {}, "failures": {}}
            ],
        }
        for name, value in rows.items()
    ]  # fmt: skip
    return {"made_by": MADE_BY, "rows": listed, "compared": compared or []}


def pair(figure: str, ours: str, value: float) -> dict:
    return {"figure": figure, "ours": ours, "others": "baseline", "value": value, "low": -1.0, "high": 2.0}


def test_who_does_better_is_said_first_with_its_uncertainty(tmp_path):
    tables = {
        "1": table({"student": 0.6}, [pair("collision", "student", 0.456)]),
        "2": table({"student": 60.0}, [pair("driving score", "teacher", 3.21)]),
        "9": table({"teacher": 150.0, "student": 30.0, "baseline": 30.0}),
    }
    page = write_report({"blind": BLIND, "tables": tables}, tmp_path).read_text()
    assert page.index("## Who does better") < page.index("## Table 1")
    assert "| collision: student / baseline | 0.23 | 0.46 | -1.00 … 2.00 |" in page
    assert "| driving score: teacher − baseline | +14 | +3.21 | -1.00 … +2.00 |" in page
    # 8 of the 12 collisions are of one drive: 67 %; and 5 of them are 41.7 %.
    assert "| student | 0.00 | 0.00 | 0.00 | 0.00 | 0.00 | 0.00 | 0.00 | 67 | 5 of 12 |" in page
    # 150 ms / 30 ms.
    assert "| latency: teacher / student | 4.9 | 5.00 | – |" in page


def test_where_a_policy_collides_is_counted_by_scenario_type_over_all_seeds(tmp_path):
    both = table({"student": 0.6, "baseline": 0.8})
    one, other = (row["made_by"] for row in both["rows"])
    one[0]["where"] = {"validation-HardBreakRoute-0": 7, "scene-0103": 2}
    one.append({**one[0], "where": {"validation-HardBreakRoute-1": 1, "validation-T_Junction-0": 4}})
    other[0]["where"] = {"validation-Accident-0": 3}
    page = write_report({"blind": BLIND, "tables": {"1": both}}, tmp_path).read_text()
    # 7 + 1 in the two hard brakes; what is no route of ours keeps its own name.
    assert "| collisions in | HardBreakRoute | T_Junction | Accident | scene-0103 | others |" in page
    assert "| student | 8 | 4 | 0 | 2 | 0 |" in page
    assert "| baseline | 0 | 0 | 3 | 0 | 0 |" in page


def test_planners_that_see_nothing_stand_on_a_page_with_open_loop_and_stay_there(tmp_path):
    closed = {"tables": {"2": table({"student": 60.0})}}
    assert "see nothing" not in write_report(closed, tmp_path / "closed").read_text()
    write_report({"blind": BLIND, "tables": {"1": table({"student": 0.6})}}, tmp_path)
    assert "see nothing, and the expert, on the same 7 samples" in write_report(closed, tmp_path).read_text()


def test_what_went_wrong_in_closed_loop_is_counted_over_all_seeds(tmp_path):
    driven = table({"student": 60.0, "expert": 100.0})
    made_by = driven["rows"][0]["made_by"]
    made_by[0] |= {"infractions": {"vehicle": 10, "red_light": 1}, "failures": {"blocked": 2}}
    made_by.append({**made_by[0], "infractions": {"vehicle": 5}, "failures": {"off route": 1, "blocked": 3}})
    page = write_report({"blind": BLIND, "tables": {"2": driven}}, tmp_path).read_text()
    assert "|  | routes | vehicle | red light | not arrived |" in page
    # Twice 44 routes: 10 + 5 vehicles, one red light, 2 + 1 + 3 that did not arrive.
    assert "| student | 88 | 15 | 1 | 6 |" in page
    assert "| expert | 44 | 0 | 0 | 0 |" in page


def test_a_policy_that_never_collides_has_no_drive_with_most_of_it(tmp_path):
    free = table({"student": 0.0})
    free["rows"][0]["made_by"][0] |= {"where": {}, "foreseeable": None}
    page = write_report({"blind": BLIND, "tables": {"1": free}}, tmp_path).read_text()
    assert "| 0.00 | 0 | 0 of 0 |" in page


def test_a_figure_without_draws_has_a_dash_for_them(tmp_path):
    known = {**pair("L2", "student", 0.89), "low": None, "high": None}
    page = write_report({"blind": BLIND, "tables": {"1": table({"x": 1.0}, [known])}}, tmp_path).read_text()
    assert "| L2: student / baseline | 0.75 | 0.89 | – |" in page


def test_what_a_part_does_stands_below_its_table(tmp_path):
    found = {**pair("collision", "student, query", 0.9), "others": "student, not distilled"}
    page = write_report({"blind": BLIND, "tables": {"6": table({"x": 1.0}, [found])}}, tmp_path).read_text()
    line = "| collision: student, query / student, not distilled | – | 0.90 | -1.00 … 2.00 |"
    assert page.index("## Table 6") < page.index(line)


def test_tables_that_are_not_made_again_stay(tmp_path):
    write_report({"blind": BLIND, "tables": {"1": table({"student": 0.6})}}, tmp_path)
    page = write_report({"blind": BLIND, "tables": {"9": table({"student": 30.0})}}, tmp_path).read_text()
    assert "## Table 1" in page
    assert "## Table 9" in page


def test_rows_taken_from_an_earlier_page_are_named(tmp_path):
    taken = {**table({"baseline": 1.0}), "made_by": {**MADE_BY, "known": ["baseline"]}}
    page = write_report(
        {"blind": BLIND, "tables": {"1": taken, "3": table({"x": 1.0})}}, tmp_path
    ).read_text()
    assert page.count("Of an earlier page: baseline.") == page.count("Of an earlier page") == 1


def test_published_figures_of_another_unit_are_named_so(tmp_path):
    costs = table({"student": 3.0})
    costs["rows"][0] |= {"mean": [3.0, 4.0], "spread": [0.0, 0.0], "published": [168.0, None]}
    page = write_report({"blind": BLIND, "tables": {"8": costs}}, tmp_path).read_text()
    assert "|  | training (min) | epochs | training (GPU h), published | epochs, published |" in page
    assert "| student | 3.00 | 4.00 | 168 | – |" in page
