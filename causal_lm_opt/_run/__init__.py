"""Parts of the command line: reading draws, writing folders, tables, plots and worked examples."""

from __future__ import annotations

__all__: list[str] = []
