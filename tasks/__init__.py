"""The tasks: one file each, named like it, with a `TASK`; files that start with "_" are shared."""
