"""python -m jobs.precompute streets --out data/streets: builds a store from a raw dataset, with edge priors and edge
labels."""

from gscnn_platform.command_line import choose, user_errors
from gscnn_platform.data.formats import FORMATS
from gscnn_platform.data.precompute import PrecomputeConfig


def main() -> None:
    datasets = {
        name: ((type(format_).__doc__ or name).strip().splitlines()[0], PrecomputeConfig(format=format_, out="store"))
        for name, format_ in FORMATS.items()
    }
    with user_errors():
        config = choose(datasets, __doc__, "dataset")
        from gscnn_platform.data.precompute import precompute

        print(precompute(config))


if __name__ == "__main__":
    main()
