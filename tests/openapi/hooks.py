"""Bodies of rows, which no JSON schema describes: sound ones and others, as bytes."""

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
