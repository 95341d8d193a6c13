"""Every setting of every stage, with its default and its meaning, in one place."""

import codecs
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import CliImplicitFlag, CliPositionalArg

from thaw.features.backbones.registry import BACKBONES
from thaw.features.datasets.remote import is_url
from thaw.features.foreign.extractors import Extractor, get_extractor, is_foreign, without_path
from thaw.features.foreign.network import PREFIX, safe_name
from thaw.features.images.decode import MAX_PIXELS
from thaw.features.images.preprocess import is_normalization
from thaw.features.pooling import split_layers

USUAL_BACKBONE = "vgg16"
NETWORKS = "the network, such as vgg16, efficientnet_lite0 or resnet50 (thaw backbones lists all), or onnx:FILE"
PATH_KINDS = ("folder", "csv", "npz")
SET_NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"  # of a feature set: a file's name
LONGEST_SET_NAME = 100  # characters
RANDOM = "-random"  # ends the name of every feature set of random weights
SCHEDULER = r"((tcp|tls)://)?([^\s:/\[\]]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}"

# What run.json keeps: of the run, and refused if a later command contradicts it; and of each of its feature sets.
DATA_FIELDS = (
    *("merge_classes", "no_splits", "follow_links", "zip_encoding", "encoding", "image_column", "label_column"),
    *("split_column", "group_column", "suffix", "white"),
)  # how the data is read
RUN_FIELDS = ("dataset", "data", "target", *DATA_FIELDS, "seed")
SET_FIELDS = (
    *("backbone", "weights", "image_size", "resize", "aspect", "normalize", "layers", "pooling", "views", "dtype"),
    *("engine", "engine_precision"),
)
FORMER = {"views": "one"}  # what run.json and feature files of an earlier version mean, which do not say it
# What run.json keeps too, but a later command may change, since it was perhaps given because the first one failed.
LOOSE_RUN_FIELDS, LOOSE_SET_FIELDS = ("skip_bad", "max_pixels"), ("batch_size",)


def _absolute(path: str | Path) -> Path:
    """Return the absolute path; raises ValueError if it names an unknown user."""
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"{error} Expected a path") from None


def _absolute_dataset(word: str) -> str:
    kind, separator, path = word.partition(":")
    if kind not in PATH_KINDS or not separator or (kind == "folder" and is_url(path)):
        return word
    return f"{kind}:{_absolute(path)}"


def _absolute_weights(source: str) -> str:
    return source if source in ("imagenet", "random") else str(_absolute(source))


def _recordable(path: Path) -> Path:
    str(path).encode()  # a name that is not UTF-8 could not be recorded
    return path


def _some_layer(layers: str) -> str:
    if not all(name.strip() for name in layers.split(",")):
        raise ValueError("expected one layer or more, joined by commas, for example block4_pool,block5_pool")
    return layers


def _different_layers(layer: str) -> str:
    parts = split_layers(layer)
    if not all(parts) or len(set(parts)) < len(parts):
        raise ValueError("expected auto, a layer, or different layers joined by +")
    return layer


def _different_results(names: str) -> str:
    parts = names.split(",")
    if not all(parts) or len(parts) < 2 or len(set(parts)) < len(parts):
        raise ValueError("expected two or more different results joined by commas, for example svm,logreg")
    return names


def _some_job(jobs: int) -> int:
    if jobs == 0 or jobs < -1:
        raise ValueError("expected 1 or more, or -1 for one per core")
    return jobs


def _positive_numbers(values: str) -> str:
    try:
        positive = all(0 < float(value) < float("inf") for value in values.split(","))
    except ValueError:
        positive = False
    if not positive:
        raise ValueError("expected positive numbers joined by commas, for example 0.001,0.01,0.1")
    return values


def _known_encoding(name: str) -> str:
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise ValueError("expected the name of an encoding, for example gbk, cp1252 or utf-16") from None


RunFolder = Annotated[Path, AfterValidator(_recordable)]
DataPath = Annotated[Path, AfterValidator(_recordable), AfterValidator(_absolute)]
DatasetWord = Annotated[str, AfterValidator(_absolute_dataset)]
WeightsSource = Annotated[str, AfterValidator(_absolute_weights)]
Encoding = Annotated[str, AfterValidator(_known_encoding)]
LayerNames = Annotated[str, AfterValidator(_some_layer)]
JoinedLayers = Annotated[str, AfterValidator(_different_layers)]
Numbers = Annotated[str, AfterValidator(_positive_numbers)]
ResultNames = Annotated[str, AfterValidator(_different_results)]
NumJobs = Annotated[int, AfterValidator(_some_job)]


def _network(given: Mapping[str, Any]) -> Extractor:
    """Return the network that defaults follow; the usual one for an unknown name, since the stage refuses that."""
    name = given.get("backbone", USUAL_BACKBONE)
    if is_foreign(name) and "weights" in given:
        return get_extractor(name, given["weights"])
    return BACKBONES.get(name, BACKBONES[USUAL_BACKBONE])


def _networks(attribute: str, shown: str = "the network's own", otherwise: Any = None) -> Any:
    """Return a default that is an attribute of the network, `otherwise` if it has none."""

    def default(given: dict[str, Any]) -> Any:
        return getattr(_network(given), attribute, otherwise) or otherwise

    default.__qualname__ = shown  # in --help
    return default


class Options(BaseModel):
    """What every command accepts."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    debug: CliImplicitFlag[bool] = False
    """show the traceback of an error"""


class Common(Options):
    """The settings that every stage of a run shares, apart from the batch size of the extraction."""

    run: RunFolder | None = None
    """run directory; runs/ plus the dataset's word unless given"""
    dataset: DatasetWord = "digits"
    """digits, elpv, cifar10, cifar100, folder:PATH, csv:PATH or npz:PATH (folder: takes a zip or a URL of fsspec)"""
    data: DataPath | None = None
    """archive or image folder of cifar10 and cifar100, if at hand"""
    target: Literal["four"] | None = None
    """elpv: the four degrees instead of defective or not"""
    merge_classes: CliImplicitFlag[bool] = False
    """take classes as one whose names differ in blanks, case, Unicode form or zeros alone (cat and Cat, 1 and 01)"""
    no_splits: CliImplicitFlag[bool] = False
    """folders called train, test and the like are classes"""
    follow_links: CliImplicitFlag[bool] = False
    """follow links to your own files and folders wherever they lie"""
    zip_encoding: Encoding | None = None
    """encoding of names in a zip that are not marked as UTF-8, such as gbk; found unless given"""
    encoding: Encoding | None = None
    """encoding of a table, such as cp1252; found unless given"""
    image_column: str | None = None
    """column of a table with the images' paths; path, image, filename and the like unless given"""
    label_column: str | None = None
    """column of a table with the classes; label, class, category or target unless given, else one column a class"""
    split_column: str | None = None
    """column of a table with train, val or test; split, subset or set unless given"""
    group_column: str | None = None
    """column of a table with what is never divided between splits; group unless given"""
    suffix: str | None = Field(None, pattern=r"^\.\w+$")
    """ending to add to the names in a table, such as .jpg"""
    white: float | None = Field(None, gt=0)
    """value that becomes white in grey images of more than 8 bits; by the images' own range unless given"""
    seed: int = Field(0, ge=0, lt=2**32)
    """seed of the split, of random weights and of the solvers"""
    features: str = Field("auto", pattern=SET_NAME)
    """feature set, as run.json names it, or a name for a new one; auto takes the run's first, or what the other options
    describe; svm, logreg, knn and ridge choose among the run's without the test split, and take several side by side,
    a+b"""
    backbone: str = Field(USUAL_BACKBONE, description=NETWORKS)
    weights: WeightsSource = "imagenet"
    """imagenet, random, or the path of a weights file"""
    image_size: int = Field(default_factory=_networks("default_image_size", "by the images"), ge=1)
    """side in pixels that images are resized to; auto, unless given: as large as the images are (the median of their
    shorter sides), between 48 (vgg) or 128 pixels and the network's own size, and less if they are very many"""
    resize: Literal["bilinear", "bicubic", "area", "article"] = Field(
        default_factory=_networks("resize", "bilinear", otherwise="bilinear")
    )
    """how images are resized"""
    aspect: Literal["squash", "crop", "pad"] = Field(default_factory=_networks("aspect", "squash", otherwise="squash"))
    """what becomes of images that are not square: squash them, crop the square in their middle, or pad them to one with
    the colour that is zero for the network"""
    normalize: str = Field(default_factory=_networks("normalization"))
    """the network's own preprocessing (caffe for vgg16), or the article's division by 255; for onnx:FILE
    rgb:MEANS:DEVIATIONS of values from 0 to 1 (bgr if that is the channels' order), three numbers each"""
    layers: LayerNames = Field(default_factory=_networks("default_layers"))
    """layers to extract, joined by commas; the last two poolings or ends of stages unless given
    (block4_pool,block5_pool of vgg16)"""
    pooling: str = Field("auto", pattern=r"^(auto|none|avg|max|grid[1-9]\d?)$", validate_default=True)
    """auto (the finest map of up to 8,192 values for vgg and alexnet, avg for the others), none, avg, max, gridN"""
    views: Literal["one", "flip"] = "one"
    """flip: the mean features of an image and its mirror, at twice the time; of no use if a mirrored image means
    something else (digits, text)"""
    dtype: Literal["float32", "float16"] = "float32"
    """number type of the stored features"""
    engine: Literal["auto", "keras", "mnn", "onnxruntime"] = "auto"
    """what runs the frozen network: auto (keras on a GPU if there is one, else mnn if it is installed), keras, mnn
    (Winograd convolutions on a CPU, about twice as fast), or onnxruntime (on a CPU; onnx:FILE runs by it alone)"""
    engine_precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """arithmetic of the frozen network; 16 bits are for a GPU, and change the features a little"""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """what the network runs on"""
    memory: int | None = Field(None, ge=1)
    """MB that a stage may use; three quarters of the machine's unless given"""
    skip_bad: CliImplicitFlag[bool] = False
    """leave out images that cannot be read, and list them in skipped.csv"""
    max_pixels: int = Field(MAX_PIXELS, ge=1)
    """refuse images with more pixels"""
    workers: int | None = Field(None, ge=1, le=1024)
    """spread the work over this many Dask worker processes on this machine"""
    cluster: str | None = None
    """spread the work over the workers of the Dask scheduler at HOST:PORT"""
    parts: str | None = None
    """folder, or URL of fsspec, for the parts of a feature file until it is whole: this machine and all workers write
    there; beside the file unless given"""

    @model_validator(mode="before")
    @classmethod
    def _automatic_size(cls, given: Any) -> Any:
        """Leave out `auto`: a size that is not given is chosen by the images when the run begins."""
        automatic = isinstance(given, dict) and given.get("image_size") == "auto"
        return {name: value for name, value in given.items() if name != "image_size"} if automatic else given

    @model_validator(mode="before")
    @classmethod
    def _name_and_path(cls, given: Any) -> Any:
        """Make a name and the path of its weights of `onnx:FILE`."""
        return without_path(given) if isinstance(given, dict) else given

    @field_validator("cluster")
    @classmethod
    def _one_cluster(cls, address: str | None, info: ValidationInfo) -> str | None:
        if address is not None and not re.fullmatch(SCHEDULER, address):
            raise ValueError("expected the address of a Dask scheduler, for example 10.0.0.1:8786 or tls://HOST:8786")
        if address is not None and info.data.get("workers") is not None:
            raise ValueError(f"expected it without --workers {info.data['workers']}; leave one of the two out")
        return address

    @field_validator("aspect")
    @classmethod
    def _keeps_proportions(cls, aspect: str, info: ValidationInfo) -> str:
        if aspect != "squash" and info.data.get("resize") == "article":
            raise ValueError("expected squash with --resize article, which keeps no rows and columns")
        return aspect

    @field_validator("normalize")
    @classmethod
    def _networks_own(cls, method: str, info: ValidationInfo) -> str:
        if is_foreign(str(info.data.get("backbone"))):
            if not is_normalization(method):
                raise ValueError(
                    "expected rgb or bgr, three means and three deviations above 0, for example "
                    "rgb:0.485,0.456,0.406:0.229,0.224,0.225"
                )
            return method
        network = _network(info.data)
        if method not in (network.normalization, "article"):
            raise ValueError(f"expected {network.normalization}, which {network.name} was trained with, or article")
        return method

    @field_validator("layers")
    @classmethod
    def _as_stored(cls, layers: str, info: ValidationInfo) -> str:
        """Return the layers of an ONNX file by the names that they have in a feature file."""
        if not is_foreign(str(info.data.get("backbone"))):
            return layers
        pairs = (name.strip().partition(":") for name in layers.split(","))
        return ",".join(f"{safe_name(name)}{separator}{pooling}" for name, separator, pooling in pairs)

    @field_validator("pooling")
    @classmethod
    def _of_network(cls, pooling: str, info: ValidationInfo) -> str:
        return _network(info.data).pooling(pooling)

    @property
    def run_folder(self) -> Path:
        """The run directory, from the dataset's word if none is given.

        >>> Shared(dataset="folder:/photos/flowers.zip").run_folder.as_posix()
        'runs/flowers'
        """
        if self.run:
            return self.run
        name = Path(os.path.normpath(self.dataset.partition(":")[2] or self.dataset)).name
        return Path("runs") / re.sub(r"\.(zip|csv|npz)$", "", name, flags=re.IGNORECASE)

    @property
    def feature_set(self) -> str:
        """The name of the feature set: `features`, or the network, the image size and what differs from the defaults.

        >>> Common().feature_set
        'vgg16-48'
        >>> Common(resize="article", normalize="article").feature_set
        'vgg16-48-article'
        >>> Common(backbone="efficientnet_lite0", pooling="max", weights="random").feature_set
        'efficientnet_lite0-224-max-random'
        """
        name = _described(self) if self.features == "auto" else self.features
        return name.removesuffix(RANDOM) + RANDOM if self.weights == "random" else name

    @property
    def differing(self) -> dict[str, str]:
        """The settings of the feature set, beside network and image size, that are not the network's defaults."""
        its_own = ("weights", "image_size", "normalize") if is_foreign(self.backbone) else ()  # its file need not say
        usual = Common.model_validate({name: getattr(self, name) for name in ("backbone", *its_own)})
        names = [name for name in SET_FIELDS if name not in ("backbone", "image_size")]
        return {name: getattr(self, name) for name in names if getattr(self, name) != getattr(usual, name)}

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The layers to extract, each once, in the order given."""
        return tuple(dict.fromkeys(name.strip() for name in self.layers.split(",") if name.strip()))


def _described(settings: Common) -> str:
    """Return a name for a feature set by its settings."""
    marks = settings.differing
    weights, precision = marks.pop("weights", "random"), marks.pop("engine_precision", None)
    ends = [f"in-{precision}"] if precision else []
    ends += [f"weights-{_short_digest(weights)}"] if weights != "random" else []
    words = [settings.backbone.removeprefix(PREFIX), str(settings.image_size), *dict.fromkeys(marks.values()), *ends]
    name = re.sub(r"[^A-Za-z0-9._+-]", "_", "-".join(words).replace(",", "+"))
    return name if len(name) <= LONGEST_SET_NAME else f"{name[:LONGEST_SET_NAME]}-{_short_digest(name)}"


def _short_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


class Shared(Common):
    """The settings of a run: what every stage shares, and what the extraction of its features needs."""

    batch_size: int = Field(64, ge=1)
    """images in one forward pass"""


class StrategySettings(Common):
    """What every strategy accepts."""

    name: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """folder of the result; the strategy's name unless given"""
    class_weight: Literal["balanced"] | None = None
    """balanced: every class has equal weight"""


class Linear(StrategySettings, Shared):
    """What the strategies on frozen features accept."""

    layer: JoinedLayers = "auto"
    """auto (chosen without the test split; svm and logreg try all joined too), a layer, or several joined by +; of
    joined feature sets (--features a+b) each as set/layer"""
    transform: Literal["auto", "none", "sqrt"] = "auto"
    """before standardisation: auto (chosen without the test split), none, sqrt (power normalisation)"""
    select: Literal["auto", "cv", "validation"] = "auto"
    """what settings are chosen by: cross-validation, or the validation split; auto takes cross-validation below 5,000
    images that are not test"""
    folds: int = Field(5, ge=2)
    """folds of cross-validation and of temperature scaling"""
    values: Numbers | None = None
    """values of C (knn: numbers of neighbours, ridge: alpha) to choose among, joined by commas, for example
    0.001,0.01,0.1; for C half decades from 0.00001 to 100 unless given"""
    jobs: NumJobs = -1
    """fits at once if they are not solved together; -1 is one per core"""


class SVM(Linear):
    """What the support vector machine accepts."""

    kernel: Literal["linear", "rbf"] = "linear"
    """kernel of the support vector machine"""


class Neural(StrategySettings):
    """What the strategies that train a network accept; None is the recipe's own value."""

    training_batch_size: int | None = Field(None, alias="batch_size", ge=1)
    """images in one training step; 256, halved down to 32 while an epoch has fewer than 50 steps"""
    recipe: Literal["tuned", "article"] = "tuned"
    """tuned (chosen on the validation split), or the article's own, which chooses nothing"""
    augment: Literal["none", "flip", "standard"] = "none"
    """random changes of the training images: flip caches both views; standard (crop, rotation, flip, colour) runs the
    whole network in every epoch"""
    epochs: int | None = Field(None, ge=1)
    """passes over the training images"""
    learning_rate: float | None = Field(None, gt=0, lt=10)
    """highest learning rate"""
    label_smoothing: float | None = Field(None, ge=0, lt=1)
    """share of each target given to all classes"""
    weight_decay: float | None = Field(None, ge=0, lt=1)
    """weight decay, by AdamW"""
    patience: int | None = Field(None, ge=1)
    """epochs that are no better on validation before the end"""
    max_minutes: float | None = Field(None, gt=0)
    """begin no epoch that would end later than this"""
    precision: Literal["auto", "float32", "mixed", "bfloat16", "float16"] = "auto"
    """auto is mixed (16-bit arithmetic, 32-bit weights) on a GPU with --recipe tuned, else float32; mixed takes float16
    on a GPU and bfloat16 on a CPU, bfloat16 and float16 choose"""
    find_lr: CliImplicitFlag[bool] = False
    """measure first which learning rates work, on a copy of the network; changes nothing else"""
    tensorboard: CliImplicitFlag[bool] = False
    """write the learning curve for TensorBoard too"""


class Finetune(Neural):
    """What fine-tuning accepts."""

    unfreeze_from: str = Field(default_factory=_networks("default_cut"))
    """first layer that is trained; the start of the last stage (block5_conv1 of vgg16) unless given, the network's
    first layer (block1_conv1) for all of it"""
    probe_layer: str = "auto"
    """layer of the logistic regression that tuned fine-tuning begins from; auto (chosen on the validation split), a
    layer, or none"""


class Advise(Shared):
    """What the advice accepts; options given on its command line are not searched over."""

    budget: float = Field(5, gt=0)
    """minutes of measuring; the features of all images by the best network come after it"""
    dry_run: CliImplicitFlag[bool] = False
    """print the plan (networks, sizes, minutes, memory, disk) and stop"""


class Features(Shared):
    """What the extraction accepts."""

    dry_run: CliImplicitFlag[bool] = False
    """print what is going to be done (images, layers, minutes, memory, disk) and stop"""


class FitSettings(Shared):
    """What `fit` accepts; options of the network and the image given on its command line are not searched over."""

    minutes: float = Field(10, gt=0, le=10_000)
    """how long it may take, from its start and anew in each call"""
    dry_run: CliImplicitFlag[bool] = False
    """print the plan (networks, sizes, minutes, memory, disk) and stop"""


class OfRun(Options):
    """What the stages accept that use what a run has."""

    run: Path | None = None
    """run directory; runs/digits unless given"""
    dataset: str = "digits"
    """the dataset's word, in place of --run"""

    @property
    def run_folder(self) -> Path:
        """The run directory, from the dataset's word if none is given."""
        return self.run or Shared(dataset=self.dataset).run_folder


class Ensemble(OfRun):
    """What averaging classifiers of a run accepts."""

    members: ResultNames | None = None
    """results to average, joined by commas, for example svm,logreg; chosen by out-of-fold predictions unless given"""


class ReportSettings(OfRun):
    """What the comparison accepts."""

    as_json: CliImplicitFlag[bool] = Field(False, alias="json")
    """print JSON instead of tables"""


class Trained(OfRun):
    """What the stages that use a trained model accept; how its images are made is the model's own affair."""

    strategy: str = "best"
    """the result's name; best takes the highest accuracy on held-out images"""
    engine: Literal["auto", "keras", "mnn", "onnxruntime"] = "auto"
    """auto takes what made the features"""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """what the network runs on"""
    weights: str | None = None
    """the weights file of the training, if it was moved"""
    reject: float | None = Field(None, gt=0, le=1)
    """label unsure below this probability, from 0 to 1"""
    max_pixels: int = Field(MAX_PIXELS, ge=1)
    """refuse images with more pixels"""


class Predict(Trained):
    """What labelling new images accepts."""

    images: CliPositionalArg[list[str]] = []
    """files, folders, patterns; - reads a list"""
    top: int = Field(1, ge=1)
    """how many of the most probable classes to name"""
    format: Literal["table", "csv", "jsonl"] = "table"
    """table, csv, or JSON lines"""


class Verify(Options):
    """What the check of a run accepts."""

    run: CliPositionalArg[Path] = Field()
    """run directory"""


class Serve(Trained):
    """What the local page accepts."""

    host: str = Field("127.0.0.1", min_length=1)
    """address to listen at; another than this has no password"""
    port: int = Field(8000, ge=0, le=65535)
    """port to listen at; 0 takes a free one"""
    max_mb: float = Field(20, gt=0, le=1000)
    """MB of an image that is sent, at most"""
    max_pixels: int = Field(50_000_000, ge=1)
    """refuse images with more pixels"""
    rate: float = Field(20, gt=0, le=1e6)
    """images a second from one address; twice as many at once"""
    open: CliImplicitFlag[bool] = False
    """open the page in the browser"""

    @property
    def max_bytes(self) -> int:
        """The bytes of an image that is sent, at most."""
        return int(1e6 * self.max_mb)


class Backbones(Options):
    """What the list of the networks accepts."""

    backbone: str | None = None
    """one network alone"""
    image_size: int | None = Field(None, ge=1)
    """side in pixels; each network's default unless given"""


class Export(Options):
    """What writing a model as one file accepts."""

    run: CliPositionalArg[Path] = Field()
    """run directory"""
    name: str = "best"
    """the result's name; best takes the highest accuracy on held-out images"""
    format: Literal["onnx", "keras", "savedmodel", "bundle"] = "onnx"
    """onnx, keras, savedmodel (TensorFlow's), or bundle: a zip with ONNX, model card and example"""
    out: Path | None = None
    """path to write to; in the result's folder unless given"""
    weights: str | None = None
    """the weights file of the training, if it was moved"""


class WeightsSettings(Options):
    """What the check of the weights accepts."""

    weights: str = "imagenet"
    """imagenet, random, or the path of a weights file"""
    backbone: str = Field(USUAL_BACKBONE, description=NETWORKS)
    seed: int = Field(0, ge=0)
    """seed of random weights"""
