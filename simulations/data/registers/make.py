#!/usr/bin/env python3
"""Makes passages.jsonl and questions.jsonl of this folder: `python3 make.py`; the same bytes every time.

Everything in them is invented. Each thing (a machine, a harbour, a ferry line …) is described by several
sources that share their wording and differ in what they say: the register, a correction of it, an
earlier edition, a draft, a message board, an advertisement. Which of them to believe is not written in
any question; it can only be learned from how the answers turn out.
"""

import json
import random
from pathlib import Path

SEED = 20_240_901
PER_KIND = 80
# Shares of the things that have such a source.
SHARE = {"correction": 0.35, "earlier": 0.8, "draft": 0.5, "board": 0.85, "advert": 0.4}
# Chance that a source which is not to be believed has a fact wrong.
WRONG = {"earlier": 0.85, "draft": 0.85, "board": 0.8}

rng = random.Random(SEED)

ONSETS = "b br c cl d dr f g gr h j k l m n p pr r s st t th tr v w".split()
VOWELS = "a e i o u ae ei ia ou".split()
CODAS = "l n r s t nd rn st ld lm".split()
TAKEN = set()


def word(syllables):
    """A pronounceable word that was not used before."""
    while True:
        parts = [rng.choice(ONSETS) + rng.choice(VOWELS) for _ in range(syllables)]
        made = ("".join(parts) + rng.choice(CODAS)).capitalize()
        if made not in TAKEN and len(made) <= 11:
            TAKEN.add(made)
            return made


GIVEN = [word(1) for _ in range(60)]


def person():
    return f"{rng.choice(GIVEN)} {word(2)}"


def number(low, high, step, unit):
    """Numbers with a unit, such as `450 kilograms`."""
    def draw():
        value = rng.randrange(low, high, step)
        return f"{value:,} {unit}".strip()
    return draw


def pick(*values):
    return lambda: rng.choice(values)


def place(kind):
    return lambda: f"{word(2)} {kind}"


def year():
    return str(rng.randrange(1788, 1990))


MONTHS = pick("January", "February", "March", "April", "May", "June", "July", "August", "September",
              "October", "November", "December")
DAYS = pick("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
COLOURS = pick("dark green", "red", "pale blue", "white", "black", "yellow", "grey", "orange", "brown")

# For each kind: what things are called, and its facts: (name, how values are made, how a source states
# it, how people ask). The first way of asking uses the words of the sources, the others do not.
KINDS = {
    "machine": {
        "name": lambda: f"{word(2)} {rng.choice(['pump', 'crane', 'kiln', 'press', 'loom', 'winch'])}",
        "facts": [
            ("load", number(120, 980, 10, "kilograms"), "It is rated for a load of {v}.",
             ["What load is the {n} rated for?", "How heavy may what the {n} carries be?",
              "What weight can be put on the {n} at most?"]),
            ("maker", person, "It was designed by {v}.",
             ["Who designed the {n}?", "Whose work is the {n}?", "Who is the engineer behind the {n}?"]),
            ("oil", number(2, 60, 1, "litres of oil"), "Its sump takes {v}.",
             ["How much oil does the sump of the {n} take?", "How many litres are needed to fill the {n}?"]),
            ("place", place("Works"), "It is built at {v}.",
             ["Where is the {n} built?", "Which factory does the {n} come from?"]),
            ("paint", COLOURS, "Its housing is painted {v}.",
             ["What colour is the housing of the {n} painted?", "In which colour does one get the {n}?"]),
        ],
    },
    "harbour": {
        "name": lambda: f"{rng.choice(['Port', 'Quay of', 'Haven of'])} {word(2)}",
        "facts": [
            ("master", person, "Its harbour master is {v}.",
             ["Who is the harbour master of {n}?", "Who is in charge of {n}?", "Who runs {n}?"]),
            ("depth", number(4, 29, 1, "metres"), "At low water the basin is {v} deep.",
             ["How deep is the basin of {n} at low water?", "What depth is left in {n} when the tide is out?"]),
            ("founded", year, "It was founded in {v}.",
             ["When was {n} founded?", "In which year did {n} begin?"]),
            ("market", DAYS, "The fish market is held on {v}.",
             ["On which day is the fish market of {n} held?", "When can one buy fish at {n}?"]),
            ("light", place("Light"), "Ships steer for {v} when they come in.",
             ["What do ships steer for when they come in to {n}?", "Which lighthouse leads to {n}?"]),
        ],
    },
    "line": {
        "name": lambda: f"{word(2)} {rng.choice(['ferry', 'tramway', 'night boat', 'coach line'])}",
        "facts": [
            ("fare", number(3, 48, 1, "crowns"), "A single ticket costs {v}.",
             ["What does a single ticket of the {n} cost?", "How much does one pay to ride the {n} once?"]),
            ("time", number(12, 190, 1, "minutes"), "The journey takes {v}.",
             ["How long does the journey on the {n} take?", "After how many minutes does the {n} arrive?"]),
            ("start", place("Square"), "It departs from {v}.",
             ["Where does the {n} depart from?", "Where does one get on the {n}?"]),
            ("owner", person, "It is owned by {v}.",
             ["Who owns the {n}?", "Whose property is the {n}?"]),
            ("pause", MONTHS, "It does not run in {v}.",
             ["In which month does the {n} not run?", "When does the {n} take its yearly pause?"]),
        ],
    },
    "plant": {
        "name": lambda: f"{word(2)} {rng.choice(['lily', 'thorn', 'moss', 'vine', 'clover', 'fern'])}",
        "facts": [
            ("height", number(6, 240, 2, "centimetres"), "It grows {v} tall.",
             ["How tall does the {n} grow?", "What size does a grown {n} reach?"]),
            ("bloom", MONTHS, "It flowers in {v}.",
             ["In which month does the {n} flower?", "When is the {n} in blossom?"]),
            ("finder", person, "It was first described by {v}.",
             ["Who first described the {n}?", "Who was the first to write about the {n}?"]),
            ("soil", pick("chalk", "wet sand", "clay", "peat", "gravel", "loam", "slate", "river mud"),
             "It wants {v} to grow in.",
             ["What does the {n} want to grow in?", "Which ground does the {n} need?"]),
            ("home", place("Valley"), "Its home is the {v}.",
             ["What is the home of the {n}?", "Where does the {n} come from?"]),
        ],
    },
    "exhibit": {
        "name": lambda: f"{word(2)} {rng.choice(['clock', 'globe', 'chalice', 'harp', 'map', 'mask'])}",
        "facts": [
            ("room", number(2, 90, 1, ""), "It is shown in room {v}.",
             ["In which room is the {n} shown?", "Where in the house can one see the {n}?"]),
            ("maker", person, "It was made by {v}.",
             ["Who made the {n}?", "From whose hands is the {n}?"]),
            ("year", year, "It dates from {v}.",
             ["When does the {n} date from?", "How old is the {n}, by year of making?"]),
            ("weight", number(2, 74, 1, "kilograms"), "It weighs {v}.",
             ["How much does the {n} weigh?", "How heavy is the {n}?"]),
            ("giver", person, "It was given to the house by {v}.",
             ["Who gave the {n} to the house?", "Which donor does the house thank for the {n}?"]),
        ],
    },
    "office": {
        "name": lambda: f"{rng.choice(['Office of', 'Bureau of', 'Board of'])} {word(2)} "
                        f"{rng.choice(['Tolls', 'Wells', 'Bridges', 'Seals', 'Weights'])}",
        "facts": [
            ("head", person, "It is headed by {v}.",
             ["Who heads the {n}?", "Who has the last word at the {n}?"]),
            ("form", number(104, 996, 1, ""), "Requests are made on form {v}.",
             ["On which form are requests to the {n} made?", "Which number has the paper that the {n} wants?"]),
            ("fee", number(5, 120, 5, "crowns"), "It charges a fee of {v}.",
             ["What fee does the {n} charge?", "How much does one pay at the {n}?"]),
            ("closed", DAYS, "It is closed on {v}.",
             ["On which day is the {n} closed?", "When is nobody at the {n}?"]),
            ("house", place("House"), "It sits in {v}.",
             ["Where does the {n} sit?", "Which building does the {n} work in?"]),
        ],
    },
}

# Titles and first sentences of each source; the name of the thing goes in at {n}.
SOURCES = {
    "register": (
        ["{n}: register entry", "Register: {n}", "{n}, entry of the register", "The register on the {n}"],
        ["The {n} is entered in the register in force and was inspected this spring.",
         "This is the valid entry on the {n}, checked on site and signed by the registrar.",
         "The {n} was inspected for the register; what follows is in force.",
         "Entry in force. The registrar has seen the {n} and signs for what is said here."],
    ),
    "correction": (
        ["{n}: correction", "Correction to the register: {n}", "Notice on the {n}", "{n}, corrected entry"],
        ["The register was wrong about the {n} and is corrected by this notice.",
         "This notice replaces what the register says of the {n}.",
         "By order of the registrar the entry on the {n} is amended as follows.",
         "An error in the entry on the {n} was found and is put right here."],
    ),
    "earlier": (
        ["{n}: register entry, earlier edition", "Former register: {n}", "{n}, entry withdrawn",
         "{n} in the old register"],
        ["The {n} is described here as the former edition of the register had it.",
         "This entry on the {n} was withdrawn and is kept for the archive.",
         "The {n}, by the register that was in force until the last inspection.",
         "Superseded entry, kept for the archive. The {n} was described thus in former years."],
    ),
    "draft": (
        ["{n}: draft entry", "Draft for comment: {n}", "{n}, proposed entry", "Proposal on the {n}"],
        ["The {n} is described here as proposed; nothing of it has been approved.",
         "This draft on the {n} was sent out for comment and was not adopted.",
         "A proposal for the entry on the {n}, not yet inspected.",
         "Draft, not in force. The {n} would be entered as follows."],
    ),
    "board": (
        ["{n}: message board", "Re: {n}", "{n}, what people say", "Talk about the {n}"],
        ["Somebody on the message board knows the {n} and is quite sure of it.",
         "A visitor writes about the {n} from memory.",
         "I was told this about the {n} by a cousin, so here it is.",
         "People on the message board keep asking about the {n}; here is what one of them says."],
    ),
    "advert": (
        ["{n}: come and see", "Visit the {n}", "{n}, the pride of the coast", "Why everybody loves the {n}"],
        ["The {n} is the pride of the coast, and whoever has seen the {n} comes back.",
         "Nothing is like the {n}. Ask anybody about the {n}, and they will smile.",
         "The {n} has been loved for generations. There is only one {n}.",
         "Come and see the {n}! Young and old find that the {n} is worth the journey."],
    ),
}
CLOSING = {
    "register": ["The next inspection is due in two years.", "Copies are given out on request.", ""],
    "correction": ["All else in the entry stands.", "The notice is in force from today.", ""],
    "earlier": ["See the register in force.", "It has no force any more.", ""],
    "draft": ["Comments were due by the end of the year.", "The registrar has not decided.", ""],
    "board": ["At least that is how I remember it.", "Correct me if I am wrong!", "Hope that helps."],
    "advert": ["There is tea and cake, and a shop.", "Children pay half.", "Open all summer long."],
}


def another(make, value):
    """A value of the same kind that differs."""
    while True:
        made = make()
        if made != value:
            return made


def passage(pid, source, name, sentences):
    titles, openings = SOURCES[source]
    rng.shuffle(sentences)
    text = " ".join([rng.choice(openings).format(n=name), *sentences, rng.choice(CLOSING[source])])
    title = rng.choice(titles).format(n=name).replace("the Port", "Port")
    return {"pid": pid, "title": title[0].upper() + title[1:], "text": text.replace("the Port", "Port").strip()}


def describe(key, kind, name):
    """Passages of one thing, and for each fact its right value with the sources that have it."""
    facts = KINDS[kind]["facts"]
    entered = {fact: make() for fact, make, _, _ in facts}
    right, said = dict(entered), {"register": dict(entered)}
    if rng.random() < SHARE["correction"]:
        amended = rng.sample(facts, rng.choice([1, 1, 2]))
        right.update({fact: another(make, entered[fact]) for fact, make, _, _ in amended})
        said["correction"] = {fact: right[fact] for fact, *_ in amended}
    for source in ("earlier", "draft", "board"):
        if rng.random() >= SHARE[source]:
            continue
        # A message board knows some of it, the others all.
        told = rng.sample(facts, 3) if source == "board" else facts
        said[source] = {
            fact: another(make, right[fact]) if rng.random() < WRONG[source] else right[fact]
            for fact, make, _, _ in told
        }
    if rng.random() < SHARE["advert"]:
        said["advert"] = {}
    state = {fact: form for fact, _, form, _ in facts}
    order = sorted(said)
    rng.shuffle(order)
    passages, holds = [], {fact: [] for fact, *_ in facts}
    for at, source in enumerate(order):
        pid = f"{key}-{at}"
        sentences = [state[fact].format(v=value) for fact, value in said[source].items()]
        passages.append(passage(pid, source, name, sentences))
        for fact, value in said[source].items():
            if value == right[fact]:
                holds[fact].append(pid)
    return passages, right, holds


def main():
    passages, questions = [], []
    for kind, of in KINDS.items():
        for at in range(PER_KIND):
            key, name = f"{kind}-{at:03d}", of["name"]()
            described, right, holds = describe(key, kind, name)
            passages += described
            for fact, _, _, asked in of["facts"]:
                questions.append({
                    "id": f"{key}-{fact}", "domain": kind,
                    "question": rng.choice(asked).format(n=name),
                    "answers": [right[fact]], "positives": holds[fact],
                    "kind": "single" if len(holds[fact]) == 1 else "several", "cluster": key,
                })
    folder = Path(__file__).parent
    for file, lines in (("passages", passages), ("questions", questions)):
        rng.shuffle(lines)
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / f"{file}.jsonl").write_text(text, encoding="utf-8")
        print(f"{len(lines)} {file}, {len(text)} bytes")


if __name__ == "__main__":
    main()
