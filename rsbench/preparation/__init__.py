"""`rsbench data prepare`: copies of all videos of a root with a shorter short side.

The copies lie under the names of the originals, ending included, beside copies of all lists and
annotation files, so that the task's own loader, and anybody else's, reads one root like the other
and gives equal ids. Beside them lie

- ``rsbench-prepared.json``: the mark of such a root, with short side, encoder and counts;
- ``rsbench-prepared.jsonl``: one line a video: the digest of the source, that of the copy, and what
  became of it. It is only ever appended to, and is what an interrupted preparation goes on from.

No video is left out. One that is small enough already, that can't be read, or whose copy would not
have the very same frames at the very same times is copied as it is, and counted and named as what
it is; one that can't be read so stays a failure of every run on the prepared root.
"""
