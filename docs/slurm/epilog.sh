#!/bin/sh
# Slurm Epilog (slurm.conf: Epilog=/etc/slurm/gridfs-epilog.sh), run by slurmd as root after a job.
#
# Leaves the mounts alone: the next job of this node reads from the same daemon and cache, and another job may be reading
# right now. It only logs what is mounted, which is the first thing to look at when a job has failed.
set -eu
# shellcheck source=/dev/null
if [ -r /etc/gridfs/slurm.env ]; then
    set -a
    . /etc/gridfs/slurm.env
    set +a
fi
export HOME="${HOME:-/root}"
"${GRID:-grid}" status 2>&1 | logger -t gridfs-epilog 2>/dev/null || true
exit 0
