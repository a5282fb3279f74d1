#!/usr/bin/env bash
# Label a folder of films on a Slurm cluster, a shard an array task:
#   FILMS=/shared/drives OUT=/shared/labelled sbatch deploy/slurm.sh
# A minute before its time is up a task is told to stop, and puts itself back into the queue.
#SBATCH --job-name=roadseg
#SBATCH --array=0-15
#SBATCH --cpus-per-task=8
#SBATCH --mem=8G
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@60
#SBATCH --requeue
set -euo pipefail
: "${FILMS:?name the folder or list of films}" "${OUT:?name the folder for what is written}"

code=0
srun roadseg batch "$FILMS" --out "$OUT" \
    --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" \
    --no-film --stats stats.jsonl --quiet || code=$?
if [ "$code" -eq 143 ]; then # it was told to stop
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$code"
