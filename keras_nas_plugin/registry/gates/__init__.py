"""The gates that a challenger has to pass, one file each; `base.py` defines their interface."""
