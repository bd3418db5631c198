import sys
from pathlib import Path

# `catalogue.py` beside this file, for the tests of this folder.
sys.path.insert(0, str(Path(__file__).parent))
