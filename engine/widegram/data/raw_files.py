"""The data set that a user names, in whichever of the known formats it is."""

from __future__ import annotations

from widegram.data.cifar import has_cifar, open_cifar
from widegram.data.columns import TableOptions
from widegram.data.digits import open_digits
from widegram.data.formats import split_spec
from widegram.data.idx import has_idx, is_idx, open_idx
from widegram.data.labelled import SUFFIXES, open_labelled
from widegram.data.raw import RawData
from widegram.data.table_files import SUFFIXES as TABLES
from widegram.data.table_files import open_table_file
from widegram.errors import WidegramError
from widegram.validation.reading import existing_file

_NO_OPTIONS = TableOptions()


def open_raw(
    source: str, labels: str | None = None, options: TableOptions = _NO_OPTIONS
) -> RawData:
    """The data set that ``source`` names, in whichever of the known formats it is.

    ``options`` are of tables, and refused with anything else unless they are of new data. Raises
    WidegramError for what is none of them, or damaged.
    """
    path, _ = split_spec(source)
    table = path.suffix.lower() in TABLES and not path.is_dir()
    if not table and not options.new and options != _NO_OPTIONS:
        raise WidegramError(
            f"{source}: is no table ({', '.join(TABLES)}), and has no columns to name with "
            "--target, --category or --drop"
        )
    if labels is not None and path.suffix.lower() not in SUFFIXES:
        raise WidegramError(f"{source}: brings its own labels; leave out the labels {labels!r}")
    if table:
        return open_table_file(path, options)
    if source == "digits":
        return open_digits()
    if path.suffix.lower() in SUFFIXES and not path.is_dir():
        return open_labelled(source, labels)
    if path.is_dir():
        if has_idx(path):
            return open_idx(path)
        if has_cifar(path):
            return open_cifar(path)
        raise WidegramError(
            f"{path}: holds neither IDX files (train-images-idx3-ubyte) nor CIFAR-10 or CIFAR-100 "
            "batches"
        )
    if is_idx(existing_file(path)):
        return open_idx(path)
    raise WidegramError(
        f"{path}: unknown data; give digits, an IDX file, a directory of IDX files or CIFAR "
        "batches, .npy, .npz, .h5, .mat, or a table .csv, .parquet (unpack archives first)"
    )
