"""What the recipes share: a search, its baselines and its evaluation as a program.

A recipe is a Python file with a search space (`build_model`) and data (`load_data`), which is all
that `keras-nas search` needs. To be a program of its own, it adds how a model is judged and what
it is compared with (a `Recipe`), and hands them to `main`:

    recipes/tabular.py --data table.csv --max-trials 20 --epochs 30 --baseline

searches, registers the best model in MLflow, loads it from there, and judges it by rows that the
search never saw, beside a baseline that had the same budget.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import keras_tuner
import numpy as np

from keras_nas_plugin.errors import NASError

if TYPE_CHECKING:
    import pandas as pd

DATA, LIMIT = "NAS_DATASET", "NAS_LIMIT"
SPLIT_SEED = 0  # not the seed of the search: every search has the same test rows
HELD_OUT = 0.2  # the fraction of the rows that a missing split takes
SMOKE_TRIALS = 2

#: Anything with a method ``predict(x)``.
Predictor = Any
#: Judges a predictor by the test rows: ``score(model, x, y)``. The first metric decides.
Score = Callable[[Predictor, Any, Any], Mapping[str, float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """What a search may use, and a baseline as well.

    Attributes:
        trials: Number of trainings.
        epochs: Epochs of each training.
        batch_size: Rows of a step.
        seconds: Limit on the wall-clock time; None for no limit.
        seed: Seed of the search.
    """

    trials: int
    epochs: int
    batch_size: int
    seconds: float | None
    seed: int


@dataclasses.dataclass(frozen=True, eq=False)
class Splits:
    """What `load_data` of a recipe returned, by name; each split is a pair (x, y)."""

    training: tuple[Any, Any]
    validation: tuple[Any, Any]
    test: tuple[Any, Any]
    class_names: Sequence[str] | None = None
    class_weight: Mapping[int, float] | None = None

    @classmethod
    def of(cls, loaded: Any) -> Splits:
        """From three pairs, or the mapping that `as_mapping` returns."""
        if not isinstance(loaded, Mapping):
            return cls(*loaded)
        training = loaded["x"], loaded["y"]
        named = {name: loaded.get(name) for name in ("class_names", "class_weight")}
        return cls(training, loaded["validation_data"], loaded["test_data"], **named)

    def as_mapping(self) -> dict[str, Any]:
        """In the form that `keras-nas search` and `keras-nas promote` take from `load_data`."""
        (x, y), named = self.training, {}
        if self.class_names is not None:
            named["class_names"] = list(self.class_names)
        if self.class_weight is not None:
            named["class_weight"] = dict(self.class_weight)
        return {
            "x": x,
            "y": y,
            "validation_data": self.validation,
            "test_data": self.test,
            **named,
        }


#: Returns a predictor for the test rows after it has used the budget.
Baseline = Callable[[Splits, Budget], Predictor]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A search space, its data, and how models are judged.

    Attributes:
        name: In lower case with hyphens: names the search, the experiment and the model.
        build_model: The search space.
        load_data: Returns the training, validation and test data: see `Splits.of`.
        objective: By which the search chooses: a name, a `keras_tuner.Objective`, or a list of
            them, whose first chooses the model that is registered.
        constraints: On the costs of the models.
        strategy: Default of `--strategy`.
        score: By which the best model and the baselines are judged.
        larger_is_better: Whether this holds for the first metric of ``score``.
        baselines: By name.
        data: What `--data` may be, for the help.
        smoke_data: The value of `--data` in a smoke test; None for the default.
        smoke_rows: The value of `--limit` in a smoke test.
        trials: Default of `--max-trials`.
        epochs: Default of `--epochs`.
        batch_size: Default of `--batch-size`.
    """

    name: str
    build_model: Callable[[keras_tuner.HyperParameters], keras.Model]
    load_data: Callable[[], Any]
    objective: Any
    score: Score
    constraints: Sequence[Any] = ()
    strategy: str = "evolution"
    larger_is_better: bool = True
    baselines: Mapping[str, Baseline] = dataclasses.field(default_factory=dict)
    data: str = "the data"
    smoke_data: str | None = None
    smoke_rows: int = 200
    trials: int = 12
    epochs: int = 3
    batch_size: int = 32


# Helpers of the recipes


def data_settings(default: str) -> tuple[str, int]:
    """The data and the largest number of rows of each split, 0 for all, that a user asked for.

    They are environment variables, `NAS_DATASET` and `NAS_LIMIT`, and thereby reach `load_data` in
    `keras-nas search` and in worker processes too.

    Raises:
        ValueError: The limit is no number of rows.
    """
    limit = os.environ.get(LIMIT) or "0"
    if not limit.isdecimal():
        raise ValueError(f"`{LIMIT}` (`--limit`) must be a number of rows; got {limit!r}")
    return os.environ.get(DATA) or default, int(limit)


def download(file: str, address: str, checksum: str, *, extract: bool = False) -> Path:
    """Download a file once, into Keras' folder of data sets, and check it.

    Args:
        file: Its name.
        address: The address of its folder, which ends in a slash.
        checksum: SHA-256, or MD5 where the publisher gives no other.
        extract: Whether it is an archive to extract.

    Returns:
        The file; the folder with the extracted files if ``extract``.

    Raises:
        ConnectionError: It cannot be downloaded.
        ValueError: It is not the file that the checksum is of.
    """
    try:
        path = keras.utils.get_file(file, address + file, file_hash=checksum, extract=extract)
    except ValueError:
        raise
    except Exception as error:  # Keras raises this class itself
        raise ConnectionError(
            f"{address}{file} cannot be downloaded; `--data PATH` uses a copy: {error}"
        ) from error
    return Path(path)


def divide(
    rows: int, *, labels: np.ndarray | None = None, held_out: float = HELD_OUT
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the rows that stay, and of those that are held out; the same every time.

    Args:
        rows: Number of rows.
        labels: Classes of the rows, of which each then has the same share in both parts.
        held_out: The fraction that is held out.

    Raises:
        ValueError: There are too few rows.
    """
    from sklearn.model_selection import train_test_split

    classes, counts = np.unique([] if labels is None else labels, return_counts=True)
    if rows < 5 or rows * held_out < len(classes):
        raise ValueError(
            f"the data must have enough rows to hold out {held_out:.0%} of them with "
            f"{max(1, len(classes))} classes; got {rows}"
        )
    stratified = labels if len(classes) > 1 and counts.min() > 1 else None
    return tuple(
        np.sort(part)
        for part in train_test_split(
            np.arange(rows), test_size=held_out, random_state=SPLIT_SEED, stratify=stratified
        )
    )


def limited(rows: int, limit: int) -> np.ndarray:
    """Numbers of at most `limit` random rows, in order; of all rows for 0."""
    order = np.random.default_rng(SPLIT_SEED).permutation(rows)
    return np.sort(order[: limit or None])


def check_images(path: Path, images: Mapping[str, np.ndarray]) -> None:
    """Check that images are raw pixels of one shape.

    Args:
        path: Their file, for the message.
        images: Images of each split, of shape (n, ...).

    Raises:
        ValueError: They are not.
    """
    wrong = {name: str(x.dtype) for name, x in images.items() if x.dtype != np.uint8}
    if wrong:
        raise ValueError(f"{path} must have images of type uint8, 0 to 255; got {wrong}")
    shapes = {name: x.shape[1:] for name, x in images.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"{path} must have images of one shape; got {shapes}")


def accuracy(model: Predictor, x: Any, y: Any) -> dict[str, float]:
    """The fraction of rows whose most probable class is the right one."""
    return {"accuracy": float(np.mean(np.argmax(predict(model, x), axis=-1) == np.ravel(y)))}


def predict(model: Predictor, x: Any) -> np.ndarray:
    """What a model predicts, without a progress bar."""
    arguments = {"verbose": 0} if isinstance(model, keras.Model) else {}
    return np.asarray(model.predict(x, **arguments))


def network(
    build_model: Callable[[keras_tuner.HyperParameters], keras.Model], objective: Any
) -> Baseline:
    """A baseline that is a network made by hand.

    It is trained as often and as long as the trials of a search, each time with other initial
    weights and with other values of what `build_model` leaves open, such as its learning rate. The
    best training by the search's own objective counts.

    Args:
        build_model: Builds and compiles the network.
        objective: That of the search.
    """

    def train(data: Splits, budget: Budget) -> Predictor:
        from keras_nas_plugin import NASTuner, RandomOracle

        def build(hp: keras_tuner.HyperParameters) -> keras.Model:
            keras.utils.set_random_seed(hp.Int("seed", 0, 10_000))
            return build_model(hp)

        oracle = RandomOracle(objective, max_trials=budget.trials, seed=budget.seed)
        with tempfile.TemporaryDirectory() as folder:
            tuner = NASTuner(
                build,
                oracle=oracle,
                budget=budget.seconds,
                directory=folder,
                project_name="baseline",
            )
            _search(tuner, data, budget)
            models = tuner.get_best_models(1)
            if not models:
                limit = "no limit" if budget.seconds is None else f"{budget.seconds:g} seconds"
                raise NASError(f"`--budget` must be enough for one training; got {limit}")
            return models[0]

    return train


# The program


def main(
    recipe: Recipe, description: str | None, arguments: Sequence[str] | None = None
) -> dict[str, dict[str, float]]:
    """Run the command line of a recipe.

    Args:
        recipe: The recipe.
        description: The text of `--help`.
        arguments: The command line; None for that of the process.

    Returns:
        Metrics on the test rows, by name: of the search and of each baseline, or of the model that
        was to be evaluated.
    """
    parser = _parser(recipe, description)
    options = parser.parse_args(arguments)
    logging.getLogger("tensorflow").addFilter(_is_no_retracing)
    settings = {DATA: options.data, LIMIT: options.limit}
    if options.smoke:
        settings[DATA] = options.data or os.environ.get(DATA) or recipe.smoke_data
        settings[LIMIT] = options.limit or os.environ.get(LIMIT) or recipe.smoke_rows
        options.max_trials, options.epochs = SMOKE_TRIALS, 1
        options.directory = "searches"
    with _environment(settings), contextlib.ExitStack() as stack:
        try:
            recipe.load_data()  # recipes cache it: a path may be relative to the current folder
        except (ValueError, OSError, ImportError) as error:
            parser.error(str(error))
        if options.smoke:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            stack.enter_context(contextlib.chdir(folder))
        if options.tracking_uri is None:
            options.tracking_uri = f"sqlite:///{Path('mlflow.db').resolve().as_posix()}"
        if options.evaluate:
            scores = evaluate(recipe, options.evaluate, options.tracking_uri)
            return {options.evaluate: scores}
        return run(recipe, options)


def run(recipe: Recipe, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Search, register the best model, evaluate it, and compare it with the baselines.

    Args:
        recipe: The recipe.
        options: The command line.

    Returns:
        Metrics on the test rows, of the search and of each baseline, by name.
    """
    from keras_nas_plugin import MLflowTracker, NASTuner
    from keras_nas_plugin.oracles.registry import accepts, make_oracle

    data = Splits.of(recipe.load_data())
    budget = Budget(
        trials=options.max_trials,
        epochs=options.epochs,
        batch_size=options.batch_size,
        seconds=options.budget,
        seed=options.seed,
    )
    first: dict[str, Any] = {}
    if options.strategy != "random" and accepts(options.strategy, "initial"):
        first["initial"] = [_defaults(recipe)]
    tuner = NASTuner(
        recipe.build_model,
        oracle=make_oracle(
            options.strategy,
            recipe.objective,
            budget.trials,
            seed=budget.seed,
            epochs=budget.epochs,
            **first,
            **({"constraints": list(recipe.constraints)} if recipe.constraints else {}),
        ),
        tracker=MLflowTracker(experiment=options.experiment, tracking_uri=options.tracking_uri),
        budget=budget.seconds,
        directory=options.directory,
        project_name=recipe.name.replace("-", "_"),
        overwrite=options.overwrite,
    )
    start = time.monotonic()
    _search(tuner, data, budget)
    seconds = {"search": time.monotonic() - start}
    tuner.results_summary(1)
    if isinstance(recipe.objective, list):
        print(pareto_front(tuner.trials_dataframe(), recipe.objective))
    tuner.register_best(options.register, class_names=data.class_names)
    uri = f"models:/{options.register}@challenger"
    scores = {"search": evaluate(recipe, uri, options.tracking_uri)}
    if options.baseline:
        for name, baseline in recipe.baselines.items():
            start = time.monotonic()
            try:
                model = baseline(data, budget)
            except NASError as error:  # the search took longer, and is still worth its line
                print(f"{name} failed: {error}")
                continue
            seconds[name] = time.monotonic() - start
            scores[name] = dict(recipe.score(model, *data.test))
        print(comparison(scores, seconds, recipe.larger_is_better))
    return scores


def evaluate(recipe: Recipe, model_uri: str, tracking_uri: str) -> dict[str, float]:
    """Load a model from MLflow, and print its metrics on the test rows."""
    import mlflow

    keras.utils.disable_interactive_logging()  # no progress bar over the one line below
    mlflow.set_tracking_uri(tracking_uri)
    model = mlflow.pyfunc.load_model(model_uri).get_raw_model()
    x, y = Splits.of(recipe.load_data()).test
    scores = dict(recipe.score(model, x, y))
    line = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
    print(f"{model_uri}: {line} on {len(y)} test rows (the search never saw them)")
    return scores


def comparison(
    scores: Mapping[str, Mapping[str, float]], seconds: Mapping[str, float], larger: bool
) -> str:
    """A table of the search and its baselines, and a sentence that says which of them wins.

    Args:
        scores: Metrics by name of the contestant; ``"search"`` is one of them.
        seconds: The time that each contestant took.
        larger: Whether a larger value of the first metric is better.
    """
    metrics = list(scores["search"])
    width = max(map(len, scores))
    column = max(14, 2 + max(map(len, metrics)))
    lines = [" " * width + "".join(f"{name:>{column}}" for name in (*metrics, "seconds"))]
    for name, values in scores.items():
        cells = "".join(f"{values[metric]:>{column}.4f}" for metric in metrics)
        lines.append(f"{name:{width}}{cells}{seconds[name]:>{column}.0f}")
    sign = 1 if larger else -1
    ranked = sorted(scores, key=lambda name: sign * scores[name][metrics[0]], reverse=True)
    if len(ranked) == 1:
        return "\n".join(lines)
    best, second = (scores[name][metrics[0]] for name in ranked[:2])
    verdict = (
        f"{ranked[0]} wins: {metrics[0]} {best:.4f} against {second:.4f} of {ranked[1]}"
        if best != second
        else f"{ranked[0]} and {ranked[1]} are equal: {metrics[0]} {best:.4f}"
    )
    return "\n".join([*lines, verdict])


def _defaults(recipe: Recipe) -> dict[str, Any]:
    """The configuration of defaults: the model that the author of the space would begin with."""
    from keras_nas_plugin.space.hyperparameters import spec_of

    hp = keras_tuner.HyperParameters()
    recipe.build_model(hp)
    return dict(spec_of(hp).fill({}))


def _is_no_retracing(record: logging.LogRecord) -> bool:
    """Whether a message is not TensorFlow's advice to trace less: each trial is a new model."""
    return "triggered tf.function retracing" not in record.getMessage()


def pareto_front(trials: pd.DataFrame, objectives: Sequence[Any]) -> str:
    """A table of the trials that no other trial beats in every objective, the best first.

    Args:
        trials: See `NASTuner.trials_dataframe`.
        objectives: At least two; the first sorts the table.
    """
    from keras_nas_plugin.oracles.objectives import checked_objective
    from keras_nas_plugin.pareto import non_dominated

    trials = trials[trials["rank"].notna()]
    columns, oriented = {}, []
    for objective in checked_objective(objectives):
        column = f"costs.{objective.name}"
        values = trials[column if column in trials else f"metrics.{objective.name}"]
        columns[objective.name] = values
        oriented.append(values if objective.direction == "max" else -values)
    front = non_dominated(np.stack(oriented, axis=1).astype("float64"))
    order = np.argsort(-oriented[0].to_numpy()[front], kind="stable")
    lines = ["trials that no other beats in every objective:"]
    lines.append("trial   " + "".join(f"{name:>25}" for name in columns))
    for trial in trials.index[front][order]:
        cells = "".join(f"{values[trial]:>25.5g}" for values in columns.values())
        lines.append(f"{trial:8}{cells}")
    return "\n".join(lines)


def _search(tuner: Any, data: Splits, budget: Budget) -> None:
    x, y = data.training
    training = {"epochs": budget.epochs, "batch_size": budget.batch_size, "verbose": 0}
    if data.class_weight is not None:
        training["class_weight"] = dict(data.class_weight)
    tuner.search(x, y, validation_data=data.validation, **training)


def _parser(recipe: Recipe, description: str | None) -> argparse.ArgumentParser:
    from keras_nas_plugin.oracles.registry import strategy_names

    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", "--dataset", metavar="NAME|PATH", help=recipe.data)
    add("--limit", type=_at_least(int, 1), metavar="N", help="use at most N rows of each split")
    add("--max-trials", type=_at_least(int, 1), default=recipe.trials, metavar="N")
    add("--epochs", type=_at_least(int, 1), default=recipe.epochs, metavar="N")
    add("--batch-size", type=_at_least(int, 1), default=recipe.batch_size, metavar="N")
    add(
        "--budget",
        type=_at_least(float, 1.0),
        metavar="SECONDS",
        help="limit of the search, and of each baseline",
    )
    add("--strategy", choices=strategy_names(), default=recipe.strategy, metavar="NAME")
    add("--seed", type=int, default=0, metavar="N")
    names = ", ".join(recipe.baselines)
    add(
        "--baseline",
        action="store_true",
        help=f"also give the budget to {names}, and say which is better" if names else "nothing",
    )
    add("--directory", default="searches", help="directory of the search")
    add("--overwrite", action="store_true", help="start again instead of resuming")
    add("--tracking-uri", metavar="URI", help="MLflow's store (default: ./mlflow.db)")
    add("--experiment", default=recipe.name, metavar="NAME")
    add("--register", default=recipe.name, metavar="NAME", help="the model's name")
    add("--evaluate", metavar="MODEL_URI", help="only evaluate a registered model")
    add(
        "--smoke",
        action="store_true",
        help=f"{SMOKE_TRIALS} trials of 1 epoch on {recipe.smoke_rows} rows; keeps nothing",
    )
    return parser


def _at_least(number: type, least: float) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        with contextlib.suppress(ValueError):
            value = number(text)
            if value >= least:
                return value
        raise argparse.ArgumentTypeError(f"must be at least {least}; got {text!r}")

    return parse


@contextlib.contextmanager
def _environment(settings: Mapping[str, object]) -> Iterator[None]:
    """Set environment variables within this block, except those that are None."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update({name: str(value) for name, value in settings.items() if value})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
