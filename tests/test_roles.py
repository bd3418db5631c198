"""The role of a process, from KerasTuner's environment variables."""

import pytest

from keras_nas_plugin.roles import Role


@pytest.mark.parametrize(
    ("tuner_id", "address", "role"),
    [
        (None, None, Role.SINGLE),
        ("chief", None, Role.SINGLE),
        ("chief", "127.0.0.1", Role.CHIEF),
        ("tuner0", "127.0.0.1", Role.WORKER),
        (None, "127.0.0.1", Role.WORKER),
    ],
)
def test_the_role_follows_from_the_environment(monkeypatch, tuner_id, address, role):
    for name, value in (("TUNER_ID", tuner_id), ("ORACLE_IP", address)):
        monkeypatch.delenv(f"KERASTUNER_{name}", raising=False)
        if value is not None:
            monkeypatch.setenv(f"KERASTUNER_{name}", value)
    assert Role.of_process() is role
    assert role.owns_search == (role is not Role.WORKER)
    assert role.runs_trials == (role is not Role.CHIEF)
