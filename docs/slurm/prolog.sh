#!/bin/sh
# Slurm Prolog (slurm.conf: Prolog=/etc/slurm/gridfs-prolog.sh, PrologFlags=Alloc), run by slurmd as root before a job.
#
# Mounts what GRIDFS_PROLOG_DATASTORES names (set it in /etc/gridfs/slurm.env; NAME or NAME@VERSION, space-separated) at
# /datastores/NAME for all users. `grid mount` of a mounted version does nothing and is quick, so every job may ask.
#
# The daemon must not live in a job's cgroup, or it would die with that job: it is started through systemd where there
# is one, and with setsid elsewhere (slurmd's own cgroup).
set -eu
# shellcheck source=/dev/null
if [ -r /etc/gridfs/slurm.env ]; then
    set -a
    . /etc/gridfs/slurm.env
    set +a
fi
export HOME="${HOME:-/root}"
# The daemon belongs to no job: with a job's number in its environment it would be taken for that job's own.
unset SLURM_JOB_ID SLURM_JOBID
for datastore in ${GRIDFS_PROLOG_DATASTORES:-}; do
    unit="gridfs@$datastore.service" # with its version: gridfs@NAME would mount the highest
    if [ -d /run/systemd/system ] && systemctl cat "$unit" >/dev/null 2>&1; then
        systemctl start "$unit"
    else
        setsid "${GRID:-grid}" mount "$datastore" </dev/null
    fi
done
