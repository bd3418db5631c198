"""Cores, memory and GPUs of workers."""

from __future__ import annotations

import os

import pytest

from keras_nas_plugin import LocalExecutor
from keras_nas_plugin.errors import ArgumentError
from keras_nas_plugin.executors import local_resources, memory
from keras_nas_plugin.executors.local_resources import automatic_workers, environments


@pytest.fixture
def gpus(monkeypatch):
    """Sets the GPUs that are visible, and 8 cores."""
    monkeypatch.setattr(local_resources, "cores", lambda: 8)
    return lambda visible: monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)


def visible(workers, share):
    return [
        environment.get("CUDA_VISIBLE_DEVICES")
        for environment in environments(workers, None, share)
    ]


def test_cores_are_divided(gpus):
    gpus("-1")
    assert environments(3, None, None)[2] == {
        "OMP_NUM_THREADS": "2",
        "TF_NUM_INTRAOP_THREADS": "2",
        "TF_NUM_INTEROP_THREADS": "2",
    }
    assert environments(16, None, None)[0]["OMP_NUM_THREADS"] == "1"
    assert environments(2, 3, None)[1]["OMP_NUM_THREADS"] == "3"


def test_gpus_are_dealt_in_turn_or_shared_or_hidden(gpus):
    gpus("4,GPU-7")
    assert visible(3, None) == ["4", "GPU-7", "4"]
    assert visible(4, 0.5) == ["4", "4", "GPU-7", "GPU-7"]
    assert visible(2, 0.3) == ["4", "4"]
    assert visible(2, 1) == ["4", "GPU-7"]
    assert visible(1, 2) == ["4,GPU-7"]
    assert visible(2, 0) == ["-1", "-1"]
    gpus("-1")
    assert visible(2, None) == [None, None]


def test_workers_that_share_a_gpu_allocate_its_memory_as_they_need_it(gpus):
    gpus("0")
    growth = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    for workers, share, shared in ((2, 0.5, True), (2, None, True), (1, 1, False)):
        assert (growth.items() <= environments(workers, None, share)[0].items()) == shared


def test_more_workers_than_gpus_are_refused(gpus):
    gpus("0,1")
    message = "`workers` must be at most 4 with `gpus_per_worker=0.5` on 2 GPUs; got 5"
    with pytest.raises(ArgumentError, match=message):
        environments(5, None, 0.5)
    gpus("-1")
    with pytest.raises(ArgumentError, match="at most 0 with `gpus_per_worker=1` on 0 GPUs; got 1"):
        environments(1, None, 1)


def test_automatic_workers_are_limited_by_cores_memory_and_gpus(gpus, monkeypatch):
    gpus("-1")
    monkeypatch.setattr(memory, "available_bytes", lambda: 100 * 10**9)
    assert automatic_workers(None, None, None) == 8
    assert automatic_workers(3, None, None) == 2
    assert automatic_workers(None, 20 * 10**9, None) == 5
    gpus("0,1")
    assert automatic_workers(None, None, None) == 2
    assert automatic_workers(None, None, 0.5) == 4
    assert automatic_workers(None, None, 2) == 1
    assert automatic_workers(None, None, 0) == 8
    monkeypatch.setattr(memory, "available_bytes", lambda: 0)
    assert automatic_workers(None, None, None) == 1


def test_memory_that_is_available_respects_the_limit_of_a_container(tmp_path, monkeypatch):
    free = memory.available_bytes()
    assert 0 < free < 2**50
    (tmp_path / "max").write_text("1000\n")
    (tmp_path / "current").write_text("400\n")
    monkeypatch.setattr(memory, "_LIMITS", ((tmp_path / "max", tmp_path / "current"),))
    assert memory.available_bytes() == 600
    (tmp_path / "max").write_text("max\n")
    assert memory.available_bytes() > 600


@pytest.mark.parametrize(
    ("text", "size"),
    [(1500, 1500), ("2GB", 2 * 10**9), ("1.5 GiB", 3 * 2**29), ("64mb", 64 * 10**6)],
)
def test_sizes_are_bytes_or_text(text, size):
    assert memory.parse_bytes(text, "memory_per_worker") == size


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 0},
        {"workers": True},
        {"workers": "many"},
        {"threads_per_worker": 0},
        {"trial_timeout": 0},
        {"memory_per_worker": "much"},
        {"memory_per_worker": 0},
        {"memory_per_worker": True},
        {"gpus_per_worker": 1.5},
        {"gpus_per_worker": -1},
        {"gpus_per_worker": "one"},
    ],
)
def test_bad_arguments_are_named(options):
    with pytest.raises(ArgumentError, match=f"`{next(iter(options))}` must be"):
        LocalExecutor(**options)


def test_a_process_knows_its_memory():
    used = memory.used_bytes(os.getpid())
    block = bytearray(os.urandom(1)) * 64_000_000
    assert memory.used_bytes(os.getpid()) > used + 32_000_000, len(block)
    assert memory.used_bytes(2**22 + 1) is None
