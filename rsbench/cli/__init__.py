"""The command line: words in, lines out; nothing else parses or prints.

Exit codes: 0 done, 1 the work failed, 2 the user's words or data are wrong. What goes wrong by
the user's hand is one line on standard error; results go to standard output, progress to standard
error.

One file holds one group of verbs and imports nothing heavy before a verb is called; the last lines
of this file name every verb.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from rsbench import __version__
from rsbench.cli import (
    ablate,
    cache,
    choose,
    compare,
    data,
    doctor,
    export,
    importing,
    listing,
    merge,
    plugins,
    predict,
    profile,
    reference,
    report,
    reproduce,
    run,
    tables,
    verify,
    views,
    weights,
)
from rsbench.cli.options import examples
from rsbench.errors import RsbenchError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    try:
        code = commands.main(args=arguments, prog_name="rsbench", standalone_mode=False)
    except RsbenchError as error:
        # Messages name what files of others say, which could rewrite a terminal.
        from rsbench.tables.layout import clean

        lines = [clean(line) for line in str(error).split("\n")]
        click.echo("\n".join([f"rsbench: {lines[0]}", *lines[1:]]), err=True)
        code = error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = 2
    except click.ClickException as error:
        click.echo(f"rsbench: {error.format_message()}", err=True)
        code = 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("rsbench: stopped; what was finished is kept.", err=True)
        code = 130
    sys.exit(code if isinstance(code, int) else 0)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples("rsbench run --task kinetics400"),
)
@click.version_option(__version__, prog_name="rsbench")
def commands() -> None:
    """How well does a visual backbone transfer, to images and to video?"""


for verb in (
    run.run,
    ablate.ablate,
    tables.table,
    compare.compare,
    report.report,
    choose.choose,
    listing.ls,
    listing.show,
    merge.merge,
    importing.import_results,
    views.views,
    reproduce.reproduce,
    verify.verify,
    predict.predict,
    export.export,
    reference.check_reference,
    profile.profile,
    plugins.new,
    plugins.check,
    doctor.doctor,
    data.data,
    cache.cache,
    weights.weights,
):
    commands.add_command(verb)
