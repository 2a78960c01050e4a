"""Batches that are bound to a device, on the CPU for want of a GPU: what is kept must never show in another answer."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import onnxruntime
import pytest

from tests.core.samples import fashion
from tests.tiny_model import SIZE
from vssl.bound import Bound, on_host
from vssl.bundle.reading import Bundle
from vssl.engine import OUTPUTS, open_session, run

IMAGES = fashion(24, SIZE)


def test_answers_of_one_size_after_the_other_are_not_written_over(tiny_bundle: Bundle) -> None:
    session = open_session(tiny_bundle, 1, "fp32")
    bound = Bound(session, "cpu")
    parts = [IMAGES[start : start + size] for start, size in ((0, 4), (4, 4), (8, 3), (11, 1), (12, 8), (4, 4))]
    found = [bound(OUTPUTS, part) for part in parts]
    for part, answers in zip(parts, found, strict=True):
        for answer, wanted in zip(answers, run(session, OUTPUTS, part), strict=True):
            assert len(answer) == len(part)
            np.testing.assert_allclose(answer, wanted, rtol=1e-5, atol=1e-6)


def test_black_images_fill_what_an_earlier_batch_has_left(tiny_bundle: Bundle) -> None:
    bound = Bound(open_session(tiny_bundle, 1, "fp32"), "cpu")
    bound(OUTPUTS, IMAGES[:4])
    bound(OUTPUTS, IMAGES[:3])
    [kept] = bound._threads.made.values()
    assert (kept.host[3] == 0).all()
    np.testing.assert_array_equal(kept.device.numpy(), kept.host)


def test_threads_have_a_batch_each_under_way(tiny_bundle: Bundle) -> None:
    session = open_session(tiny_bundle, 1, "fp32")
    bound = Bound(session, "cpu")
    wanted = run(session, OUTPUTS, IMAGES)[0]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(partial(bound, OUTPUTS), [IMAGES[row : row + 2] for row in range(23)] * 20))
    for row, answers in enumerate(found):
        np.testing.assert_allclose(answers[0], wanted[row % 23 : row % 23 + 2], rtol=1e-5, atol=1e-6)


def test_memory_that_a_device_reads_by_itself_is_taken_where_there_is_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices as a runtime would list them; the one here names no such memory, and the CPU's own stands for it."""

    class Device:
        def __init__(self, ep_name: str, memory: object) -> None:
            self.ep_name, self.memory = ep_name, memory

        def memory_info(self, kind: object) -> object:
            assert kind == onnxruntime.OrtDeviceMemoryType.HOST_ACCESSIBLE
            return self.memory

    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    given = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    onnxruntime.create_and_register_allocator(given, None)  # for sessions that ask for it alone, as none of ours does
    devices = [Device("A", given), Device("B", "memory that can't be had"), Device("C", None)]
    monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: devices)
    locked, owner = on_host((2, 3), "A")
    locked[:] = 7
    np.testing.assert_array_equal(owner.numpy(), locked)
    for provider in "BCD":
        pixels, nobody = on_host((2, 3), provider)
        assert (pixels.shape, nobody) == ((2, 3), None)
    monkeypatch.delattr(onnxruntime, "OrtDeviceMemoryType")
    assert on_host((2, 3), "A")[1] is None
