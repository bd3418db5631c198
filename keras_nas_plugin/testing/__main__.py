"""``python -m keras_nas_plugin.testing module:Oracle``: run the contract suite on an oracle.

One JSON object per property goes to stdout: its name, and its error or null. The exit
code is 0 when all hold.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Sequence

# Before TensorFlow is imported: its banner would fill the report.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from keras_nas_plugin.testing.contract import PROPERTIES, check_oracle
from keras_nas_plugin.testing.targets import load


def main(arguments: Sequence[str]) -> int:
    """Check the oracle named by the first argument; the others pick properties."""
    if not arguments:
        print("usage: python -m keras_nas_plugin.testing module:Oracle [property ...]")
        return 2
    make_oracle = load(arguments[0])
    failed = 0
    for name in arguments[1:] or PROPERTIES:
        error = None
        try:
            # KerasTuner prints; the report on stdout stays machine-readable.
            with contextlib.redirect_stdout(sys.stderr):
                check_oracle(make_oracle, name)
        except Exception:
            error, failed = traceback.format_exc(), failed + 1
        print(json.dumps({"property": name, "error": error}), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
