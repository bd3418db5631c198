"""`jacob_cov`: how different the gradients at different samples are."""

from __future__ import annotations

import numpy as np

from keras_nas_plugin.proxies.base import WORST
from keras_nas_plugin.proxies.context import Context, Proxy

# Added to the eigenvalues, as in the paper's code.
_SHIFT = 1e-5


def correlation_score(jacobian: np.ndarray) -> float:
    r"""A score that is larger the less correlated the rows of a matrix are.

    .. math:: -\sum_i \bigl[ \log(\lambda_i + k) + 1 / (\lambda_i + k) \bigr], \quad k = 10^{-5}

    where lambda_i are the eigenvalues of the rows' correlation matrix. The maximum, minus the
    number of rows, is reached when all rows are uncorrelated.

    Args:
        jacobian: Shape ``[batch, features]``.

    Returns:
        At most ``-batch``; -inf if a row is constant and has no correlation; NaN for numbers
        that are not finite.
    """
    if not np.isfinite(jacobian).all():
        return float("nan")
    centred = jacobian.astype(float) - jacobian.mean(axis=1, keepdims=True, dtype=float)
    lengths = np.linalg.norm(centred, axis=1)
    if not (lengths > 0).all():
        return WORST
    rows = centred / lengths[:, None]
    eigenvalues = np.clip(np.linalg.eigvalsh(rows @ rows.T), 0.0, None) + _SHIFT
    return -float(np.sum(np.log(eigenvalues) + 1 / eigenvalues))


def compute(context: Context) -> float:
    """`correlation_score` of the gradients of the summed logits with respect to the inputs.

    Larger is better: the network can distinguish samples that are in different linear regions.
    Source: Mellor et al. 2021, "Neural Architecture Search without Training", first version
    (arXiv 2006.04647v1), section 3; called jacob_cov by Abdelfattah et al. 2021. A final softmax
    or sigmoid is omitted, and so are integer inputs, which have no gradient.
    """
    context.require_samples(2, "`jacob_cov`")
    return correlation_score(context.input_jacobian)


jacob_cov = Proxy(compute, needs=frozenset({"inputs"}))
