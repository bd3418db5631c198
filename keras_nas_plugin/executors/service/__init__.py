"""KerasTuner's chief and workers, with deadlines and leases."""
