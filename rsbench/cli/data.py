"""`rsbench data`: where the data of a task lies, whether it is whole, and a sample of it."""

from __future__ import annotations

from pathlib import Path

import click

from rsbench.cli.options import FILE, RESULTS, examples
from rsbench.cli.printing import print_checks
from rsbench.errors import RsbenchError


@click.group(epilog=examples("rsbench data where kinetics400"))
def data() -> None:
    """Say where a task's data is looked for, check it, or write its sample."""


@data.command("where", epilog=examples("rsbench data where kinetics400"))
@click.argument("task")
@click.option("--data", "given", type=FILE, help="Folder (or CSV) of the data set.")
def data_where(task: str, given: Path | None) -> None:
    """Say where the data of TASK is looked for, and what was found."""
    from rsbench.data.roots import config_path, find_root, variable_name
    from rsbench.registry import find_task

    spec = find_task(task).spec
    root = find_root(spec, given)
    places = f"--data, {variable_name(spec.name)}, then [data] {spec.name} in {config_path()}"
    if root is None:
        click.echo(f"{spec.name}: nothing is configured. Looked for in {places}.")
    else:
        click.echo(f"{spec.name}: {root.path} (named by {root.said_by})")
    click.echo(spec.how_to_get)


@data.command("sample", epilog=examples("rsbench data sample kinetics400 my-sample"))
@click.argument("task")
@click.argument("folder", type=RESULTS)
def data_sample(task: str, folder: Path) -> None:
    """Write the sample of TASK into FOLDER (new or empty), in the layout of the real data set."""
    from rsbench.registry import find_task

    spec = find_task(task).spec
    if folder.exists() and any(folder.iterdir()):
        raise RsbenchError(f"{folder} must be new or empty to take a sample; it holds files.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        spec.sample.write(folder)
    except OSError as error:
        raise RsbenchError(
            f"The sample of {spec.name} can't be written into {folder}: {error.strerror or error};"
            " free some space, or name a folder that is yours to write."
        ) from error
    num_files = sum(path.is_file() for path in folder.rglob("*"))
    click.echo(f"{folder} holds the sample of {spec.name}: {num_files} files.")


@data.command("check", epilog=examples("rsbench data check kinetics400 --data DIR"))
@click.argument("task")
@click.option("--data", "given", type=FILE, help="Folder (or CSV) of the data set.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def data_check(task: str, given: Path | None, as_json: bool) -> int:
    """Check the configured data of TASK (or --data) through the real loader."""
    from rsbench.checks import check_task
    from rsbench.data.roots import cache_root, find_root
    from rsbench.registry import find_task

    found = find_task(task)
    root = find_root(found.spec, given)
    if root is None:
        raise RsbenchError(
            f"No data of {task} is configured: give --data DIR. {found.spec.how_to_get}"
        )
    checks = check_task(found, data=root.path, cache_root=cache_root())
    return print_checks(checks, as_json=as_json)
