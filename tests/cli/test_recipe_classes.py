"""Class names of a user's file."""

from __future__ import annotations

from keras_nas_plugin.cli.recipe import Recipe, class_names_of, fit_arguments
from tests.cli.conftest import RECIPE


def test_class_names_come_from_the_data_before_the_file(tmp_path):
    path = tmp_path / "classes_recipe.py"
    path.write_text(RECIPE + "\nCLASS_NAMES = ['low', 'high']\n", encoding="utf-8")
    recipe = Recipe(str(path))
    data = recipe.load()
    assert class_names_of(recipe, data) == ["low", "high"]
    mapping = {"x": data[0][0], "y": data[0][1], "class_names": [0, 1]}
    assert class_names_of(recipe, mapping) == ["0", "1"]
    assert fit_arguments(mapping).keys() == {"x", "y"}
