import errno
import os
from pathlib import Path

import pytest

from gscnn_platform.machine import MachineError
from gscnn_platform.reporting.templates import write_page


def full(file: Path, content: bytes) -> int:
    """Path.write_bytes on a disk that is full."""
    with file.open("wb") as opened:
        opened.write(content[:1])
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_previous_page_and_the_error_names_the_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "pages" / "page.html"
    write_page(page, "before ß", "--report")
    link = tmp_path / "link.html"
    link.symlink_to(page)
    write_page(link, "again", "--report")
    assert link.is_symlink() and page.read_text(encoding="utf-8") == "again"
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(MachineError, match=r"page\.html cannot be written: .*; name another file by --report"):
        write_page(page, "after", "--report")
    assert [file.name for file in page.parent.iterdir()] == ["page.html"]
    assert page.read_text(encoding="utf-8") == "again"
