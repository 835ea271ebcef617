"""Writes the behavioural checks of `coldread eval --checks`: made-up posts and small changes to them.

    python3 make_checks.py > ../checks.tsv

A line is a check's name, what is expected, and a post or two, separated by tabs. The kinds are those of
CheckList (Ribeiro et al. 2020): invariance (`same`), direction and minimum functionality (a label, or a
label that must not come). The same random numbers every time make the same file.
"""

import itertools
import random
import string

POSITIVE = [
    "I love the new update, everything feels faster",
    "best coffee I have had in months, thank you",
    "the staff at the front desk were so kind to us",
    "what a beautiful morning for a long run",
    "finally finished my thesis and I am so proud",
    "this album is amazing from start to finish",
    "great service again, would happily come back",
    "so excited to see everyone this weekend",
    "the battery on this phone is fantastic",
    "our team played a wonderful game tonight",
    "my grandmother's soup always makes me happy",
    "really impressed with how quickly they answered",
    "that was the funniest show I have seen all year",
    "I'm grateful for the people who helped us move",
    "the view from the top was absolutely stunning",
    "good news, the surgery went well and he's smiling",
]
NEGATIVE = [
    "I hate the new update, everything feels slower",
    "worst coffee I have had in months, never again",
    "the staff at the front desk were so rude to us",
    "what a miserable morning, soaked and late again",
    "my flight was cancelled and nobody tells us anything",
    "this album is boring from start to finish",
    "terrible service again, won't come back",
    "so tired of waiting for a refund that never comes",
    "the battery on this phone is awful",
    "our team played a horrible game tonight",
    "I'm disgusted by how they treated that family",
    "really disappointed with how slowly they answered",
    "that was the dullest show I have seen all year",
    "the hotel room smelled bad and the heating was broken",
    "another delay, another lie, this company is a joke",
    "bad news, the surgery failed and he's in pain",
]
NEUTRAL = [
    "the meeting starts at ten in room four",
    "new opening hours from Monday: nine to five",
    "the train to the coast leaves from platform two",
    "what time does the game start tomorrow?",
    "the report covers the first three months of the year",
    "the shop is next to the post office on Main Street",
    "he was born in 1975 and moved to the city in 1990",
    "the package contains a charger and a cable",
    "the council meets on Tuesday to discuss the budget",
    "does anyone know which bus goes to the stadium?",
]
POSTS = POSITIVE + NEGATIVE + NEUTRAL

NAMES = ["Emily", "Jake", "Lakisha", "Jamal", "Mohammed", "Aisha", "Wei", "Priya", "Carlos", "Olga", "Moshe", "Ingrid"]
PLACES = ["London", "Lagos", "Mumbai", "Paris", "Baghdad", "Toronto", "Nairobi", "Beijing", "Lima", "Warsaw"]
THINGS = ["phone", "movie", "restaurant", "hotel", "game", "song", "update", "jacket"]

rng = random.Random(1)


def typo(post):
    """Swaps two neighbouring letters inside a word of five or more."""
    words = post.split(" ")
    at = rng.choice([i for i, word in enumerate(words) if len(word) >= 5 and word.isalpha()])
    word = words[at]
    swaps = [i for i in range(1, len(word) - 2) if word[i] != word[i + 1]]
    i = rng.choice(swaps)
    words[at] = word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    return " ".join(words)


def missing_letter(post):
    words = post.split(" ")
    at = rng.choice([i for i, word in enumerate(words) if len(word) >= 5 and word.isalpha()])
    i = rng.randrange(1, len(words[at]) - 1)
    words[at] = words[at][:i] + words[at][i + 1 :]
    return " ".join(words)


def elongated(post):
    """Draws out the last vowel of one word: so -> sooo."""
    words = post.split(" ")
    at = rng.choice([i for i, word in enumerate(words) if word.isalpha() and set(word) & set("aeiou")])
    word = words[at]
    i = max(word.rfind(vowel) for vowel in "aeiou")
    words[at] = word[:i] + word[i] * 4 + word[i + 1 :]
    return " ".join(words)


def same(name, pairs):
    for post, changed in pairs:
        assert post != changed, post
        yield name, "same", post, changed


def labelled(name, expected, posts):
    for post in posts:
        yield name, expected, post


def swapped(name, words, *templates):
    """Each template with one word and with six others, which must not matter."""
    for template in templates:
        first, *others = rng.sample(words, 7)
        yield from same(name, ((template.format(first), template.format(word)) for word in others))


def about_things(name, expected, *templates):
    return labelled(name, expected, (a.format(b) for a, b in itertools.product(templates, THINGS)))


def checks():
    yield from labelled("plain positive", "positive", POSITIVE)
    yield from labelled("plain negative", "negative", NEGATIVE)
    yield from labelled("plain neutral", "neutral", NEUTRAL)
    for _ in range(2):
        yield from same("typo: two letters swapped", ((post, typo(post)) for post in POSTS))
        yield from same("typo: a letter missing", ((post, missing_letter(post)) for post in POSTS))
        yield from same("a word drawn out", ((post, elongated(post)) for post in POSTS))
    yield from same("capitals", ((post, post.upper()) for post in POSTS))
    yield from same("first letters in capitals", ((post, string.capwords(post, " ")) for post in POSTS))
    yield from same("apostrophe missing", ((post, post.replace("'", "")) for post in POSTS if "'" in post))
    yield from same("full stop at the end", ((post, post.rstrip("?") + ".") for post in POSTS))
    yield from same("link at the end", ((post, post + " https://example.com/a1b2") for post in POSTS))
    yield from same(
        "another link",
        ((post + " https://example.com/a1b2", post + " http://short.example/?q=Zz9") for post in POSTS),
    )
    yield from same("handle at the start", ((post, "@some_body " + post) for post in POSTS))
    yield from same("hashtag at the end", ((post, post + " #monday") for post in POSTS))
    yield from swapped(
        "another name",
        NAMES,
        "{} made dinner for all of us and it was delicious",
        "{} shouted at the waiter and ruined the evening",
        "{} will speak after the break",
        "I miss {} so much today",
        "talking to {} on the phone right now",
        "{} got the job, congratulations!",
    )
    yield from swapped(
        "another place",
        PLACES,
        "just landed in {}, the hotel is lovely",
        "stuck at the airport in {} for six hours, furious",
        "the conference is in {} this year",
        "people in {} are talking about the election",
    )
    yield from about_things(
        "negated praise",
        "not positive",
        "I don't love this {}",
        "this {} is not good",
        "this {} isn't great at all",
        "I can't say I liked the {}",
        "nobody would call this {} a success",
    )
    yield from about_things(
        "negated blame",
        "not negative",
        "this {} is not bad at all",
        "I don't hate this {}",
        "no problems with the {} so far",
        "can't complain about the {}",
    )
    yield from about_things(
        "turn for the better",
        "positive",
        "I used to hate this {}, but now I love it",
        "thought the {} would be bad, but it's wonderful",
    )
    yield from about_things(
        "turn for the worse",
        "negative",
        "I used to love this {}, but now I hate it",
        "thought the {} would be great, but it's awful",
    )
    yield from labelled("emoji alone, positive", "positive", ["❤️", "😍", "😊😊", "🎉🎉🎉", "👍", "🥰", "💕", "👏", "😁", "💯🔥"])
    yield from labelled("emoji alone, negative", "negative", ["😡", "🤬", "👎", "😭😭", "💔", "🖕", "😞", "🤮", "😠", "😤😤"])


for check in checks():
    print(*check, sep="\t")
