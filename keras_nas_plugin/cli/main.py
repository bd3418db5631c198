"""The command group of `keras-nas`, and the exit codes of errors."""

from __future__ import annotations

import sys

import click

import keras_nas_plugin
from keras_nas_plugin.cli.best import best
from keras_nas_plugin.cli.compare import compare
from keras_nas_plugin.cli.export import export
from keras_nas_plugin.cli.init import init
from keras_nas_plugin.cli.list import list_searches
from keras_nas_plugin.cli.predict import predict
from keras_nas_plugin.cli.promote import promote
from keras_nas_plugin.cli.register import register
from keras_nas_plugin.cli.report import report
from keras_nas_plugin.cli.retrain import retrain
from keras_nas_plugin.cli.rollback import rollback
from keras_nas_plugin.cli.search import search
from keras_nas_plugin.cli.serve import serve
from keras_nas_plugin.cli.show import show
from keras_nas_plugin.cli.sync import sync
from keras_nas_plugin.cli.trials import trials
from keras_nas_plugin.errors import NASError, RecipeError

EXIT_CODES = """
\b
Exit codes:
  0    done
  1    the search failed, a promotion or export was refused, or MLflow is down or denies access
  2    wrong usage, or an unusable file, trial, model or alias
  3    no trial finished
  130  interrupted (143: terminated); finished trials are kept
"""


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXIT_CODES,
)
@click.version_option(keras_nas_plugin.__version__, prog_name="keras-nas")
def cli() -> None:
    """Neural architecture search with KerasTuner oracles and MLflow tracking."""


for command in (
    *(init, search, list_searches, trials, best, show, report, compare),
    *(sync, retrain, register, promote, rollback),
    *(export, predict, serve),
):
    cli.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit.

    Args:
        arguments: Command-line arguments without the program name; None for those of the process.
    """
    try:
        code = cli.main(arguments, prog_name="keras-nas", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except RecipeError as error:
        _print_error(error)
        sys.exit(2)
    except (NASError, OSError) as error:
        # A full disk or a folder that was deleted: the search can be resumed afterwards.
        _print_error(error)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _print_error(error: Exception) -> None:
    click.echo(f"Error: {error}", err=True)


if __name__ == "__main__":
    main()
