"""Write the shipped data: ``python -m causal_lm_opt.datasets DIR``."""

from __future__ import annotations

import argparse

from causal_lm_opt.datasets.shipped import write_shipped_data


def main(argv: list[str] | None = None) -> None:
    """Read the folder from the command line and write the data into it."""
    parser = argparse.ArgumentParser(
        prog="python -m causal_lm_opt.datasets", description="Write the shipped text experiment."
    )
    parser.add_argument("folder", help="where the files go; made if missing")
    for path in write_shipped_data(parser.parse_args(argv).folder):
        print(path)


if __name__ == "__main__":
    main()
