"""rsbench measures how well a visual backbone transfers, to images and to video.

A file imports only from floors below its own; ``tests/test_floors.py`` holds it::

    8  cli
    7  runner, estimate, checks, doctor
    6  recording, predicting
    5  cells
    4  registry, assembly, gathering
    3  protocols | rsbench_tasks | rsbench_backbones      (strangers to each other)
    2  tables | data | probes | training | lifting | installation   (strangers to each other)
    1  records, media, metrics, environment, weights, adapt, profile, findings, templates
    0  specs, errors, digests, stats
"""

__version__ = "0.1.0"
