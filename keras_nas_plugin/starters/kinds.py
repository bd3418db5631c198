"""All starters, and the one for given data."""

from __future__ import annotations

from keras_nas_plugin.errors import SourceError
from keras_nas_plugin.starters.audio import AudioStarter
from keras_nas_plugin.starters.base import TASKS, Draft, Request, Starter, close_name, listed
from keras_nas_plugin.starters.detection import DetectionStarter
from keras_nas_plugin.starters.forecast import ForecastStarter
from keras_nas_plugin.starters.generation import GenerationStarter
from keras_nas_plugin.starters.images import ImageStarter
from keras_nas_plugin.starters.segmentation import SegmentationStarter
from keras_nas_plugin.starters.series import SeriesStarter
from keras_nas_plugin.starters.table import TableStarter
from keras_nas_plugin.starters.texts import TextStarter
from keras_nas_plugin.starters.translation import TranslationStarter

#: In the order in which they are asked whether they recognise data.
STARTERS: tuple[Starter, ...] = (
    SeriesStarter(),
    TableStarter(),
    ForecastStarter(),
    TranslationStarter(),
    AudioStarter(),
    SegmentationStarter(),
    DetectionStarter(),
    ImageStarter(),
    GenerationStarter(),
    TextStarter(),
)


def draft_recipe(request: Request) -> Draft:
    """Write a recipe for data.

    Args:
        request: The data, and what is asked for.

    Returns:
        The recipe, and what was noticed in the data.

    Raises:
        SourceError: No recipe can be written for these data; the message says why.
    """
    source = request.source
    if not source.exists():
        folder = source.parent
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        hint = close_name(source.name, names)
        hint = f". {hint}" if hint.startswith("Did") else ""
        raise SourceError(
            f"`SOURCE` must be an existing file or folder; got {str(source)!r}{hint}"
        )
    if source.is_dir() and not any(source.iterdir()):
        raise SourceError(f"`SOURCE` must have files; the folder {str(source)!r} is empty")
    if request.task is not None and request.task not in TASKS:
        raise SourceError(f"`--task` must be one of {', '.join(TASKS)}; got {request.task!r}")
    recognising = [starter for starter in STARTERS if starter.recognises(source)]
    for starter in recognising:
        if request.task is None or request.task in starter.tasks:
            return starter.draft(request)
    if recognising:
        tasks = [task for starter in recognising for task in starter.tasks]
        layouts = [s.layout for s in STARTERS if request.task in s.tasks and s.layout]
        hint = f", which takes {layouts[0]}" if layouts else ""
        raise SourceError(
            f"`--task` must be {' or '.join(tasks)} for {recognising[0].kind}; got "
            f"{request.task}{hint}"
        )
    suffixes = sorted({path.suffix for path in source.rglob("*") if path.is_file()})
    got = f"files {listed(suffixes)}" if source.is_dir() else repr(source.name)
    raise SourceError(
        "`SOURCE` must be a table (.csv, .tsv, .parquet), series (.ts, .npz, .parquet), or a "
        "folder with a folder of images, .txt or .wav files for each class, or with images/ and "
        f"masks/ or boxes; got {got}"
    )
