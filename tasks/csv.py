"""Own images or videos listed in a CSV: `--task csv --data FILE`.

The header is ``path,label[,start,end][,split][,group]``, separated by comma, semicolon or tab; FILE
may also be a folder with exactly one .csv. Paths are relative to the file. ``start`` and ``end``
are seconds within a video; ``split`` is train, val or test; items of one ``group`` (a person, a
source video) are never on both sides of a fold. An item's id is its path, and its segment as a
media fragment: "clips/a.mp4#t=1.5,3".
"""

from __future__ import annotations

if __name__ == "csv":
    # Python was started inside this folder, which it then searches first: whoever asks for "csv"
    # means the standard library's, and gets it.
    import importlib.util
    import sys
    import sysconfig

    _spec = importlib.util.spec_from_file_location("csv", f"{sysconfig.get_path('stdlib')}/csv.py")
    assert _spec is not None and _spec.loader is not None
    sys.modules["csv"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["csv"])
else:
    from ._csv_task import TASK as TASK
    from ._csv_task import read_csv as read_csv
    from ._csv_task import task_for as task_for
