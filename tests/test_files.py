import resource

import pytest

from hf_replearn.files import write_whole


def test_a_file_is_whole_or_as_it_was(tmp_path):
    """As on a full disk: the writing ends after 100 bytes."""
    write_whole(tmp_path / "a", "old\r\n")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write_whole(tmp_path / "a", "new" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "a").read_bytes() == b"old\r\n" and len(list(tmp_path.iterdir())) == 1
    write_whole(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "new"


def test_what_a_link_points_to_is_written(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/README.md").write_text("old")
    (tmp_path / "README.md").symlink_to(tmp_path / "elsewhere/README.md")
    write_whole(tmp_path / "README.md", "new")
    assert (tmp_path / "README.md").is_symlink() and (tmp_path / "elsewhere/README.md").read_text() == "new"
