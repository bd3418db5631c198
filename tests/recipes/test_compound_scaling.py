"""The recipe for compound scaling: smoke test, coefficients, operations, bad input."""

from __future__ import annotations

import keras_tuner
import numpy as np
import pytest

from keras_nas_plugin import count_flops
from recipes import compound_scaling as recipe


def test_the_smoke_test_scales(smoke, monkeypatch) -> None:
    monkeypatch.setenv("NAS_SCALE", "0")
    monkeypatch.setattr(recipe, "BLOCKS", (1, 2))  # all stages are built in another test
    monkeypatch.setattr(recipe, "WIDTHS", recipe.WIDTHS[:2])
    scores = smoke(recipe, "--limit", "32")
    assert 0 <= scores["search"]["accuracy"] <= 1
    assert scores["search"]["mflops"] > 0


@pytest.mark.parametrize(("depth", "width"), [(1, 0), (0, 1), (0, 0), (0.25, 0.375)])
def test_a_step_doubles_the_operations(depth: float, width: float) -> None:
    alpha, beta, gamma = recipe.coefficients(depth, width)
    assert alpha * beta**2 * gamma**2 == pytest.approx(2)


def test_scaled_networks_have_about_the_operations_that_are_asked_for(
    tmp_path, monkeypatch
) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x_train=np.zeros((30, 32, 32), "uint8"), y_train=np.arange(30) % 2)
    monkeypatch.setenv("NAS_DATASET", str(path))

    def flops(doublings: int, depth: float, width: float) -> int:
        monkeypatch.setenv("NAS_SCALE", str(doublings))
        hp = keras_tuner.HyperParameters()
        hp.Fixed("depth_share", depth)
        hp.Fixed("width_share_of_rest", width)
        return count_flops(recipe.build_model(hp))

    base = flops(0, 0.5, 0.5)
    assert base == flops(0, 1.0, 0.0)  # nothing to distribute
    for depth, width in ((1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (0.5, 0.5)):
        assert 2.5 < flops(2, depth, width) / base < 6


@pytest.mark.parametrize("value", ["large", "-1", "7", "nan"])
def test_a_scale_out_of_range_is_refused(value: str, monkeypatch, capsys) -> None:
    monkeypatch.setenv("NAS_SCALE", value)
    with pytest.raises(SystemExit, match="2"):
        recipe.main(["--smoke"])
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.endswith(f"`NAS_SCALE` must be a number from 0 to 6; got '{value}'")
