"""The cost of a sweep: epochs relative to running all trials to the end, and seconds lost between trials.

    python -m benchmarks.sweep_cost SWEEP_FOLDER

Reads trials.json of a sweep's folder. A trial's overhead is the time from the end of the trial whose place it took (the
last to end before its own first step) to that first step: Tune's decision, settings, store, model, MLflow run. The
first trials, as many as run side by side, are left out: their overhead is the start of their processes.
"""

import argparse
import json
import statistics
from pathlib import Path

from benchmarks.environment import describe, markdown_table


def overheads(trials: list[dict[str, float]], side_by_side: int) -> list[float]:
    """Seconds from the end of a trial to the first step of the one that took its place, in order."""
    begun = sorted((trial["first_step"], trial["seconds"]) for trial in trials if trial["first_step"] is not None)
    ends = sorted(end for _, end in begun)
    # The n-th trial to begin took the place of the one that ended (n - side_by_side)-th.
    return [first - ends[number] for number, (first, _) in enumerate(begun[side_by_side:])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the sweep, with sweep.json and trials.json")
    parser.add_argument("--side-by-side", type=int, default=2, help="trials that ran at the same time")
    arguments = parser.parse_args()
    record = json.loads((arguments.folder / "sweep.json").read_text(encoding="utf-8"))
    trials = json.loads((arguments.folder / "trials.json").read_text(encoding="utf-8"))["trials"]
    epochs, all_epochs = sum(trial["epochs"] for trial in trials), record["config"]["training"]["epochs"] * len(trials)
    lost = overheads(trials, arguments.side_by_side)
    scored = [trial for trial in trials if trial["score"] is not None]
    best = max(scored, key=lambda trial: trial["score"])
    print(describe())
    print(
        markdown_table(
            ("what", "figure"),
            [
                ("trials", str(len(trials))),
                ("trial-epochs", f"{epochs} of {all_epochs} ({epochs / all_epochs:.0%})"),
                ("minutes to the last trial's end", f"{max(trial['seconds'] for trial in trials) / 60:.1f}"),
                ("best score", f"{best['score']:.4f} by trial-{best['number']:03d}"),
                ("seconds between trials, median", f"{statistics.median(lost):.1f}" if lost else "none"),
                ("seconds between trials, range", f"{min(lost):.1f} to {max(lost):.1f}" if lost else "none"),
            ],
        )
    )


if __name__ == "__main__":
    main()
