"""rsbench measures how well a visual backbone transfers, to images and to video.

A file imports only from floors below its own; ``tests/test_floors.py`` holds it::

    9  cli
    8  runner, estimate, checks, doctor, profiling, reference_check, preparation
    7  recording, predicting, deriving
    6  cells
    5  registry, assembly, gathering, viewing
    4  protocols | rsbench_tasks | rsbench_backbones                          (all strangers)
    3  tables | data | probes | training | lifting | installation | weights   (all strangers)
    2  records, media, metrics, environment, adapt, profile, findings, templates
    1  atomic, stats, view_scores, cores
    0  specs, errors, digests, synsets, kinetics_names
"""

__version__ = "0.1.0"
