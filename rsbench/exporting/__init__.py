"""A finished run as one ONNX file: `rsbench export RECORD --onnx FILE`.

The graph takes views as rsbench's readers give them, with nothing left to the caller but decoding,
resizing and cropping: scaling, mean and deviation, the network, and what the run fitted on it are
inside.

- Input ``views``: (N, 3, H, W) pictures or (N, 3, T, H, W) clips, RGB in grey levels of 0 to 255,
  N free: uint8, or float32 for resizers that do not round (tpu, model_garden).
- Output ``probabilities``, float32 (N, K): of each view. A run's score of an item is the mean over
  its views.
- Output ``features``, float32 (N, D): what the network gives before the classifier.

What a caller must know stands in the file's metadata, as JSON: ``rsbench.input`` (layout, frames,
side, resizer, sampler, views), ``rsbench.outputs``, ``rsbench.classes`` and ``rsbench.record`` (key
and digest of the record, so that a model can be traced to its number).

A file is written after it was held to the network it was made of, on random views, and where the
data of the run is here to what the record says of its items. Records keep log-probabilities in half
precision (`rsbench.view_scores`), so "to 1e-5" means: some probability within 1e-5 of the exported
one is kept as the one that the record has.

Shape letters: N items or views, V views of an item, C channels, T frames, H height, W width, D
features, K classes.
"""
