"""A supernet on two devices: `tf.distribute.MirroredStrategy` on two logical CPUs."""

from tests.integration import forkserver

SEARCH = """
import sys

import keras
import numpy as np
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.space import Layer, LayerChoice, Sequential, SpaceHyperModel, ValueChoice
from keras_nas_plugin.supernet.body import SupernetBody
from keras_nas_plugin.supernet import FairSampler, Supernet, SupernetTrainer, UniformSampler

operations = {name: Layer("Dense", units=4, activation=name) for name in ("relu", "tanh")}


def space(*layers):
    return SpaceHyperModel(
        Sequential(
            LayerChoice(operations),
            Layer("Dense", units=ValueChoice([2, 4])),
            *layers,
            Layer("Dense", units=2, activation="softmax"),
        ),
        inputs=(4,),
        compile={
            "optimizer": keras.optimizers.SGD(0.5), "loss": "sparse_categorical_crossentropy"
        },
    )


rng = np.random.default_rng(0)
x = rng.normal(size=(96, 4)).astype("float32")
y = (x[:, 0] * x[:, 1] > 0).astype("int32")
weight = rng.uniform(0.5, 1.5, size=96).astype("float32")
batches = [(x[i : i + 16], y[i : i + 16], weight[i : i + 16]) for i in range(0, 96, 16)]
batches.append((x[:15], y[:15], None))  # rows that two devices cannot share


rows = []
call = SupernetBody.call


def recorded(self, inputs, mask, training=None):
    if training:
        rows.append(mask.shape[0])
    return call(self, inputs, mask, training=training)


SupernetBody.call = recorded


def trained():
    keras.utils.set_random_seed(0)
    supernet = Supernet(space())
    rng = np.random.default_rng(0)
    sampler = UniformSampler(supernet.spec)
    trainer = SupernetTrainer(supernet, sampler, rng, class_weight={0: 2.0})
    trainer.epoch(batches)
    scores = trainer.score(supernet.spec.fill({}), [x[:16]], [(x, y, None)])
    return supernet.model.get_weights(), scores, trainer


one, score, _ = trained()
assert 16 in rows and 8 not in rows, rows
with strategy.scope():
    two, distributed, trainer = trained()
    try:
        SupernetTrainer(trainer.supernet, FairSampler(trainer.supernet.spec), rng)
    except StrategyError as error:
        assert "one path per step (UniformSampler)" in str(error), error
    else:
        raise AssertionError("several paths per step were accepted")

assert rows.count(8) == 2, rows  # traced for each device, with half of the rows
for first, second in zip(one, two, strict=True):
    np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-6)
np.testing.assert_allclose(score["loss"], distributed["loss"], rtol=1e-4)

from keras_nas_plugin import NASTuner, OneShotOracle

oracle = OneShotOracle(
    "val_loss", max_trials=2, seed=0, supernet_epochs=2, evaluations=4, calibration_trials=2
)
tuner = NASTuner(
    space("BatchNormalization"),
    oracle=oracle,
    directory=sys.argv[1],
    project_name="search",
    distribution_strategy=strategy,
)
tuner.search(
    x[:64], y[:64], epochs=1, validation_data=(x[64:], y[64:]), batch_size=16, verbose=0
)
trials = [trial.status for trial in oracle.trials.values()]
supernet = oracle.scores.evaluator.built()
print(supernet.model.distribute_strategy.num_replicas_in_sync, trials)
"""


def test_two_devices_train_as_one_and_a_search_uses_both(tmp_path):
    script = tmp_path / "search.py"
    script.write_text(SEARCH, encoding="utf-8")
    child = forkserver.fork_server().run(
        forkserver.SCRIPT, cwd=tmp_path, file=str(script), arguments=[str(tmp_path)]
    )
    assert child.returncode == 0, child.err[-4000:]
    assert child.out.splitlines()[-1] == "2 ['COMPLETED', 'COMPLETED']"
