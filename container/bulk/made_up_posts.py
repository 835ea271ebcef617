"""Prints made-up posts, the same ones each time: made_up_posts.py COUNT"""

import random
import sys

WHO = ["@ana", "my sister", "our team", "the whole bus", "@acme_support", "nobody here", "the new guy", "MUM"]
DOES = ["loves", "hates", "can't stop talking about", "returned", "recommends", "is queueing for", "forgot", "waits for"]
WHAT = ["this phone", "the 7 o'clock train", "season 3", "the update", "their coffee ☕", "the café à côté", "#MondayMood"]
END = ["", "!", "!!! 😍", " 😡😡", " again...", " https://example.org/p/1", " &amp; that's fine", " — whatever", " 👍🏽", "?"]


def main(count):
    random.seed(7)
    for number in range(count):
        parts = [random.choice(words) for words in (WHO, DOES, WHAT)]
        print(" ".join(parts) + random.choice(END) + f" {number}" * (number % 3 == 0))


if __name__ == "__main__":
    main(int(sys.argv[1]))
