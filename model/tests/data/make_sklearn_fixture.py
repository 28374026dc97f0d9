"""Writes sklearn_forest.json: a small scikit-learn forest with its scores and SHAP values.

    pip install scikit-learn==1.9.1 shap==0.51.0
    python make_sklearn_fixture.py
"""

import json
from pathlib import Path

import numpy as np
import shap
from sklearn.ensemble import IsolationForest

N_FEATURES, N_TREES, SAMPLE_SIZE, N_PROBES = 5, 20, 64, 40


def threshold_f32(threshold):
    """The greatest f32 that is not above an f64 threshold: rows are f32, so no row changes side."""
    rounded = np.float32(threshold)
    if float(rounded) > threshold:
        rounded = np.nextafter(rounded, np.float32(-np.inf))
    return float(rounded)


def nodes(tree):
    for i in range(tree.node_count):
        samples = int(tree.n_node_samples[i])
        if tree.children_left[i] < 0:
            yield {"Leaf": {"samples": samples}}
            continue
        yield {
            "Split": {
                "feature": int(tree.feature[i]),
                "threshold": threshold_f32(tree.threshold[i]),
                "left": int(tree.children_left[i]),
                "right": int(tree.children_right[i]),
                "samples": samples,
            }
        }


rng = np.random.default_rng(7)
train = rng.normal(size=(500, N_FEATURES)).astype(np.float32)
train[:, 4] = np.round(train[:, 4])
probes = (2 * rng.normal(size=(N_PROBES, N_FEATURES))).astype(np.float32)
model = IsolationForest(n_estimators=N_TREES, max_samples=SAMPLE_SIZE, random_state=0).fit(train)
# A few probes lie exactly on thresholds.
for i, estimator in enumerate(model.estimators_[:10]):
    probes[i, estimator.tree_.feature[0]] = threshold_f32(estimator.tree_.threshold[0])
explainer = shap.TreeExplainer(model)
fixture = {
    "forest": {
        "n_features": N_FEATURES,
        "sample_size": SAMPLE_SIZE,
        "trees": [list(nodes(estimator.tree_)) for estimator in model.estimators_],
    },
    "probes": probes.astype(float).tolist(),
    "scores": (-model.score_samples(probes)).tolist(),
    "shap_baseline": float(np.ravel(explainer.expected_value)[0]),
    "shap_values": explainer.shap_values(probes).tolist(),
}
path = Path(__file__).with_name("sklearn_forest.json")
path.write_text(json.dumps(fixture, separators=(",", ":")) + "\n")
print(path, path.stat().st_size, "bytes")
