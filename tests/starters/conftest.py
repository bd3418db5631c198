"""What the tests of the starters share."""

import sys

import recipes

# The recipes of this checkout, where the installed package may have those of another: written
# recipes import them.
sys.modules["keras_nas_plugin.recipes"] = recipes
