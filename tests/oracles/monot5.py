"""Writes the monoT5 fixtures: tiny random T5 models and what transformers makes of them.

Needs torch, transformers, tokenizers and safetensors from PyPI. Run it in this folder:
`python monot5.py`. Two models: `monot5/tied` is shaped like the first T5 (shared output embedding,
ReLU), `monot5/gated` like T5 1.1 (an output layer of its own, gated GELU). The text is made up.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import T5Config, T5ForConditionalGeneration

HERE = Path(__file__).parent / "monot5"
WORDS = (
    "Query : Document Relevant true false yes no the of a river flows into sea mountain is high "
    "low which where ends begins town lake north south old bridge . ?"
).split()
QUERY = "where ends the river ?"
DOCUMENTS = [
    "the river ends in the north sea .",
    "a town is old .",
    "",
    "the mountain is high and the lake is low . which bridge is old ? the bridge of the town . "
    "the river begins in the south and flows into the lake .",
    "zebra xylophone",
    "the river ends in the south sea .",
]


def tokenizer() -> Tokenizer:
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [("▁" + word, -3.0 - 0.01 * n) for n, word in enumerate(WORDS)]
    pieces += [(mark, -3.5) for mark in ":.?"]
    pieces += [(letter, -6.0 - 0.01 * n) for n, letter in enumerate(letters)]
    made = Tokenizer(models.Unigram(pieces, unk_id=2))
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return made


def fixture(name: str, seed: int, gated: bool) -> None:
    torch.manual_seed(seed)
    folder = HERE / name
    folder.mkdir(parents=True, exist_ok=True)
    tokens = tokenizer()
    config = T5Config(
        vocab_size=tokens.get_vocab_size(), d_model=16, d_kv=8, d_ff=32, num_layers=2,
        num_decoder_layers=2, num_heads=2, relative_attention_num_buckets=8,
        relative_attention_max_distance=20, feed_forward_proj="gated-gelu" if gated else "relu",
        tie_word_embeddings=not gated, dropout_rate=0.0,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=1,
    )
    model = T5ForConditionalGeneration(config).eval()
    if gated:
        model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.shared.weight))
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            is_norm = "layer_norm" in parameter_name
            parameter.normal_(1.0 if is_norm else 0.0, 0.1 if is_norm else 0.35)
        if not gated:
            # The output is scaled by 1 / sqrt(d_model) here, so that scores tell documents apart.
            model.shared.weight.mul_(3.0)
    true, false = tokens.token_to_id("▁true"), tokens.token_to_id("▁false")
    cases = []
    for document in DOCUMENTS:
        text = f"Query: {QUERY} Document: {document} Relevant:"
        ids = tokens.encode(text).ids
        with torch.no_grad():
            logits = model(
                input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([[0]])
            ).logits[0, 0]
        score = torch.log_softmax(logits[[true, false]].double(), dim=0)[0].item()
        cases.append({"document": document, "ids": ids, "score": score})
    state = {key: value.contiguous().clone() for key, value in model.state_dict().items()}
    keep = {
        key: value for key, value in state.items()
        if "embed_tokens" not in key and (gated or key != "lm_head.weight")
    }
    save_file(keep, folder / "model.safetensors", metadata={"format": "pt"})
    tokens.save(str(folder / "tokenizer.json"))
    written = {
        key: getattr(config, key)
        for key in (
            "vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers",
            "num_heads", "relative_attention_num_buckets", "relative_attention_max_distance",
            "dropout_rate", "layer_norm_epsilon", "initializer_factor", "feed_forward_proj",
            "is_encoder_decoder", "pad_token_id", "eos_token_id", "decoder_start_token_id",
        )
    }
    written |= {"model_type": "t5", "tie_word_embeddings": not gated}
    (folder / "config.json").write_text(json.dumps(written, indent=1) + "\n")
    expected = {"query": QUERY, "cases": cases}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    print(name, [round(case["score"], 4) for case in cases], config.scale_decoder_outputs)


fixture("tied", 1, gated=False)
fixture("gated", 2, gated=True)
