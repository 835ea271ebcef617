"""The same model as a function in Python: ONNX Runtime and tokenizers, nothing else.

    python onnxruntime_lambda.py INT8_ONNX MODEL_FOLDER

Speaks the Runtime API with the standard library alone, which starts faster than AWS's
own runtime client, and answers `{"text": ...}` behind a Function URL. Posts go to the
tokenizer as they are: coldread's normalisation is left out in Python's favour.
"""

import time

START = time.monotonic()

import http.client  # noqa: E402 - what comes before is the clock
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

BASE = "/2018-06-01/runtime/invocation"
MAX_TOKENS = 512


class Classifier:
    def __init__(self, weights, folder):
        self.phases = {"process_start_ms": since_start()}
        options = onnxruntime.SessionOptions()
        # A function below 1,769 MB has less than one processor.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            weights, options, providers=["CPUExecutionProvider"]
        )
        self.phases["model_ms"] = since_start()
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(MAX_TOKENS)
        self.tokenizer.no_padding()
        config = json.loads((folder / "config.json").read_text())
        self.labels = [label for _, label in sorted(config["id2label"].items())]
        self.phases["tokenizer_ms"] = since_start()

    def scores(self, text):
        ids = np.array([self.tokenizer.encode(text).ids])
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        logits = self.session.run(["logits"], feed)[0][0].astype(np.float64)
        weights = np.exp(logits - logits.max())
        return dict(zip(self.labels, (weights / weights.sum()).tolist()))


def since_start():
    return (time.monotonic() - START) * 1e3


def answer(classifier, event):
    scores = classifier.scores(json.loads(event["body"])["text"])
    label = max(scores, key=scores.get)
    body = json.dumps({"label": label, "score": scores[label], "scores": scores})
    return {
        "statusCode": 200,
        "headers": {"content-type": "application/json"},
        "body": body,
        "isBase64Encoded": False,
    }


def main():
    weights, folder = sys.argv[1], Path(sys.argv[2])
    classifier = Classifier(weights, folder)
    print(json.dumps({"timings": classifier.phases}), file=sys.stderr, flush=True)
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    while True:
        api.request("GET", f"{BASE}/next")
        event = api.getresponse()
        request_id = event.getheader("lambda-runtime-aws-request-id")
        try:
            how, reply = "response", answer(classifier, json.loads(event.read()))
        except (KeyError, TypeError, ValueError) as error:
            # The type alone: an error's text may quote the post.
            how, reply = "error", {"errorMessage": "bad event", "errorType": type(error).__name__}
        api.request("POST", f"{BASE}/{request_id}/{how}", json.dumps(reply))
        api.getresponse().read()


if __name__ == "__main__":
    main()
