"""Gates: what a challenger has to pass, one file each; `base.py` says what a gate is."""
