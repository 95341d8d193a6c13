"""The rows of docs/article.md's table, as commands: the article's experiments, and each of its choices corrected."""

from dataclasses import dataclass

HEAD, FINETUNE = "1, head", "2, fine-tuning"
SUBSET, FULL = "subset", "full"

# Folder of each run -> what its images are and what the features stage is told about them.
RUNS = {
    "subset-article": (SUBSET, "--resize article --normalize article --engine keras"),
    "subset-bilinear": (SUBSET, "--resize bilinear --normalize article --engine keras"),
    "subset-caffe": (SUBSET, "--resize article --normalize caffe --engine keras"),
    "subset-proper": (SUBSET, "--resize bilinear --normalize caffe --engine keras"),
    "cifar10-article": (FULL, "--resize article --normalize article --engine keras"),
    "cifar10": (FULL, ""),
}


@dataclass(frozen=True)
class Row:
    """One row: an experiment with something `changed`, by one command on the images of a run.

    `stage` is a stage of the product or, with a dot in it, a module; `name` is the folder of its result in the run.
    """

    experiment: str
    changed: str
    run: str
    stage: str
    options: str = ""
    name: str = ""

    @property
    def images(self) -> str:
        """What the row's images are, `subset` or `full`."""
        return RUNS[self.run][0]

    @property
    def result(self) -> str:
        """The folder of the row's result, beneath that of all runs."""
        return f"{self.run}/{self.name or self.stage}"

    def arguments(self, runs: str) -> list[str]:
        """Return what Python is called with; `runs` is the folder of all runs."""
        module = ["-m", self.stage] if "." in self.stage else ["-m", "pipeline", self.stage]
        named = ["--name", self.name] if self.name else []
        return [*module, "--run", f"{runs}/{self.run}", *self.options.split(), *named]


NOTHING = "nothing: the article's own"
ALL = "all of these"
ARTICLE = "--recipe article"
TWO_BLOCKS = "--unfreeze-from block4_conv1 --label-smoothing 0.1 --epochs 3"

ROWS = (
    Row(HEAD, NOTHING, "subset-article", "head", ARTICLE),
    Row(HEAD, "interpolation: bilinear", "subset-bilinear", "head", ARTICLE),
    Row(HEAD, "preprocessing: the network's own", "subset-caffe", "head", ARTICLE),
    Row(HEAD, "interpolation and preprocessing", "subset-proper", "head", ARTICLE),
    Row(
        HEAD,
        "layer: `block4_pool`",
        "subset-article",
        "benchmarks.head_on_layer",
        "--layer block4_pool",
        "head-block4",
    ),
    Row(HEAD, "learning rate: 0.0001", "subset-article", "head", f"{ARTICLE} --learning-rate 0.0001", "head-rate"),
    Row(
        HEAD,
        "head: logistic regression",
        "subset-article",
        "logreg",
        "--layer block5_pool --transform none",
        "logreg-block5",
    ),
    Row(HEAD, ALL, "subset-proper", "logreg", "--layer block4_pool"),
    Row(HEAD, NOTHING, "cifar10-article", "head", ARTICLE),
    Row(HEAD, ALL, "cifar10", "logreg", "--layer block4_pool"),
    Row(FINETUNE, NOTHING, "subset-article", "finetune", ARTICLE),
    Row(FINETUNE, "interpolation: bilinear", "subset-bilinear", "finetune", ARTICLE),
    Row(FINETUNE, "preprocessing: the network's own", "subset-caffe", "finetune", ARTICLE),
    Row(FINETUNE, "interpolation and preprocessing", "subset-proper", "finetune", ARTICLE),
    Row(
        FINETUNE,
        "layer: from `block4_conv1` on",
        "subset-article",
        "finetune",
        f"{ARTICLE} --unfreeze-from block4_conv1",
        "finetune-cut",
    ),
    Row(
        FINETUNE,
        "learning rate: 0.0001",
        "subset-article",
        "finetune",
        f"{ARTICLE} --learning-rate 0.0001",
        "finetune-rate",
    ),
    Row(
        FINETUNE,
        "interpolation, preprocessing and learning rate",
        "subset-proper",
        "finetune",
        f"{ARTICLE} --learning-rate 0.0001",
        "finetune-rate",
    ),
    Row(
        FINETUNE,
        "head: first a logistic regression, then the tuned recipe",
        "subset-article",
        "finetune",
        "--probe-layer block5_pool",
        "finetune-tuned",
    ),
    Row(FINETUNE, ALL, "subset-proper", "finetune", TWO_BLOCKS, "finetune-block4"),
    Row(FINETUNE, NOTHING, "cifar10-article", "finetune", ARTICLE),
    Row(FINETUNE, ALL, "cifar10", "finetune", TWO_BLOCKS, "finetune-block4"),
)
