import threading
import time
from collections.abc import Callable

import pytest

from thaw.features.prefetch import BATCHES_AHEAD, BATCHES_BEHIND, SLOW_IMAGE, Behind, load_ahead


def batches(count: int) -> list[list[int]]:
    return [[number] for number in range(count)]


def work(seconds: float) -> None:
    """Use a processor for that long."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_load_ahead_keeps_the_order_of_batches_that_are_done_out_of_order() -> None:
    done: list[int] = []
    third_is_done = threading.Event()

    def load(batch: list[int]) -> int:
        if batch == [0]:
            work(2 * SLOW_IMAGE)
        if batch == [1]:
            assert third_is_done.wait(10)
        done.append(batch[0])
        if batch == [2]:
            third_is_done.set()
        return 10 * batch[0]

    assert list(load_ahead(load, batches(20))) == [10 * number for number in range(20)]
    assert done.index(2) < done.index(1)
    assert sorted(done) == list(range(20))


def most_at_once(load_one: Callable[[], None]) -> int:
    """Return how many threads were inside `load_one` at the same time."""
    inside, most = 0, 0
    lock = threading.Lock()

    def load(batch: list[int]) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        load_one()
        with lock:
            inside -= 1

    list(load_ahead(load, batches(12)))
    return most


@pytest.mark.parametrize("is_slow", [False, True])
def test_more_threads_load_only_if_images_take_long(monkeypatch: pytest.MonkeyPatch, is_slow: bool) -> None:
    monkeypatch.setattr("thaw.features.prefetch.WAITING", 1e9)  # a loaded machine makes everything wait

    def load_one() -> None:
        work((4 if is_slow else 0.2) * SLOW_IMAGE)
        time.sleep(0.005 * is_slow)

    assert (most_at_once(load_one) > 1) == is_slow


def test_more_threads_load_if_they_wait_for_a_disk() -> None:
    assert most_at_once(lambda: time.sleep(0.02)) > 1


def test_load_ahead_is_only_a_few_batches_ahead() -> None:
    loaded: list[list[int]] = []
    ahead = load_ahead(loaded.append, batches(50))
    next(ahead)
    ahead.close()
    assert 1 <= len(loaded) <= BATCHES_AHEAD + 1


@pytest.mark.parametrize("count", range(7))
def test_load_ahead_gives_every_batch_of_few(count: int) -> None:
    assert list(load_ahead(lambda batch: batch, batches(count))) == batches(count)


def test_load_ahead_raises_in_the_order_of_the_batches() -> None:
    ahead = load_ahead(lambda batch: 12 // batch[0], [[1], [2], [0], [4], [6]])
    assert [next(ahead), next(ahead)] == [12, 6]
    with pytest.raises(ZeroDivisionError):
        next(ahead)


class FullError(Exception):
    """Stands for a disk that fills up."""


def fail() -> None:
    raise FullError


def test_work_is_done_in_order_in_another_thread() -> None:
    done: list[int] = []
    threads = set()

    def note(number: int) -> None:
        threads.add(threading.current_thread())
        done.append(number)

    with Behind() as behind:
        for number in range(20):
            behind.hand(note, number)
    assert done == list(range(20))
    assert len(threads) == 1
    assert threading.current_thread() not in threads


def test_the_caller_waits_if_too_much_is_not_done() -> None:
    finish, handed = threading.Event(), []

    def hand_all() -> None:
        with Behind() as behind:
            for number in range(10):
                behind.hand(finish.wait, 10)
                handed.append(number)

    caller = threading.Thread(target=hand_all)
    caller.start()
    while len(handed) < BATCHES_BEHIND:
        time.sleep(0.001)
    caller.join(0.05)
    assert len(handed) == BATCHES_BEHIND
    finish.set()
    caller.join(10)
    assert len(handed) == 10


def test_work_that_fails_ends_the_caller_and_nothing_later_is_done() -> None:
    done: list[int] = []
    handed = 0
    with pytest.raises(FullError), Behind() as behind:
        behind.hand(fail)
        for handed in range(1, 10):
            behind.hand(done.append, handed)
    assert handed <= BATCHES_BEHIND + 1
    assert done == []


def test_the_last_work_that_fails_ends_the_caller_too() -> None:
    done: list[int] = []
    with pytest.raises(FullError), Behind() as behind:
        behind.hand(done.append, 0)
        behind.hand(fail)
    assert done == [0]


def test_a_caller_that_fails_leaves_what_it_handed_done() -> None:
    done: list[int] = []

    def slow(number: int) -> None:
        time.sleep(0.01)
        done.append(number)

    def hand_two() -> None:
        with Behind() as behind:
            behind.hand(slow, 0)
            behind.hand(slow, 1)
            raise KeyError

    with pytest.raises(KeyError):
        hand_two()
    assert done == [0, 1]
