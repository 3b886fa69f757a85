"""Fills parity cases with the logits that transformers and torch compute.

usage: python parity.py encoder MODEL_DIR CASES.jsonl FILLED.jsonl [--max-tokens 192]
       python parity.py policy  POLICY.safetensors CASES.jsonl FILLED.jsonl
       python parity.py fixtures DIR             # tests/fixtures

`encoder` reads a Hugging Face folder of the BERT family (its heads `classifier.*` with or without a
pooler, `qa_outputs.*`) and fills `relevance` or `no_answer`; `policy` runs a selection head over the
states of the cases and fills `scores`. `fixtures` writes the tiny random model that the tests
import, with its cases. CASES.jsonl is what `regrade export parity-inputs` writes; FILLED.jsonl is
what `regrade import --parity` reads. Needs torch, transformers, safetensors.
"""

import argparse
import base64
import json
import os

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

TOLERANCE = 1e-4


def read_tensors(path):
    """Tensors as f32, and the file's metadata."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        metadata = file.metadata() or {}
    floats = {name: t.float() for name, t in tensors.items() if t.is_floating_point()}
    return floats, metadata


def passage(document):
    """A document as the reader sees it."""
    title, text = document.get("title", ""), document["text"]
    return f"{title}. {text}" if title else text


class CrossEncoder:
    """A BERT encoder with a relevance head, a span head, or both."""

    def __init__(self, folder, max_tokens):
        stored, _ = read_tensors(os.path.join(folder, "model.safetensors"))
        self.weights = {name.removeprefix("bert."): t for name, t in stored.items()}
        config = BertConfig.from_pretrained(folder)
        self.has_pooler = "pooler.dense.weight" in self.weights
        self.model = BertModel(config, add_pooling_layer=self.has_pooler).eval()
        trunk = {name: self.weights[name] for name in self.model.state_dict() if name in self.weights}
        missing = set(self.model.state_dict()) - set(trunk) - {"embeddings.position_ids"}
        assert not missing, f"missing: {sorted(missing)}"
        self.model.load_state_dict(trunk, strict=False)
        file = os.path.join(folder, "tokenizer.json")
        names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_file=file, **names)
        self.max_tokens = max_tokens

    def logits(self, question, documents, quantity):
        """One logit a document."""
        return [self.logit(question, document, quantity) for document in documents]

    def logit(self, question, document, quantity):
        # [CLS] question [SEP] passage [SEP], only the passage cut to fit.
        ids = lambda text: self.tokenizer(text, add_special_tokens=False)["input_ids"]
        cls, sep = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        first = [cls, *ids(question)[:100], sep]
        second = [*ids(passage(document))[: self.max_tokens - len(first) - 1], sep]
        types = [0] * len(first) + [1] * len(second)
        with torch.no_grad():
            out = self.model(
                input_ids=torch.tensor([first + second]), token_type_ids=torch.tensor([types])
            )
        state = out.last_hidden_state[0, 0]
        if quantity == "no_answer":
            start_end = F.linear(state, self.weights["qa_outputs.weight"], self.weights["qa_outputs.bias"])
            return float(start_end.sum())
        pooled = out.pooler_output[0] if self.has_pooler else state
        return float(F.linear(pooled, self.weights["classifier.weight"], self.weights["classifier.bias"])[0])


class SelectionHead:
    """The head's scores: a list-aware read-out beside a linear skip from the scalar features."""

    def __init__(self, path):
        tensors, metadata = read_tensors(path)
        self.sizes = json.loads(metadata["regrade"])["head"]
        self.w = {name.removeprefix("head."): t for name, t in tensors.items()}

    def norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.w[f"{name}.weight"], self.w[f"{name}.bias"], 1e-6)

    def scores(self, states):
        w, wide = self.w, self.sizes["embedding"]
        scalars = states[:, wide:]
        x = torch.cat([self.norm(states[:, :wide], "norm"), scalars], dim=-1)
        x = F.gelu(F.linear(x, w["input.weight"], w["input.bias"]))
        heads = self.sizes["attention_heads"]
        split = lambda part: F.linear(x, w[f"attention.{part}.weight"]).unflatten(-1, (heads, -1)).transpose(0, 1)
        mixed = F.scaled_dot_product_attention(split("query"), split("key"), split("value"))
        mixed = F.linear(mixed.transpose(0, 1).flatten(1), w["attention.output.weight"])
        x = self.norm(x + mixed, "attention.norm")
        x = x + F.gelu(F.linear(x, w["dense.weight"], w["dense.bias"]))
        return (x @ w["score.weight"] + scalars @ w["skip.weight"]).tolist()


def decode(states):
    """base64 of little-endian f16, row by row."""
    values = np.frombuffer(base64.b64decode(states["f16"]), dtype="<f2").astype(np.float32)
    return torch.from_numpy(values.reshape(-1, states["width"]).copy())


def fill(cases, compute):
    for case in cases:
        logits = compute(case)
        case["logits"] = logits
        case["order"] = sorted(range(len(logits)), key=lambda at: -logits[at])
        case.setdefault("tolerance", TOLERANCE)
        yield case


def read_lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def write_lines(path, rows):
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def fill_encoder(folder, cases, out, max_tokens):
    model = CrossEncoder(folder, max_tokens)
    write_lines(out, fill(cases, lambda c: model.logits(c["question"], c["documents"], c["quantity"])))


def fill_policy(path, cases, out):
    head = SelectionHead(path)
    write_lines(out, fill(cases, lambda c: head.scores(decode(c["states"]))))


def tiny_tokenizer():
    """WordPiece over letters and a few words."""
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + [str(n) for n in range(10)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + c for c in letters)]
    words += [*".,:;!?'\"()-/", "the", "of", "is", "what", "who", "in", "river", "lake", "key"]
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": None,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": {w: at for at, w in enumerate(words)}},
    }


TEXTS = [
    ("", "The White Nile leaves the lake at Jinja."),
    ("Lake Victoria", "A lake in Africa; its only outlet is the White Nile."),
    ("Keys", "The key of room 12 is with Ada."),
    ("", ""),
    ("A long one", "the river is in the lake and the lake is in the river, " * 12),
]
QUESTIONS = ["What river drains Lake Victoria?", "who has the key of room 12?", "in?"]


def cases_of(quantity):
    documents = [{"id": f"p{n}", "title": t, "text": x} for n, (t, x) in enumerate(TEXTS)]
    return [{"question": q, "documents": documents, "quantity": quantity} for q in QUESTIONS]


def write_fixtures(folder):
    torch.manual_seed(7)
    bert = os.path.join(folder, "tiny-bert")
    os.makedirs(bert, exist_ok=True)
    tokenizer = tiny_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer["model"]["vocab"]), hidden_size=32, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=64, max_position_embeddings=192,
        initializer_range=0.25,
    )
    stored = {f"bert.{name}": t for name, t in BertModel(config).state_dict().items()}
    for head, rows in [("classifier", 1), ("qa_outputs", 2)]:
        stored[f"{head}.weight"] = 0.5 * torch.randn(rows, 32)
        stored[f"{head}.bias"] = 0.5 * torch.randn(rows)
    stored = {n: t.half().contiguous() for n, t in stored.items() if t.is_floating_point()}
    save_file(stored, os.path.join(bert, "model.safetensors"), metadata={"format": "pt"})
    with open(os.path.join(bert, "tokenizer.json"), "w", encoding="utf-8") as file:
        json.dump(tokenizer, file)
    keys = ["model_type", "hidden_act", "hidden_size", "num_hidden_layers", "num_attention_heads",
            "intermediate_size", "vocab_size", "max_position_embeddings", "type_vocab_size",
            "layer_norm_eps", "initializer_range"]
    with open(os.path.join(bert, "config.json"), "w", encoding="utf-8") as file:
        json.dump({"model_type": "bert"} | {k: getattr(config, k) for k in keys[1:]}, file, indent=1)
    both = cases_of("relevance") + cases_of("no_answer")
    fill_encoder(bert, both, os.path.join(bert, "parity.jsonl"), 192)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["encoder", "policy", "fixtures"])
    parser.add_argument("model")
    parser.add_argument("cases", nargs="?")
    parser.add_argument("filled", nargs="?")
    parser.add_argument("--max-tokens", type=int, default=192)
    args = parser.parse_args()
    if args.what == "fixtures":
        write_fixtures(args.model)
    elif args.what == "encoder":
        fill_encoder(args.model, read_lines(args.cases), args.filled, args.max_tokens)
    else:
        fill_policy(args.model, read_lines(args.cases), args.filled)


if __name__ == "__main__":
    main()
