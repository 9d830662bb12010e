"""`rsbench check`: does a plug-in keep the contract that every other part relies on?"""

from rsbench.checks.backbones import check_backbone
from rsbench.checks.tasks import check_task
from rsbench.findings import Check

__all__ = ["Check", "check_backbone", "check_task"]
