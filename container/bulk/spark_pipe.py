"""Scores a file of posts, one per line, with coldread as the filter of Spark's `pipe`:
spark-submit container/bulk/spark_pipe.py COLDREAD POSTS OUTPUT [PARTITIONS]

A process is started for each partition, and loads the model in milliseconds. Results are
lines of JSON in the order of the posts, in OUTPUT/part-*.
"""

import shlex
import sys

from pyspark.sql import SparkSession


def main(coldread, posts, output, partitions="8"):
    spark = SparkSession.builder.appName("coldread").getOrCreate()
    lines = spark.sparkContext.textFile(posts, int(partitions))
    command = f"{shlex.quote(coldread)} score --format text --output jsonl"
    # `checkCode`: a process that fails fails its task, which Spark tries again.
    lines.pipe(command, checkCode=True).saveAsTextFile(output)
    print(f"Spark {spark.version}: {lines.getNumPartitions()} partitions")
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
