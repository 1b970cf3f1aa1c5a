"""What `grid bench` measures, and how it shows it: open()-to-bytes of any directory, through the kernel alone.

Nothing here knows gridfs: a mount and a local folder go through the same system calls, so that both can be compared.

    sample.py    which files of a directory are read
    measure.py   the passes: drop caches, then time open, read, pread, mmap
    parallel.py  the same by several reader processes at once
    figures.py   quantiles and rates, as records
    svg.py       charts without a library (also for benchmarks/)
"""
