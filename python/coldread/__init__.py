"""Sentiment of social-media posts, scored by a quantized transformer inside this process.

>>> from coldread import Classifier
>>> classifier = Classifier()
>>> classifier.score("I love this phone").label
'positive'
>>> results = classifier.score(["I love this phone", "battery died after two days"])
>>> results.labels
['positive', 'negative']

`results.scores` is a NumPy array of posts by labels where NumPy is installed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal, overload

from . import _native
from ._native import ColdreadError, InferenceError, LoadError, __version__

__all__ = ["Classifier", "ColdreadError", "InferenceError", "LoadError", "PostError", "Results", "Sentiment"]

LongText = Literal["truncate", "window", "error"]


class PostError(ColdreadError):
    """One post cannot be scored.

    `code` is a stable name (`empty_text`, `text_too_long`, `missing_text`), `index` the post's
    place among the posts of the call.
    """

    def __init__(self, code: str, message: str, index: int = 0):
        super().__init__(message)
        self.code = code
        self.index = index


@dataclass(frozen=True, slots=True)
class Sentiment:
    """What the model says of one post."""

    label: str
    """The label with the highest score."""
    score: float
    """That score, 0 to 1."""
    scores: Mapping[str, float]
    """Every label's score, in the model's order."""
    truncated: bool = False
    """Whether only the beginning of the post was read."""


class Results:
    """What the model says of many posts, in their order.

    Indexing gives a `Sentiment`, and raises `PostError` where a post has none.
    """

    __slots__ = ("_errors", "_labels", "_names", "_scores", "_truncated")

    def __init__(self, names: tuple[str, ...], rows: _native.Rows):
        self._names = names
        self._labels = rows.labels
        self._scores = rows.scores
        self._truncated = frozenset(rows.truncated)
        self._errors = {index: PostError(code, message, index) for index, code, message in rows.errors}

    @property
    def labels(self) -> list[str | None]:
        """Each post's label; `None` where a post was not scored."""
        return [None if label < 0 else self._names[label] for label in self._labels]

    @property
    def scores(self) -> Any:
        """Scores, posts by labels, 32-bit floats; NaN where a post was not scored.

        A NumPy array, or a two-dimensional `memoryview` where NumPy is not installed.
        """
        shape = (len(self._labels), len(self._names))
        try:
            import numpy
        except ImportError:
            flat = memoryview(self._scores)
            return flat.cast("f", shape) if shape[0] else flat.cast("f")
        return numpy.frombuffer(self._scores, numpy.float32).reshape(shape)

    @property
    def errors(self) -> Mapping[int, PostError]:
        """Posts that were not scored, by their index."""
        return self._errors

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> Sentiment:
        index = range(len(self))[index]
        if index in self._errors:
            raise self._errors[index]
        return self._sentiment(index)

    def __iter__(self) -> Iterator[Sentiment | PostError]:
        """Each post's `Sentiment`, or the `PostError` in its place."""
        for index in range(len(self)):
            yield self._errors.get(index) or self._sentiment(index)

    def _sentiment(self, index: int) -> Sentiment:
        width = len(self._names)
        row = memoryview(self._scores).cast("f")[index * width : (index + 1) * width]
        label = self._labels[index]
        return Sentiment(self._names[label], row[label], dict(zip(self._names, row)), index in self._truncated)

    def __repr__(self) -> str:
        return f"<coldread.Results: {len(self)} posts, {len(self._errors)} not scored>"


class Classifier:
    """A loaded model. Threads may share it: scoring releases the global interpreter lock.

    `model` is a packed model file or a Hugging Face model folder; the default model of this
    package unless given. `threads` is how many threads one call uses. `long_text` says what is
    done with a post that has more tokens than the model reads: read its beginning ("truncate"),
    read all of it in windows ("window"), or reject it ("error").
    """

    def __init__(
        self,
        model: str | PathLike[str] | None = None,
        *,
        threads: int = 1,
        long_text: LongText = "truncate",
        max_post_bytes: int = 65_536,
    ):
        if not 1 <= threads <= 256:
            raise ValueError(f"threads is {threads}; expected 1 to 256")
        if long_text not in ("truncate", "window", "error"):
            raise ValueError(f"long_text is {long_text!r}; expected truncate, window or error")
        self._path = str(model if model is not None else Path(__file__).with_name("default.coldread"))
        self._threads = threads
        self._long_text = long_text
        self._max_post_bytes = max_post_bytes
        self._model = _native.Model(self._path, max_post_bytes)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self._path, self._threads, self._long_text, self._max_post_bytes)

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names, in the order of the scores."""
        return tuple(self._model.labels)

    @property
    def model_name(self) -> str:
        return self._model.name

    def token_ids(self, text: str) -> list[int]:
        """The post's token ids as the model reads them, special tokens included."""
        return self._model.token_ids(text)

    @overload
    def score(self, posts: str) -> Sentiment: ...
    @overload
    def score(self, posts: Iterable[str | None]) -> Results: ...
    def score(self, posts: str | Iterable[str | None]) -> Sentiment | Results:
        """Scores one post, or many.

        Many are any iterable of `str`: a list, an iterator (wrap it in `tqdm` for a progress bar), a
        NumPy array, a column of pandas, Polars or Arrow. `None` and NaN stand for a missing post.
        A post that cannot be scored raises `PostError` if it is alone; among many it has no label
        and stands in `Results.errors`.
        """
        if isinstance(posts, str):
            return self._score([posts])[0]
        return self._score(_iterable(posts))

    def __call__(self, posts: str | Iterable[str | None], top_k: int | None = 1) -> list[Any]:
        """As a `transformers` pipeline answers: `[{"label": ..., "score": ...}]`.

        One post or many; the best label of each, or with another `top_k` (`None`: all) a list of
        labels by score. Raises `PostError` for a post that cannot be scored.
        """
        many = self._score([posts] if isinstance(posts, str) else _iterable(posts))
        answers = []
        for result in many:
            if isinstance(result, PostError):
                raise result
            ranked = sorted(result.scores.items(), key=lambda pair: -pair[1])[:top_k]
            ranked = [{"label": label, "score": score} for label, score in ranked]
            answers.append(ranked[0] if top_k == 1 else ranked)
        return answers

    @property
    def classes_(self) -> tuple[str, ...]:
        """Label names, as scikit-learn's classifiers have them."""
        return self.labels

    def predict(self, X: Iterable[str | None]) -> Any:
        """Each post's label: a NumPy array, or a list where NumPy is not installed."""
        labels = self._scored(X).labels
        try:
            import numpy
        except ImportError:
            return labels
        return numpy.array(labels)

    def predict_proba(self, X: Iterable[str | None]) -> Any:
        """Scores, posts by `classes_`."""
        return self._scored(X).scores

    def _score(self, posts: Any) -> Results:
        return Results(self.labels, self._model.score(posts, self._long_text, self._threads))

    def _scored(self, X: Any) -> Results:
        results = self._score(_iterable(X))
        for error in results.errors.values():
            raise error
        return results

    def __repr__(self) -> str:
        return f"<coldread.Classifier {self.model_name}: {', '.join(self.labels)}>"


def _restored(
    kind: type[Classifier], path: str, threads: int, long_text: LongText, max_post_bytes: int
) -> Classifier:
    return kind(path, threads=threads, long_text=long_text, max_post_bytes=max_post_bytes)


def _iterable(posts: Any) -> Any:
    """Columns of data frames as lists, which Python reads fastest; all else as it is."""
    if isinstance(posts, (bytes, bytearray, memoryview, Mapping)):
        raise TypeError(f"posts are of type {type(posts).__name__}; expected str or an iterable of str")
    for method in ("to_pylist", "to_list", "tolist"):
        if hasattr(posts, method):
            return getattr(posts, method)()
    return posts
