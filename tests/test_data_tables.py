"""Tables: columns of numbers and categories, labels, what training rows know, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

import widegram
from cli_support import refused, run, run_json
from widegram.data import apply

ROWS = 40
RNG = np.random.default_rng(5)
AGE = RNG.integers(18, 90, ROWS)
HEIGHT = RNG.normal(170, 10, ROWS)
COLOR = RNG.choice(["red", "green", "deep blue"], ROWS)
ZIP = RNG.choice([8001, 8002, 9000], ROWS)
LABEL = RNG.choice(["no", "yes"], ROWS)


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def write_csv(name: str = "t.csv", order: tuple[int, ...] = (0, 1, 2, 3, 4)) -> str:
    header = ["age", "height", "color", "zip", "label"]
    rows = zip(AGE, HEIGHT, COLOR, ZIP, LABEL, strict=True)
    lines = [header, *([str(value) for value in row] for row in rows)]
    lines = [[line[at] for at in order] for line in lines]
    Path(name).write_text("".join(",".join(line) + "\n" for line in lines))
    return name


def features(part: np.ndarray, colors: list[str]) -> np.ndarray:
    """The inputs of rows ``part`` before they are scaled."""
    columns = [AGE[part], HEIGHT[part], *(COLOR[part] == color for color in colors), ZIP[part]]
    return np.stack(columns, axis=1).astype(float)


def test_a_table_as_inputs_and_labels() -> None:
    made = run_json("data", "prepare", write_csv(), "--out", "d.h5", "--target", "label",
                    "--normalize", "none", "--test", 8)  # fmt: skip
    assert made["train_shape"] == [32, 6]
    with h5py.File("d.h5") as file:
        for part in ("train", "test"):
            index = file[f"{part}/index"][...]
            wanted = features(index, ["deep blue", "green", "red"]).astype(np.float32)
            np.testing.assert_array_equal(file[f"{part}/x"], wanted)
            np.testing.assert_array_equal(file[f"{part}/y"], LABEL[index] == "yes")
        labels = LABEL[file["train/index"][...]]
    assert made["classes"] == {
        "no": int((labels == "no").sum()),
        "yes": int((labels == "yes").sum()),
    }
    assert made["columns"] == (
        "columns of numbers: 3, categories one-hot (color: 3), target label (no, yes)"
    )
    assert run_json("data", "info", "d.h5")["attributes"]["columns"] == made["columns"]
    assert run("verify", "d.h5").exit_code == 0


def test_numbers_may_be_categories_and_columns_dropped() -> None:
    write_csv()
    widegram.prepare("t.csv", "d.h5", target="label", category=["zip"], drop=["age", "color"],
                     normalize="none")  # fmt: skip
    with h5py.File("d.h5") as file:
        index = file["train/index"][...]
        codes = ZIP[index, None] == np.array([8001, 8002, 9000])
        wanted = np.hstack([HEIGHT[index, None], codes]).astype(np.float32)
        np.testing.assert_array_equal(file["train/x"], wanted)
    # What was dropped may come again or not.
    for order in ((0, 1, 2, 3, 4), (4, 3, 1)):
        write_csv("new.csv", order)
        apply("d.h5", "new.csv", "n.h5", overwrite=True)
        with h5py.File("n.h5") as file:
            np.testing.assert_array_equal(file["x"][...][index], wanted)


@pytest.mark.parametrize(
    ("column", "dtype", "classes"),
    [("age", np.int64, True), ("height", np.float64, False), ("color", np.int64, True)],
)
def test_targets_of_each_kind(column: str, dtype: type, classes: bool) -> None:
    values = {"age": AGE, "height": HEIGHT, "color": np.unique(COLOR, return_inverse=True)[1]}
    made = widegram.prepare(write_csv(), "d.h5", target=column)
    assert (made.classes is not None) is classes
    with h5py.File("d.h5") as file:
        assert file["train/y"].dtype == dtype
        np.testing.assert_array_equal(file["train/y"], values[column][file["train/index"][...]])


def test_new_rows_in_another_order_of_columns_become_the_same_bits() -> None:
    widegram.prepare(write_csv(), "d.h5", target="label", zca=0.1, seed=3)
    write_csv("new.csv", (2, 4, 3, 1, 0))
    applied = apply("d.h5", "new.csv", "n.h5")
    assert (applied.labels, applied.note) == (True, "")
    with h5py.File("d.h5") as file, h5py.File("n.h5") as new:
        for part in ("train", "test"):
            index = file[f"{part}/index"][...]
            np.testing.assert_array_equal(new["x"][...][index], file[f"{part}/x"])
            np.testing.assert_array_equal(new["y"][...][index], file[f"{part}/y"])
    write_csv("bare.csv", (0, 1, 2, 3))
    assert not apply("d.h5", "bare.csv", "b.h5").labels
    with h5py.File("n.h5") as new, h5py.File("b.h5") as bare:
        np.testing.assert_array_equal(new["x"], bare["x"])
        assert "y" not in bare


def test_levels_are_those_of_training_rows_alone() -> None:
    Path("t.csv").write_text("".join(["a,c,y\n", *(f"{k},{'pq'[k % 2]},{k}\n" for k in range(10))]))
    widegram.prepare("t.csv", "d.h5", target="y", test=0)
    Path("new.csv").write_text("a,c,y\n1,p,3\n2,new,4\n3,q,5\n4,newer,5\n")
    line = refused("row 1 holds 'new' in column 'c', which no training row holds",
                   "data", "apply", "d.h5", "new.csv", "--out", "n.h5")  # fmt: skip
    assert "--accept-unseen" in line
    found = run("data", "apply", "d.h5", "new.csv", "--out", "n.h5", "--accept-unseen")
    assert "nor those of 1 more rows" in found.stderr
    with h5py.File("d.h5") as file, h5py.File("n.h5") as new:
        mean, std = file.attrs["mean"], file.attrs["std"]
        wanted = (np.array([[1, 1, 0], [2, 0, 0], [3, 0, 1], [4, 0, 0]]) - mean) / std
        np.testing.assert_array_equal(new["x"], wanted.astype(np.float32))
    # A level of a test row, or a class.
    Path("rare.csv").write_text("".join(["a,c,y\n", *(f"{k},c{k},k{k}\n" for k in range(10))]))
    prepare = ("data", "prepare", "rare.csv", "--out", "r.h5")
    refused("in column 'c', which no training row holds", *prepare)
    refused("in column 'y', which no training row holds.*choose training rows", *prepare,
            "--target", "y", "--drop", "c", "--accept-unseen")  # fmt: skip
    assert "zeros in its place" in run(*prepare, "--drop", "y", "--accept-unseen").stderr


def test_what_csv_allows() -> None:
    text = (
        '\ufeff"the, a", b ,"q ""q"""\r\n 1.5, "x, y",1e3\r\n+2,"two\nlines",-.5\r\n'
        "3.,ünï,7\r\n\r\n"
    )
    Path("odd.csv").write_bytes(text.encode())
    widegram.prepare("odd.csv", "d.h5", normalize="none", test=0)
    with h5py.File("d.h5") as file:
        made = file["train/x"][...][np.argsort(file["train/index"])]
        table = json.loads(file["statistics/table"][...].tobytes())
    assert [column["name"] for column in table["features"]] == ["the, a", "b", 'q "q"']
    assert table["features"][1]["levels"] == ["two\nlines", "x, y", "ünï"]
    wanted = [[1.5, 0, 1, 0, 1000], [2, 1, 0, 0, -0.5], [3, 0, 0, 1, 7]]
    np.testing.assert_array_equal(made, wanted)
    Path("tabs.tsv").write_text("a\tb\n1\t2,5\n3\t2,6\n")
    assert run_json("data", "prepare", "tabs.tsv", "--out", "e.h5", "--test", 0)["train_shape"] == [
        2, 3,
    ]  # fmt: skip


@pytest.mark.parametrize("rows", [1, 7, 10**6])
def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr("widegram.data.csv_table._FIELDS", 5 * rows)
    widegram.prepare(write_csv(), "d.h5", target="label", normalize="none", test=0)
    with h5py.File("d.h5") as file:
        wanted = features(file["train/index"][...], ["deep blue", "green", "red"])
        np.testing.assert_array_equal(file["train/x"], wanted.astype(np.float32))


BAD = {
    "empty": (b"", "is empty, or its first line is"),
    "blank": (b"\n\n", "is empty, or its first line is"),
    "mark alone": (b"\xef\xbb\xbf", "is empty"),
    "header alone": (b"a,b\n", "has a header and no rows"),
    "no header": (b"1,2\n3,4\n", "its first line holds numbers"),
    "duplicate": (b"a,b,a\n1,2,3\n", "several columns are called 'a'"),
    "no name": (b",a\n0,1\n", "column 1 has no name"),
    "long row": (b"a,b\n1,2\n1,2,3\n", r"row 1 \(line 3\) has 3 values, the header has 2"),
    "short row": (b"a,b\n1\n", r"row 0 \(line 2\) has 1 values, the header has 2"),
    "blank between": (b"a,b\n1,2\n\n3,4\n", "line 3 is empty"),
    "missing": (b"a,b\n1,2\n3,\n", r"row 1 \(line 3\) has no value \(''\) in column 'b'"),
    "missing NA": (b"a,b\n1,2\nNA,4\n", r"row 1 \(line 3\) has no value \('NA'\) in column 'a'"),
    "missing nan": (b"a,b\n1,2\n3,nan\n", r"has no value \('nan'\) in column 'b'"),
    "missing ?": (b"a,b\n1,x\n3,?\n", r"has no value \('\?'\) in column 'b'"),
    "first missing": (b"a,b\n,x\n3,y\n", r"row 0 \(line 2\) has no value \(''\) in column 'a'"),
    "infinite": (b"a,b\n1,2\ninf,3\n", "holds 'inf', which is no number, in column 'a'"),
    "too large": (b"a,b\n1,2\n1e999,3\n", "holds '1e999', beyond float64, in column 'a'"),
    "typo": (b"a,b\n1,2\n12x,3\n", "holds '12x', which is no number, in column 'a'"),
    "underscore": (b"a,b\n1,2\n1_0,3\n", "holds '1_0', which is no number"),
    "digits": ("a,b\n1,2\n١,3\n".encode(), "which is no number"),
    "mixed": (b"a,b\nx,2\n7,3\n", "holds the number 7, and texts stand before it, in column 'a'"),
    "semicolons": (b"a;b\n1;2\n", "seem to be separated by ';', not ','"),
    "UTF-16": ("a,b\n1,2\n".encode("utf-16"), "is UTF-16; save it as UTF-8"),
    "UTF-16 bare": ("a,b\n1,2\n".encode("utf-16-le"), "holds null characters"),
    "latin": ("a,b\ncafé,2\n".encode("latin-1"), "is no UTF-8"),
    "open quote": (b'a,b\n"1,2\n3,4\n', "unexpected end of data"),
    "huge field": (b'a,b\n1,2\n3,"' + b"x" * 200_000 + b'"\n', "field larger than field limit"),
    "after quote": (b'a,b\n"1"2,3\n', "expected after"),
    "target alone": (b"y\n1\n2\n", "has no column but the target"),
    "names": (b"a,y\n" + b"".join(b"n%d,%d\n" % (k, k) for k in range(1200)),
              "more than 1000 different texts are in column 'a'"),
    "one class": (b"a,y\n1,p\n2,p\n", "its target 'y' is the same in all 2 training rows"),
    "huge class": (b"a,y\n1,99999999999999999\n2,3\n", "integers beyond 2.53"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_tables_that_are_none(name: str) -> None:
    content, message = BAD[name]
    Path("t.csv").write_bytes(content)
    target = ("--target", "y") if b"y\n" in content[:8] else ()
    refused(message, "data", "prepare", "t.csv", "--out", "d.h5", "--test", 0, *target)
    assert not Path("d.h5").exists()


def test_a_line_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("widegram.data.csv_table._LONGEST_LINE", 100)
    Path("t.csv").write_bytes(b"a,b\n" + b"1" * 101)
    refused("a line has more than 100 characters", "data", "prepare", "t.csv", "--out", "d.h5")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--target", "lable"), "has no column 'lable'; did you mean 'label'"),
        (("--category", "zap"), "has no column 'zap'; did you mean 'zip'"),
        (("--drop", "x"), "has no column 'x'; it holds: age"),
        (("--target", "age", "--drop", "age"), "is the target, it cannot be dropped"),
        (("--labels", "t.csv"), "brings its own labels"),
        (("--target", "age", "--zca", "0"), "zca is 0.0; it must be above 0"),
        (("--target", "height", "--balanced"), "has no classes to balance"),
    ],
)
def test_options_that_do_not_fit(options: tuple[str, ...], message: str) -> None:
    refused(message, "data", "prepare", write_csv(), "--out", "d.h5", *options)
    assert not Path("d.h5").exists()


def test_options_of_tables_alone() -> None:
    for option in (("--target", "y"), ("--category", "a"), ("--drop", "a")):
        refused("is no table", "data", "prepare", "digits", "--out", "d.h5", *option)


def test_applying_to_other_columns() -> None:
    write_csv()
    widegram.prepare("t.csv", "d.h5", target="label")
    widegram.prepare("digits", "digits.h5", train=20)
    command = ("data", "apply", "d.h5", "new.csv", "--out", "n.h5")
    write_csv("new.csv", (0, 1, 3))
    refused("new.csv: has no column 'color'", *command)
    good = Path("t.csv").read_text().splitlines()
    Path("new.csv").write_text("\n".join([good[0] + ",more", good[1] + ",1"]))
    refused("has a column 'more' that the training data had not", *command)
    Path("new.csv").write_text(good[0] + "\n" + good[1].replace(str(AGE[0]), "old", 1))
    refused("column 'age' holds texts, the training data had numbers", *command)
    refused("learnt from a table", "data", "apply", "d.h5", "digits", "--out", "n.h5")
    refused("learnt from no table", "data", "apply", "digits.h5", "t.csv", "--out", "n.h5")
    for name in ("d.h5", "t.csv"):
        refused("is an input", "data", "apply", "d.h5", "t.csv", "--out", name, "--overwrite")
    refused("is raw data; run: widegram data prepare t.csv", "gram", "--net", "fcn", "--x",
            "t.csv", "--out", "K.h5")  # fmt: skip


def test_balance_of_a_table() -> None:
    write_csv()
    made = widegram.prepare("t.csv", "d.h5", target="label", train=20, test=5, balanced=True)
    assert made.classes == {"no": 10, "yes": 10}


def parquet(name: str, columns: dict[str, object]) -> str:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as files

    files.write_table(pyarrow.table(columns), name)
    return name


def test_parquet_is_what_csv_is() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    color = pyarrow.array(COLOR.tolist()).dictionary_encode()
    parquet("t.parquet", {"age": AGE, "height": HEIGHT, "color": color, "zip": ZIP,
                          "label": LABEL.tolist()})  # fmt: skip
    write_csv()
    for source in ("t.csv", "t.parquet"):
        widegram.prepare(source, source + ".h5", target="label", category=["zip"], seed=1)
    apply("t.csv.h5", "t.parquet", "n.h5")
    with h5py.File("t.csv.h5") as one, h5py.File("t.parquet.h5") as two, h5py.File("n.h5") as new:
        for name in ("train/x", "train/y", "test/x", "test/y", "statistics/table"):
            np.testing.assert_array_equal(one[name], two[name])
        np.testing.assert_array_equal(new["x"][...][one["train/index"][...]], one["train/x"])


def test_types_of_parquet() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    decimal = pyarrow.array(["1.5", "2.5"]).cast(pyarrow.decimal128(5, 2))
    parquet("t.parquet", {"b": [True, False], "d": decimal, "f": np.array([1, 2], np.float32),
                          "s": pyarrow.array(["p", "q"], pyarrow.large_string())})  # fmt: skip
    widegram.prepare("t.parquet", "d.h5", normalize="none", test=0)
    with h5py.File("d.h5") as file:
        made = file["train/x"][...][np.argsort(file["train/index"])]
    np.testing.assert_array_equal(made, [[1, 1.5, 1, 1, 0], [0, 2.5, 2, 0, 1]])


def test_truth_values_are_numbers_in_every_kind_of_file() -> None:
    pytest.importorskip("pyarrow")
    truths = AGE > 50
    columns = {"height": HEIGHT, "old": truths, "half": truths, "label": LABEL.tolist()}
    parquet("t.parquet", columns)
    for name, spelt in (("t.csv", str), ("lower.csv", lambda truth: str(truth).lower())):
        words = [spelt(bool(truth)) for truth in truths]
        half = ["maybe", *words[1:]] if name == "t.csv" else words
        rows = zip(HEIGHT, words, half, LABEL, strict=True)
        lines = ["height,old,half,label", *(",".join(map(str, row)) for row in rows)]
        Path(name).write_text("\n".join(lines))
    for target in ("label", "old"):
        for name in ("t.parquet", "lower.csv"):
            widegram.prepare(name, f"{name}.h5", target=target, seed=1, overwrite=True)
        apply("t.parquet.h5", "lower.csv", "n.h5", overwrite=True)
        with h5py.File("t.parquet.h5") as one, h5py.File("lower.csv.h5") as two:
            for name in ("train/x", "train/y", "test/x", "test/y", "statistics/table"):
                np.testing.assert_array_equal(one[name], two[name])
            with h5py.File("n.h5") as new:
                for name in "xy":
                    index = one["train/index"][...]
                    np.testing.assert_array_equal(new[name][...][index], one[f"train/{name}"])
    # Beside another text, and with --category, they are texts.
    made = widegram.prepare("t.csv", "m.h5", target="label", category=["old"], test=0)
    assert made.columns == (
        "columns of numbers: 1, categories one-hot (old: 2, half: 3), target label (no, yes)"
    )
    apply("m.h5", "t.csv", "n.h5", overwrite=True)
    refused("column 'half' holds texts, the training data had numbers", "data", "apply",
            "lower.csv.h5", "t.csv", "--out", "x.h5")  # fmt: skip


def test_new_data_are_told_what_helps_them() -> None:
    """`data apply` has no --drop."""
    pytest.importorskip("pyarrow")
    parquet("t.parquet", {"a": np.arange(9.0), "b": np.arange(9)[::-1]})
    prepare, applied = ("data", "prepare"), ("data", "apply", "d.h5")
    assert run(*prepare, "t.parquet", "--out", "d.h5", "--test", 0).exit_code == 0
    parquet("index.parquet", {"a": [1.0], "b": [2], "__index_level_0__": [7]})
    parquet("null.parquet", {"a": [1.0], "b": [None]})
    cases = (
        ("index.parquet", "write the table with index=False", ", or leave it out with --drop"),
        ("null.parquet", "mend the table", ", or leave the column out with --drop"),
    )
    for name, remedy, drop in cases:
        assert drop in refused(remedy, *prepare, name, "--out", "x.h5")
        assert "--drop" not in refused(remedy, *applied, name, "--out", "x.h5")


def test_a_target_that_is_not_there_is_said_before_the_rows_are_read() -> None:
    Path("t.csv").write_text("a,b\n" + "".join(f"{k},\n" for k in range(3)))
    refused("has no column 'bb'; did you mean 'b'?", "data", "prepare", "t.csv", "--out", "d.h5",
            "--target", "bb")  # fmt: skip


def test_bad_parquet() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    time = pyarrow.array([0, 1], pyarrow.timestamp("ms"))
    cases = [
        ({"a": [1, None], "b": [1, 2]}, r"row 1 has no value \(null\) in column 'a'"),
        ({"a": [1.0, np.nan]}, r"row 1 has no value \(NaN\) in column 'a'"),
        ({"a": [1.0, np.inf]}, "row 1 holds an infinite value in column 'a'"),
        ({"a": ["x", ""]}, r"row 1 has no value \(''\) in column 'a'"),
        ({"t": time}, r"timestamp\[ms\], neither numbers nor texts, is in column 't'"),
        ({"a": [[1], [2]]}, "neither numbers nor texts"),
        ({"__index_level_0__": [1, 2], "a": [1, 2]}, "is the index of a pandas table"),
        ({"a": pyarrow.array([], pyarrow.int64())}, "has a header and no rows"),
    ]
    for columns, message in cases:
        parquet("t.parquet", columns)
        refused(message, "data", "prepare", "t.parquet", "--out", "d.h5", "--test", 0)
    content = Path("t.parquet").read_bytes()
    for damage in (b"", b"PAR1", content[:-9], b"x" * 100):
        Path("t.parquet").write_bytes(damage)
        refused("is no Parquet file, or damaged", "data", "prepare", "t.parquet", "--out", "d.h5")
    assert not Path("d.h5").exists()


def test_parquet_without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    Path("t.parquet").write_bytes(b"PAR1")
    refused(r"needs pyarrow: pip install 'widegram\[tables\]'", "data", "prepare", "t.parquet",
            "--out", "d.h5")  # fmt: skip
