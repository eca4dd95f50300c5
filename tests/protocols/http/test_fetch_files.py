"""Names that are safe whatever the URL, and files that appear only when whole."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.http.fetch_files import MAX_NAME_BYTES, Downloads, file_name
from protocols.http.url import URL


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a.txt", "a.txt"),
        ("/dir/a.txt?query=/b#fragment", "a.txt"),
        ("", "index.html"),
        ("/", "index.html"),
        ("/dir/", "index.html"),
        ("/.", "index.html"),
        ("/..", "index.html"),
        ("/%2e%2e", "index.html"),
        ("/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "_.._etc_passwd"),
        ("/..%5c..%5cboot.ini", "_.._boot.ini"),
        ("/.bashrc", "bashrc"),
        ("/-rf", "_-rf"),
        ("/~root", "_~root"),
        ("/a%00b%0ac%1b", "a_b_c_"),
        ("/%20a%20", "a"),
        ("/a.%20.", "a"),
        ("/con", "_con"),
        ("/NUL.txt", "_NUL.txt"),
        ("/console", "console"),
        ("/c:stream", "c_stream"),
        ("/gr%C3%BC%C3%9Fe", "grüße"),
        ("/grüße", "grüße"),
        ("/%FF", "\ufffd"),
        ("/u%CC%88", "ü"),
        ("/%E2%80%AEtxt.exe", "_txt.exe"),  # right-to-left override
    ],
)
def test_name_is_the_last_segment_made_safe(path: str, name: str) -> None:
    assert file_name(URL(f"http://host{path}")) == name


def test_long_name_keeps_its_suffix_and_whole_characters() -> None:
    name = file_name(URL(f"http://host/{'ü' * 300}.tar.gz"))
    assert name.endswith("ü.gz")
    assert MAX_NAME_BYTES - 1 <= len(name.encode()) <= MAX_NAME_BYTES


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_every_name_can_be_created_and_is_a_name(text: str) -> None:
    encoded = "".join(f"%{octet:02x}" for octet in text.encode())
    name = file_name(URL(f"http://host/{encoded}"))
    assert name == Path(name).name
    assert name[0] not in ".-~ "
    assert name[-1] not in ". "
    assert name.isprintable()
    assert not set(name) & set('/\\<>:"|?*')
    assert len(name.encode()) <= MAX_NAME_BYTES


def test_name_that_comes_twice_is_numbered(tmp_path: Path) -> None:
    downloads = Downloads(tmp_path)
    paths = ["/a.txt", "/x/a.txt", "/A.TXT", "/a-1.txt", "/a.txt", "/b", "/c/b", "/"]
    assert [downloads.name(URL(f"http://host{path}")) for path in paths] == [
        *("a.txt", "a-1.txt", "A-2.TXT"),
        *("a-1-1.txt", "a-3.txt", "b", "b-1", "index.html"),
    ]


def test_longest_name_leaves_room_for_number_and_partial_file(tmp_path: Path) -> None:
    downloads = Downloads(tmp_path)
    url = URL(f"http://host/{'x' * 1000}")
    for _ in range(2):
        with downloads.target(url) as target:
            target.commit()
    assert len(list(tmp_path.iterdir())) == 2


def test_directory_is_created_with_its_parents(tmp_path: Path) -> None:
    Downloads(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_file_in_the_place_of_the_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        Downloads(tmp_path / "file")


def test_nothing_is_created_before_the_target_is_entered(tmp_path: Path) -> None:
    Downloads(tmp_path).target(URL("http://host/file"))
    assert list(tmp_path.iterdir()) == []


def test_committed_file_replaces_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old and longer")
    with Downloads(tmp_path).target(URL("http://host/file")) as target:
        target.write(b"ne")
        target.write(b"w")
        assert (tmp_path / "file").read_bytes() == b"old and longer"
        target.commit()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"new"}


def test_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").write_bytes(b"mine")
    (tmp_path / "out" / "file").symlink_to(tmp_path / "elsewhere")
    with Downloads(tmp_path / "out").target(URL("http://host/file")) as target:
        target.write(b"new")
        target.commit()
    assert (tmp_path / "elsewhere").read_bytes() == b"mine"
    assert not (tmp_path / "out" / "file").is_symlink()


def test_file_that_is_not_committed_is_removed(tmp_path: Path) -> None:
    with Downloads(tmp_path).target(URL("http://host/file")) as target:
        target.write(b"half")
        [partial] = tmp_path.iterdir()
        assert partial.name.startswith(".file.part-")
    assert list(tmp_path.iterdir()) == []


def test_partial_file_has_the_permissions_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with Downloads(tmp_path).target(URL("http://host/file")) as target:
            target.commit()
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_write_that_fails_names_the_file_and_leaves_nothing(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="limits of POSIX systems")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    target = Downloads(tmp_path).target(URL("http://host/file"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)) as caught, target:
            target.write(bytes(1500))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.filename == str(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_directory_that_is_gone_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    downloads = Downloads(tmp_path / "out")
    (tmp_path / "out").rmdir()
    with (
        pytest.raises(FileNotFoundError) as caught,
        downloads.target(URL("http://host/file")),
    ):
        pass
    assert caught.value.filename == str(tmp_path / "out" / "file")
