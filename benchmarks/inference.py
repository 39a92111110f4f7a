"""What windows, scales and flips cost on one 2048x1024 frame: time relative to a plain pass, and peak memory.

    python -m benchmarks.inference

Every method runs in its own process, because a process never gives back its peak. Memory is what the process uses in
addition to model and inputs (on a GPU: what it allocates). A plain pass, `model(image, gradient)`, is timed in the same
process right after, so that the ratio holds on a machine whose speed changes by the minute.
"""

import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Final

import torch

from benchmarks.environment import describe, markdown_table
from benchmarks.stepper import best_device
from gscnn.batch import normalize
from gscnn.config import InferenceConfig
from gscnn.edges import image_gradient
from gscnn.inference import infer
from gscnn.model import build_model
from gscnn_platform.data.formats.streets import Streets
from gscnn_platform.recipes import RECIPES

MODELS: Final = {
    "cpu": RECIPES["streets"].model.model_copy(update={"shape_widths": (8, 8, 4, 4)}),
    "cuda": RECIPES["cityscapes"].model.model_copy(update={"weights": None}),
}
"""By device type. With the recipe's own widths of 16 to 8, the small one takes 4 minutes instead of 3 on one core."""

WINDOW: Final = (720, 720)
SCALES: Final = (0.5, 1.0, 2.0)
WAYS: Final = {
    "whole image": InferenceConfig(),
    "windows": InferenceConfig(window=WINDOW),
    "flip": InferenceConfig(flip=True),
    "scales": InferenceConfig(scales=SCALES),
    "scales, windows": InferenceConfig(scales=SCALES, window=WINDOW),
}


def measure(way: str) -> tuple[float, float, float]:
    """Seconds of a method, its ratio to the plain pass, and its peak in MiB; call it in a fresh process."""
    device = best_device()
    torch.manual_seed(0)
    model = build_model(MODELS[device.type]).eval().to(device)
    frame, _ = Streets(height=1024, width=2048).samples(None, "val")[0].read()
    image = normalize(torch.from_numpy(frame).permute(2, 0, 1)[None]).to(device)
    gradient = torch.from_numpy(image_gradient(frame))[None, None].to(device)

    def seconds(config: InferenceConfig | None) -> float:
        began = time.perf_counter()
        with torch.inference_mode():
            _ = model(image, gradient) if config is None else infer(model, image, gradient, config)
            if device.type == "cuda":
                torch.cuda.synchronize()
        return time.perf_counter() - began

    with torch.inference_mode():
        # What the first call loads and sets up counts neither as time nor as memory.
        model(image[..., :64, :64], gradient[..., :64, :64])
    held = peak(device)
    taken = seconds(WAYS[way])
    grown = peak(device) - held
    return taken, taken / seconds(None), grown


def peak(device: torch.device) -> float:
    """Peak memory of the process so far, or of its allocations on the GPU, in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def main() -> None:
    server = multiprocessing.get_context("forkserver")
    # Imported once: 8 s for each of the processes otherwise.
    server.set_forkserver_preload(["gscnn.model", "gscnn_platform.recipes"])
    with ProcessPoolExecutor(max_workers=1, mp_context=server, max_tasks_per_child=1) as fresh:
        rows = [[way, *found] for way, found in zip(WAYS, fresh.map(measure, WAYS), strict=True)]
    scales = " / ".join(f"{scale:g}" for scale in SCALES)
    print(describe(), end="\n\n")
    model = MODELS[best_device().type]
    print(
        f"{model.architecture} {model.backbone}, shape stream of {model.shape_widths}, one frame of 2048x1024; ", end=""
    )
    print(f"windows of {WINDOW[1]}x{WINDOW[0]}, scales {scales}\n")
    print(markdown_table(["way", "s", "x plain pass", "peak MiB"], rows))


if __name__ == "__main__":
    main()
