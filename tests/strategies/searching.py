"""A conditional search space, a score on it, and an ask/tell loop that runs a strategy."""

import numpy as np

from keras_nas_plugin.space import Categorical, Condition, Decision, Integer, Real, SearchSpec

LAYERS = 3
NETWORK = SearchSpec(
    (
        Decision("depth", Integer(1, LAYERS)),
        Decision("rate", Real(1e-5, 1e-1, None, "log")),
        Decision("optimizer", Categorical(("sgd", "adam", "rms"))),
        Decision("momentum", Real(0.0, 0.99), (Condition("optimizer", ("sgd",)),)),
        *(
            Decision(
                f"{what}{layer}",
                domain,
                (Condition("depth", tuple(range(layer + 1, LAYERS + 1))),) if layer else (),
            )
            for layer in range(LAYERS)
            for what, domain in (
                ("width", Integer(8, 512, 2, "log")),
                ("activation", Categorical(("relu", "tanh", "gelu"))),
            )
        ),
    )
)


def accuracy(values):
    """Mixed and conditional: best for deep, wide `gelu` networks at a fitting learning rate."""
    layers = range(values["depth"])
    width = sum(np.log2(values[f"width{layer}"]) for layer in layers)
    best = {"sgd": -1.5, "adam": -3.0, "rms": -3.5}[values["optimizer"]]
    score = -((np.log10(values["rate"]) - best) ** 2) - 0.02 * (width - 20.0) ** 2
    score += {"sgd": 0.0, "adam": 0.4, "rms": 0.2}[values["optimizer"]]
    score += values.get("momentum", 0.0)
    score += sum(0.3 for layer in layers if values[f"activation{layer}"] == "gelu")
    return float(score)


def search(strategy, spec, trials, score, seed, batch=1):
    """Run a search with ``batch`` workers; returns values and scores, in order."""
    rng, tried, history, running = np.random.default_rng(seed), set(), [], {}
    for number in range(trials):
        proposal = strategy.ask(spec, rng, tried=lambda v: spec.key(v) in tried, pending=running)
        if proposal is None:
            break
        values = proposal.values
        spec.validate(values)
        assert spec.key(values) not in tried, "proposed twice"
        tried.add(spec.key(values))
        running[str(number)] = values
        if len(running) == batch or number == trials - 1:
            for trial_id, configuration in running.items():
                scored = score(configuration)
                strategy.tell(trial_id, configuration, None if scored is None else (scored,))
                history.append((configuration, scored))
            running.clear()
    return history


def best(history):
    return max(score for _, score in history if score is not None)
