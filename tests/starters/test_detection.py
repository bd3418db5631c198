"""Folders of images with boxes: each format, bad input, and what is noticed."""

import json
import runpy

import keras_tuner
import numpy as np
import pytest
from PIL import Image

from keras_nas_plugin.errors import SourceError
from keras_nas_plugin.starters import Request, box_splits, draft_recipe
from keras_nas_plugin.starters.box_data import padded_boxes, read_boxes
from tests.starters import sources

PLENTY = 10**12
HEIGHT, WIDTH = 10, 20
# Image, class, left, top, right and bottom in pixels; the image 5 has no box.
BOXES = [
    (0, "cat", 2, 1, 12, 6),
    (0, "dog", 10, 0, 20, 10),
    (1, "cat", 0, 5, 10, 10),
    (2, "dog", 4, 2, 8, 8),
    (3, "cat", 1, 1, 19, 9),
    (4, "dog", 5, 5, 15, 10),
]
HEADER = "image,class,left,top,right,bottom"


def images(folder, count=6, size=(WIDTH, HEIGHT)):
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("RGB", size, (number, 0, 0)).save(folder / "images" / f"{number}.png")
    return folder


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return folder


def csv(folder, boxes=BOXES, header=HEADER, count=6):
    lines = [",".join(map(str, (f"{box[0]}.png", *box[1:]))) for box in boxes]
    return write(images(folder, count), "boxes.csv", "\n".join([header, *lines]) + "\n")


def changed(*box):
    """The boxes with another first one."""
    return [box, *BOXES[1:]]


def csv_of_fractions(folder):
    scale = WIDTH, HEIGHT, WIDTH, HEIGHT
    boxes = [
        (*box[:2], *(side / size for side, size in zip(box[2:], scale, strict=True)))
        for box in BOXES
    ]
    return csv(folder, [*boxes, (5, "", "", "", "", "")])


def csv_of_another_program(folder):
    return csv(folder, header="filename,label,xmin,ymin,xmax,ymax")


def coco_content(**options):
    entry = {"height": HEIGHT, "width": WIDTH}
    annotations = [
        {
            "id": 100 + number,
            "image_id": 10 + image,
            "category_id": {"cat": 3, "dog": 7}[name],
            "bbox": [left, top, right - left, bottom - top],
        }
        for number, (image, name, left, top, right, bottom) in enumerate(BOXES)
    ]
    content = {
        "images": [{"id": 10 + n, "file_name": f"{n}.png", **entry} for n in range(6)],
        "annotations": annotations,
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
    }
    return content | options


def coco(folder, name="annotations.json", **options):
    return write(images(folder), name, coco_content(**options))


def coco_with(folder, **options):
    """COCO's format, with other values in the first annotation."""
    content = coco_content()
    content["annotations"][0] |= options
    return write(images(folder), "annotations.json", content)


def coco_by_another_name(folder):
    return coco(folder, "annotations/instances.json")


def voc(folder, first="", size=f"<width>{WIDTH}</width><height>{HEIGHT}</height>"):
    """Pascal VOC's format, in which the first pixel is number 1."""
    images(folder)
    for number in range(6):
        objects = [
            f"<object><name>{name}</name><bndbox><xmin>{left + 1}</xmin><ymin>{top + 1}</ymin>"
            f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
            for image, name, left, top, right, bottom in BOXES
            if image == number
        ]
        objects += [first] if number == 0 else []
        text = f"<filename>{number}.png</filename><size>{size}</size>{''.join(objects)}"
        write(folder, f"annotations/{number}.xml", f"<annotation>{text}</annotation>")
    return folder


def yolo(folder, first="", names="classes.txt", text="cat\ndog\n"):
    images(folder)
    lines = {number: [] for number in range(5)}
    for image, name, left, top, right, bottom in BOXES:
        x, y = (left + right) / 2 / WIDTH, (top + bottom) / 2 / HEIGHT
        sides = x, y, (right - left) / WIDTH, (bottom - top) / HEIGHT
        lines[image].append(f"{['cat', 'dog'].index(name)} {' '.join(map(str, sides))}")
    lines[0].append(first)
    for image, rows in lines.items():
        write(folder, f"labels/{image}.txt", "\n".join(rows) + "\n")
    return write(folder, names, text)


def yolo_with_yaml(folder):
    return yolo(folder, names="data.yaml", text="nc: 2\nnames: {0: cat, 1: dog}\n")


def yolo_with_a_list(folder):
    return yolo(folder, names="data.yaml", text="train: images\nnames: [cat, dog]\n")


def yolo_in_folders(folder):
    """The layout with folders of splits, whose files have the same names in each."""
    yolo(folder)
    for kind, ending in (("images", "png"), ("labels", "txt")):
        for number in range(5 + (ending == "png")):
            part = folder / kind / ("train" if number < 3 else "val")
            part.mkdir(exist_ok=True)
            path = folder / kind / f"{number}.{ending}"
            path.rename(part / f"{number % 3}.{ending}")
    return folder


FORMATS = [csv, csv_of_fractions, csv_of_another_program, coco, coco_by_another_name, voc, yolo]
FORMATS += [yolo_with_yaml, yolo_with_a_list, yolo_in_folders]


@pytest.mark.parametrize("layout", FORMATS)
def test_each_format_gives_the_same_boxes(tmp_path, layout):
    source = read_boxes(layout(tmp_path / "pets"))
    assert source.class_names == ["cat", "dog"]
    assert source.most == 2
    expected = sorted(
        (
            image,
            ["cat", "dog"].index(name),
            left / WIDTH,
            top / HEIGHT,
            right / WIDTH,
            bottom / HEIGHT,
        )
        for image, name, left, top, right, bottom in BOXES
    )
    np.testing.assert_allclose(sorted(map(tuple, source.boxes)), expected, atol=1e-9)
    request = Request(tmp_path / "pets", memory=PLENTY)
    draft = draft_recipe(request)
    assert draft.task == "detection"
    assert draft.summary == "6 boxes of 2 classes in 6 images of 20x10 pixels"
    assert "Images without boxes: 1." in " ".join(draft.findings)


def extra_image(folder, name):
    path = folder / "images" / name
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(path)
    return folder


def broken_image(folder):
    csv(folder)
    (folder / "images" / "5.png").write_bytes(b"no image")
    return folder


def small_image(folder, write_boxes):
    write_boxes(folder)
    Image.new("RGB", (WIDTH // 2, HEIGHT // 2)).save(folder / "images" / "0.png")
    return folder


VOC_OBJECT = "<object><name>cat</name><bndbox><xmin>{}</xmin></bndbox></object>"

REFUSED = {
    "missing image": (lambda f: csv(f, changed(9, "cat", 0, 0, 1, 1)),
        "row 1 of boxes.csv must name an image in"),
    "two images of a name": (lambda f: extra_image(csv(f), "old/0.png") and
        (f / "images" / "0.png").rename(f / "images" / "old2.png") and
        extra_image(f, "new/0.png"), "got '0.png', which may be new/0.png, old/0.png"),
    "missing column": (lambda f: csv(f, header="image,class,left,top,right,low"),
        "must have the columns image, class, left, top, right, bottom; got image, class"),
    "NaN": (lambda f: csv(f, changed(0, "cat", 0, "nan", 5, 5)),
        "row 1 of boxes.csv must have a class and four numbers; got 'cat' and '0'"),
    "infinity": (lambda f: csv(f, changed(0, "cat", 0, 1, "inf", 5)),
        "row 1 of boxes.csv must have a class and four numbers"),
    "no class": (lambda f: csv(f, changed(0, "", 0, 0, 5, 5)),
        "must have a class and four numbers; got ''"),
    "left > right": (lambda f: csv(f, changed(0, "cat", 12, 1, 2, 6)),
        "row 1 of boxes.csv must have left <= right and top <= bottom; got 12 to 2 and 1 to 6"),
    "missing field": (lambda f: csv(f, changed(0, "cat", 12, 1, 2)), "line 2 has 5 instead of 6"),
    "no rows": (lambda f: csv(f, []), "must have"),
    "no image at all": (lambda f: write(f, "boxes.csv", HEADER + "\n1.png,a,0,0,1,1\n") and
        (f / "images").mkdir() or f, "must have images (.png, .jpg"),
    "unreadable image": (broken_image, "5.png` must be an image"),
    "too few images": (lambda f: csv(f, BOXES[:5]), "at least 5 images with boxes; got 4"),
    "no area": (lambda f: csv(f, [(n, "cat", 3, 3, 3, 5) for n in range(6)]),
        "must have boxes with an area; got 6 without one"),
    "boxes of larger images": (
        lambda f: csv(f, [(n, "cat", 30, 3, 50, 5) for n in range(6)]),
        "6 of 6 reach beyond them, such as row 1 of boxes.csv, [30.0, 3.0, 50.0, 5.0] in an image "
        "of 20x10 pixels"),
    "two kinds of boxes": (lambda f: yolo(csv(f)), "must have boxes in one of boxes.csv, annot"),
    "no JSON": (lambda f: write(images(f), "annotations.json", "{"), "must be a JSON file"),
    "COCO without categories": (lambda f: coco(f, categories=None),
        "must have the lists images, annotations and categories, as COCO has; it lacks cat"),
    "COCO without ids": (lambda f: coco(f, categories=[{"name": "cat"}]), "got one without: 'id'"),
    "unknown category": (lambda f: coco_with(f, category_id=4),
        "annotation 100 of annotations.json must have the id of a category in the file; got 4"),
    "unknown image": (lambda f: coco_with(f, image_id=99), "id of an image in the file; got 99"),
    "three numbers": (lambda f: coco_with(f, bbox=[1, 2, 3]),
        "annotation 100 of annotations.json must have a bbox of four numbers; got [1, 2, 3]"),
    "texts for numbers": (lambda f: coco_with(f, bbox=["1", 2, 3, 4]), "a bbox of four numbers"),
    "NaN in COCO": (lambda f: coco_with(f, bbox=[float("nan"), 2, 3, 4]), "must have finite num"),
    "negative width": (lambda f: coco_with(f, bbox=[5, 2, -3, 4]), "left <= right and top <="),
    "COCO's missing image": (
        lambda f: ((coco(f) / "images" / "3.png").unlink(), f)[1],
        "annotation 104 of annotations.json must name an image in"),
    "resized image of COCO": (lambda f: small_image(f, coco),
        "0.png` must have the size that its boxes were drawn in, 20x10; got 10x5"),
    "resized image of VOC": (lambda f: small_image(f, voc), "drawn in, 20x10; got 10x5"),
    "no XML": (lambda f: write(voc(f), "annotations/3.xml", "<annotation>"),
        "3.xml` must be an XML file"),
    "VOC without sides": (lambda f: voc(f, VOC_OBJECT.format(1)),
        "object 3 of 0.xml must have a name and a bndbox with the numbers xmin, ymin, xmax, ymax"),
    "VOC's missing image": (lambda f: write(
        voc(f), "annotations/9.xml", "<annotation>" + VOC_OBJECT.format(1) + "</annotation>"),
        "9.xml` must name an image in"),
    "YOLO of four numbers": (lambda f: yolo(f, "0 0.5 0.5 0.1"),
        "line 3 of 0.txt must have a class and the fractions x, y, width and height; got '0 0.5"),
    "YOLO in pixels": (lambda f: yolo(f, "0 10 5 4 4"), "and the fractions x, y, width"),
    "YOLO without a number": (lambda f: yolo(f, "0 a 0.5 0.1 0.1"), "and the fractions x, y"),
    "NaN in YOLO": (lambda f: yolo(f, "0 nan 0.5 0.1 0.1"), "must have finite numbers"),
    "YOLO's class of no name": (lambda f: yolo(f, "2 0.5 0.5 0.1 0.1"),
        "line 3 of 0.txt must begin with the number of a class, 0 to 1; got '2'"),
    "YOLO's class of no number": (lambda f: yolo(f, "cat 0.5 0.5 0.1 0.1"), "0 to 1; got 'cat'"),
    "YOLO's missing image": (lambda f: write(yolo(f), "labels/9.txt", "0 0.5 0.5 0.1 0.1"),
        "9.txt` must name an image in"),
    "YOLO's names": (lambda f: yolo(f, names="data.yaml", text="names: {1: cat}\n"),
        "data.yaml` must have the names of the classes; KeyError: 0"),
    "no YAML": (lambda f: yolo(f, names="data.yaml", text="names: [\n"),
        "data.yaml` must have the names of the classes; ParserError"),
}  # fmt: skip


@pytest.mark.parametrize(("layout", "message"), REFUSED.values(), ids=REFUSED)
def test_boxes_that_cannot_be_used_are_refused_in_one_sentence(tmp_path, layout, message):
    source = layout(tmp_path / "pets")
    with pytest.raises(SourceError) as caught:
        draft_recipe(Request(source, memory=PLENTY))
    text = str(caught.value)
    assert message in text
    assert "\n" not in text


def test_images_that_do_not_fit_into_memory_are_refused(tmp_path):
    with pytest.raises(SourceError, match="must fit into memory with 0 MB; 0 MB are available"):
        draft_recipe(Request(csv(tmp_path / "pets"), memory=100))


def test_a_folder_without_boxes_says_what_detection_takes(tmp_path):
    with pytest.raises(SourceError) as caught:
        draft_recipe(Request(images(tmp_path / "pets"), task="detection"))
    assert str(caught.value) == (
        "`--task` must be classification or generation for images; got detection, which takes a "
        "folder with `images/` and boxes in boxes.csv, annotations.json (COCO), annotations/*.xml "
        "(Pascal VOC) or labels/*.txt (YOLO)"
    )


def twins(count):
    """Pairs of nested boxes of the same class and with the same centre."""
    return [(n, "cat", 2 + extra, 2, 6 - extra, 6) for n in range(count) for extra in (0, 1)]


NOTICED = {
    "no area": (
        lambda f: csv(f, [*BOXES, (5, "cat", 3, 3, 3, 5)]),
        "1 boxes have no area and are left out: row 7 of boxes.csv.",
    ),
    "outside": (
        lambda f: csv(f, [*BOXES, (5, "cat", 30, 3, 40, 5)]),
        "1 boxes have no area and are left out: row 7 of boxes.csv.",
    ),
    "border": (
        lambda f: csv(f, [*BOXES, (5, "cat", -1, 3, 21, 5)]),
        "1 boxes reach beyond the border of their images and are clipped: row 7 of boxes.csv.",
    ),
    "imbalance": (
        lambda f: csv(f, [*BOXES[:3], *((n, "cat", 1, 1, 9, 9) for n in range(6) for _ in "ab")]),
        "The classes are imbalanced: 'dog' has 1 of 15 boxes. Images with this class: 1.",
    ),
    "sizes": (
        lambda f: images(csv(f), count=1, size=(16, 16)),
        "Images are resized to 20x10 pixels.",
    ),
    "one cell": (
        lambda f: csv(f, [*BOXES, *twins(6)]),
        "Boxes whose centre is in the same cell of 8x8 pixels as that of another box",
    ),
    "unused class": (
        lambda f: yolo(f, text="cat\ndog\nbird\n"),
        "Classes without boxes are left out: bird.",
    ),
    "crowd": (
        lambda f: coco_with(f, iscrowd=1),
        "1 regions of crowds are left out, since they are no single objects.",
    ),
    "folders": (
        yolo_in_folders,
        "Images in the folders train, val are put together, and divided anew.",
    ),
}


@pytest.mark.parametrize(("layout", "sentence"), NOTICED.values(), ids=NOTICED)
def test_what_is_noticed_is_said_and_is_in_the_recipe(tmp_path, layout, sentence):
    draft = draft_recipe(Request(layout(tmp_path / "pets"), memory=PLENTY))
    assert sentence in " ".join(draft.findings)
    assert sentence in " ".join(line.strip() for line in draft.recipe.splitlines())
    compile(draft.recipe, "recipe.py", "exec")
    assert len(draft.recipe.splitlines()) < 120


@pytest.mark.parametrize(
    ("layout", "name"),
    [(voc, "annotations/._0.xml"), (yolo, "labels/._0.txt"), (coco_by_another_name, "._a.json")],
)
def test_hidden_files_are_ignored(tmp_path, layout, name):
    folder = write(layout(tmp_path / "pets"), name, "\0 of another system")
    (folder / "images" / "._0.png").write_bytes(b"no image")
    assert len(read_boxes(folder).boxes) == len(BOXES)


def test_sides_that_are_rounded_beyond_the_border_are_no_finding(tmp_path):
    source = read_boxes(csv(tmp_path / "pets", changed(0, "cat", -0.4, 0, 20.4, 10)))
    assert source.findings == []
    assert source.boxes[0, 2:].tolist() == [0, 0, 1, 1]


def test_labels_of_a_class_alone(tmp_path):
    parts = box_splits(csv(tmp_path / "pets"), ["dog"], size=(HEIGHT, WIDTH), channels=1)
    assert [x.shape for x, _ in parts] == [(4, 10, 20, 1), (1, 10, 20, 1), (1, 10, 20, 1)]
    labels = np.concatenate([y for _, y in parts])
    assert labels.shape == (6, 1, 5)  # at most one dog
    assert labels.dtype == np.float32
    assert (labels[..., 0] == 0).sum() == 3
    with pytest.raises(SourceError, match="some of cat, dog; got 'bird'"):
        box_splits(tmp_path / "pets", ["bird"], size=(HEIGHT, WIDTH))


def test_images_keep_their_boxes_in_the_splits(tmp_path):
    parts = box_splits(csv(tmp_path / "pets"), ["cat", "dog"], size=(HEIGHT, WIDTH))
    for pixels, labels in ((x, y) for part in parts for x, y in zip(*part, strict=True)):
        number = int(pixels[0, 0, 0])  # the colour of the image
        expected = [box for box in BOXES if box[0] == number]
        present = labels[labels[:, 0] >= 0]
        assert [["cat", "dog"][int(kind)] for kind in present[:, 0]] == [b[1] for b in expected]
        sides = present[:, 1:] * [WIDTH, HEIGHT, WIDTH, HEIGHT]
        np.testing.assert_allclose(
            sides, np.reshape([b[2:] for b in expected], (-1, 4)), atol=1e-5
        )


def test_boxes_are_padded_in_their_order():
    boxes = np.array([[2, 1, 0, 0, 1, 1], [0, 0, 0, 0, 0.5, 1], [2, 0, 0, 0.25, 1, 1]])
    padded = padded_boxes(3, boxes, 3)
    assert padded[:, :, 0].tolist() == [[0, -1, -1], [-1, -1, -1], [1, 0, -1]]
    assert padded[2, 1].tolist() == [0, 0, 0.25, 1, 1]


def test_the_written_model_predicts_a_grid_of_cells(tmp_path):
    request = Request(sources.squares(tmp_path / "squares"), output=tmp_path / "recipe.py")
    draft = draft_recipe(request)
    assert draft.guesses[0].startswith("Task: detection, since there are `images/` and boxes in")
    request.output.write_text(draft.recipe)
    recipe = runpy.run_path(str(request.output))
    model = recipe["build_model"](keras_tuner.HyperParameters())
    _, _, (x, y) = recipe["load_data"]()
    assert (x.shape, y.shape) == ((2, 24, 32, 1), (2, 1, 5))
    grid = model(x, training=False)
    assert grid.shape == (2, 3, 4, 2 + 4)  # cells of 8x8 pixels
    assert np.isfinite(float(model.loss(y, grid)))
