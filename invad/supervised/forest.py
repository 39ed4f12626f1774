"""A boosted random forest of XGBoost as SegAD's authors set it (arXiv:2405.04953, appendix A.1): rounds of many trees each."""

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from invad.errors import InputError

if TYPE_CHECKING:
    from xgboost import Booster

MISSING = "xgboost is not installed; it comes with the extra segad: pip install 'invad[segad]'"
# What the authors leave to XGBoost (L2 of 1, histograms of 256 bins, missing = NaN) has its defaults.
PARAMETERS = {
    "objective": "binary:logitraw",
    "tree_method": "hist",
    "max_depth": 5,
    "subsample": 0.6,
    "colsample_bytree": 0.6,
    "colsample_bynode": 0.6,
    "reg_alpha": 1.0,
    "nthread": 1,
    "verbosity": 0,
}


def fit(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    seed: int,
    rounds: int = 10,
    trees: int = 200,
    learning_rate: float = 0.3,
) -> "Booster":
    """Return a fitted forest. features: float (n, F), NaN where missing; labels: (n,), 1 anomalous. The order of rows counts.

    An anomalous row weighs as much as there are normal rows for each of them. `InputError`: xgboost is missing, or a label is.
    """
    xgboost = xgboost_module()
    anomalous = int(np.count_nonzero(labels))
    if not 0 < anomalous < len(labels):
        raise InputError(f"labels: {anomalous} of {len(labels)} images are anomalous; the trees need both kinds")
    weight = {"scale_pos_weight": (len(labels) - anomalous) / anomalous}
    chosen = {"num_parallel_tree": trees, "learning_rate": learning_rate, "seed": seed}
    return xgboost.train(PARAMETERS | weight | chosen, xgboost.DMatrix(features, labels), rounds)


def margins(forest: "Booster", features: np.ndarray) -> np.ndarray:
    """Return the scores of images, float32 (n,): log-odds, any real number; features as in `fit`."""
    return forest.predict(xgboost_module().DMatrix(features), output_margin=True)


def to_plain(forest: "Booster") -> dict[str, Any]:
    """Return the forest as plain values: XGBoost's own JSON."""
    return json.loads(forest.save_raw("json"))


def from_plain(value: object, features: int) -> "Booster":
    """Return the forest of `to_plain`; `ValueError`: it is none, has not so many features, or a branch that leads nowhere."""
    xgboost = xgboost_module()
    _check_trees(value, features)
    try:
        forest = xgboost.Booster(model_file=bytearray(json.dumps(value).encode()))
    except xgboost.core.XGBoostError as error:
        raise ValueError(f"no forest of XGBoost ({str(error).strip().splitlines()[-1][:200]})") from None
    if forest.num_features() != features:
        raise ValueError(f"the forest has {forest.num_features()} features, expected {features}")
    return forest


def _check_trees(value: Any, features: int) -> None:  # noqa: ANN401  (whatever the file holds)
    """Raise `ValueError` where a tree's node names a child, or a feature, that is not there: XGBoost would read past its end."""
    try:
        trees = value["learner"]["gradient_booster"]["model"]["trees"]
        for tree in trees:
            left, right, split = (tree[key] for key in ("left_children", "right_children", "split_indices"))
            nodes = int(tree["tree_param"]["num_nodes"])
            lists = (left, right, split, tree["split_conditions"], tree["default_left"], tree["parents"])
            if not nodes or {len(each) for each in lists} != {nodes}:
                raise ValueError("a tree has lists of other lengths than its nodes")
            inner = [(a, b) for a, b in zip(left, right, strict=True) if (a, b) != (-1, -1)]
            # A child lies behind its parent, so no walk comes back.
            forward = all(node < a < nodes for side in (left, right) for node, a in enumerate(side) if a != -1)
            if not forward or any(-1 in pair for pair in inner) or not all(0 <= each < features for each in split):
                raise ValueError("a tree has a branch that leads nowhere")
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"no forest of XGBoost ({type(error).__name__}: {error})") from None


def xgboost_module() -> Any:  # noqa: ANN401  (the module)
    """Return the module xgboost; `InputError` where it, an extra, is not installed."""
    try:
        import xgboost
    except ModuleNotFoundError:
        raise InputError(MISSING) from None
    return xgboost
