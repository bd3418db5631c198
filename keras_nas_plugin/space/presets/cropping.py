"""Cropping of images to the size of others, the only layer of the presets that is not in Keras."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers


@keras.saving.register_keras_serializable(package="keras_nas_plugin")
class CropLike(layers.Layer):
    """Crops an image at the right and at the bottom to the size of another image.

    It is used for sizes that are known only when the model runs; for other sizes, `cropped` uses
    Keras' `Cropping2D`. In a new process, import this module before loading a saved model that
    contains this layer.

    Input: two tensors, of shapes (batch, height, width, channels) and (batch, rows, columns,
    any). Output: (batch, rows, columns, channels).
    """

    def call(self, inputs: Sequence[keras.KerasTensor]) -> keras.KerasTensor:
        """Crop the first image to the size of the second."""
        image, like = inputs
        rows, columns = keras.ops.shape(like)[1:3]
        return image[:, :rows, :columns, :]

    def compute_output_shape(self, input_shape: Sequence[Sequence[int | None]]) -> tuple:
        """See `keras.layers.Layer`."""
        image, like = input_shape
        return (image[0], like[1], like[2], image[3])


def cropped(image: keras.KerasTensor, like: keras.KerasTensor) -> keras.KerasTensor:
    """``image`` cropped to the height and width of ``like``.

    Args:
        image: Shape (batch, height, width, channels).
        like: Shape (batch, rows, columns, any), at most as large.
    """
    sizes = (*image.shape[1:3], *like.shape[1:3])
    if None in sizes:
        return CropLike()([image, like])
    bottom, right = image.shape[1] - like.shape[1], image.shape[2] - like.shape[2]
    return layers.Cropping2D(((0, bottom), (0, right)))(image) if bottom or right else image
