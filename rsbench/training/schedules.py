"""How the learning rate goes from step to step.

Warm-up, cosine and drops are mmengine's, each of which changes the rate that it finds. The whole
cosine of the Model Garden is neither, and is given by its formula: over a hundred thousand steps
nothing adds up.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from mmengine.optim.scheduler import CosineAnnealingLR, LinearLR, MultiStepLR
from torch.optim.lr_scheduler import LambdaLR

from rsbench.training.optimisation import TrainingPlan


# Any: mmengine is not typed; all schedules have `step`, `state_dict` and `load_state_dict`.
def make_schedules(
    optimizer: torch.optim.Optimizer, plan: TrainingPlan, *, num_steps: int
) -> list[Any]:
    """Give what has to be stepped after each step of the optimizer; it sets the first rate.

    Args:
        optimizer: Its groups have the rate at the top, which is multiplied.
        plan: Which way the rate goes.
        num_steps: Steps of the whole training, at least 1.
    """
    warmup = round(plan.warmup_share * num_steps)
    if plan.schedule == "whole cosine" and not plan.drops_at:
        share_of_top = partial(
            whole_cosine, num_steps=num_steps, warmup=warmup, first=plan.warmup_factor
        )
        return [LambdaLR(optimizer, share_of_top)]
    schedules: list[Any] = []
    if warmup > 0:
        schedules.append(
            LinearLR(
                optimizer, start_factor=plan.warmup_factor, by_epoch=False, begin=0, end=warmup
            )
        )
    if plan.drops_at:
        # Whole steps that have passed; 0.29 of 100 is 28.999999999999996 in floats.
        milestones = [int(round(share * num_steps, 6)) + 1 for share in plan.drops_at]
        schedules.append(MultiStepLR(optimizer, milestones=milestones, gamma=0.1, by_epoch=False))
    elif plan.schedule == "cosine" and num_steps > warmup:
        schedules.append(
            CosineAnnealingLR(
                optimizer,
                T_max=num_steps - warmup,
                eta_min=0.0,
                by_epoch=False,
                begin=warmup,
                end=num_steps,
            )
        )
    return schedules


def whole_cosine(steps_done: int, *, num_steps: int, warmup: int, first: float = 0.0) -> float:
    """Give the rate of the next step over the top: a cosine over all steps, and a line to it.

    It is `LinearWarmup` over `CosineDecay` of tf-models-official 2.20,
    official/modeling/optimization/lr_schedule.py.

    Args:
        steps_done: Steps that were taken, from 0.
        num_steps: Steps of the whole cosine, at the end of which the rate is 0 and stays so.
        warmup: Steps of the line, which ends on the cosine.
        first: Where the line begins, over the top.
    """
    if steps_done < warmup:
        end = _cosine(warmup, num_steps)
        return first + steps_done / warmup * (end - first)
    return _cosine(steps_done, num_steps)


def _cosine(steps_done: int, num_steps: int) -> float:
    return (1 + math.cos(math.pi * min(steps_done, num_steps) / num_steps)) / 2
