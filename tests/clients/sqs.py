#!/usr/bin/env python3
"""Queues: none of their messages is lost, whatever fails on the way.

    cargo build --workspace --bin coldread --features coldread/aws --target-dir target/aws
    python3 tests/clients/sqs.py [--binary target/aws/debug/coldread] [--messages 200]

Moto plays SQS with visibility timeouts and dead-letter queues, AWS's Runtime Interface
Emulator plays Lambda, and the poller below does with an answer what Lambda's own does: it
deletes what is not listed as failed, all of it if the answer is empty, and nothing if the
function failed. The binary is the real one, with `--results sqs://...`.

Some messages can never be scored, and the queue for results is made only after the first
polls, so that whole batches fail too. At the end each message has to be in the queue of
results or in that of dead letters.

Needs Python 3.9 and, on its first run, PyPI: moto goes into a virtual environment under
target/, and the emulator comes with aws-sam-cli. Everything listens on 127.0.0.1 and is
stopped at the end.
"""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MOTO = "moto[server]==5.2.5"
VENV = ROOT / "target" / "moto-venv"
REGION = "eu-central-1"
MAX_RECEIVES = 3
VISIBILITY_SECONDS = 2
WAIT_SECONDS = 120
COLUMNS = ("queue", "sent", "scored", "listed as failed", "failed batches", "redriven", "in results queue", "lost")

sys.path.insert(0, str(ROOT / "loadtest" / "compare"))
import rie  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/aws/debug/coldread")
    parser.add_argument("--messages", type=int, default=200, help="sent to each queue")
    parser.add_argument("--rie", type=pathlib.Path, help="use this emulator, download none")
    args = parser.parse_args()
    reenter_with_moto()
    import boto3

    port = rie.free_port()
    endpoint = f"http://127.0.0.1:{port}"
    account = dict(
        AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_REGION=REGION, AWS_DEFAULT_REGION=REGION
    )
    moto = [VENV / "bin" / "moto_server", "--host", "127.0.0.1", "--port", str(port)]
    rows = []
    with running(moto, account):
        rie.wait_for(port)
        os.environ.update(account)
        sqs = boto3.client("sqs", endpoint_url=endpoint, region_name=REGION)
        for name in ("posts", "posts.fifo"):
            results = f"{endpoint}/123456789012/results-{name}"
            env = dict(account, AWS_ENDPOINT_URL=endpoint, COLDREAD_RESULTS=f"sqs://{results}")
            with function(args, env) as function_port:
                rows.append(drive(sqs, name, function_port, args.messages))
    widths = [max(len(str(row[i])) for row in [COLUMNS, *rows]) for i in range(len(COLUMNS))]
    for row in [COLUMNS, *rows]:
        print("  ".join(str(cell).rjust(width) for cell, width in zip(row, widths)))
    if any(row[-1] for row in rows):
        sys.exit("messages were lost")


def reenter_with_moto():
    """Goes on in the virtual environment, which has boto3 beside moto."""
    python = VENV / "bin" / "python"
    if pathlib.Path(sys.prefix) == VENV:
        return
    if not (VENV / "bin" / "moto_server").exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([VENV / "bin" / "pip", "install", "--quiet", MOTO], check=True)
    os.execv(python, [python, *sys.argv])


@contextlib.contextmanager
def running(command, env, **options):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "COLDREAD_"))}
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    process = subprocess.Popen([str(word) for word in command], env={**clean, **env}, **quiet, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def function(args, env):
    """The port at which the binary can be invoked."""
    port, api_port = rie.free_port(), rie.free_port()
    command = [(args.rie or rie.download()).resolve()]
    command += ["--runtime-interface-emulator-address", f"127.0.0.1:{port}"]
    command += ["--runtime-api-address", f"127.0.0.1:{api_port}", args.binary.resolve()]
    with running(command, env):
        rie.wait_for(port)
        yield port


def post(number):
    """What number `number` says, and whether it can be scored."""
    if number % 10 == 3:
        return json.dumps({"id": number, "text": "   "}), False
    if number % 10 == 7:
        return json.dumps({"id": number, "body": "the text stands elsewhere"}), False
    if number % 2:
        return f"flight {number} was late again and nobody said a word", True
    return json.dumps({"id": number, "text": f"lovely crew on flight {number} 😍"}), True


def drive(sqs, name, function_port, count):
    is_fifo = name.endswith(".fifo")
    fifo = {"FifoQueue": "true"} if is_fifo else {}
    dead = sqs.create_queue(QueueName=f"dead-{name}", Attributes=fifo)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": MAX_RECEIVES})
    attributes = {"VisibilityTimeout": str(VISIBILITY_SECONDS), "RedrivePolicy": redrive, **fifo}
    queue = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sent = send(sqs, queue, count, is_fifo)

    listed, failed_batches = 0, 0
    results = None
    deadline = time.monotonic() + WAIT_SECONDS
    while left(sqs, queue):
        if time.monotonic() > deadline:
            sys.exit(f"{name}: {left(sqs, queue)} messages are left after {WAIT_SECONDS} s")
        messages = sqs.receive_message(
            QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=0, AttributeNames=["All"]
        ).get("Messages", [])
        if not messages:
            time.sleep(0.1)
            continue
        deleted, failed = outcome(messages, invoke(function_port, messages, arn))
        listed += len(messages) - len(deleted) if not failed else 0
        failed_batches += failed
        for message in deleted:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        if results is None and failed_batches:
            # Until here the function had nowhere to put a result.
            results = sqs.create_queue(QueueName=f"results-{name}", Attributes=fifo)["QueueUrl"]

    scored = [json.loads(message["Body"]) for message in drain(sqs, results)]
    assert all("label" in result and "text" not in result for result in scored)
    in_results, scored = len(scored), {result["id"] for result in scored}
    assert all(sent[id] for id in scored), "what cannot be scored has no result"
    redriven = {message["MessageId"] for message in drain(sqs, dead)}
    lost = set(sent) - scored - redriven
    unscored = {id for id, is_good in sent.items() if not is_good}
    if not is_fifo:
        # In FIFO queues good messages go the way of the bad one before them.
        assert redriven - scored <= unscored, "a good message was given up"
    return (name, len(sent), len(scored), listed, failed_batches, len(redriven), in_results, len(lost))


def send(sqs, queue, count, is_fifo):
    """Message ids, and whether each can be scored."""
    sent = {}
    for number in range(count):
        body, is_good = post(number)
        more = {}
        if is_fifo:
            more = {"MessageGroupId": f"group-{number % 20}", "MessageDeduplicationId": str(number)}
        sent[sqs.send_message(QueueUrl=queue, MessageBody=body, **more)["MessageId"]] = is_good
    return sent


def left(sqs, queue):
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    return sum(int(found[name]) for name in names)


def invoke(port, messages, arn):
    """The answer's bytes, as Lambda's poller would get them."""
    names = {"messageId": "MessageId", "receiptHandle": "ReceiptHandle", "body": "Body"}
    records = [
        {
            **{ours: message[theirs] for ours, theirs in names.items()},
            "attributes": message.get("Attributes", {}),
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": arn,
            "awsRegion": REGION,
        }
        for message in messages
    ]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    path = "/2015-03-31/functions/function/invocations"
    connection.request("POST", path, json.dumps({"Records": records}))
    return connection.getresponse().read()


def outcome(messages, answer):
    """The messages to delete, and whether the batch failed as a whole."""
    try:
        answer = json.loads(answer)
    except ValueError:
        return messages, False  # Lambda takes what it cannot read for success.
    if isinstance(answer, dict) and "errorType" in answer:
        return [], True
    failures = answer.get("batchItemFailures") if isinstance(answer, dict) else None
    identifiers = [failure.get("itemIdentifier") for failure in failures or []]
    known = {message["MessageId"] for message in messages}
    if not all(identifier in known for identifier in identifiers):
        return [], True
    return [message for message in messages if message["MessageId"] not in identifiers], False


def drain(sqs, queue):
    """All messages of a queue."""
    drained = []
    while True:
        messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        if not messages:
            return drained
        drained += messages
        for message in messages:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])


if __name__ == "__main__":
    main()
