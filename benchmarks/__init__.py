"""gridfs beside what people use instead: one command, one run, one server, every byte compared.

python -m benchmarks            everything (half an hour), as `make bench` does
python -m benchmarks --only a,c some of the workloads
python -m benchmarks --quick    the same code over little data, under a minute; what the tests run

suite.py      the run: servers, data, workloads in turn, results; everything is taken away at the end
workloads/    what is done, one module for each kind of access, and why
subjects/     by whom: gridfs, rclone, s3fs, a local folder; bare clients and litData need no mount
jobs/         the programs that read, each in a fresh process; some run in the rivals' virtual environment
servers.py    Ceph RGW, nginx and the proxy that limits connections (limiter.py), all on loopback
content.py    files whose every byte is known from their number
model.py      results as records; goals.py judges them, report.py and docs/benchmarks.md show them
"""
