"""`wpt`: the command line of everything that is not a ROS node."""

from __future__ import annotations

import typer

from wpt_training.commands import bag, bench, data, demo, evaluate, export, reproduce, train

app = typer.Typer(
    help="WPT: a camera-only planner, distilled from a teacher that thinks with a world model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(bag.app, name="bag")
app.add_typer(bench.app, name="bench")
app.add_typer(data.app, name="data")
app.add_typer(evaluate.app, name="evaluate")
app.command()(demo.demo)
app.command()(export.export)
app.command()(reproduce.reproduce)
app.command()(train.train)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
