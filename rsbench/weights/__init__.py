"""Parameters on their way into a network: where they lie, how they come here, what they fit.

From the bottom up: `state` (named tensors, loaded strictly), `foreign` (TensorFlow's and Keras's
files), `shelf` (where files lie and what they are held to), `downloading` and `fetching`, `fitting`
(names, head widths, and which network a file is of), `inflation` (2D into 3D), `choosing` (the
words of ``--weights``), `loading`, `conversion`, `verification`.
"""
