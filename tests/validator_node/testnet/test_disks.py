"""A disk that is full, both ways."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from validator_node.testnet import leftovers
from validator_node.testnet.disks import BALLAST, Disk, empty, fill, keep, make_disk

WRITER = """
import sys
for line in sys.stdin:
    try:
        with open(sys.argv[1], "ab") as file:
            file.write(bytes(8192))
        print("written", flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
"""


@pytest.fixture
def writer(tmp_path: Path):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "state" / "file")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def write() -> str:
        process.stdin.write("go\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    yield write, psutil.Process(process.pid)
    process.stdin.close()
    process.wait(10)
    process.stdout.close()


def test_a_file_limit_stands_for_a_full_disk_and_goes_again(tmp_path: Path, writer) -> None:
    write, process = writer
    (tmp_path / "state").mkdir()
    disk = Disk(tmp_path / "state", mounted=False)
    assert write() == "written"
    fill(disk, process)
    assert write() == "File too large"
    empty(disk, process)
    assert write() == "written"


def test_a_small_file_system_fills_up_and_its_files_are_kept(tmp_path: Path, writer) -> None:
    write, process = writer
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "file").write_bytes(b"before")
    disk = make_disk(tmp_path / "state", 0, size_bytes=4 * 1024 * 1024)
    if not disk.mounted:
        pytest.skip("this machine lets us mount nothing")
    try:
        assert write() == "written"
        fill(disk, process)
        assert write() == "No space left on device"
        empty(disk, process)
        assert not (disk.folder / BALLAST).exists()
        assert write() == "written"
    finally:
        keep(disk)
    assert str(tmp_path / "state") not in {point for _, point in leftovers.mounts()}
    kept = (tmp_path / "state" / "file").read_bytes()
    assert kept.startswith(b"before")
    assert len(kept) >= 6 + 2 * 8192  # and the part of the failed write that still had room
    keep(disk)  # a second time changes nothing
