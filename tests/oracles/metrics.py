"""What the scripts of the field say of some answers and rankings: the oracle of src/evaluate/metrics.

    metrics.py fixture > metrics.json      the committed cases, with the scripts' numbers
    metrics.py drawn SEED TEXTS RANKINGS   as many random cases, with the scripts' numbers

Needs rouge-score==0.1.2 and pytrec_eval-terrier==0.5.10. Exact match and F1 are those of the official
SQuAD 2.0 evaluation script, whose functions are short and are repeated here as published.
"""

import collections
import json
import random
import re
import string
import sys

import pytrec_eval
from rouge_score import rouge_scorer

CUTS = (1, 3, 5, 10, 20)


# The official SQuAD 2.0 evaluation script, from `normalize_answer` to `compute_f1`.
def normalize_answer(s):
    def remove_articles(text):
        regex = re.compile(r"\b(a|an|the)\b", re.UNICODE)
        return re.sub(regex, " ", text)

    def white_space_fix(text):
        return " ".join(text.split())

    def remove_punc(text):
        exclude = set(string.punctuation)
        return "".join(ch for ch in text if ch not in exclude)

    return white_space_fix(remove_articles(remove_punc(s.lower())))


def get_tokens(s):
    if not s:
        return []
    return normalize_answer(s).split()


def compute_exact(a_gold, a_pred):
    return int(normalize_answer(a_gold) == normalize_answer(a_pred))


def compute_f1(a_gold, a_pred):
    gold_toks = get_tokens(a_gold)
    pred_toks = get_tokens(a_pred)
    common = collections.Counter(gold_toks) & collections.Counter(pred_toks)
    num_same = sum(common.values())
    if len(gold_toks) == 0 or len(pred_toks) == 0:
        # If either is no-answer, then F1 is 1 if they agree, 0 otherwise
        return int(gold_toks == pred_toks)
    if num_same == 0:
        return 0
    precision = 1.0 * num_same / len(pred_toks)
    recall = 1.0 * num_same / len(gold_toks)
    return (2 * precision * recall) / (precision + recall)


SCORER = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)


def scored_text(case):
    answer, references = case["answer"], case["references"]
    return {
        "answer": answer,
        "references": references,
        "em": max(compute_exact(gold, answer) for gold in references),
        "f1": max(compute_f1(gold, answer) for gold in references),
        "rouge_l": max(SCORER.score(gold, answer)["rougeL"].fmeasure for gold in references),
    }


def scored_ranking(case):
    ranking, grades = case["ranking"], case["grades"]
    cuts = ",".join(str(cut) for cut in CUTS)
    measures = {"ndcg_cut.10", f"success.{cuts}", f"recall.{cuts}"}
    run = {"q": {doc: float(len(ranking) - place) for place, doc in enumerate(ranking)}}
    found = pytrec_eval.RelevanceEvaluator({"q": grades}, measures).evaluate(run)["q"]
    return {
        "ranking": ranking,
        "grades": grades,
        "ndcg_at_10": found["ndcg_cut_10"],
        "hit_at": [found[f"success_{cut}"] for cut in CUTS],
        "recall_at": [found[f"recall_{cut}"] for cut in CUTS],
    }


def scored(cases):
    return {
        "texts": [scored_text(case) for case in cases["texts"]],
        "rankings": [scored_ranking(case) for case in cases["rankings"]],
    }


# Sentences made up for this file.
TEXTS = [
    ("the copper kettle", ["copper kettle"]),
    ("A copper kettle, an urn and the ladle!", ["kettle and urn", "the ladle, an urn"]),
    ("Mira Oldfield", ["Oldfield, Mira", "M. Oldfield"]),
    ("mira oldfield", ["MIRA OLDFIELD"]),
    ("", ["something"]),
    ("The", ["a"]),
    ("the", ["the"]),
    ("1,204.5 metres", ["1204.5 metres", "1,204 metres"]),
    ("twenty-two boats", ["twenty two boats", "22 boats"]),
    ("‘the’ harbour", ["harbour"]),
    ("the harbour’s wall", ["harbour's wall", "harbour’s wall"]),
    ("Größe der Mühle", ["grösse der mühle", "GRÖSSE DER MÜHLE"]),
    ("naïve café", ["naive cafe"]),
    ("snake_case names", ["snakecase names"]),
    ("ha ha ha ha", ["ha ha", "ha ha ha ha ha"]),
    ("the boat left before the storm came in", ["before the storm the boat left"]),
    ("it was painted in nineteen-eleven by two sisters", ["two sisters painted it in 1911"]),
    ("theatre", ["the atre", "theatre."]),
    ("an an the a", ["nothing"]),
    ("A.B.C. society", ["ABC society", "a b c society"]),
    ("tab\tand\nline  breaks", ["tab and line breaks"]),
    ("long answers have many words and some of them are in the reference", ["the reference has some words"]),
    ("İzmir liman", ["izmir liman"]),
    ("東の灯台", ["東の灯台", "灯台"]),
    ("$5 + €6", ["5 6", "€6"]),
]

RANKINGS = [
    (["a", "b", "c"], {"a": 1}),
    (["a", "b", "c"], {"c": 1}),
    (["a", "b", "c"], {"z": 1}),
    (["a", "b", "c"], {"a": 0, "b": 0}),
    (["a", "b", "c", "d"], {"a": 1, "b": 3, "d": 2, "y": 3}),
    (["a", "b", "c", "d"], {"a": -1, "b": 2, "c": 0}),
    ([f"d{i}" for i in range(25)], {f"d{i}": i % 4 for i in range(25)}),
    ([f"d{i}" for i in range(25)], {f"d{24 - i}": i % 3 for i in range(20)}),
    ([f"d{i}" for i in range(12)], {"d10": 1, "d11": 2}),
    ([f"d{i}" for i in range(40)], {f"d{i}": 1 for i in range(0, 40, 7)}),
    ([], {"a": 1}),
    (["b"], {"a": 2, "b": 1, "c": 1}),
]


def drawn(seed, texts, rankings):
    """Random cases from words that try the normalisation."""
    rng = random.Random(seed)
    words = [
        "the", "a", "an", "The", "lamp", "Lamp.", "red", "RED", "of", "42", "4,2", "wall's", "wall’s", "“quoted”",
        "co-op", "co_op", "ünder", "ÜNDER", "ﬁne", "ß", "…", "(the)", "‘a’", "an.", "x", "y", "z", "é", "No.", "no",
        "—", "the—wall", "a/b", "  ", "\t", "Ⅳ", "½", "ǅ", "ΣΑΣ", "2nd", "K",
    ]
    some = lambda n: " ".join(rng.choice(words) for _ in range(rng.randrange(n)))
    cases = {"texts": [], "rankings": []}
    for _ in range(texts):
        cases["texts"].append({"answer": some(9), "references": [some(7) for _ in range(rng.randrange(1, 4))]})
    for _ in range(rankings):
        documents = [f"d{i}" for i in range(rng.randrange(1, 40))]
        rng.shuffle(documents)
        judged = rng.sample(range(45), rng.randrange(1, 20))
        grades = {f"d{i}": rng.randrange(-1, 4) for i in judged}
        cases["rankings"].append({"ranking": documents, "grades": grades})
    return cases


def main():
    if sys.argv[1:] == ["fixture"]:
        cases = {
            "texts": [{"answer": answer, "references": references} for answer, references in TEXTS],
            "rankings": [{"ranking": ranking, "grades": grades} for ranking, grades in RANKINGS],
        }
    elif len(sys.argv) == 5 and sys.argv[1] == "drawn":
        cases = drawn(*(int(number) for number in sys.argv[2:]))
    else:
        sys.exit(__doc__)
    found = scored(cases)
    lines = [
        f'"{part}": [\n' + ",\n".join("  " + json.dumps(case, ensure_ascii=False) for case in found[part]) + "\n]"
        for part in ("texts", "rankings")
    ]
    print("{\n" + ",\n".join(lines) + "\n}")


main()
