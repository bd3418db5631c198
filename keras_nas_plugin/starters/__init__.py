"""Writes recipes for your own data, and has the functions that these recipes call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_nas_plugin.lazy import attach

_EXPORTS = {
    "Draft": "keras_nas_plugin.starters.base",
    "Request": "keras_nas_plugin.starters.base",
    "Starter": "keras_nas_plugin.starters.base",
    "arrays": "keras_nas_plugin.starters.table_data",
    "at_random": "keras_nas_plugin.starters.splits",
    "box_splits": "keras_nas_plugin.starters.box_data",
    "cached": "keras_nas_plugin.starters.splits",
    "class_weights": "keras_nas_plugin.starters.splits",
    "clip_splits": "keras_nas_plugin.starters.audio_data",
    "column_inputs": "keras_nas_plugin.starters.encoding",
    "date_features": "keras_nas_plugin.starters.encoding",
    "draft_recipe": "keras_nas_plugin.starters.kinds",
    "forecast_splits": "keras_nas_plugin.starters.series_data",
    "frequent_words": "keras_nas_plugin.starters.encoding",
    "image_splits": "keras_nas_plugin.starters.image_data",
    "in_time_order": "keras_nas_plugin.starters.splits",
    "labels_of": "keras_nas_plugin.starters.table_data",
    "mask_splits": "keras_nas_plugin.starters.mask_data",
    "next_words": "keras_nas_plugin.starters.translation_data",
    "pair_splits": "keras_nas_plugin.starters.translation_data",
    "read_clip": "keras_nas_plugin.starters.audio_data",
    "read_image": "keras_nas_plugin.starters.image_data",
    "read_series": "keras_nas_plugin.starters.series_data",
    "read_table": "keras_nas_plugin.starters.table_data",
    "read_texts": "keras_nas_plugin.starters.text_data",
    "rows_of": "keras_nas_plugin.starters.table_data",
    "scaled_number": "keras_nas_plugin.starters.encoding",
    "series_splits": "keras_nas_plugin.starters.series_data",
    "stratified": "keras_nas_plugin.starters.splits",
    "stream_table": "keras_nas_plugin.starters.table_data",
    "translate": "keras_nas_plugin.starters.translation_data",
    "unlabelled_image_splits": "keras_nas_plugin.starters.image_data",
}

__all__ = [*_EXPORTS]

if TYPE_CHECKING:
    from keras_nas_plugin.starters.audio_data import clip_splits as clip_splits
    from keras_nas_plugin.starters.audio_data import read_clip as read_clip
    from keras_nas_plugin.starters.base import Draft as Draft
    from keras_nas_plugin.starters.base import Request as Request
    from keras_nas_plugin.starters.base import Starter as Starter
    from keras_nas_plugin.starters.box_data import box_splits as box_splits
    from keras_nas_plugin.starters.encoding import column_inputs as column_inputs
    from keras_nas_plugin.starters.encoding import date_features as date_features
    from keras_nas_plugin.starters.encoding import frequent_words as frequent_words
    from keras_nas_plugin.starters.encoding import scaled_number as scaled_number
    from keras_nas_plugin.starters.image_data import image_splits as image_splits
    from keras_nas_plugin.starters.image_data import read_image as read_image
    from keras_nas_plugin.starters.image_data import (
        unlabelled_image_splits as unlabelled_image_splits,
    )
    from keras_nas_plugin.starters.kinds import draft_recipe as draft_recipe
    from keras_nas_plugin.starters.mask_data import mask_splits as mask_splits
    from keras_nas_plugin.starters.series_data import forecast_splits as forecast_splits
    from keras_nas_plugin.starters.series_data import read_series as read_series
    from keras_nas_plugin.starters.series_data import series_splits as series_splits
    from keras_nas_plugin.starters.splits import at_random as at_random
    from keras_nas_plugin.starters.splits import cached as cached
    from keras_nas_plugin.starters.splits import class_weights as class_weights
    from keras_nas_plugin.starters.splits import in_time_order as in_time_order
    from keras_nas_plugin.starters.splits import stratified as stratified
    from keras_nas_plugin.starters.table_data import arrays as arrays
    from keras_nas_plugin.starters.table_data import labels_of as labels_of
    from keras_nas_plugin.starters.table_data import read_table as read_table
    from keras_nas_plugin.starters.table_data import rows_of as rows_of
    from keras_nas_plugin.starters.table_data import stream_table as stream_table
    from keras_nas_plugin.starters.text_data import read_texts as read_texts
    from keras_nas_plugin.starters.translation_data import next_words as next_words
    from keras_nas_plugin.starters.translation_data import pair_splits as pair_splits
    from keras_nas_plugin.starters.translation_data import translate as translate

__getattr__, __dir__ = attach(__name__, _EXPORTS)
