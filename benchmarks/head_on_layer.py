"""The article's head, trained by its recipe, on another layer of a run than the last: `--layer block4_pool`.

The product's `head` stands on the network's last layer, as the article's does; this one is for docs/article.md's table.
It writes RUN/NAME/predictions.csv.
"""

import argparse
from pathlib import Path

import keras
import numpy as np

from thaw.features.store import FeatureFile
from thaw.models.neural.batches import CachedActivations
from thaw.models.neural.layers import Probabilities
from thaw.models.neural.optimizers import compile_model
from thaw.models.neural.prediction import predict
from thaw.models.neural.recipes import find_recipe
from thaw.models.neural.training import Samples, Training
from thaw.pipeline.run.predictions_csv import write_predictions


def main(run: Path, layer: str, name: str, seed: int = 0) -> Path:
    """Train on everything that is not test, label the test split, and return the path of the predictions."""
    [path] = run.glob("features/*.h5")
    with FeatureFile(path) as features:
        is_test, num_classes = features.split == 2, len(features.class_names)
        length = int(np.prod(features.layers[layer][1:]))
        training, test = (CachedActivations([features], layer, (length,), mask) for mask in (~is_test, is_test))
        recipe = find_recipe("article", "head", training.num_samples)
        keras.utils.set_random_seed(seed)
        model = build(length, num_classes, seed)
        compile_model(model, recipe)
        samples = [
            Samples(source, features.labels[mask], num_classes)
            for source, mask in ((training, ~is_test), (test, is_test))
        ]
        Training(model, recipe, *samples, seed).run()
        probabilities = predict(model, test.in_order(recipe.batch_size))
        ids = [features.ids[row] for row in np.flatnonzero(is_test)]
        labels = features.labels[is_test]
        return write_predictions(run / name / "predictions.csv", ids, labels, probabilities, features.class_names)


def build(length: int, num_classes: int, seed: int) -> keras.Model:
    """Return the article's head, begun as the product's is, on (N, length) features."""
    layers, glorot = keras.layers, keras.initializers.GlorotUniform
    return keras.Sequential(
        [
            keras.Input((length,)),
            layers.Dense(1000, activation="relu", kernel_initializer=glorot(seed=seed), name="fc1"),
            layers.Dropout(0.3, seed=seed),
            layers.Dense(num_classes, kernel_initializer=glorot(seed=seed + 1)),
            Probabilities(),
        ]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--layer", required=True)
    parser.add_argument("--name", required=True)
    given = parser.parse_args()
    print(main(given.run, given.layer, given.name))
