"""Reads the imports of the tree and holds them against the rules below, which are the house in data."""

import ast
import os
import platform
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.imports import PACKAGES, ROOT, Arrow, arrows_of, longest, modules, within

LAYERS: tuple[set[str], ...] = (
    {"jobs"},
    {"gscnn_platform.inspection"},
    {"gscnn_platform.recipes", "gscnn_platform.command_line"},
    {
        "gscnn_platform.sweeps",
        "gscnn_platform.prediction",
        "gscnn_platform.exporting",
        "gscnn_platform.reporting",
    },
    {"gscnn_platform.training"},
    {
        "gscnn_platform.evaluation",
        "gscnn_platform.figures",
        "gscnn_platform.comparison",
    },
    {"gscnn_platform.data", "gscnn_platform.provenance", "gscnn_platform.runs", "gscnn_platform.tracking"},
    {"gscnn_platform.cluster"},
    {"gscnn_platform.paths", "gscnn_platform.released_checkpoint", "gscnn_platform.tracking.outbox"},
    {"gscnn_platform.config", "gscnn_platform.manifests"},
    {
        "gscnn_platform.interrupts",
        "gscnn_platform.activity",
        "gscnn_platform.threads",
        "gscnn_platform.importing",
        "gscnn_platform.invalid_values",
        "gscnn_platform.label_pictures",
        "gscnn_platform.machine",
        "gscnn_platform.names",
        "gscnn_platform.scores",
        "gscnn_platform.remote_errors",
        "gscnn_platform.runs.ref",
        "gscnn_platform.text_files",
        "gscnn_platform.weight_files",
    },
    {"gscnn"},
)
"""From top to bottom. A module imports what is below it, or in its own package, and nothing beside or above it.

A new module of gscnn_platform goes into one of these sets, or makes one of its own.
"""

SIDEWAYS = {
    ("gscnn_platform.prediction", "gscnn_platform.reporting"),
    ("gscnn_platform.tracking", "gscnn_platform.data.store"),
    ("gscnn_platform.tracking", "gscnn_platform.provenance"),
    ("gscnn_platform.tracking", "gscnn_platform.runs"),
    ("gscnn_platform.runs", "gscnn_platform.data.disk_full"),
    ("gscnn_platform.runs", "gscnn_platform.data.formats"),
    ("gscnn_platform.runs", "gscnn_platform.data.store"),
    ("gscnn_platform.provenance", "gscnn_platform.data.store"),
}
"""Arrows between neighbours of one layer that are allowed all the same."""

OWNERS: dict[str, set[str]] = {
    "ray.data": {"gscnn_platform.data.store.part_tasks", "gscnn_platform.prediction"},
    "ray.train": {"gscnn_platform.training"},
    "ray.tune": {"gscnn_platform.sweeps"},
    "ray.autoscaler": {"gscnn_platform.manifests"},
    "ray": {
        "gscnn_platform.cluster",
        "gscnn_platform.data.store.part_tasks",
        "gscnn_platform.prediction",
        "gscnn_platform.training",
        "gscnn_platform.sweeps",
    },
    "mlflow": {"gscnn_platform.tracking"},
    "optuna": {"gscnn_platform.sweeps"},
    "albumentations": {"gscnn_platform.data.transforms"},
    "av": {"gscnn_platform.data.videos", "gscnn_platform.prediction.overlay_video"},
    "tyro": {"gscnn_platform.command_line", "jobs"},
    "botocore": {"gscnn_platform.manifests"},
    "jsonschema": {"gscnn_platform.manifests"},
    "safetensors": {"gscnn_platform.weight_files"},
    "timm": {"gscnn.backbones.timm", "gscnn.backbones.timm_padding"},
    "huggingface_hub": {"gscnn.backbones.timm"},
}
"""Third-party package -> the only modules, or packages, that import it. The longest name that fits decides.

A room inside such a package that has a line of its own in LAYERS is not one of them: the outbox knows no MLflow.
"""

SCIENCE_MAY_IMPORT = {
    *("gscnn", "torch", "torchvision", "timm", "huggingface_hub", "numpy", "cv2", "jaxtyping", "pydantic"),
    "lazy_loader",
}
"""And the standard library, but for what opens files:"""

FILE_MODULES = {"io", "os", "pathlib", "shutil", "tempfile", "pickle", "glob", "fileinput", "mmap", "sqlite3"}

FILE_READS = {"open", "load", "fromfile", "memmap", "imread", "loadtxt", "read_text", "read_bytes"}
FILE_WRITES = {"save", "tofile", "imwrite", "savetxt", "write_text", "write_bytes", "mkdir", "unlink"}

OTHER_OPENS = {"os.open", "Image.open", "board.open", "av.open"}
"""Functions of that name that open no text."""
BINARY_MODES = {repr(f"{mode}b") for mode in ("r", "w", "a", "x", "r+")}

LONG = 350
"""Lines past which a Python file is probably two: pytest lists such files among its warnings, and none fails."""
MOST_JOB_LINES = 60
"""Lines that a job may have. Past that it has logic."""

Rule = Callable[[Arrow], str | None]
"""Says what is wrong with an arrow, or None."""


def arrows() -> Iterator[Arrow]:
    for name, path in modules().items():
        tree = ast.parse(path.read_text())
        yield from arrows_of(name, tree, str(path.relative_to(ROOT)), path.name == "__init__.py", OWNERS)


def layer(name: str) -> tuple[int, str] | None:
    """Rank, 0 at the bottom, and the entry of LAYERS that `name` belongs to."""
    for rank, entries in enumerate(reversed(LAYERS)):
        entry = longest(name, entries)
        if entry is not None:
            return rank, entry
    return None


def wrong_direction(arrow: Arrow) -> str | None:
    if arrow.target.split(".")[0] not in PACKAGES:
        return None
    source, target = layer(arrow.source), layer(arrow.target)
    if source is None or target is None:
        return f"{arrow}: {arrow.source if source is None else arrow.target} is in none of LAYERS"
    if target[0] > source[0]:
        return f"{arrow} points up"
    sideways = any(within(arrow.source, a) and within(arrow.target, b) for a, b in SIDEWAYS)
    if target[0] == source[0] and target[1] != source[1] and not sideways:
        return f"{arrow} points sideways"
    return None


def wrong_owner(arrow: Arrow) -> str | None:
    dependency, room = longest(arrow.target, set(OWNERS)), longest(arrow.source, set().union(*LAYERS))
    if dependency is None:
        return None
    owner = longest(arrow.source, OWNERS[dependency])
    if owner is not None and (room is None or within(owner, room)):
        return None
    return f"{arrow}: {dependency} belongs to {', '.join(sorted(OWNERS[dependency]))}"


def wrong_in_science(arrow: Arrow) -> str | None:
    package = arrow.target.split(".")[0]
    if not within(arrow.source, "gscnn") or package in SCIENCE_MAY_IMPORT:
        return None
    if package in sys.stdlib_module_names and package not in FILE_MODULES:
        return None
    return (
        f"{arrow}: gscnn imports {', '.join(sorted(SCIENCE_MAY_IMPORT))}, and of the standard library nothing of files"
    )


def file_calls(tree: ast.Module, place: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name.split(".")[-1] in FILE_READS | FILE_WRITES:
                yield f"{place}:{node.lineno}: {name}(...) reads or writes a file"


def text_of_no_encoding(tree: ast.Module, place: str) -> Iterator[str]:
    """Calls that read or write text in whatever encoding the machine's locale has."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function, keywords = ast.unparse(node.func), {keyword.arg: keyword.value for keyword in node.keywords}
        name = function.split(".")[-1]
        modes = [ast.unparse(value) for value in (*node.args, *filter(None, [keywords.get("mode")]))]
        is_text = (
            (name == "read_text" and not node.args)
            or (name == "write_text" and len(node.args) < 2)
            or (name == "open" and function not in OTHER_OPENS and not any(mode in BINARY_MODES for mode in modes))
            or (function.startswith("subprocess.") and "text" in keywords)
        )
        if is_text and "encoding" not in keywords:
            yield f"{place}:{node.lineno}: {function}(...) has no encoding=, and reads another text on another machine"


def report(violations: list[str]) -> None:
    assert not violations, "\n" + "\n".join(violations)


@pytest.mark.parametrize("rule", [wrong_direction, wrong_owner, wrong_in_science])
def test_no_import_breaks_a_rule(rule: Rule) -> None:
    report([message for message in map(rule, arrows()) if message is not None])


def test_every_module_has_a_layer() -> None:
    missing = {name: path for name, path in modules().items() if layer(name) is None and name != "gscnn_platform"}
    report([f"{path.relative_to(ROOT)}:1: {name} is in none of LAYERS" for name, path in missing.items()])


def test_the_science_opens_no_files() -> None:
    science = {path: ast.parse(path.read_text()) for name, path in modules().items() if within(name, "gscnn")}
    report([call for path, tree in science.items() for call in file_calls(tree, str(path.relative_to(ROOT)))])


def test_text_has_the_same_encoding_on_every_machine() -> None:
    files = [*modules().values(), *(ROOT / "benchmarks").glob("*.py")]
    report(
        [
            found
            for path in files
            for found in text_of_no_encoding(ast.parse(path.read_text("utf-8")), str(path.relative_to(ROOT)))
        ]
    )
    calls = ["p.read_text()", "p.open()", "open(p, 'a')", "p.write_text(x)", "subprocess.run(c, text=True)"]
    assert all(list(text_of_no_encoding(ast.parse(call), "made_up.py")) for call in calls)
    assert not list(text_of_no_encoding(ast.parse("p.open('rb'); p.read_text(encoding='utf-8')"), "made_up.py"))


@pytest.mark.parametrize(
    ("source", "line", "rule", "message"),
    [
        ("gscnn.model", "import gscnn_platform.config", wrong_direction, "points up"),
        ("gscnn_platform.config", "from gscnn_platform.data.store import Store", wrong_direction, "points up"),
        ("gscnn_platform.data.store", "from gscnn_platform import recipes", wrong_direction, "points up"),
        ("gscnn_platform.data.store", "from .. import recipes", wrong_direction, "points up"),
        ("gscnn_platform.tracking", "def late():\n    from jobs.train import main", wrong_direction, "points up"),
        ("gscnn_platform.evaluation", "import gscnn_platform.figures", wrong_direction, "points sideways"),
        ("gscnn_platform.tracking", "import gscnn_platform.data.loader", wrong_direction, "points sideways"),
        ("gscnn_platform.data.store", "import gscnn_platform.tracking", wrong_direction, "points sideways"),
        ("gscnn_platform.recipes", "import gscnn_platform.helpers", wrong_direction, "none of LAYERS"),
        ("gscnn_platform.data.loader", "import ray.data", wrong_owner, "ray.data belongs to"),
        ("gscnn_platform.training.loop", "from ray import data", wrong_owner, "ray.data belongs to"),
        ("gscnn_platform.training.loop", "import ray\nray.tune.report({})", wrong_owner, "ray.tune belongs to"),
        ("gscnn_platform.data.store", "from ray.util import queue", wrong_owner, "ray belongs to"),
        ("gscnn_platform.training.loop", "from mlflow.entities import Metric", wrong_owner, "mlflow belongs to"),
        ("gscnn_platform.tracking.outbox", "import mlflow", wrong_owner, "mlflow belongs to"),
        ("gscnn_platform.tracking.outbox", "import gscnn_platform.tracking.uri", wrong_direction, "points up"),
        ("gscnn_platform.config", "import tyro", wrong_owner, "tyro belongs to gscnn_platform.command_line, jobs"),
        ("gscnn.losses", "import ray", wrong_in_science, "gscnn imports"),
        ("gscnn.losses", "from pathlib import Path", wrong_in_science, "gscnn imports"),
    ],
)
def test_an_arrow_that_breaks_a_rule_is_found_and_named(source: str, line: str, rule: Rule, message: str) -> None:
    messages = [rule(arrow) for arrow in arrows_of(source, ast.parse(line), "made_up.py", submodules=OWNERS)]
    found = [text for text in messages if text is not None]
    assert len(found) == 1
    assert message in found[0]
    assert found[0].startswith(f"made_up.py:{1 + line.count(chr(10))}: {source} -> ")


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("jobs.train", "from gscnn_platform.recipes import RECIPES"),
        ("gscnn_platform.tracking", "from gscnn_platform.data.store import Store"),
        ("gscnn_platform.training.loop", "from gscnn_platform.training import control"),
        ("gscnn_platform.training.trainer", "import ray\nray.get(ray.put(1))"),
        ("gscnn.edges", "from functools import cache\nimport cv2"),
    ],
)
def test_an_arrow_that_breaks_no_rule_is_let_through(source: str, line: str) -> None:
    found = list(arrows_of(source, ast.parse(line), "made_up.py", submodules=OWNERS))
    assert found
    rules: tuple[Rule, ...] = (wrong_direction, wrong_owner, wrong_in_science)
    report([message for rule in rules for message in map(rule, found) if message is not None])


@pytest.mark.parametrize("call", ["open('x')", "np.load(path)", "torch.save(x, path)", "path.read_text()"])
def test_a_call_that_reads_or_writes_a_file_is_found(call: str) -> None:
    assert [found.split(": ")[0] for found in file_calls(ast.parse(f"x = 1\n{call}"), "made_up.py")] == ["made_up.py:2"]
    assert not list(file_calls(ast.parse("model.load_state_dict(weights)"), "made_up.py"))


def test_platform_stays_the_standard_librarys() -> None:
    """An __init__.py in platform/ would hide it from ray, mlflow and torch, which all call platform.system()."""
    assert not (ROOT / "platform/__init__.py").exists()
    code = "import platform, gscnn_platform; print(platform.__file__); print(platform.system())"
    environment = {**os.environ, "PYTHONPATH": ".:platform"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    file, system = run.stdout.split()
    assert Path(file).parent == Path(sysconfig.get_path("stdlib"))
    assert system == platform.system()


def lengths(*folders: str) -> dict[str, int]:
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in files}


def test_long_files_are_listed() -> None:
    for file, lines in lengths("gscnn", "platform", "tests", "benchmarks").items():
        if lines > LONG:
            warnings.warn(f"{file} has {lines} lines, more than {LONG}: is it two files?", stacklevel=1)


def test_a_job_has_no_logic() -> None:
    found = lengths("jobs")
    assert found
    report(
        [f"{file}: {lines} lines, {MOST_JOB_LINES} at most" for file, lines in found.items() if lines > MOST_JOB_LINES]
    )


@pytest.mark.parametrize("module", ["gscnn.losses", "gscnn.metrics", "gscnn.edges"])
def test_losses_metrics_and_edges_are_usable_without_the_model(module: str) -> None:
    parts = [f"gscnn.{part}" for part in ("model", "backbones", "fusion", "shape_stream")]
    found = [arrow for arrow in arrows() if within(arrow.source, module)]
    assert found
    report([str(arrow) for arrow in found if any(within(arrow.target, part) for part in parts)])
