"""The dataset of a run: as its settings say, without the images that it left out."""

from thaw.features.datasets.dataset import Dataset, load_dataset
from thaw.features.datasets.options import ReadOptions
from thaw.pipeline.config import DATA_FIELDS, Common


def dataset_of(settings: Common) -> Dataset:
    """Return the dataset that the settings name; no image is decoded yet. Raises InputError as `load_dataset` does."""
    options = ReadOptions(skip_bad=settings.skip_bad, **{name: getattr(settings, name) for name in DATA_FIELDS})
    dataset = load_dataset(settings.dataset, settings.data, settings.target, settings.max_pixels, options)
    if not settings.skip_bad:
        return dataset
    from thaw.pipeline.run.data.skipped_csv import left_out  # it brings scikit-learn, which --help need not wait for

    bad = left_out(dataset, settings.run_folder)
    return dataset.without(bad) if bad else dataset


def readable_dataset(settings: Common) -> Dataset:
    """Return the dataset to begin a run with; with --skip-bad all images are tried, and those that fail left out.

    Raises InputError if less than two classes are left.
    """
    dataset = dataset_of(settings)
    if not settings.skip_bad:
        return dataset
    from thaw.pipeline.run.data.skipped_csv import unreadable
    from thaw.pipeline.run.split_csv import is_used

    if is_used(settings.run_folder):  # by which the images of the run are settled
        return dataset
    bad = unreadable(dataset)
    return dataset.without(bad) if bad else dataset
