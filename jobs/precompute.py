"""python -m jobs.precompute DATASET --root DIR --out DIR: raw dataset -> store."""

from gscnn_platform.data.formats import FORMATS
from gscnn_platform.data.precompute import PrecomputeConfig, precompute
from jobs.command_line import choose, user_errors


def main() -> None:
    config = choose(
        {
            name: (
                (type(format_).__doc__ or name).strip().splitlines()[0],
                PrecomputeConfig(format=format_, out="store"),
            )
            for name, format_ in FORMATS.items()
        },
        __doc__,
    )
    with user_errors():
        result = precompute(config)
    manifest = result.manifest
    counts = ", ".join(f"{split.samples} {name}" for name, split in manifest.splits.items())
    done = "wrote" if result.built else "unchanged, nothing to do:"
    left_out = f" · {len(manifest.skipped)} samples left out, see manifest.json" if manifest.skipped else ""
    print(f"{done} {result.path} · {counts} · fingerprint {manifest.fingerprint}{left_out}")


if __name__ == "__main__":
    main()
