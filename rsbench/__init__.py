"""rsbench measures how well a visual backbone transfers, to images and to video.

A file imports only from floors below its own and from its own unit; ``tests/test_floors.py`` holds
it::

    12 cli
    11 report, choosing, exporting
    10 runner, estimate, checks, doctor, profiling, reference_check, preparation, verifying
    9  recording, predicting, deriving
    8  fits, reproducing
    7  cells, importing, others
    6  registry, assembly, gathering, viewing
    5  protocols | rsbench_tasks | rsbench_backbones | comparison
    4  tables | data | probes | training | lifting | installation | weights   (all strangers)
    4  drift | published                                                      (all strangers)
    3  records, media, metrics, environment, adapt, profile, findings, templates
    2  atomic, claims, garbage, packaged, places, stats, suites, plans
    2  view_scores, cores, processes
    1  specs, digests, synsets, kinetics_names
    0  errors
"""

__version__ = "0.1.0"
