#!/bin/sh
# From the corpora to a packed multilingual model: run.sh DATA WORK MODEL. See README.md.
set -eu
data=$1 work=$2 model=$3
cd "$(dirname "$0")"
mkdir -p "$work" "$model"
cp normalization.json "$model"
[ -f "$work/posts.json" ] || python corpora.py --data "$data" --work "$work" --profile "$model"
[ -f "$model/rows.npy" ] || python vocabulary.py --work "$work" --out "$model"
export OMP_NUM_THREADS=1
for plan in mixed last; do
  python finetune.py --work "$work" --model "$model" --plan "$plan"
done
for seed in 1 2; do
  OMP_NUM_THREADS=2 python shorten.py --weights "$work/last.1.pt" --work "$work" --model "$model" --seed $seed
done
python release.py --weights "$work"/shorter.9.[12].pt --work "$work" --model "$model"
cargo run --release --features full -- pack "$model" --output "$model.coldread"
