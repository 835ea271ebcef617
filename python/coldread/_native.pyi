from collections.abc import Iterable

__version__: str

class ColdreadError(Exception): ...
class LoadError(ColdreadError): ...
class InferenceError(ColdreadError): ...

class Rows:
    scores: bytes
    labels: list[int]
    truncated: list[int]
    errors: list[tuple[int, str, str]]

class Model:
    labels: list[str]
    name: str
    max_tokens: int
    def __new__(cls, path: str, max_post_bytes: int) -> Model: ...
    def token_ids(self, post: str) -> list[int]: ...
    def score(self, posts: Iterable[str | None], long_text: str, threads: int) -> Rows: ...
