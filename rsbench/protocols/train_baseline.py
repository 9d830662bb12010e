"""`train_baseline`: from random weights as ResNets were trained before; where 79.0 comes from.

The additive study of Bello et al. 2021 (arXiv 2103.07579, table 1) starts from a ResNet-200 trained
so, which reaches 79.0 on ImageNet: 90 epochs, the rate falling to a tenth after 30, 60 and 80 of
them, weight decay 1e-4, crops and flips and nothing else. Each switch of the later recipe is one
``--set`` away, and ``rsbench ablate`` turns them in the paper's order. The numbers are those of
tensorflow/tpu, models/official/resnet: `resnet_main.py` (`LR_SCHEDULE`, 0.1 for a batch of 256, a
warm-up of 5 epochs, momentum 0.9 with Nesterov's look-ahead, decay 1e-4), `resnet_model.py` and
`resnet_preprocessing.py` (8 to 100 % of the picture, sides 3 to 4 or 4 to 3).

What is otherwise here, and why: batches are of 4,096, as all of the paper's (the code's own default
is 1,024); weights decay in convolutions and classifiers alone, as the Model Garden has it (the TPU
code decays biases too). Dropout and stochastic depth are off whatever the network says. The network
is the backbone as named: the paper's vanilla ResNet-200 is
``resnet_rs_200+squeeze_ratio=0+stem=plain+shortcut=strided``.
"""

from __future__ import annotations

from rsbench.protocols._training import training_protocol

_EPOCHS = 90
_DROPS = (30, 60, 80)
"""Epochs after each of which the rate is a tenth of what it was."""


PROTOCOL = training_protocol(
    name="train_baseline",
    version=1,
    changes={
        "epochs": _EPOCHS,
        "batch_size": 4096,
        "full_batches": True,
        "learning_rate": 0.1,
        "learning_rate_batch": 256,
        "weight_decay": 1e-4,
        "schedule": "drops",
        "drops_at": ",".join(str(epoch / _EPOCHS) for epoch in _DROPS),
        "warmup_share": 5 / _EPOCHS,
        # The rate of the first step; TensorFlow's is 0, at which nothing moves.
        "warmup_factor": 1e-6,
        "dropout": "0",
        "stochastic_depth": "0",
        "smallest_crop": 0.08,
        "widest_aspect": 4 / 3,
        # BATCH_NORM_DECAY of resnet_model.py is 0.9.
        "norm_momentum": "0.1",
    },
    from_scratch=True,
    title="From scratch: 90 epochs with three drops of the rate, no regularisation",
    citation="Bello et al. 2021, table 1, its first row (arXiv 2103.07579).",
)
