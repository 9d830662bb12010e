"""`python -m rsbench` is the command `rsbench`."""

from rsbench.cli import main

main()
