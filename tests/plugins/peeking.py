"""Protocols that look where they must not, one way each; all of them predict class 0."""

from typing import Any

import numpy as np

from rsbench import specs


def _fit(request: specs.FitRequest) -> specs.Fitted:
    del request
    return specs.Fitted()


def _fit_on_test(request: specs.FitRequest) -> specs.Fitted:
    targets = request.test_for_selection().targets
    assert targets is not None
    return specs.Fitted(chosen={"selected_on": "test", "num_seen": len(targets)})


def _claim_test(request: specs.FitRequest) -> specs.Fitted:
    del request
    return specs.Fitted(chosen={"selected_on": "test"})


def _predict(request: specs.PredictRequest) -> specs.Predictions:
    num_classes = len(request.test.classes)
    said_K = np.eye(num_classes, dtype=np.float32)[0]
    return specs.Predictions(values=tuple(said_K for _ in request.test.items))


def _predict_from_labels(request: specs.PredictRequest) -> specs.Predictions:
    assert request.test.targets is not None
    eye = np.eye(len(request.test.classes), dtype=np.float32)
    return specs.Predictions(values=tuple(eye[label] for label in request.test.targets))


def _protocol(name: str, **changes: Any) -> specs.Protocol:
    given: dict[str, Any] = {"fit": _fit, "predict": _predict, **changes}
    return specs.Protocol(
        name=name,
        version=1,
        recipe={},
        targets=frozenset({"class"}),
        trains=True,
        selects_on="held-out train",
        title="A protocol that looks where it must not",
        citation="none: a test",
        **given,
    )


ASKS_FOR_TEST = _protocol("asks_for_test", fit=_fit_on_test)
CLAIMS_TEST = _protocol("claims_test", fit=_claim_test)
READS_LABELS = _protocol("reads_labels", predict=_predict_from_labels)
HONEST = _protocol("honest")
