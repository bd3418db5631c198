"""Where the trials of a search run.

The search loop (`loop.py`) takes trials from an oracle, hands them to an `Executor` and reports
how they ended; it does not know where they run. To run trials elsewhere, add one file here.
"""
