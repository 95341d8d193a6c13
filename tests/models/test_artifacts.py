import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from thaw.features.errors import InputError
from thaw.models.artifacts import load_model, save_model
from thaw.models.strategies import STRATEGIES


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    path, trace = tmp_path / "model.skops", tmp_path / "trace"
    path.write_bytes(pickle.dumps(Hostile(trace)))
    with pytest.raises(InputError, match="is not a model that can be read"):
        load_model(path)
    assert not trace.exists()


def test_a_model_that_brings_its_own_function_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    save_model(path, FunctionTransformer(print), {})
    with pytest.raises(InputError, match="was refused, nothing in it was run"):
        load_model(path)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_model_of_very_few_features_is_read_back(tmp_path: Path, name: str) -> None:
    """Of fewer than 16 features scikit-learn's nearest neighbours would keep a tree, whose type is not trusted."""
    rows, labels = np.random.default_rng(0).normal(size=(40, 4)), np.arange(40) % 2
    strategy = STRATEGIES[name]
    model = make_pipeline(StandardScaler(), strategy.classifier(strategy.values[-1], 0)).fit(rows, labels)
    if not hasattr(model, "predict_proba"):
        pytest.skip("it has no probabilities before it is calibrated")
    save_model(tmp_path / "model.skops", model, {})
    received, _ = load_model(tmp_path / "model.skops")
    np.testing.assert_allclose(received.predict_proba(rows), model.predict_proba(rows))


def test_a_damaged_model_names_itself(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    model = LogisticRegression().fit(np.eye(4), [0, 1, 0, 1])
    save_model(path, model, {})
    assert zipfile.is_zipfile(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=f"{path} is not a model that can be read .*; train the model again"):
        load_model(path)
