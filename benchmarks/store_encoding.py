"""What a row of the store should hold: size and decode time of each sample encoding, side by side.

    python -m benchmarks.store_encoding [--camvid DIR]

Every candidate writes the same samples to one Parquet file, then reads rows in random order on one core, as the loader
does: row group, decode, arrays. Figures are medians over the rows. With --camvid, real frames are measured too.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.environment import describe, markdown_table
from gscnn.edges import boundary_map, image_gradient
from gscnn_platform.data.formats import FORMATS
from gscnn_platform.data.formats.base import Sample, remap
from gscnn_platform.data.formats.streets import Streets

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Encoding:
    """How an image and how a map (label, gradient, boundary) become bytes, and Parquet's own codec over them."""

    image: str
    maps: str
    parquet: str

    @property
    def name(self) -> str:
        return f"image {self.image}, maps {self.maps}, Parquet {self.parquet}"


ENCODINGS = [
    Encoding("png", "png", "none"),
    Encoding("png", "raw", "zstd"),
    Encoding("webp", "raw", "zstd"),
    Encoding("raw", "raw", "none"),
    Encoding("raw", "raw", "lz4"),
    Encoding("raw", "raw", "zstd"),
]
ROW_GROUPS = [1, 8, 64]


def encode(array: np.ndarray, how: str) -> bytes:
    if how == "raw":
        return array.tobytes()
    options = {"png": [cv2.IMWRITE_PNG_COMPRESSION, 3], "webp": [cv2.IMWRITE_WEBP_QUALITY, 101]}[how]
    return cv2.imencode(f".{how}", array, options)[1].tobytes()


def decode(data: pa.Scalar, how: str, shape: tuple[int, ...]) -> np.ndarray:
    flat = np.frombuffer(data.as_buffer(), np.uint8)
    return flat.reshape(shape) if how == "raw" else np.asarray(cv2.imdecode(flat, cv2.IMREAD_UNCHANGED))


def to_arrays(sample: Sample, table: dict[int, int]) -> Arrays:
    image, raw = sample.read()
    label = remap(raw, table)
    gradient = (image_gradient(image) * 255).astype(np.uint8)
    return {"image": image, "label": label, "gradient": gradient, "boundary": boundary_map(label)}


def measure(samples: list[Arrays], encoding: Encoding, row_group_size: int, reads: int = 48) -> list[float]:
    """[KB per sample, ms to encode, ms to read and decode a random sample]."""
    started = time.perf_counter()
    columns = {
        key: [encode(sample[key], encoding.image if key == "image" else encoding.maps) for sample in samples]
        for key in samples[0]
    }
    encode_ms = (time.perf_counter() - started) / len(samples) * 1e3
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "part.parquet"
        pq.write_table(
            pa.table({key: pa.array(values, pa.binary()) for key, values in columns.items()}),
            path,
            row_group_size=row_group_size,
            compression=encoding.parquet,
            use_dictionary=False,
        )
        kilobytes = path.stat().st_size / len(samples) / 1e3
        file = pq.ParquetFile(path, memory_map=True)
        times = []
        for row in np.random.default_rng(0).integers(0, len(samples), reads):
            began = time.perf_counter()
            group = file.read_row_group(row // row_group_size, use_threads=False)
            arrays: Arrays = {}
            for key, array in samples[row].items():
                how = encoding.image if key == "image" else encoding.maps
                arrays[key] = decode(group[key][row % row_group_size], how, array.shape)
            times.append(time.perf_counter() - began)
            assert all(np.array_equal(arrays[key], samples[row][key]) for key in arrays), "every candidate is lossless"
    return [kilobytes, encode_ms, float(np.median(times)) * 1e3]


def table(title: str, samples: list[Arrays]) -> str:
    height, width = samples[0]["label"].shape
    rows = [[encoding.name, 1, *measure(samples, encoding, 1)] for encoding in ENCODINGS]
    rows += [[ENCODINGS[-1].name, size, *measure(samples, ENCODINGS[-1], size)] for size in ROW_GROUPS[1:]]
    header = ["row", "rows a group", "KB a sample", "encode ms", "read + decode ms"]
    return f"{title}: {len(samples)} frames of {width}x{height}\n\n{markdown_table(header, rows)}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", type=Path, help="CamVid in SegNet layout, for real frames")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    pa.set_cpu_count(1)
    print(describe(), end="\n\n")
    large = Streets(height=1024, width=2048)
    sources: list[tuple[str, Callable[[], list[Sample]], dict[int, int]]] = [
        ("streets", lambda: large.samples(None, "train")[:16], large.describe(None).label_table)
    ]
    if arguments.camvid:
        camvid = FORMATS["camvid"]
        root = arguments.camvid
        sources.insert(0, ("CamVid", lambda: camvid.samples(root, "train")[:96], camvid.describe(root).label_table))
    for title, samples, label_table in sources:
        print(table(title, [to_arrays(sample, label_table) for sample in samples()]))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
