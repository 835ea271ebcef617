#!/bin/sh
# What two packed models say of every tweet and of posts without a sentiment label; `distil.py` reads it.
#   sh teach.sh DATA WORK COLDREAD TEACHER...     a TEACHER is NAME=FILE
# Files that exist are kept.
set -eu
data=$1 work=$2 coldread=$3
shift 3

cut -f2 "$data/tweeteval/train.tsv" > "$work/tweets.txt"
for task in emoji emotion irony hate offensive stance_abortion stance_atheism stance_climate stance_feminist stance_hillary; do
    cut -f2 "$data/tweeteval_tasks/$task.tsv"
done > "$work/free.txt"

for teacher; do
    name=${teacher%%=*} file=${teacher#*=}
    for corpus in tweets free; do
        result=$work/$corpus.$name.jsonl
        [ -e "$result" ] && continue
        "$coldread" score --model "$file" --input "$work/$corpus.txt" --format text --output jsonl > "$result.part"
        mv "$result.part" "$result"
    done
done
