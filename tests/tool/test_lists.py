"""Lists: which entries mean which ids, and what is refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tool.cli import UserError
from tool.dataset import DataSet
from tool.lists import Source, find_images, find_masks, id_problem, parse_ids, read_ids


@pytest.mark.parametrize(
    ("entry", "identifier"),
    [
        ("2007_000032", "2007_000032"),
        ("/JPEGImages/2007_000032.jpg /SegmentationClassAug/2007_000032.png", "2007_000032"),
        ("/JPEGImages/2007_000032.jpg\t/SegmentationClassAug/2007_000032.png", "2007_000032"),
        ("/JPEGImages/2007_000032.jpg", "2007_000032"),
        ("JPEGImages/2007_000032.JPG", "2007_000032"),
        ("2007_000032.jpg", "2007_000032"),
        ("/JPEGImages/two words.jpg /SegmentationClassAug/two words.png", "two words"),
        ("/JPEGImages/version.2.jpg", "version.2"),
        ("/JPEGImages/a.jpg b.jpg", "a.jpg b"),
        ("two  words", "two  words"),
        ("version.2", "version.2"),
        ('it\'s "quoted"', 'it\'s "quoted"'),
        ("写真_é", "写真_é"),
        ("-rf", "-rf"),
        ("7", "7"),
    ],
)
def test_every_form_of_entry_gives_its_id(entry, identifier):
    assert parse_ids(entry, "list") == [identifier]


def test_order_is_kept_and_blank_lines_line_endings_and_byte_order_mark_are_skipped(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfb\r\n\r\n  \t\r\na \r\n\xc3\xa9")
    assert read_ids(path) == ["b", "a", "é"]


@pytest.mark.parametrize(
    "entry", [".", "..", "a/b", "../a", "/JPEGImages/", "a\\b", "a\x1bb", "a\rb", "a\u2028b", "/x/.jpg", "x" * 300]
)
def test_an_entry_that_is_no_single_path_component_is_refused_with_its_line(entry):
    with pytest.raises(UserError, match="line 2"):
        parse_ids(f"fine\n{entry}\n", "list")


def test_all_faulty_lines_are_named_in_one_message():
    with pytest.raises(UserError) as error:
        parse_ids("a\nb\n..\n\n/JPEGImages/a.jpg\nb\nx/y\n", "--list many.txt")
    message = str(error.value)
    assert message.startswith("--list many.txt")
    assert "line 3" in message
    assert "line 5: duplicate of line 1: a" in message
    assert "line 6: duplicate of line 2: b" in message
    assert "line 7" in message


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfea\x00", b"a\n\x00\n", b"\x89PNG\r\n\x1a\n"])
def test_an_empty_or_binary_list_is_refused_with_flag_and_file(tmp_path, content):
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"--infer_list .*list\.txt"):
        read_ids(path, "--infer_list")


def test_a_missing_list_and_a_folder_are_refused_with_flag_and_file(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(UserError) as error:
            read_ids(path, "--train_list")
        assert f"--train_list {path}" in str(error.value)


@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=5, unique=True))
def test_what_is_read_never_leaves_its_folder(entries):
    try:
        ids = parse_ids("\n".join(entries), "list")
    except UserError:
        return
    assert len(ids) == len(set(ids))
    for identifier in ids:
        assert id_problem(identifier) is None
        assert not {"/", "\\", "\0", "\n"} & set(identifier)
        assert identifier not in ("", ".", "..")


# -- images ------------------------------------------------------------------------------------------------------------

SOURCE = Source("--list", "list.txt")
COCO_IDS = ["COCO_train2014_000000000009", "COCO_val2014_000000000042", "a b"]


def described(**own) -> DataSet:
    return DataSet("shapes.json", "shapes", ("disc",), **own)


@pytest.fixture
def files(tmp_path):
    """A function that makes empty files below a folder, and the folder."""

    def make(*names: str) -> Path:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return make


def found_in(root, ids=COCO_IDS, *, fixed=False, **own) -> list[str]:
    images = find_images(ids, root, described(**own), flag="--root", source=SOURCE, fixed=fixed)
    assert list(images) == ids
    return [str(path.relative_to(root)) for path in images.values()]


def test_images_in_several_folders_and_under_every_suffix_are_found(files):
    one, two, three = COCO_IDS
    root = files(f"train2014/{one}.JPG", f"val2014/{two}.png", f"val2014/{three}.jpeg", f"val2014/{one}.png")
    names = [f"train2014/{one}.JPG", f"val2014/{two}.png", f"val2014/{three}.jpeg"]
    for fixed in (True, False):
        assert found_in(root, images=("train2014", "val2014"), fixed=fixed) == names
    assert found_in(root, images=("val2014", "train2014"))[0] == f"val2014/{one}.png"


def test_of_several_suffixes_the_first_of_the_data_set_counts(files):
    root = files("a.png", "a.jpg", "b.png")
    assert found_in(root, ["a", "b"]) == ["a.jpg", "b.png"]
    assert found_in(root, ["a", "b"], suffixes=(".png", ".jpg")) == ["a.png", "b.png"]


def test_images_lie_in_the_folder_named_or_below_a_data_sets_own(files):
    root = files("photos/a.jpg", "b.jpg")
    assert found_in(root / "photos", ["a"], images=("photos",)) == ["a.jpg"]
    assert found_in(root, ["a"], images=("photos",), fixed=True) == ["photos/a.jpg"]
    assert found_in(root, ["a", "b"], images=("photos", "more")) == ["photos/a.jpg", "b.jpg"]


def test_an_image_that_is_missing_gets_the_first_place_it_might_have(files):
    root = files("train/a.png")
    assert found_in(root, ["a", "b"], images=("train", "val")) == ["train/a.png", "train/b.jpg"]


def test_no_image_at_all_is_refused_with_where_they_are(files):
    root = files("deeper/still/a.jpg")
    with pytest.raises(UserError, match=r"--root .*: expected <id>\.jpg of --list list\.txt.*there are such in"):
        found_in(root, ["a"])
    with pytest.raises(UserError, match=r"expected <id>\.jpg .*found <id>\.bmp"):
        found_in(files("b.bmp"), ["b"])


def test_masks_of_several_folders_are_found_from_the_data_sets_own_and_in_one_of_them(files):
    one, two, three = COCO_IDS
    folders = "masks/train", "masks/val", "mask/val"
    root = files(f"masks/train/{one}.png", f"masks/val/{two}.png", f"mask/val/{two}.png", f"mask/val/{three}.png")
    data_set = described(masks=folders)

    def found(ids, place, **fixed):
        return list(find_masks(ids, place, data_set, flag="--gt_dir", source=SOURCE, **fixed).values())

    expected = [root / folders[0] / f"{one}.png", root / folders[1] / f"{two}.png", root / folders[2] / f"{three}.png"]
    assert found(COCO_IDS, root) == found(COCO_IDS, root, fixed=True) == expected
    assert found([two], root / "mask" / "val") == [root / "mask" / "val" / f"{two}.png"]
    with pytest.raises(UserError, match=r"--gt_dir .*: expected <id>\.png of .*there are such in .*masks/val;"):
        found([two], root / "masks")


def test_a_list_of_more_than_ids_is_told_by_images_under_any_suffix(files):
    with pytest.raises(UserError, match=r"expected one id a line, found more, as 'a 3 4'"):
        found_in(files("a.png"), ["a 3 4", "b 5 6"])
