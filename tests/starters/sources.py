"""Small data of each kind, as people have them."""

import numpy as np
from PIL import Image
from scipy.io import wavfile

WORDS = {
    "spam": "win free prize cash claim urgent call now offer",
    "ham": "see you later home lunch sorry meeting tomorrow thanks",
}


def penguins(path, rows=120):
    """A table of mixed types, with missing values, sorted by class."""
    random = np.random.default_rng(0)
    lines = ["id,island,bill_mm,mass_g,sex,year,measured,colony,species"]
    number = 0
    for index, species in enumerate(["Adelie", "Chinstrap", "Gentoo"]):
        for _ in range(rows // 3):
            number += 1
            island = random.choice([["Torgersen", "Biscoe"], ["Dream"], ["Biscoe"]][index])
            bill = "NA" if random.random() < 0.1 else f"{38 + 5 * index + 4 * random.normal():.1f}"
            sex = random.choice(["male", "female", ""], p=[0.45, 0.45, 0.1])
            mass = int(3500 + 700 * index + 300 * random.normal())
            year = 2007 + number % 3
            date = f"{year}-{1 + number % 12:02d}-{1 + number % 28:02d}"
            lines.append(f"{number},{island},{bill},{mass},{sex},{year},{date},Palmer,{species}")
    path.write_text("\n".join(lines) + "\n")
    return path


def photos(folder, count=12, size=(16, 16)):
    """Dark and bright images in class folders."""
    random = np.random.default_rng(0)
    for name, level in (("day", 180), ("night", 40)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.normal(level, 20, (*size, 3)).clip(0, 255).astype("uint8")
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def messages(path, count=40):
    """A table of labels and texts."""
    random = np.random.default_rng(0)
    lines = ["label\ttext"]
    for number in range(2 * count):
        label = "spam" if number < count // 3 else "ham"
        lines.append(f"{label}\t{' '.join(random.choice(WORDS[label].split(), 7))}")
    path.write_text("\n".join(lines) + "\n")
    return path


def clips(folder, count=10, rate=4000, seconds=0.25):
    """Low and high tones in class folders."""
    random = np.random.default_rng(0)
    time = np.arange(round(rate * seconds)) / rate
    for name, pitch in (("high", 900), ("low", 200)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            wave = 0.5 * np.sin(2 * np.pi * (pitch + 20 * random.random()) * time)
            wave += 0.02 * random.normal(size=len(time))
            wavfile.write(folder / name / f"{number}.wav", rate, (wave * 32767).astype("int16"))
    return folder


def motions(path, count=12, steps=20):
    """Series of two classes in the format of the UCR and UEA archive."""
    random = np.random.default_rng(0)
    lines = ["@problemName motions", "@timeStamps false", "@univariate true"]
    lines += ["@classLabel true up down", "@data"]
    for number in range(2 * count):
        sign = 1 if number < count else -1
        values = sign * np.linspace(-1, 1, steps) + 0.1 * random.normal(size=steps)
        lines.append(",".join(f"{v:.3f}" for v in values) + (":up" if sign > 0 else ":down"))
    path.write_text("\n".join(lines) + "\n")
    return path


def squares(folder, count=12, size=(24, 32)):
    """Images with a bright or a dark square each, and their boxes in pixels."""
    random = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    lines = ["image,class,left,top,right,bottom"]
    for number in range(count):
        pixels = random.normal(100, 10, size)
        name, level = (("bright", 230), ("dark", 10))[number % 2]
        side = int(random.integers(8, 13))
        top, left = random.integers(0, size[0] - side), random.integers(0, size[1] - side)
        pixels[top : top + side, left : left + side] = level
        path = folder / "images" / f"{number}.png"
        Image.fromarray(pixels.clip(0, 255).astype("uint8")).save(path)
        lines.append(f"{number}.png,{name},{left},{top},{left + side},{top + side}")
    (folder / "boxes.csv").write_text("\n".join(lines) + "\n")
    return folder
