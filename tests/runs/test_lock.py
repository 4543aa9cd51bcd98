"""Two trainings do not write into one run folder."""

import multiprocessing
import os

import pytest

from mambavision_lab.runs.lock import is_taken, take_folder

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the locks are POSIX's")


def test_folder_is_taken_until_its_process_ends_however_it_does(tmp_path, refusal):
    context = multiprocessing.get_context("fork")
    ready = context.Event()

    def hold():
        take_folder(tmp_path)
        ready.set()
        context.Event().wait()

    assert not is_taken(tmp_path)
    process = context.Process(target=hold)
    process.start()
    assert ready.wait(20)
    assert is_taken(tmp_path)
    assert "a process is training there; end it first" in refusal(lambda: take_folder(tmp_path))
    process.kill()
    process.join()
    assert not is_taken(tmp_path)
    take_folder(tmp_path)
    assert not is_taken(tmp_path)  # by this process itself
