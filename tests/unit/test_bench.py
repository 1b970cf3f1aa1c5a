"""What `grid bench` computes from what it timed, and which files it picks."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from gridfs.bench import svg
from gridfs.bench.figures import Latency, Rate, quantile
from gridfs.bench.measure import Cold
from gridfs.bench.parallel import read_by, shuffled
from gridfs.bench.plot import plot
from gridfs.bench.run import Measurement
from gridfs.bench.sample import SampleFile, choose
from tests.support.data import ramp


def test_quantiles_are_measured_values() -> None:
    values = [float(number) for number in range(1, 1001)]
    assert [quantile(values, share) for share in (0.5, 0.9, 0.99, 0.999)] == [500.0, 900.0, 990.0, 999.0]


def test_quantiles_of_few_values_are_the_largest() -> None:
    assert quantile([1.0, 2.0], 0.999) == 2.0
    assert quantile([7.0], 0.5) == 7.0
    assert quantile([1.0, 2.0], 0.0) == 1.0


def test_latencies_are_in_microseconds_and_ordered() -> None:
    latency = Latency.of("open", "warm", [0.002, 0.001, 0.003])
    assert (latency.count, latency.p50_us, latency.p999_us) == (3, 2000.0, 3000.0)
    assert latency.ordered_us == (1000.0, 2000.0, 3000.0)


def test_rates() -> None:
    rate = Rate("tree order", "cold", 8, 100, 3_000_000_000, 2.0)
    assert (rate.files_per_s, rate.gb_per_s) == (50.0, 1.5)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Directories and files in an order in which they were not made, an empty file, a link, a large file."""
    for name, size in [("b/2", 10), ("b/1", 20), ("a/z", 30), ("c-x", 40), ("c/1", 50), ("empty", 0)]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(ramp(size))
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(5 << 20)
    return tmp_path


def test_a_sample_is_in_tree_order_without_links_and_empty_files(tree: Path) -> None:
    sample = choose(os.fsencode(tree), 100)
    names = [os.path.relpath(file.path, os.fsencode(tree)) for file in sample.small]
    assert names == [b"a/z", b"b/1", b"b/2", b"c/1", b"c-x"]
    assert sample.small_bytes == 150
    assert sample.largest == SampleFile(os.fsencode(tree / "large"), 5 << 20)


def test_a_sample_is_bounded(tree: Path) -> None:
    sample = choose(os.fsencode(tree), 2, max_visited=4)
    assert [os.path.basename(file.path) for file in sample.small] == [b"z", b"1"]
    assert sample.largest is not None
    assert sample.largest.size_bytes == 50


def test_a_sample_of_nothing(tmp_path: Path) -> None:
    assert choose(os.fsencode(tmp_path), 10).largest is None


def test_several_readers_read_every_file_once(tree: Path) -> None:
    files = choose(os.fsencode(tree), 100).small
    for readers in (1, 2, 4):
        rate = read_by(readers, "shuffled", "warm", shuffled(files, 1), 60.0)
        assert (rate.readers, rate.files, rate.size_bytes) == (readers, 5, 150)


def test_a_failing_reader_fails_the_measurement(tree: Path) -> None:
    files = [*choose(os.fsencode(tree), 100).small, SampleFile(os.fsencode(tree / "gone"), 1)]
    with pytest.raises(FileNotFoundError):
        read_by(2, "shuffled", "warm", files, 60.0)


def test_the_shuffled_order_is_always_the_same() -> None:
    files = [SampleFile(b"%d" % number, 1) for number in range(50)]
    assert shuffled(files, 3) == shuffled(files, 3) != files


def test_a_plot_of_a_directory_whose_name_no_xml_may_hold() -> None:
    chart = plot(Measurement("/a\udcff\x01", "ext4", Cold.FILES, 0, 0, 0, (), ()))
    assert "Latency at /a\\udcff\\x01" in [element.text for element in ElementTree.fromstring(chart.encode()).iter()]


def test_plots_are_well_formed_whatever_the_names() -> None:
    chart = svg.document(
        [
            svg.cumulative("Latency of <a> & b", {"one <&>": [3.0, 1.0, 2.0], "none": [], "two": [100.0]}),
            svg.bars("Rates", "files/s", {"x": 0.0, "y": 12.5}, {"y": (10.0, 14.0)}),
            svg.bars("Nothing", "files/s", {}),
        ]
    )
    root = ElementTree.fromstring(chart)
    texts = [element.text for element in root.iter() if element.tag.endswith("}text")]
    assert "Latency of <a> & b" in texts
    assert "12.5 files/s" in texts
    assert {"1 us", "10 us", "100 us"} <= set(texts)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0634, "0.0634"), (0.63, "0.630"), (12.44, "12.4"), (3481.0, "3,480"), (1_234_567, "1,230,000")],
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert svg.figure(value) == text
