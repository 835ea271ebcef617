"""What no JSON schema describes: bodies of rows, and what must agree within a request."""

import json

import schemathesis
from hypothesis import strategies as st

texts = st.text(alphabet=st.characters(codec="utf-8"), max_size=40)
rows = st.one_of(
    texts.map(json.dumps),
    st.fixed_dictionaries({"text": texts}, optional={"id": st.one_of(st.integers(), texts)}).map(json.dumps),
    texts,
)
ndjson = st.lists(rows, min_size=1, max_size=5).map(lambda rows: "\n".join(rows).encode())
csv = st.lists(texts, min_size=1, max_size=5).map(lambda rows: "\n".join(["id,text", *rows]).encode())

schemathesis.openapi.media_type("application/x-ndjson", ndjson)
schemathesis.openapi.media_type("text/csv", csv)

TARGET = "x-amz-target"
COMPREHEND = "application/x-amz-json-1.1"
schemathesis.serializer.alias(COMPREHEND, "application/json")


@schemathesis.deserializer(COMPREHEND)
def read_comprehend(context, response):
    return json.loads(response.content)


@schemathesis.hook
def map_case(context, case):
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return case
    parameters = {parameter.name for parameter in case.operation.headers}
    if TARGET in parameters:
        # Comprehend's operation goes with the body; a body of Hugging Face's has none.
        case.headers.pop(TARGET, None)
        if case.media_type == COMPREHEND:
            is_batch = "TextList" in case.body
            case.headers[TARGET] = f"Comprehend_20171127.{'Batch' if is_batch else ''}DetectSentiment"
    if case.operation.definition.raw.get("tags") == ["pages"]:
        case.headers["accept"] = "text/html"
    if case.operation.path.endswith("/language/:analyze-text"):
        # Azure asks for ids that differ.
        for i, document in enumerate(case.body["analysisInput"]["documents"]):
            document["id"] += f"-{i}"
    return case


@schemathesis.hook
def filter_failure(context, failure, case, response):
    # Comprehend refuses who is not signed, as AWS does, with 400 and the exception's name.
    is_refusal = type(failure).__name__ == "IgnoredAuth" and "got `400" in failure.message
    return not (is_refusal and case.media_type == COMPREHEND)
