"""`finetune`: the whole network trains with a new classifier, for a fixed number of epochs.

Nothing is selected: the recipe says how long, and the network after the last epoch is tested.
Official validation data, where a task has it, is trained on too. (With ``--set keep=best --set
held_out=0.02`` the network of the epoch is tested that did best on a part of train, or on the
official validation data.) Training looks at random clips, dense ones unless the task or
`train_sampler` says otherwise, and at random crops, mirrored where that keeps the label; each view
follows from (seed, epoch, item) alone. The test is the mean of the softmax over all views.

Where an item may have several labels, the loss is the mean binary cross-entropy of the classes, and
the sigmoid takes the place of the softmax. Label smoothing then draws ones and noughts towards a
half.

Dropout and stochastic depth are the network's own unless the recipe says a number: a network that
has them (``resnet_rs_50+dropout=0.25+stochastic_depth=0.1``) trains with them, its dropout before
the new classifier.

Augmentation is crop-with-resize and flip only, SGD with Nesterov momentum and a cosine, as the
fine-tuning of Kornblith et al. 2019 (arXiv 1805.08974); the lengths are ours, made for small data.
Any key of the common recipe (`rsbench.protocols._training_recipe`) can be set.

Version 1 averaged single floats; version 2 averages the probabilities as they are kept, in half
precision (`rsbench.view_scores`), so that a probability may differ by 1.4e-4; version 3 draws what
is random in a network from the number of the step and not from that of the epoch, so that a network
with dropout comes out otherwise.
"""

from __future__ import annotations

from rsbench.protocols._training import training_protocol

PROTOCOL = training_protocol(
    name="finetune",
    version=3,
    title="The whole network trains, with a new classifier",
    citation="Augmentation and schedule as Kornblith, Shlens, Le 2019 (arXiv 1805.08974).",
)
