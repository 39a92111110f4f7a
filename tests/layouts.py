"""Writes tiny datasets with their true directory names, so that no test needs a download or a binary in git."""

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml
from PIL import Image

from gscnn_platform.paths import AnyPath, RemotePath

Folder = TypeVar("Folder", Path, RemotePath)

SIZE = (40, 60)
"""Rows and columns of every frame."""


def random_image(rng: np.random.Generator, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Returns uint8 [H, W, 3] noise."""
    return rng.integers(0, 256, (*size, 3), dtype=np.uint8)


def random_label(rng: np.random.Generator, values: list[int], size: tuple[int, int] = SIZE) -> np.ndarray:
    """Returns uint8 [H, W]: overlapping rectangles with raw values drawn from `values`."""
    label = np.full(size, values[0], np.uint8)
    for _ in range(6):
        top, left = int(rng.integers(0, size[0] - 8)), int(rng.integers(0, size[1] - 8))
        label[top : top + int(rng.integers(6, 20)), left : left + int(rng.integers(6, 24))] = rng.choice(values)
    return label


def write_image(path: AnyPath, pixels: np.ndarray, mode: str | None = None) -> AnyPath:
    """Writes `pixels`; mode P stores a uint8 [H, W] label as palette indices."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if mode == "P":
        image.putpalette([channel for index in range(256) for channel in (255 - index, index // 2, 7)])
    data = io.BytesIO()
    image.save(data, Image.registered_extensions()[path.suffix.lower()])
    path.write_bytes(data.getvalue())
    return path


def write_camvid(root: Folder, splits: tuple[str, ...] = ("train", "val"), frames: int = 3, seed: int = 0) -> Folder:
    """Writes SegNet's CamVid: `frames` frames per split with raw labels 0..11. Returns `root`."""
    rng = np.random.default_rng(seed)
    for split in splits:
        for index in range(frames):
            name = f"0001TP_{split}{index:03d}.png"
            write_image(root / split / name, random_image(rng))
            write_image(root / f"{split}annot" / name, random_label(rng, list(range(12))))
    return root


CAMVID_FRAMES = {
    "train": ("0001TP_006690", "0001TP_008520", "0006R0_f00930", "0016E5_07920", "0016E5_08190"),
    "val": ("0016E5_07959", "0016E5_08159"),
    "test": ("0001TP_008550", "Seq05VD_f00000"),
}
"""Split of the SegNet authors -> some of its frames: the first and last around each change."""

CAMVID_COLOURS = """
64 128 64\tAnimal
192 0 128\tArchway
0 128 192\tBicyclist
0 128 64\tBridge
128 0 0\t\tBuilding
64 0 128\tCar
64 0 192\tCartLuggagePram
192 128 64\tChild
192 192 128\tColumn_Pole
64 64 128\tFence
128 0 192\tLaneMkgsDriv
192 0 64\tLaneMkgsNonDriv
128 128 64\tMisc_Text
192 0 192\tMotorcycleScooter
128 64 64\tOtherMoving
64 192 128\tParkingBlock
64 64 0\t\tPedestrian
128 64 128\tRoad
128 128 192\tRoadShoulder
0 0 192\t\tSidewalk
192 128 128\tSignSymbol
128 128 128\tSky
64 128 192\tSUVPickupTruck
0 0 64\t\tTrafficCone
0 64 64\t\tTrafficLight
192 64 128\tTrain
128 128 0\tTree
192 128 192\tTruck_Bus
64 0 64\t\tTunnel
192 192 0\tVegetationMisc
0 0 0\t\tVoid
64 192 0\tWall
"""
"""label_colors.txt of the original CamVid."""


def write_camvid_original(root: Folder, seed: int = 0) -> Folder:
    """Writes the original CamVid: the frames of CAMVID_FRAMES with labels of all 32 colours. Returns `root`."""
    rng = np.random.default_rng(seed)
    colours = np.array([[int(value) for value in line.split()[:3]] for line in CAMVID_COLOURS.split("\n") if line])
    for name in (name for names in CAMVID_FRAMES.values() for name in names):
        write_image(root / "701_StillsRaw_full" / f"{name}.png", random_image(rng))
        label = random_label(rng, list(range(32)))
        label[0, :32] = range(32)
        write_image(root / "LabeledApproved_full" / f"{name}_L.png", colours[label].astype(np.uint8))
    (root / "label_colors.txt").write_text(CAMVID_COLOURS.lstrip())
    return root


def write_cityscapes(
    root: Folder,
    splits: tuple[str, ...] = ("train", "val"),
    cities: tuple[str, ...] = ("aachen", "bremen"),
    frames: int = 2,
    seed: int = 0,
) -> Folder:
    """Writes Cityscapes: `frames` frames per city with raw labels 0..33. Returns `root`."""
    rng = np.random.default_rng(seed)
    for split in splits:
        for city in cities:
            for index in range(frames):
                name = f"{city}_{index:06d}_000019"
                write_image(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", random_image(rng))
                label = random_label(rng, list(range(34)))
                write_image(root / "gtFine" / split / city / f"{name}_gtFine_labelIds.png", label)
    return root


def write_folder(
    root: Folder,
    splits: tuple[str, ...] = ("train", "val"),
    frames: int = 2,
    lists: bool = False,
    classes: dict[str, object] | None = None,
    ending: str = ".png",
    seed: int = 0,
) -> Folder:
    """Writes a user's folder. `classes` is the content of classes.yaml; default: road and car, raw labels 0 and 1.

    With `lists` the splits are given by train.txt and so on, without endings, and otherwise by folders.
    """
    rng = np.random.default_rng(seed)
    content = classes or {"classes": [{"name": "road", "colour": [128, 64, 128]}, {"name": "car"}]}
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.yaml").write_text(yaml.safe_dump(content))
    for split in splits:
        names = [f"{split}_{index}" for index in range(frames)]
        below = "" if lists else f"{split}/"
        for name in names:
            write_image(root / f"images/{below}{name}{ending}", random_image(rng))
            write_image(root / f"labels/{below}{name}.png", random_label(rng, [0, 1, 255]))
        if lists:
            (root / f"{split}.txt").write_text("\n".join(names) + "\n")
    return root


VOC_NAMES = {"train": ("2007_000032", "2007_000039"), "val": ("2007_000033", "2008_000215")}


def write_voc(root: Folder, below: str = "VOCdevkit/VOC2012", seed: int = 0) -> Folder:
    """Writes Pascal VOC 2012: two frames per split with palette labels 0..20 and 255, and the three lists."""
    rng = np.random.default_rng(seed)
    at = root / below
    for split, names in VOC_NAMES.items():
        for name in names:
            write_image(at / f"JPEGImages/{name}.jpg", random_image(rng))
            write_image(at / f"SegmentationClass/{name}.png", random_label(rng, [*range(21), 255]), mode="P")
        write_list(at / f"ImageSets/Segmentation/{split}.txt", names)
    write_list(at / "ImageSets/Segmentation/trainval.txt", sorted(VOC_NAMES["train"] + VOC_NAMES["val"]))
    return root


def write_list(file: AnyPath, names: Iterable[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{name}\n" for name in names))


def write_ade20k(root: Folder, frames: int = 2, seed: int = 0) -> Folder:
    """Writes ADEChallengeData2016: raw labels 0..150, and 150 names of which some have synonyms."""
    rng = np.random.default_rng(seed)
    for split, prefix in (("training", "ADE_train"), ("validation", "ADE_val")):
        for index in range(1, frames + 1):
            name = f"{prefix}_{index:08d}"
            write_image(root / f"images/{split}/{name}.jpg", random_image(rng))
            write_image(root / f"annotations/{split}/{name}.png", random_label(rng, list(range(151))))
    names = ["wall", "building, edifice", "sky", *(f"thing {index}, object {index}" for index in range(4, 151))]
    lines = [f"{index}\t0.01\t10\t1\t0\t{name}\n" for index, name in enumerate(names, start=1)]
    (root / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tStuff\tName\n" + "".join(lines))
    return root


VISTAS_LABELS = (
    ("animal--bird", "Bird", True, (165, 42, 42)),
    ("construction--barrier--curb", "Curb", True, (196, 196, 196)),
    ("construction--flat--road", "Road", True, (128, 64, 128)),
    ("void--car-mount", "Car Mount", False, (32, 32, 32)),
    ("object--vehicle--car", "Car", True, (0, 0, 142)),
    ("void--unlabeled", "Unlabeled", False, (0, 0, 0)),
)
"""Name, readable name, whether it is evaluated, and colour: six of the dataset's entries."""


def write_vistas(root: Folder, version: str = "1.2", old: bool = False, frames: int = 2, seed: int = 0) -> Folder:
    """Writes Mapillary Vistas with six raw ids; `old` is the layout before labels were versioned."""
    rng = np.random.default_rng(seed)
    for split in ("training", "validation"):
        for index in range(frames):
            name = f"{split[:3]}{index:02d}_zy7iQ"
            write_image(root / f"{split}/images/{name}.jpg", random_image(rng))
            label = random_label(rng, list(range(len(VISTAS_LABELS))))
            write_image(root / split / ("" if old else f"v{version}") / f"labels/{name}.png", label, mode="P")
    write_image(root / "testing/images/unlabelled.jpg", random_image(rng))
    labels = [
        {"name": name, "readable": readable, "evaluate": evaluate, "color": colour, "instances": False}
        for name, readable, evaluate, colour in VISTAS_LABELS
    ]
    config = root / ("config.json" if old else f"config_v{version}.json")
    config.write_text(json.dumps({"labels": labels, "version": version, "mapping": "public"}))
    return root


def write_bdd100k(root: Folder, old: bool = False, frames: int = 2, seed: int = 0) -> Folder:
    """Writes BDD100K's segmentation, raw labels 0..18 and 255, in its newer or its older (`old`) folders."""
    rng = np.random.default_rng(seed)
    images, labels, ending = (
        ("seg/images", "seg/labels", "_train_id.png") if old else ("images/10k", "labels/sem_seg/masks", ".png")
    )
    for split in ("train", "val"):
        for index in range(frames):
            name = f"{split[0]}00{index}f755-{index}db"
            write_image(root / images / split / f"{name}.jpg", random_image(rng))
            write_image(root / labels / split / f"{name}{ending}", random_label(rng, [*range(19), 255]))
    write_image(root / images / "test/unlabelled.jpg", random_image(rng))
    return root


UNION = {
    "datasets": [
        {"format": "camvid", "root": "CamVid", "map": {"pavement": "sidewalk", "tree": "nature", "bicyclist": "void"}},
        {
            "format": "cityscapes",
            "root": "cityscapes",
            "map": {
                **dict.fromkeys(("vegetation", "terrain"), "nature"),
                **dict.fromkeys(("wall", "traffic light", "rider", "train", "motorcycle", "bicycle"), "void"),
                **{"traffic sign": "sign", "person": "pedestrian", "truck": "car", "bus": "car"},
            },
        },
    ],
    "classes": ["road", "sidewalk", "building", "sky", "nature", "car", "pedestrian", "pole", "fence", "sign"],
}
"""Two datasets in ten classes."""


def write_union(root: Folder, content: dict[str, Any] | None = None) -> Folder:
    """Writes a datasets.yaml (default: UNION) with a CamVid and a Cityscapes below it."""
    write_camvid(root / "CamVid")
    write_cityscapes(root / "cityscapes")
    (root / "datasets.yaml").write_text(yaml.safe_dump(content or UNION))
    return root


def random_polygon(rng: np.random.Generator, size: tuple[int, int] = SIZE) -> list[list[float]]:
    """Returns the corners [x, y] of a star-shaped polygon that partly may lie outside the frame."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
    reach = rng.uniform(4, 16, 9)
    x, y = rng.uniform(0, size[1]), rng.uniform(0, size[0])
    return np.stack([x + reach * np.cos(angles), y + reach * np.sin(angles)], axis=1).round(3).tolist()


SHAPE_CLASSES = {"classes": ["road", "car"], "labels": {"car body": "car", "ignore": "void"}, "background": "road"}
"""classes.yaml of the datasets of shapes."""


def labelme_shape(
    label: str, points: Sequence[Sequence[float]], kind: str = "polygon", **more: object
) -> dict[str, Any]:
    """Returns a shape as LabelMe 5 writes it."""
    fixed = {"group_id": None, "description": "", "flags": {}, "mask": None}
    return {"label": label, "points": list(points), "shape_type": kind, **fixed, **more}


def labelme_file(image: str, shapes: list[dict[str, Any]], size: tuple[int, int] = SIZE) -> dict[str, Any]:
    """Returns the content of a LabelMe file."""
    fixed = {"version": "5.5.0", "flags": {}, "imagePath": image, "imageData": None}
    return {**fixed, "shapes": shapes, "imageHeight": size[0], "imageWidth": size[1]}


def write_labelme(
    root: Folder, splits: tuple[str, ...] = ("train", "val"), frames: int = 2, beside: bool = False, seed: int = 0
) -> Folder:
    """Writes a folder of LabelMe files, in labels/ or, with `beside`, where LabelMe writes them. Returns `root`."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.yaml").write_text(yaml.safe_dump(SHAPE_CLASSES))
    for split in splits:
        for index in range(frames):
            name = f"{split}_{index}"
            write_image(root / f"images/{split}/{name}.png", random_image(rng))
            shapes = [labelme_shape(label, random_polygon(rng)) for label in ("car", "car body", "ignore")]
            file = root / f"{'images' if beside else 'labels'}/{split}/{name}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(labelme_file(f"{name}.png", shapes), indent=2))
    return root


def write_coco(
    root: Folder,
    splits: tuple[str, ...] = ("train", "val"),
    frames: int = 2,
    place: str = "annotations/instances_{split}.json",
    seed: int = 0,
) -> Folder:
    """Writes a folder with a COCO file for each split, at `place`. Returns `root`."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.yaml").write_text(yaml.safe_dump(SHAPE_CLASSES))
    names = ("car", "car body", "ignore", "never drawn")
    categories = [{"id": 10 + number, "name": name, "supercategory": ""} for number, name in enumerate(names)]
    for split in splits:
        images, annotations = [], []
        for index in range(frames):
            name = f"{split}_{index}.png"
            write_image(root / f"images/{split}/{name}", random_image(rng))
            images.append({"id": index, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
            for category in (10, 11, 12):
                corners = [value for point in random_polygon(rng) for value in point]
                annotation = {"id": len(annotations) + 1, "image_id": index, "category_id": category, "iscrowd": 0}
                annotations.append({**annotation, "segmentation": [corners], "area": 0.0, "bbox": [0, 0, 1, 1]})
        file = root / place.format(split=split)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"images": images, "categories": categories, "annotations": annotations}))
    return root
