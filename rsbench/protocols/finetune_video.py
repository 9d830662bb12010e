"""`finetune_video`: a network that knows video is tuned to another set, for epochs by its size.

Sets of the size of HMDB51 (3,570 training videos a split) and UCF101 (9,537) train for 40 epochs,
sets of the size of Something-Something v2 (168,913) for 22. That is how long the public recipes
take: 40 epochs in mmaction2, configs/recognition/slowonly,
`slowonly_k400_pretrained_r50_8x4x1_40e_{ucf101,hmdb51}_rgb.py`; 22 in PySlowFast,
`configs/SSv2/SLOWFAST_16x8_R50.yaml`. From them are also the batch of 64 (8 GPUs of 8 videos), the
decay of 1e-4, dropout of 0.5 before the classifier, and crops of 8 to 100 % of the frame. Ours is
one rate for all, 0.01 with a cosine, between their 0.001 for UCF101 and 0.12 (0.03 for a batch of
16) for Something-Something; nothing was tuned on any test set.

The clip has the frames and stride of the network. Which frames, and how many views are tested, is
what each set's literature has: random dense clips, and 10 clips of 3 crops for UCF101, HMDB51 and
Kinetics; one frame of each of T segments, not mirrored, and one clip of 3 crops for
Something-Something and Jester. That stands in the task. UCF101 and HMDB51 train and test each of
their three official splits apart, and report the unweighted mean. Official validation data, where a
task has it, is trained on too, and nothing is selected.

``--set epochs=N`` takes the place of the rule by size.
"""

from __future__ import annotations

from rsbench.protocols._training import training_protocol

PROTOCOL = training_protocol(
    name="finetune_video",
    version=1,
    changes={
        "epochs": 0,
        "epochs_by_size": "0:40,50000:22",
        "batch_size": 64,
        "learning_rate": 0.01,
        "learning_rate_batch": 64,
        "weight_decay": 1e-4,
        "warmup_share": 0.05,
        "warmup_factor": 0.01,
        "dropout": "0.5",
        "smallest_crop": 0.08,
        "widest_aspect": 4 / 3,
    },
    title="A video network is tuned to another set, for epochs by its size",
    citation=(
        "Epochs as mmaction2 (UCF101, HMDB51) and Feichtenhofer et al. 2019, SlowFast (SSv2)."
    ),
)
