"""The article's experiments as a user of current Keras would type them: `article_script.py IMAGES.npz WEIGHTS.npz`.

The images come from an .npz with CIFAR-10's four arrays (in the article: `keras.datasets.cifar10.load_data()`), and the
ImageNet weights from one with each layer's arrays, since Keras' download may be out of reach. Two more arguments change
the numbers of epochs. Nothing here is tuned, on purpose.
"""

import sys

import keras
import numpy as np
from keras.applications import VGG16
from keras.layers import Dense, Dropout, Flatten
from keras.models import Model

SIZE, CLASSES, BATCH = 48, 10, 256


def load_data(path):
    """Return the images as the article has them, and one-hot labels."""
    with np.load(path) as data:
        x_train, x_test = (
            np.array([np.resize(image, (SIZE, SIZE, 3)) for image in data[name]]) / 255
            for name in ("x_train", "x_test")
        )
        y_train, y_test = (keras.utils.to_categorical(data[name], CLASSES) for name in ("y_train", "y_test"))
    return (x_train, y_train), (x_test, y_test)


def build(weights, train_from=None):
    """Return the compiled network, frozen up to the layer `train_from`."""
    base = VGG16(weights=None, include_top=False, input_shape=(SIZE, SIZE, 3))
    with np.load(weights) as tensors:
        for layer in base.layers:
            if layer.weights:
                layer.set_weights([tensors[f"{layer.name}/0"], tensors[f"{layer.name}/1"]])
    base.summary()
    for layer in base.layers:
        if layer.name == train_from:
            break
        layer.trainable = False
        print(f"{layer.name} is frozen")
    hidden = Dense(1000, activation="relu", name="fc1")(Flatten()(base.output))
    predictions = Dense(CLASSES, activation="softmax", name="predictions")(Dropout(0.3)(hidden))
    model = Model(base.input, predictions)
    optimizer = keras.optimizers.Adam(learning_rate=0.001)
    model.compile(optimizer, loss="categorical_crossentropy", metrics=["accuracy"])
    model.summary()
    return model


def experiment(name, model, data, epochs):
    """Train, and print loss and accuracy on the test images."""
    (x_train, y_train), (x_test, y_test) = data
    model.fit(x_train, y_train, batch_size=BATCH, epochs=epochs, validation_data=(x_test, y_test))
    loss, accuracy = model.evaluate(x_test, y_test)
    print(f"{name}: loss {loss:.4f}, accuracy {accuracy:.4f}")


if __name__ == "__main__":
    images, weights = sys.argv[1:3]
    head_epochs, finetune_epochs = map(int, sys.argv[3:5] or (10, 15))
    keras.utils.set_random_seed(0)
    data = load_data(images)
    experiment("transfer learning", build(weights), data, head_epochs)
    experiment("fine-tuning", build(weights, train_from="block5_conv1"), data, finetune_epochs)
