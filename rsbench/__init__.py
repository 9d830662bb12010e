"""rsbench measures how well a visual backbone transfers, to images and to video.

A file imports only from floors below its own; ``tests/test_floors.py`` holds it::

    11 cli
    10 runner, estimate, checks, doctor, profiling, reference_check, preparation
    9  recording, predicting, deriving
    8  fits
    7  cells
    6  registry, assembly, gathering, viewing
    5  protocols | rsbench_tasks | rsbench_backbones                          (all strangers)
    4  tables | data | probes | training | lifting | installation | weights   (all strangers)
    3  records, media, metrics, environment, adapt, profile, findings, templates
    2  atomic, packaged, stats, suites, plans, view_scores, cores, processes
    1  specs, digests, synsets, kinetics_names
    0  errors
"""

__version__ = "0.1.0"
