"""`train_rs_imagenet`: from random weights by the recipe of ResNet-RS, 350 epochs of ImageNet.

Bello et al. 2021, "Revisiting ResNets" (arXiv 2103.07579, section 4 and table 1). The values are
those of the Model Garden's `imagenet_resnetrs*_i*.yaml` (tensorflow/models, official/vision), the
one official code that has the cosine: batches of 4,096, SGD with momentum 0.9 and without look-
ahead, a rate of 0.1 a batch of 256 that warms up over 5 epochs under a cosine over all steps, decay
4e-5 of convolutions and classifier, label smoothing 0.1, two layers of RandAugment, and an average
of weights and batch norm's statistics with decay 0.9999, which is what is tested. Batch norm keeps
the statistics of the last batch alone (TensorFlow's momentum 0), because that average averages
them.

Three values go with the size of the network, as `tensorflow/tpu` lists them (resnet_rs/configs):
the magnitude of RandAugment, dropout and stochastic depth are "published", which is 10, 0.25 and 0
for `resnet_rs_50@160` and more for larger ones. A network of which nothing is published needs
numbers: ``--set dropout=0.25 --set stochastic_depth=network --set randaugment_magnitude=10``.

What is otherwise here, and why:

- Batches are cut of an endless stream of shuffled passes, so that 350 epochs of 1,281,167 pictures
  are 109,475 steps, as the TPU code's configurations say; the Model Garden rounds an epoch down to
  312 steps and so takes 109,200 (``--set steps=109200``).
- The classifier starts as N(0, 0.01), as in the TPU code; the Model Garden's is uniform.
- Pictures are resized by torchvision's filter (`rsbench.media.augment`).

The official runs computed in bfloat16: ``--precision bf16``, which is no part of the recipe. On
several GPUs each normalises its own part of the batch, as the official code does.
"""

from __future__ import annotations

from rsbench.protocols._training import training_protocol
from rsbench.protocols._training_recipe import PUBLISHED

_EPOCHS = 350


PROTOCOL = training_protocol(
    name="train_rs_imagenet",
    version=1,
    changes={
        "epochs": _EPOCHS,
        "batch_size": 4096,
        "full_batches": True,
        "learning_rate": 0.1,
        "learning_rate_batch": 256,
        "momentum_of": "steps",
        "nesterov": False,
        "weight_decay": 4e-5,
        "schedule": "whole cosine",
        "warmup_share": 5 / _EPOCHS,
        "warmup_factor": 0.0,
        "label_smoothing": 0.1,
        "dropout": PUBLISHED,
        "stochastic_depth": PUBLISHED,
        "smallest_crop": 0.08,
        "widest_aspect": 4 / 3,
        "randaugment_layers": 2,
        "randaugment_magnitude": PUBLISHED,
        "norm_momentum": "1.0",
        "ema_decay": 0.9999,
    },
    from_scratch=True,
    title="ResNet-RS from scratch: 350 epochs, the paper's whole recipe",
    citation="Bello et al. 2021, Revisiting ResNets (arXiv 2103.07579).",
)
