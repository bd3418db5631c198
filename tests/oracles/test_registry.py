"""Strategies by name, including those of other distributions."""

import textwrap

import keras_tuner
import pytest

from keras_nas_plugin import oracles
from keras_nas_plugin.errors import NASError, ObjectiveError, StrategyError
from keras_nas_plugin.oracles import NASOracle, RegularizedEvolutionOracle, registry, stock
from keras_nas_plugin.oracles.registry import accepts, make_oracle, strategy_names

MODULE = """
import keras_tuner
from keras_nas_plugin.oracles import RandomOracle

class Mine(RandomOracle):
    pass

class Plain(keras_tuner.oracles.RandomSearchOracle):
    pass

def factory(objective, max_trials, *, seed=None, temperature=1.0):
    made = RandomOracle(objective, max_trials, seed=seed)
    made.temperature = temperature
    return made

def greedy(goal, count, **options):
    made = RandomOracle(goal, count, seed=options.pop("seed"))
    made.options = options
    return made

def fails(objective, max_trials):
    raise ZeroDivisionError("no luck")

def nothing(objective, max_trials):
    return None

number = 3
"""

ENTRIES = {
    "mine": "third_party:Mine",
    "plain": "third_party:Plain",
    "factory": "third_party:factory",
    "greedy": "third_party:greedy",
    "fails": "third_party:fails",
    "nothing": "third_party:nothing",
    "number": "third_party:number",
    "gone": "third_party:gone",
    "no-module": "no_such_module:Oracle",
}


def install(folder, distribution, entries):
    """Create the metadata of an installed distribution, as in ``site-packages``."""
    info = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = "\n".join(f"{name} = {target}" for name, target in entries.items())
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{lines}\n")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on the path with a distribution of strategies in it."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "third_party.py").write_text(textwrap.dedent(MODULE))
    install(folder, "nas-of-others", ENTRIES)
    monkeypatch.syspath_prepend(folder)
    return folder


def test_strategy_names_include_built_in_stock_and_entry_point_strategies(site):
    expected = {*oracles.STRATEGIES, "auto", "bayesian", "grid", "hyperband", *ENTRIES}
    assert set(strategy_names()) == expected
    assert list(strategy_names()) == sorted(strategy_names())
    assert not oracles.STRATEGIES.keys() & registry.STOCK.keys()


@pytest.mark.parametrize("name", sorted({*oracles.STRATEGIES, *registry.STOCK}))
def test_every_strategy_is_created_with_the_options_that_it_accepts(name):
    oracle = make_oracle(name, "val_accuracy", 7, seed=5, epochs=9)
    assert oracle.objective == keras_tuner.Objective("val_accuracy", "max")
    assert oracle.seed == 5
    assert oracle.max_trials == (None if name == "hyperband" else 7)
    assert getattr(oracle, "max_epochs", 9) == 9
    table, module = (
        (oracles.STRATEGIES, oracles)
        if name in oracles.STRATEGIES
        else (
            registry.STOCK,
            stock,
        )
    )
    assert type(oracle) is getattr(module, table[name])
    assert isinstance(oracle, NASOracle) == (name in oracles.STRATEGIES)


def test_max_epochs_default_to_those_of_the_class():
    assert make_oracle("hyperband", "val_loss").max_epochs == 100
    assert make_oracle("hyperband", "val_loss", epochs=9, max_epochs=4).max_epochs == 4


def test_options_are_passed_to_the_class():
    oracle = make_oracle("evolution", "val_loss", 50, population_size=6)
    assert oracle.strategy.population_size == 6
    assert make_oracle("bayesian", "val_loss", 9, beta=1.5).beta == 1.5


def test_several_objectives_and_no_objective_are_accepted():
    oracle = make_oracle("bayesian", ["val_loss", keras_tuner.Objective("size", "min")], 3)
    assert [objective.name for objective in oracle.objective.objectives] == ["val_loss", "size"]
    assert make_oracle("random").objective.name == "default_objective"


@pytest.mark.parametrize("name", ["bayesian", "grid", "hyperband", "plain"])
def test_seed_zero_is_replaced_for_oracles_of_keras_tuner(site, name):
    assert make_oracle(name, "val_loss", 3, seed=0).seed == 2**31 - 1
    assert make_oracle(name, "val_loss", 3, seed=3).seed == 3
    assert make_oracle(name, "val_loss", 3).seed > 0


def test_seed_zero_is_passed_to_other_oracles(site):
    for name in ("random", "mine", "factory"):
        assert make_oracle(name, "val_loss", 3, seed=0).seed == 0


def test_halving_accepts_its_source_by_name():
    oracle = make_oracle("halving", "val_loss", 30, seed=5, epochs=9, source="evolution")
    source_strategy = RegularizedEvolutionOracle("val_loss", 30).strategy
    assert oracle.strategy.population_size == source_strategy.population_size
    assert (oracle.max_trials, oracle.seed, oracle.max_epochs) == (30, 5, 9)
    with pytest.raises(StrategyError, match="`source` must be an oracle of this package"):
        make_oracle("halving", "val_loss", 30, source="grid")


@pytest.mark.parametrize(
    ("name", "takes"),
    [
        ("evolution", "warm_start constraints max_trials seed population_size"),
        ("halving", "warm_start constraints max_trials seed max_epochs source factor"),
        ("grid", "max_trials seed"),
        ("bayesian", "max_trials seed beta"),
        ("hyperband", "seed max_epochs factor"),
        ("mine", "warm_start constraints max_trials seed"),
        ("plain", "max_trials seed"),
        ("factory", "max_trials seed temperature"),
    ],
)
def test_accepts_reports_the_options_of_a_strategy(site, name, takes):
    options = "warm_start constraints max_trials max_epochs source seed population_size beta"
    options = [*options.split(), "factor", "temperature", "anything"]
    assert {option for option in options if accepts(name, option)} == set(takes.split())
    assert all(accepts("greedy", option) for option in options)


def test_an_option_that_a_strategy_does_not_accept_is_named():
    with pytest.raises(StrategyError, match="'grid' has no argument `warm_start`; got \\[\\]"):
        make_oracle("grid", "val_loss", 3, warm_start=[])


def test_an_unknown_name_lists_the_valid_names(site):
    with pytest.raises(
        StrategyError,
        match="must be one of auto, bayesian, differentiable, evolution, .*; got 'bo'",
    ):
        make_oracle("bo", "val_loss", 3)
    with pytest.raises(StrategyError, match="mine"):
        accepts("bo", "seed")


def test_entry_points_may_be_classes_or_functions(site):
    assert type(make_oracle("mine", "val_loss", 3, seed=1)).__name__ == "Mine"
    made = make_oracle("factory", "val_loss", 3, seed=1, epochs=9, temperature=0.5)
    assert (made.max_trials, made.seed, made.temperature) == (3, 1, 0.5)
    made = make_oracle("greedy", "val_accuracy", 4, seed=2, epochs=9, depth=1)
    assert (made.max_trials, made.seed) == (4, 2)
    assert made.options == {"max_epochs": 9, "depth": 1}


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("fails", "raised ZeroDivisionError: no luck"),
        ("nothing", "got NoneType"),
        ("number", "got int"),
        ("gone", "loading it raised AttributeError"),
        ("no-module", "loading it raised ModuleNotFoundError"),
    ],
)
def test_a_broken_entry_point_names_its_distribution(site, name, problem):
    with pytest.raises(StrategyError) as raised:
        make_oracle(name, "val_loss", 3)
    assert f"strategy {name!r} of distribution 'nas-of-others'" in str(raised.value)
    assert problem in str(raised.value) and ENTRIES[name] in str(raised.value)


def test_invalid_arguments_are_not_blamed_on_the_distribution(site):
    with pytest.raises(ObjectiveError, match="val_f1_score"):
        make_oracle("factory", "val_f1_score", 3)
    with pytest.raises(NASError, match="`max_trials` must be at least 1"):
        make_oracle("factory", "val_loss", 0)


def test_built_in_names_take_precedence_then_the_first_distribution(site, caplog):
    install(
        site, "also-of-others", {"evolution": "third_party:Mine", "factory": "third_party:Mine"}
    )
    assert strategy_names().count("evolution") == 1
    assert type(make_oracle("evolution", "val_loss", 3)) is RegularizedEvolutionOracle
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    for part in ("'evolution' is the built-in strategy", "third_party:Mine", "'also-of-others'"):
        assert part in record.getMessage()
    caplog.clear()
    # The first distribution in alphabetical order, not in that of the file system.
    assert type(make_oracle("factory", "val_loss", 3)).__name__ == "Mine"
    assert "that of distribution 'also-of-others', not third_party:factory" in caplog.text


def test_a_distribution_listed_twice_is_no_duplicate(site, tmp_path, monkeypatch, caplog):
    second_site = tmp_path / "other"
    second_site.mkdir()
    install(second_site, "nas-of-others", ENTRIES)
    monkeypatch.syspath_prepend(second_site)
    make_oracle("factory", "val_loss", 3)
    assert not caplog.records
