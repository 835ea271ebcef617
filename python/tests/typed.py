"""Types as a checker sees them."""

from coldread import Classifier, PostError, Results, Sentiment

classifier = Classifier(threads=2, long_text="window")
one: Sentiment = classifier.score("so good")
many: Results = classifier.score(["so good", None])
labels: list[str | None] = many.labels
first: Sentiment = many[0]
for result in many:
    if isinstance(result, PostError):
        code: str = result.code
    else:
        scores: dict[str, float] = dict(result.scores)
