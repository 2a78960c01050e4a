"""Kubernetes' schemas, as its API server has them: an unknown key is an error."""

from typing import Any

import kubernetes_validate

VERSION = "1.30"
OF_OTHERS = {"monitoring.coreos.com/v1", "serving.kserve.io/v1alpha1", "serving.kserve.io/v1beta1"}
"""Kinds that operators define; their schemas are not among Kubernetes' own."""


def check(manifest: dict[str, Any]) -> None:
    """Let the manifest's schema judge it.

    Raises:
        kubernetes_validate.ValidationError: it does not fit.
    """
    if manifest["apiVersion"] not in OF_OTHERS:
        kubernetes_validate.validate(manifest, VERSION, strict=True)
