"""rsbench measures how well a visual backbone transfers, to images and to video.

A file imports only from floors below its own; ``tests/test_floors.py`` holds it::

    9  cli
    8  runner, estimate, checks, doctor, profiling, reference_check
    7  recording, predicting
    6  cells
    5  registry, assembly, gathering, steps, cost_tables
    4  protocols | rsbench_tasks | rsbench_backbones      (strangers to each other)
    3  tables | data | probes | training | lifting | installation   (strangers to each other)
    3  weights | timing
    2  records, media, metrics, environment, adapt, profile, findings, templates, costs
    1  atomic, stats, grids
    0  specs, errors, digests, synsets
"""

__version__ = "0.1.0"
