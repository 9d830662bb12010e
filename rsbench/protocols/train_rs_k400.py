"""`train_rs_k400`: from random weights by the recipe of 3D ResNet-RS, 350 epochs of Kinetics-400.

Du et al. 2021, "Revisiting 3D ResNets for Video Recognition" (arXiv 2109.01696). The values are
those of the Model Garden's `k400_resnet3drs_50_tpu.yaml` and, where it is silent, of
`configs/video_classification.py` (tensorflow/models, official/vision): batches of 1,024 clips, SGD
with momentum 0.9 and look-ahead, a rate of 0.8 that warms up over 1,050 of 73,682 steps under a
cosine over all of them, decay 4e-5 of convolutions and classifier, label smoothing 0.1, dropout
0.5, stochastic depth 0.1, and an average of weights and batch norm's statistics with decay 0.9999,
which is what is tested. Batch norm keeps the statistics of the last batch alone (TensorFlow's
momentum 0), because that average averages them. There is no RandAugment: crops of 8 to 100 % of the
frame with sides of up to 1 to 2, and flips.

350 epochs of the 215,570 clips that it was made for are 73,682 steps; with more or fewer clips the
steps go along, and so does the warm-up. Clips are trained on at the side of the input; the official
test looks at 30 views of 256 pixels, three crops of the longer side, with a network that was
trained on 224: ``resnet_rs_3d_50@256 --set train_pixels=224``. The sampler and the crops of the
test are the official ones; how many views there are is the task's word (10 clips of 3 crops).

The classifier starts as N(0, 0.01); the official one is uniform in +-0.05. A network that does not
let stochastic depth be set trains with ``--set stochastic_depth=network``. The official run
computed in bfloat16: ``--precision bf16``, which is no part of the recipe.
"""

from __future__ import annotations

from rsbench.protocols._training import training_protocol

PROTOCOL = training_protocol(
    name="train_rs_k400",
    version=1,
    changes={
        "epochs": 350,
        "batch_size": 1024,
        "full_batches": True,
        "learning_rate": 0.8,
        "learning_rate_batch": 1024,
        "momentum_of": "steps",
        "nesterov": True,
        "weight_decay": 4e-5,
        "schedule": "whole cosine",
        # warmup_steps over train_steps of the configuration.
        "warmup_share": 1050 / 73_682,
        "warmup_factor": 0.0,
        "label_smoothing": 0.1,
        "dropout": "0.5",
        "stochastic_depth": "0.1",
        "smallest_crop": 0.08,
        "widest_aspect": 2.0,
        "train_sampler": "model_garden_random@1",
        "norm_momentum": "1.0",
        "ema_decay": 0.9999,
    },
    from_scratch=True,
    sampler="model_garden@1",
    cropper="model_garden@1",
    title="3D ResNet-RS from scratch: 350 epochs of Kinetics-400",
    citation="Du et al. 2021, Revisiting 3D ResNets for Video Recognition (arXiv 2109.01696).",
)
