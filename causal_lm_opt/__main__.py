"""``python -m causal_lm_opt``: the command, where its folder is not on the path."""

from __future__ import annotations

from causal_lm_opt.cli import main

if __name__ == "__main__":
    main()
