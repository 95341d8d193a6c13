"""A few of every fault, on the smallest run: `python tests/faults/few.py`, for the test suite."""

import random
from functools import partial

import small_run
from disk import can_mount, filled, limited, on_a_small_disk
from faults_met import Fault, meet_all, on_a_copy
from flips import artifacts, one_flip
from kills import one_kill
from ledger import Ledger
from permissions import READ_ONLY_FOLDER, UNREADABLE, without
from prepared import Prepared, prepared
from reads import broken, cut, harmed

STAGES = ("features", "svm", "report")
KILLS, FLIPS = 4, 60
PICTURES_A_CLASS = 32
SMALL_DISK = 2**14  # bytes


def small_disk() -> Fault:
    """Return the case of a disk, or where none can be mounted of a limit, that is too small for a model."""
    if can_mount():
        return Fault("svm", "a full disk", partial(filled, SMALL_DISK))
    return Fault("svm", "short files", partial(limited, SMALL_DISK))


def other_faults() -> list[Fault]:
    """Return a case each of permissions taken away, a file that is cut, and a read that fails."""
    return [
        Fault("svm", "unreadable", partial(without, UNREADABLE, small_run.FEATURES), small_run.FEATURES, bound=True),
        Fault("report", "read-only", partial(without, READ_ONLY_FOLDER, ""), bound=True),
        Fault("svm", "cut", partial(harmed, cut, small_run.FEATURES), small_run.FEATURES),
        Fault("report", "broken", partial(harmed, broken, "svm/predictions.csv"), "svm/predictions.csv"),
    ]


def meet_few(made: Prepared, ledger: Ledger) -> None:
    """Meet kills, flips, a full disk and other faults."""
    for number in range(KILLS):
        one_kill(number, 0, made, ledger)
    files = artifacts(made.run_folder)
    for number in range(FLIPS):
        one_flip(files[number % len(files)], made.run_folder, random.Random(number), ledger)
    for faults, place in (([small_disk()], on_a_small_disk if can_mount() else on_a_copy), (other_faults(), on_a_copy)):
        meet_all(ledger, made, faults, place)


def main() -> None:
    """Meet the faults and say what came of them."""
    ledger = Ledger(None, "few")
    with prepared(STAGES, PICTURES_A_CLASS) as made:
        meet_few(made, ledger)
    raise SystemExit(ledger.say("kills"))


if __name__ == "__main__":
    main()
