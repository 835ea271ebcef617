"""The installed package, as its users meet it. `python/test` runs this in a fresh environment."""

import array
import copy
import json
import math
import pickle
import subprocess
import sys
import threading
import unittest
from pathlib import Path

import numpy
import pandas
import polars
import pyarrow

import coldread
from coldread import Classifier, PostError

POSTS = ["I love this phone", "battery died after two days. never again", "new model is out on friday"]
LABELS = ["positive", "negative", "neutral"]
CLASSIFIER = Classifier()


class OnePost(unittest.TestCase):
    def test_has_label_and_scores(self):
        result = CLASSIFIER.score(POSTS[0])
        self.assertEqual(result.label, "positive")
        self.assertEqual(result.score, result.scores["positive"])
        self.assertEqual(list(result.scores), ["negative", "neutral", "positive"])
        self.assertAlmostEqual(sum(result.scores.values()), 1, places=6)
        self.assertFalse(result.truncated)

    def test_that_cannot_be_scored_raises(self):
        for post, code in [("", "empty_text"), ("\ufe0f ", "empty_text"), ("x" * 70_000, "text_too_long")]:
            with self.assertRaises(PostError) as raised:
                CLASSIFIER.score(post)
            self.assertEqual((raised.exception.code, raised.exception.index), (code, 0))
            self.assertIsInstance(raised.exception, coldread.ColdreadError)

    def test_long_text_is_a_choice(self):
        post = "so good " * 2_000
        self.assertTrue(CLASSIFIER.score(post).truncated)
        self.assertFalse(Classifier(long_text="window").score(post).truncated)
        with self.assertRaises(PostError):
            Classifier(long_text="error").score(post)

    def test_half_a_surrogate_pair_is_a_replacement_character(self):
        self.assertEqual(CLASSIFIER.score("so good \ud83d"), CLASSIFIER.score("so good \ufffd"))

    def test_token_ids_begin_and_end_with_special_tokens(self):
        ids = CLASSIFIER.token_ids("I love this phone")
        self.assertEqual((ids[0], ids[-1], len(ids)), (101, 102, 6))


class ManyPosts(unittest.TestCase):
    def test_every_kind_of_column(self):
        expected = CLASSIFIER.score(POSTS)
        self.assertEqual(expected.labels, LABELS)
        columns = [
            tuple(POSTS),
            iter(POSTS),
            (post for post in POSTS),
            numpy.array(POSTS),
            numpy.array(POSTS, dtype=object),
            pandas.Series(POSTS),
            pandas.Series(POSTS, dtype="string"),
            pandas.DataFrame({"text": POSTS}, index=[7, 7, 7])["text"],
            polars.Series(POSTS),
            pyarrow.array(POSTS),
            pyarrow.chunked_array([POSTS[:1], POSTS[1:]]),
        ]
        for column in columns:
            results = CLASSIFIER.score(column)
            self.assertEqual(results.labels, LABELS, type(column))
            self.assertTrue((results.scores == expected.scores).all(), type(column))

    def test_missing_posts_keep_their_place(self):
        for column in [
            ["so good", None, "so bad"],
            ["so good", math.nan, "so bad"],
            pandas.Series(["so good", None, "so bad"]),
            pandas.Series(["so good", pandas.NA, "so bad"], dtype="string"),
            pyarrow.array(["so good", None, "so bad"]),
            polars.Series(["so good", None, "so bad"]),
        ]:
            results = CLASSIFIER.score(column)
            self.assertEqual(results.labels, ["positive", None, "negative"], type(column))
            self.assertTrue(numpy.isnan(results.scores[1]).all())
            self.assertEqual({i: e.code for i, e in results.errors.items()}, {1: "missing_text"})
            self.assertIsInstance(list(results)[1], PostError)
            with self.assertRaises(PostError):
                results[1]
            self.assertEqual(results[-1].label, "negative")

    def test_none_at_all(self):
        results = CLASSIFIER.score([])
        self.assertEqual((len(results), results.labels, results.scores.shape), (0, [], (0, 3)))

    def test_what_is_no_text_is_a_type_error_that_names_the_post(self):
        for posts in [[1], ["a", 2.5], ["a", b"b"], [["a"]], numpy.array([1, 2])]:
            with self.assertRaisesRegex(TypeError, r"post [01] is of type"):
                CLASSIFIER.score(posts)
        for posts in [b"bytes", {"text": "a"}, array.array("b"), 5, None]:
            with self.assertRaises(TypeError):
                CLASSIFIER.score(posts) if not isinstance(posts, array.array) else CLASSIFIER.score(memoryview(posts))

    def test_an_error_of_the_iterable_passes_through(self):
        def posts():
            yield "a"
            raise LookupError("mine")

        with self.assertRaisesRegex(LookupError, "mine"):
            CLASSIFIER.score(posts())

    def test_a_score_depends_on_the_post_alone(self):
        posts = [f"{post} {number}" for number in range(700) for post in POSTS]
        alone = [CLASSIFIER.score(post).scores["positive"] for post in posts[:50]]
        together = CLASSIFIER.score(posts).scores
        self.assertEqual(alone, together[:50, 2].tolist())
        self.assertTrue((Classifier(threads=3).score(posts).scores == together).all())

    def test_progress_is_seen_while_it_runs(self):
        taken = []
        CLASSIFIER.score(taken.append(n) or "so good" for n in range(2_000))
        self.assertEqual(len(taken), 2_000)

    def test_threads_share_a_classifier(self):
        results, posts = {}, [f"so good {n}" for n in range(200)]

        def run(number):
            results[number] = CLASSIFIER.score(posts).scores

        threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for scores in results.values():
            self.assertTrue((scores == results[0]).all())
        self.assertEqual(len(results), 4)


class Replacements(unittest.TestCase):
    def test_a_pipelines_call(self):
        self.assertEqual(CLASSIFIER("so good")[0]["label"], "positive")
        self.assertEqual([a["label"] for a in CLASSIFIER(POSTS)], LABELS)
        ranked = CLASSIFIER("so good", top_k=None)[0]
        self.assertEqual(ranked[0]["label"], "positive")
        self.assertEqual([a["score"] for a in ranked], sorted((a["score"] for a in ranked), reverse=True))
        self.assertEqual(len(CLASSIFIER(POSTS, top_k=2)[1]), 2)
        with self.assertRaises(PostError):
            CLASSIFIER(["a", ""])

    def test_scikit_learns_methods(self):
        self.assertEqual(CLASSIFIER.predict(POSTS).tolist(), LABELS)
        scores = CLASSIFIER.predict_proba(POSTS)
        self.assertEqual([CLASSIFIER.classes_[n] for n in scores.argmax(1)], LABELS)
        with self.assertRaises(PostError) as raised:
            CLASSIFIER.predict(["a", None])
        self.assertEqual(raised.exception.index, 1)


class Loading(unittest.TestCase):
    def test_a_model_that_is_none(self):
        path = Path(coldread.__file__)
        for model in ["no/such/file", path, path.parent]:
            with self.assertRaises(coldread.LoadError) as raised:
                Classifier(model)
            self.assertIn(str(model), str(raised.exception))

    def test_options_are_checked(self):
        for options in [{"threads": 0}, {"threads": 100_000}, {"long_text": "some"}]:
            with self.assertRaises(ValueError):
                Classifier(**options)
        with self.assertRaises(PostError):
            Classifier(max_post_bytes=5).score("so good")

    def test_copies_and_pickles_score_alike(self):
        expected = CLASSIFIER.score("so good")
        for other in [copy.copy(CLASSIFIER), pickle.loads(pickle.dumps(CLASSIFIER))]:
            self.assertEqual(other.score("so good"), expected)


class Program(unittest.TestCase):
    """The command line in the wheel."""

    def test_its_scores_are_the_packages_bits(self):
        program = Path(sys.executable).with_name("coldread")
        command = [program, "score", "--output", "jsonl", *POSTS]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        scores = CLASSIFIER.score(POSTS).scores
        for line, row in zip(lines, scores, strict=True):
            self.assertEqual([numpy.float32(s) for s in json.loads(line)["scores"].values()], row.tolist())


if __name__ == "__main__":
    unittest.main()
