"""What can be told of a text without a model: its script, its length, whether it refuses or breaks its format."""

import json
import re
import unicodedata
from collections import Counter
from functools import lru_cache
from typing import Final

SCRIPT_CHARACTERS: Final = 256  # of a text that are looked at
NO_SCRIPT: Final = "none"  # digits and signs alone
# Names of scripts as the Unicode character names begin with them; kana and the unified ideographs by what is written.
_SCRIPTS: Final = {"CJK": "han", "HIRAGANA": "kana", "KATAKANA": "kana"}
# How models decline, at the beginning of an answer, in the languages this was written for: a share that jumps tells,
# a single answer proves nothing.
_REFUSAL: Final = re.compile(
    r"\s*(i['’]?m (very )?sorry,? (but )?i|i apologi[sz]e,? but|i can(no|['’])t (help|assist|provide|do|answer|comply)|"
    r"i am (unable|not able) to|i['’]m (unable|not able) to|as an ai( language)? model|"
    r"es tut mir leid,? (aber )?|ich kann (dir|ihnen)? ?(dabei )?(leider )?nicht|"
    r"je suis désolée?,? mais|je ne peux pas|lo siento,? (pero )?|no puedo)",
    re.IGNORECASE,
)


def script_of(text: str) -> str:
    """Return the script that most letters of `text` are of, such as latin, cyrillic, han or arabic."""
    found = Counter(_script(letter) for letter in text[:SCRIPT_CHARACTERS] if letter.isalpha())
    return found.most_common(1)[0][0] if found else NO_SCRIPT


def refuses(answer: str) -> bool:
    """Return whether an answer begins as a refusal does."""
    return _REFUSAL.match(answer) is not None


def breaks_json(answer: str) -> bool:
    """Return whether an answer that should be one JSON value is none."""
    try:
        json.loads(answer)
    except (ValueError, RecursionError):
        return True
    return False


@lru_cache(maxsize=8192)
def _script(letter: str) -> str:
    word = unicodedata.name(letter, "UNKNOWN").split(" ", 1)[0].split("-", 1)[0]
    return _SCRIPTS.get(word, word.lower())
