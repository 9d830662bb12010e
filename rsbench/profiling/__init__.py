"""What networks cost: measured side by side, saved, and drawn, alone or beside scores.

From the bottom up: `grids` (small tables in words), `timing` (clocks and turns), `steps` (a network
at work), `costs` (what is saved), `cost_tables`, `side_by_side`. Counting is in `rsbench.profile`.
"""
