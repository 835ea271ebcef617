"""The vendors' Python clients: one function a client, which runs its cases.

A case is a function that returns nothing if all is well. `cases` names those that a
client has; what its API does not offer (batches, mostly) is left out.
"""

import importlib.metadata
import pathlib
import subprocess
import sys

import boto3
import huggingface_hub
from azure.ai.textanalytics import TextAnalyticsClient
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from botocore.config import Config
from botocore.exceptions import ClientError
from google.api_core import exceptions as google_errors
from google.api_core.client_options import ClientOptions
from google.cloud import language_v1, language_v2

PLAIN = "I love this phone"
EMOJI = "Größer als gedacht 😍👍🏽 — “naïve” café 你好"
GERMAN = "Ich hasse das, nie wieder!"
LABELS = ["negative", "neutral", "positive"]
TOLERANCE = 1e-6
# While the server is overloaded; the first is refused nearly always.
CALLS = 5


def close(got, native):
    """Whether scores by label are the native ones."""
    assert len(got) == len(native), got
    for label, score in native.items():
        assert abs(got[label] - score) < TOLERANCE, f"{got} is not {native}"


def refused(kind, call):
    """The error that a call ends with; anything else is a failure."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind} was raised")


def boto(server):
    """boto3: Amazon Comprehend, signed."""

    def client(path="", secret=server.aws_secret, key=server.aws_key):
        return boto3.client(
            "comprehend",
            endpoint_url=server.url + path,
            region_name="eu-central-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=Config(retries={"mode": "standard", "max_attempts": 12}),
        )

    def detect(text, language="en", **options):
        return client(**options).detect_sentiment(Text=text, LanguageCode=language)

    def scores(result):
        score = result["SentimentScore"]
        assert score["Mixed"] == 0, score
        return {label: score[label.capitalize()] for label in LABELS}

    def plain():
        for path in ["", "/comprehend", "/comprehend/"]:
            result = detect(PLAIN, path=path)
            assert result["Sentiment"] == "POSITIVE", result
            assert result["ResponseMetadata"]["RequestId"], result

    def native():
        for text in [PLAIN, "never again, awful", "the meeting is on friday"]:
            close(scores(detect(text)), server.native(text))

    def unicode():
        close(scores(detect(EMOJI)), server.native(EMOJI))

    def batch():
        texts = [PLAIN, "awful"] * 12 + [EMOJI]
        result = client().batch_detect_sentiment(TextList=texts, LanguageCode="en")
        assert [item["Index"] for item in result["ResultList"]] == list(range(25))
        assert result["ErrorList"] == []
        close(scores(result["ResultList"][24]), server.native(EMOJI))

    def bad_item():
        texts = [PLAIN, "x" * 5001, " ", "awful"]
        result = client().batch_detect_sentiment(TextList=texts, LanguageCode="en")
        assert [item["Index"] for item in result["ResultList"]] == [0, 3], result
        codes = {error["Index"]: error["ErrorCode"] for error in result["ErrorList"]}
        assert codes == {1: "TextSizeLimitExceededException", 2: "InvalidRequestException"}, codes

    def oversize():
        error = client().exceptions.TextSizeLimitExceededException
        assert "12945 bytes" in str(refused(ClientError, lambda: detect("x" * 12945)))
        for text in ["x" * 12945, "x" * (5 << 20)]:
            code = refused(ClientError, lambda text=text: detect(text)).response["Error"]["Code"]
            assert code == error.__name__, code
        texts = ["a"] * 26
        many = refused(
            ClientError,
            lambda: client().batch_detect_sentiment(TextList=texts, LanguageCode="en"),
        )
        assert many.response["Error"]["Code"] == "BatchSizeLimitExceededException", many

    def language():
        error = refused(ClientError, lambda: detect(PLAIN, language="xx"))
        assert error.response["Error"]["Code"] == "UnsupportedLanguageException", error

    def dominant_language():
        result = client().detect_dominant_language(Text=GERMAN)
        assert result["Languages"][0]["LanguageCode"] == "de", result
        result = client().batch_detect_dominant_language(TextList=[PLAIN, "x" * 5001, EMOJI])
        assert [item["Index"] for item in result["ResultList"]] == [0, 2], result
        assert result["ErrorList"][0]["ErrorCode"] == "TextSizeLimitExceededException", result

    def other_operation():
        detect_entities = client().detect_entities
        error = refused(ClientError, lambda: detect_entities(Text=PLAIN, LanguageCode="en"))
        assert error.response["Error"]["Code"] == "UnknownOperationException", error

    def documented():
        """The snippet of docs/comprehend.md, as it stands there."""
        page = (pathlib.Path(__file__).resolve().parents[2] / "docs/comprehend.md").read_text()
        snippet = page.split("```python\n")[1].split("```")[0]
        for shown, real in [
            ("http://localhost:8080", server.url),
            ('aws_access_key_id="test"', f"aws_access_key_id={server.aws_key!r}"),
            ('aws_secret_access_key="test"', f"aws_secret_access_key={server.aws_secret!r}"),
        ]:
            assert shown in snippet, shown
            snippet = snippet.replace(shown, real)
        done = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True)
        assert done.stdout == "en POSITIVE\n", done

    def wrong_key():
        for options, expected in [
            ({"secret": "another/secret+0123456789"}, "InvalidSignatureException"),
            ({"key": "AKIDNOBODY"}, "UnrecognizedClientException"),
        ]:
            error = refused(ClientError, lambda options=options: detect(PLAIN, **options))
            assert error.response["Error"]["Code"] == expected, error

    def overload():
        with server.overloaded():
            for _ in range(CALLS):
                assert detect(PLAIN)["Sentiment"] == "POSITIVE"

    return locals_of(locals())


def hugging_face(server):
    """huggingface_hub: text-classification."""

    def client(path="", key=server.key):
        return huggingface_hub.InferenceClient(model=server.url + path, token=key, timeout=30)

    def scores(result):
        return {element.label: element.score for element in result}

    def plain():
        for path in ["", "/models/org/name"]:
            result = client(path).text_classification(PLAIN)
            assert [element.label for element in result][0] == "positive", result
        base = huggingface_hub.InferenceClient(base_url=server.url, api_key=server.key)
        assert base.text_classification(PLAIN, top_k=1)[0].label == "positive"

    def native():
        for text in [PLAIN, "never again, awful", "the meeting is on friday"]:
            close(scores(client().text_classification(text)), server.native(text))

    def unicode():
        close(scores(client().text_classification(EMOJI)), server.native(EMOJI))

    def parameters():
        two = client().text_classification(PLAIN, top_k=2, function_to_apply="softmax")
        assert len(two) == 2 and two[0].score > two[1].score, two
        for function in ["sigmoid", "none"]:
            result = client().text_classification(PLAIN, function_to_apply=function)
            assert len(result) == 3, result

    def bad_item():
        error = refused(
            huggingface_hub.errors.HfHubHTTPError, lambda: client().text_classification(" ")
        )
        assert error.response.status_code == 422 and "empty" in str(error), error

    def oversize():
        for text in ["x" * 70_000, "x" * (5 << 20)]:
            error = refused(
                huggingface_hub.errors.HfHubHTTPError,
                lambda text=text: client().text_classification(text),
            )
            assert error.response.status_code == 413, error

    def wrong_key():
        error = refused(
            huggingface_hub.errors.HfHubHTTPError,
            lambda: client(key="wrong-key-0123456789").text_classification(PLAIN),
        )
        assert error.response.status_code == 401, error

    def overload():
        # This client leaves trying again to its caller, and tells it so with a 503.
        with server.overloaded():
            error = refused(
                huggingface_hub.errors.HfHubHTTPError,
                lambda: [client().text_classification(PLAIN) for _ in range(CALLS)],
            )
            assert error.response.status_code == 503, error
        assert client().text_classification(PLAIN)[0].label == "positive"

    return locals_of(locals())


def azure(server, api_version=None):
    """azure-ai-textanalytics: Azure AI Language, or Text Analytics of a version."""

    options = {"retry_total": 20, "retry_status": 20, "api_version": api_version}

    # The client drops this version's offsets and lengths, whose unit it cannot choose.
    is_v3_0 = api_version == "v3.0"

    def client(key=server.key):
        return TextAnalyticsClient(server.url, AzureKeyCredential(key), **options)

    def length(text):
        return None if is_v3_0 else len(text)

    def analyze(texts, **options):
        return client().analyze_sentiment(texts, **options)

    def scores(document):
        return {label: document.confidence_scores[label] for label in LABELS}

    def plain():
        (document,) = analyze([PLAIN], language="en")
        assert not document.is_error and document.sentiment == "positive", document
        (sentence,) = document.sentences
        assert (sentence.offset, sentence.text) == (None if is_v3_0 else 0, PLAIN), sentence
        assert sentence.length == length(PLAIN), sentence

    def native():
        texts = [PLAIN, "never again, awful", "the meeting is on friday"]
        for document, text in zip(analyze(texts), texts):
            close(scores(document), server.native(text))

    def unicode():
        (document,) = analyze([EMOJI])
        close(scores(document), server.native(EMOJI))
        assert document.sentences[0].length == length(EMOJI), document

    def batch():
        texts = [PLAIN, "awful"] * 5
        opinions = {} if is_v3_0 else {"show_opinion_mining": True}
        documents = analyze(texts, show_stats=True, **opinions)
        assert [document.sentiment for document in documents] == ["positive", "negative"] * 5
        assert documents[0].statistics.character_count == len(PLAIN), documents[0]
        assert documents[0].sentences[0].mined_opinions == ([] if opinions else None)

    def bad_item():
        documents = [
            {"id": "good", "text": PLAIN},
            {"id": "empty", "text": " "},
            {"id": "long", "text": "x" * 5121},
            {"id": "tongue", "text": PLAIN, "language": "klingon!"},
        ]
        results = analyze(documents)
        assert [document.is_error for document in results] == [False, True, True, True], results
        codes = [document.error.code for document in results[1:]]
        assert codes == ["InvalidDocument", "InvalidDocument", "UnsupportedLanguageCode"], codes

    def language():
        documents = [
            {"id": str(i), "text": text, "language": "auto"} for i, text in enumerate([PLAIN, GERMAN])
        ]
        codes = [[warning.code for warning in document.warnings] for document in analyze(documents)]
        assert codes == [[], ["UnsupportedLanguage"]], codes

    def oversize():
        error = refused(HttpResponseError, lambda: analyze(["a"] * 11))
        assert error.status_code == 400 and error.error.code == "InvalidDocumentBatch", error
        error = refused(HttpResponseError, lambda: analyze(["x" * (5 << 20)]))
        assert error.status_code == 413, error

    def wrong_key():
        refused(
            ClientAuthenticationError,
            lambda: client("wrong-key-0123456789").analyze_sentiment([PLAIN]),
        )

    def overload():
        with server.overloaded():
            for _ in range(CALLS):
                assert analyze([PLAIN])[0].sentiment == "positive"

    return locals_of(locals())


def google(server, api=language_v2):
    """google-cloud-language: Natural Language v2 or v1 over REST."""

    is_v1 = api is language_v1

    def client(key=server.key):
        options = ClientOptions(api_endpoint=server.url, api_key=key)
        return api.LanguageServiceClient(transport="rest", client_options=options)

    def analyze(text, key=server.key, **document):
        document = {"content": text, "type_": api.Document.Type.PLAIN_TEXT, **document}
        encoding = api.EncodingType.UTF32
        request = {"document": document, "encoding_type": encoding}
        return client(key).analyze_sentiment(request=request)

    def told(result):
        """The language, and whether it is supported, which v1 does not say."""
        if is_v1:
            return result.language, None
        return result.language_code, result.language_supported

    def check(text):
        native = server.native(text)
        result = analyze(text)
        score = result.document_sentiment.score
        assert abs(score - (native["positive"] - native["negative"])) < 1e-5, result
        (sentence,) = result.sentences
        assert (sentence.text.content, sentence.text.begin_offset) == (text, 0), sentence
        assert abs(sentence.sentiment.score - score) < 1e-6, sentence

    def plain():
        result = analyze(PLAIN, **{"language" if is_v1 else "language_code": "en"})
        assert result.document_sentiment.score > 0.5, result
        assert told(result) == ("en", None if is_v1 else True), result

    def native():
        for text in [PLAIN, "never again, awful", "the meeting is on friday"]:
            check(text)

    def unicode():
        check(EMOJI)

    def bad_item():
        error = refused(google_errors.BadRequest, lambda: analyze(" "))
        assert "empty" in error.message, error
        html = api.Document.Type.HTML
        refused(google_errors.BadRequest, lambda: analyze(PLAIN, type_=html))

    def language():
        result = analyze(GERMAN)
        assert told(result) == ("de", None if is_v1 else False), result

    def oversize():
        for text in ["x" * 70_000, "x" * (5 << 20)]:
            refused(google_errors.BadRequest, lambda text=text: analyze(text))

    def wrong_key():
        refused(google_errors.Unauthorized, lambda: analyze(PLAIN, key="wrong-key-0123456789"))

    def overload():
        with server.overloaded():
            for _ in range(CALLS):
                assert analyze(PLAIN).document_sentiment.score > 0.5

    return locals_of(locals())


CASES = [
    "plain",
    "native",
    "unicode",
    "batch",
    "bad_item",
    "oversize",
    "language",
    "parameters",
    "wrong_key",
    "overload",
]


def locals_of(found):
    """The cases among a function's locals, in one order for all."""
    return [(name, found[name]) for name in CASES if name in found]


CLIENTS = [
    ("boto3", boto),
    ("huggingface_hub", hugging_face),
    ("azure-ai-textanalytics", azure),
    ("azure-ai-textanalytics v3.1", lambda server: azure(server, "v3.1")),
    ("azure-ai-textanalytics v3.0", lambda server: azure(server, "v3.0")),
    ("google-cloud-language", google),
    ("google-cloud-language v1", lambda server: google(server, language_v1)),
]


def version(name):
    """The version of a client's package, which may be tried with several versions of an API."""
    return importlib.metadata.version(name.split()[0])
