import codecs
from pathlib import Path

import pytest

from gscnn_platform.text_files import TextError, read_text, read_yaml, suggestion


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", b""),
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
        ("utf-32-le", codecs.BOM_UTF32_LE),
        ("utf-32-be", codecs.BOM_UTF32_BE),
    ],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_marked_encodings_and_all_line_endings_give_the_same_text(
    tmp_path: Path, encoding: str, mark: bytes, ending: str
) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(mark + f"Straße_01{ending}道路{ending}".encode(encoding))
    assert read_text(file) == "Straße_01\n道路\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("a\nb\n道路\n".encode("gbk"), r"a\.txt: line 3: byte 0xb5 is not UTF-8; .*iconv -f ENCODING -t UTF-8"),
        ("Straße".encode("latin-1"), r"a\.txt: line 1: byte 0xdf is not UTF-8"),
        (codecs.BOM_UTF16_LE + b"a\0b", r"a\.txt: byte 0x62 is not UTF-16-LE; its mark says UTF-16-LE"),
        ("ab".encode("utf-16-le"), r"a\.txt: holds NUL bytes, as UTF-16 without a byte order mark does"),
        (None, r"a\.txt: the file is missing"),
    ],
)
def test_another_encoding_is_an_error_that_names_file_and_byte_and_says_what_to_do(
    tmp_path: Path, data: bytes | None, message: str
) -> None:
    if data is not None:
        (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(TextError, match=message) as caught:
        read_text(tmp_path / "a.txt")
    assert not isinstance(caught.value, UnicodeError)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2: 3\n", "line 2: not valid YAML: a second `:` in one line"),
        ("a:\n\t- b\n", "line 2: not valid YAML: a tab; indent with spaces"),
        ("a: [1,\n", "line 2: not valid YAML: a `.` or `.` that is not closed"),
        ("a: 'x\n", "line 2: not valid YAML: a quotation mark that is not closed"),
        ("a: 1\na: 2\n", "line 2: not valid YAML: key a occurs twice"),
        ("{7: a, 0x7: b}", "line 1: not valid YAML: key 0x7 occurs twice"),
        ("{010: a}", "line 1: not valid YAML: 010 is read as 8, because a leading 0 makes a number octal"),
        ("a: @b\n", "line 1: not valid YAML: text that starts with a special character of YAML"),
        ("a: !b c\n", "line 1: not valid YAML: a tag, `!NAME`; put text that starts with ! in quotes"),
        ("- a\n-b\n- c: d\n", r"line 3: not valid YAML: .*a `-` without a space after it"),
        ("{[1, 2]: a}", "line 1: not valid YAML: a list or a mapping before a `:`"),
        ("a: 1\n---\nb: 2\n", "line 2: not valid YAML: `---` begins a second document; keep one"),
        ("[" * 3000, "not valid YAML: brackets or lines nested a thousand levels deep"),
        ("a: *b\n", r"line 1: not valid YAML: an alias, `\*NAME`, without its anchor"),
        ("a: 1\nb: x\x07y\n", r"line 2: not valid YAML: the character U\+0007; remove it"),
        ("a: 2024-13-45\n", "not valid YAML: month must be in 1..12; put text that looks like a date in quotes"),
    ],
)
def test_a_yaml_error_names_file_and_line_in_our_words(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(TextError, match=f"^{file}: {message}"):
        read_yaml(file)


def test_a_merged_key_may_be_overridden(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n")
    assert read_yaml(tmp_path / "a.yaml")["b"] == {"x": 3, "y": 2}


def test_only_a_similar_name_is_suggested() -> None:
    assert suggestion("color", ["name", "colour"]) == "; did you mean colour?"
    assert suggestion("weight", ["name", "colour"]) == ""
