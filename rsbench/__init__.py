"""rsbench measures how well a visual backbone transfers, to images and to video.

A file imports only from floors below its own; ``tests/test_floors.py`` holds it::

    9  cli
    8  runner, estimate, checks, doctor
    7  recording, predicting
    6  cells
    5  registry, assembly, gathering
    4  protocols | rsbench_tasks | rsbench_backbones      (strangers to each other)
    3  tables | data | probes | training | lifting | installation   (strangers to each other)
    2  records, media, metrics, environment, weights, adapt, profile, findings, templates
    1  atomic, stats
    0  specs, errors, digests
"""

__version__ = "0.1.0"
