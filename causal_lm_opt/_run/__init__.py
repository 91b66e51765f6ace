"""Parts of the command line: reading draws, writing folders, tables, plots and worked examples."""
